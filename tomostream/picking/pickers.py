"""Which pickers are there?  Those of the entry-point group `tomostream.pickers`, ours and other packages', by name."""

from tomostream.catalogue import PICKERS, find, installed
from tomostream.errors import InputError
from tomostream.picking.protocol import Picker

GREEDY = "greedy"  # the only one that candidates suffice to


def picker_names() -> list[str]:
    """The names of all that are installed; none is imported."""
    return list(installed(PICKERS))


def picker(name: str) -> Picker:
    """The picker of a name.

    Raises
    ------
    InputError
        If there is none, or what is there is no picker.
    """
    if name not in installed(PICKERS):
        raise InputError(f"--method must be one of {', '.join(picker_names())}, found '{name}'")
    found = find(PICKERS, name, "picker")
    if not isinstance(found, Picker):
        raise InputError(f"picker '{name}' ({installed(PICKERS)[name]}) lacks what a picker has: name, needs_count and pick")
    return found
