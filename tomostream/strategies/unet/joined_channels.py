"""Channels of a network joined from two U-Nets (`joining`).  Importing this module does not import torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence


def joined_channels(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    """Return the channels of the joined network; both must have the same number of levels."""
    return tuple(a + b for a, b in zip(first, second, strict=True))


def are_joinable(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether two U-Nets can be joined.

    They must have the same number of levels.  And where a residual block of either changes the number of channels, and so has a convolution on its
    skip path, the block of the joined network must change it too.
    """
    if len(first) != len(second):
        return False
    steps = [list(itertools.pairwise((1, *channels))) for channels in (first, second, joined_channels(first, second))]
    return all(c != d or (a == b and e == f) for (a, b), (e, f), (c, d) in zip(*steps, strict=True))
