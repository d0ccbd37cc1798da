"""Channels of two U-Nets side by side (`joining`); nothing here imports torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence


def joined_channels(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    """Channels of the joined network, of as many levels as both have."""
    return tuple(a + b for a, b in zip(first, second, strict=True))


def are_joinable(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether there is a joined network: of as many levels, and a residual block that changes one network's channels must change the sum's."""
    if len(first) != len(second):
        return False
    steps = [list(itertools.pairwise((1, *channels))) for channels in (first, second, joined_channels(first, second))]
    return all(c != d or (a == b and e == f) for (a, b), (e, f), (c, d) in zip(*steps, strict=True))
