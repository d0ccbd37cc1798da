#!/usr/bin/env bash
# The committed pages are what their sources make: builds tomostream/view/web in a copy, and fails if view/static or report/static differs.
# Needs node 20 or newer and npm.  Leaves web/node_modules, in which the browser tests find axe-core.
set -euo pipefail
cd "$(dirname "$0")/../../tomostream/view"

npm --prefix web ci --ignore-scripts --no-progress --loglevel error
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
cd web
npx svelte-check --fail-on-warnings --tsconfig ./tsconfig.json
npx vite build --logLevel warn --outDir "$built/view" --emptyOutDir
npx vite build --logLevel warn --config vite.report.config.ts --outDir "$built/report" --emptyOutDir
for page in view report; do
  if ! diff -r "$built/$page" "../../$page/static"; then
    echo "tomostream/$page/static is not what tomostream/view/web makes: cd tomostream/view/web && npm ci && npm run build, and commit both" >&2
    exit 1
  fi
done
echo "the pages are what their sources make"
