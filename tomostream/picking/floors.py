"""Where a source knows its scores above a floor only: which requests can be met exactly, and with what message are the others refused?

The picks above a score are the first of the picks above a lower one.  So a request is met if its threshold is not below the floor, or if as many
picks as it wants lie above the floor.
"""

import math
from dataclasses import replace

from tomostream.errors import InputError
from tomostream.picking.how_many import Above, HowMany
from tomostream.picking.protocol import Source


def above_the_floor(wanted: HowMany, source: Source) -> HowMany:
    """The same request for picks above the floor.

    Raises
    ------
    InputError
        If all picks above a lower score are wanted.
    """
    if not is_cut(wanted, source):
        return wanted
    if isinstance(wanted, Above):
        raise InputError(f"{source.name}: a threshold of {wanted.threshold:g} is below what is known: {_known(source)}")
    return replace(wanted, above=source.floor)


def is_cut(wanted: HowMany, source: Source) -> bool:
    """Whether a request reaches below the floor."""
    return source.floor > (-math.inf if wanted.above is None else wanted.above)


def check_enough(found: int, wanted: HowMany, source: Source) -> None:
    """Refuse an answer that has fewer picks than wanted only because the floor is above the next ones.

    Raises
    ------
    InputError
        If it is so.
    """
    if wanted.most is not None and found < wanted.most and is_cut(wanted, source):
        raise InputError(f"{source.name}: {wanted.most} peaks are needed, but {found} lie above what is known: {_known(source)}")


def _known(source: Source) -> str:
    return (
        f"its candidates are whole above a score of {source.floor:.6g} for this radius and part of the volume; ask for less, "
        "or predict again with `keep: scores`"
    )
