#!/usr/bin/env bash
# An environment of copick's own (it wants zarr 2): tests/copick/make_environment.sh FOLDER; then TOMOSTREAM_COPICK=FOLDER/bin/python.
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
[ -x "$1/bin/python" ] || python3 -m venv "$1"
"$1/bin/pip" install --quiet 'copick==1.31.0'
"$1/bin/python" -c 'import copick; print("copick", copick.__version__)'
