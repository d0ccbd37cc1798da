"""Are all packages that an installation brings under licences that BSD-3-Clause software may depend on?

    python .ci/licences.py

Walks what pyproject.toml asks for (with the extras that users install), as it is installed here; exit 1 where one is not known to be permissive.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parent.parent
EXTRAS = ("slurm", "remote")
PERMISSIVE = re.compile(
    r"\b(BSD|MIT|Apache|PSF|Python Software Foundation|ISC|MPL|Mozilla Public License 2|Zlib|HPND|Unlicense|CC0|0BSD|Historical Permission)",
    re.IGNORECASE,
)
COPYLEFT = re.compile(r"\b(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)
# torch's own, not distributed by us: NVIDIA's libraries, under NVIDIA's licence
EXCEPTIONS = re.compile(r"^(nvidia-|cuda-)")


def licence_of(name: str) -> str:
    """What a package says of its licence: an expression, classifiers, or the first line of a text."""
    found = metadata.metadata(name)
    classifiers = [one.rpartition(":: ")[2] for one in found.get_all("Classifier", []) if one.startswith("License ::")]
    texts = [found.get("License-Expression"), ", ".join(classifiers), (found.get("License") or "").strip().partition("\n")[0]]
    return next((text for text in texts if text), "none given")


def needed() -> dict[str, str]:
    """The packages that are installed for us, with their licences."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    waiting += [Requirement(text) for extra in EXTRAS for text in project["optional-dependencies"][extra]]
    found: dict[str, str] = {}
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        if name in found or (one.marker is not None and not one.marker.evaluate({"extra": ""})):
            continue
        try:
            found[name] = licence_of(name)
        except metadata.PackageNotFoundError:
            continue  # for another platform
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *one.extras)):
                requirement.marker = None
                waiting.append(requirement)
    return found


def is_permitted(name: str, licence: str) -> bool:
    """Whether we may depend on it; of several licences one suffices."""
    if EXCEPTIONS.match(name):
        return True
    return any(PERMISSIVE.search(one) and not COPYLEFT.search(one) for one in re.split(r"\bOR\b", licence))


def main() -> None:
    """Print what is not permitted; exit 1 then."""
    found = needed()
    wrong = {name: licence for name, licence in sorted(found.items()) if not is_permitted(name, licence)}
    for name, licence in wrong.items():
        print(f"{name}: {licence}: not known as a permissive licence", file=sys.stderr)
    print(f"licences of {len(found)} packages: {len(found) - len(wrong)} permissive")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
