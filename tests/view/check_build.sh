#!/usr/bin/env bash
# The committed page is what its sources make: builds tomostream/view/web in a copy, and fails if tomostream/view/static differs.
# Needs node 20 or newer and npm.  Leaves web/node_modules, in which the browser tests find axe-core.
set -euo pipefail
cd "$(dirname "$0")/../../tomostream/view"

npm --prefix web ci --ignore-scripts --no-progress --loglevel error
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
(cd web && npx svelte-check --fail-on-warnings --tsconfig ./tsconfig.json && npx vite build --logLevel warn --outDir "$built" --emptyOutDir)
if ! diff -r "$built" static; then
  echo "tomostream/view/static is not what tomostream/view/web makes: cd tomostream/view/web && npm ci && npm run build, and commit static" >&2
  exit 1
fi
echo "the page is what its sources make"
