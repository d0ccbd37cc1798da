"""Does configs/locked.txt, with a hash for every file, still fulfil pyproject.toml and configs/constraints.txt?

    python .ci/locked.py

It is made anew, where a version changes, by
    uv pip compile pyproject.toml --extra slurm --extra remote -c configs/constraints.txt --python-version 3.11 --generate-hashes --no-annotate --no-header -o configs/locked.txt
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parent.parent
EXTRAS = ("slurm", "remote")


def locked(text: str) -> dict[str, tuple[Version, int]]:
    """The versions that are named, and how many hashes each has."""
    found: dict[str, tuple[Version, int]] = {}
    for block in re.split(r"\n(?=\S)", text):
        head = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", block)
        if head is not None:
            found[canonicalize_name(head[1])] = (Version(head[2]), block.count("--hash=sha256:"))
    return found


def asked_for() -> list[Requirement]:
    """What users' installations ask for."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(text for extra in EXTRAS for text in project["optional-dependencies"][extra])]
    wanted = [Requirement(text) for text in texts]
    lines = (REPOSITORY / "configs" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return wanted + [one for one in pinned if canonicalize_name(one.name) in {canonicalize_name(each.name) for each in wanted}]


def problems(text: str) -> list[str]:
    """What is wrong with the text of a lock file."""
    found = locked(text)
    wrong = [f"{name} {version} has no hash" for name, (version, hashes) in found.items() if not hashes]
    for one in asked_for():
        name = canonicalize_name(one.name)
        if one.marker is not None and not one.marker.evaluate():
            continue
        if name not in found:
            wrong.append(f"{one} is asked for and not locked")
        elif not one.specifier.contains(found[name][0], prereleases=True):
            wrong.append(f"{one} is asked for, {found[name][0]} is locked")
    return wrong


def main() -> None:
    """Print what is wrong; exit 1 then."""
    text = (REPOSITORY / "configs" / "locked.txt").read_text(encoding="utf-8")
    wrong = problems(text)
    print("\n".join(wrong) or f"configs/locked.txt: {len(locked(text))} packages, each with its hashes")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
