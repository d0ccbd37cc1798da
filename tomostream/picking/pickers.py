"""Which pickers are there?  Those of the entry-point group `tomostream.pickers`, ours and other packages', by name."""

from tomostream.catalogue import entry_points
from tomostream.errors import InputError
from tomostream.picking.protocol import Picker

GROUP = "tomostream.pickers"


def pickers() -> dict[str, Picker]:
    """All that are installed, by name."""
    return entry_points(GROUP)


def picker(name: str) -> Picker:
    """The picker of a name.

    Raises
    ------
    InputError
        If there is none.
    """
    known = pickers()
    if name not in known:
        raise InputError(f"--method must be one of {', '.join(known)}, found '{name}'")
    return known[name]
