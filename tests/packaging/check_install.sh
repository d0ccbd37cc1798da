#!/usr/bin/env bash
# What is published installs into a clean environment and works there: the source distribution, and the wheel that is built from it.
# Tells what they and the environment weigh.  PYTHON (default .venv/bin/python) needs the package `build`.
# Arguments: the interpreters of the clean environments (default: PYTHON), one after the other.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$(realpath -s "${PYTHON:-.venv/bin/python}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m build --outdir "$work/dist" . > "$work/build.log" 2>&1 || { tail -40 "$work/build.log" >&2; exit 1; }
wheel=$(echo "$work"/dist/*.whl)
sdist=$(echo "$work"/dist/*.tar.gz)
megabytes() { awk -v bytes="$1" 'BEGIN { printf "%.1f MB", bytes / 1e6 }'; }
echo "wheel $(megabytes "$(stat -c %s "$wheel")"), source distribution $(megabytes "$(stat -c %s "$sdist")")"
[ "$(stat -c %s "$wheel")" -lt 3000000 ] || { echo "the wheel has more than the 3 MB that docs/install.md tells" >&2; exit 1; }

# the page of the workbench and the backbone are in the wheel; tests and sources of the page are not
"$python" - "$wheel" "$sdist" << 'PYTHON'
import sys, tarfile, zipfile
wheel = zipfile.ZipFile(sys.argv[1]).namelist()
for part in ("tomostream/view/static/index.html", "tomostream/py.typed"):
    assert part in wheel, f"{part} is not in the wheel"
odd = [name for name in wheel if not name.startswith("tomostream") or name.startswith("tomostream/view/web")]
assert not odd, f"not for a wheel: {odd[:5]}"
sdist = tarfile.open(sys.argv[2]).getnames()
for part in ("tests/conftest.py", "docs/index.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "configs/constraints.txt"):
    assert any(name.endswith(f"/{part}") for name in sdist), f"{part} is not in the source distribution"
PYTHON

constraints=$PWD/configs/constraints.txt
for interpreter in "${@:-$python}"; do
  echo "== $("$interpreter" --version)"
  rm -rf "$work/clean" "$work/small" "$work/picks.star"
  "$interpreter" -m venv "$work/clean"
  "$work/clean/bin/pip" install --quiet -c "$constraints" "$wheel"
  "$work/clean/bin/pip" check
  echo "environment $(du -sm "$work/clean" | cut -f 1) MB, of it torch and its libraries $(du -scm "$work"/clean/lib/python3*/site-packages/{torch,nvidia,triton} 2> /dev/null | tail -1 | cut -f 1) MB"

  # a data set goes through the whole path, away from the checkout
  cd "$work"
  tomostream=$work/clean/bin/tomostream
  "$tomostream" --version
  "$work/clean/bin/python" - << 'PYTHON'
import importlib.util, pathlib, tomostream
# by its path: the package `tomostream.testing` needs pytest, which a clean environment has not
path = pathlib.Path(tomostream.__file__).parent / "testing" / "small_project.py"
spec = importlib.util.spec_from_file_location("small_project", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.make_project(pathlib.Path("small"), objective={"name": "average"}))
PYTHON
  "$tomostream" run small/run.yaml > run.log 2>&1 || { tail -20 run.log >&2; exit 1; }
  "$tomostream" export small/project/picks -o picks.star --format star-relion5 --tomograms small/project/tomograms
  "$tomostream" check small/project
  "$work/clean/bin/python" -c 'import tomostream as ts; print(ts.read_particles("small/project/picks/t1.csv"))'
done
