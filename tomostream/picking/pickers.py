"""Which pickers are installed?  Those of the entry-point group `tomostream.pickers`, ours and those of other packages."""

from contextlib import suppress

from tomostream.catalogue import PICKERS, find, installed
from tomostream.errors import InputError
from tomostream.picking.protocol import Picker


def picker_names() -> list[str]:
    """Return the names of all installed pickers, without importing any."""
    return list(installed(PICKERS))


def picker(name: str) -> Picker:
    """Return the picker with this name.

    Raises
    ------
    InputError
        If there is none, or the entry is not a picker.
    """
    if name not in installed(PICKERS):
        raise InputError(f"--method must be one of {', '.join(picker_names())}, found '{name}'")
    found = find(PICKERS, name, "picker")
    if not isinstance(found, Picker):
        raise InputError(f"picker '{name}' ({installed(PICKERS)[name]}) is not a picker: it needs name, needs_count and pick")
    return found


def takes_candidates(name: str) -> bool:
    """Whether a picker finds the same picks among the candidates that `predict.keep: candidates` keeps; one that does not say so needs whole maps.

    Raises
    ------
    InputError
        As `picker`.
    """
    return bool(getattr(picker(name), "takes_candidates", False))


def taking_candidates() -> list[str]:
    """Return the names of the pickers to which candidates suffice; broken ones of other packages are left out."""
    found: list[str] = []
    for name in picker_names():
        with suppress(InputError):
            found += [name] if takes_candidates(name) else []
    return found
