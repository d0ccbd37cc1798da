"""What is installed under an entry-point group?  Ours and other packages', by name.

An installed package tells its entry points in its metadata.  A checkout has none, or (editable) those of the day when it was installed: there
`pyproject.toml` beside the package tells them.
"""

import functools
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from tomostream.errors import InputError

_NAME = "tomostream"
_PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


@functools.cache
def entry_points(group: str) -> dict[str, Any]:
    """Load the objects of a group, in the order of their names.

    Raises
    ------
    InputError
        If one can't be imported.
    """
    checkout = _of_checkout(group)
    found = {
        point.name: point
        for point in metadata.entry_points(group=group)
        if checkout is None or point.dist is None or point.dist.name != _NAME
    }
    found |= {name: metadata.EntryPoint(name, value, group) for name, value in (checkout or {}).items()}
    return {name: _loaded(found[name]) for name in sorted(found)}


def _loaded(point: Any) -> Any:  # of importlib.metadata, or of the package that stands in for it
    try:
        return point.load()
    except Exception as error:  # whatever another package's module does wrong
        raise InputError(
            f"the entry point {point.name} = {point.value} of {point.group} can't be loaded ({type(error).__name__}: {error}); "
            "mend or remove the package that declares it"
        ) from error


def _of_checkout(group: str) -> dict[str, str] | None:
    """Our entry points as `pyproject.toml` declares them; None where the package is no checkout."""
    try:
        project = tomllib.loads(_PYPROJECT.read_text())["project"]
    except (OSError, ValueError, KeyError):
        return None
    if project.get("name") != _NAME:
        return None
    declared: dict[str, str] = project.get("entry-points", {}).get(group, {})
    return declared
