"""Which particles do the boxes of slices belong to?  Boxes are traced through z, and each trace is one particle.

1. Slice by slice, the nearest of the open traces and the new boxes are linked, pairs in the order of their distance (ties: the older trace,
   the better box); each trace takes at most one box a slice.  Boxes without trace begin one.
2. A trace ends when it found no box on more than `gap` slices in a row; it counts if it has at least `shortest` boxes.
3. Its centre is the mean of its boxes' centres; its score the mean, or the largest, of theirs.

Traces depend only on the boxes of the slices (`slice_boxes`).  `traced` turns the traces of a volume into picks.

References
----------
Wagner et al. 2019, "SPHIRE-crYOLO is a fast and accurate fully automated particle picker for cryo-EM", Communications Biology 2, 218, and its
extension to tomograms.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.picking.slice_boxes import Boxes

TraceScore = Literal["mean", "max"]
_LEAST_LINK = 1.5  # voxels: a centre is known to a voxel


@dataclass(frozen=True, slots=True)
class Tracing:
    """How boxes become particles; lengths in voxels, which along z are slices.

    Parameters
    ----------
    distance
        Boxes of a slice lie farther apart than this.
    link
        A trace continues in a box at most this far from its last one, in y and x.
    gap
        Slices that a trace may miss in a row.
    shortest
        Boxes that a trace has at least.
    spanned
        Slices on which a particle is seen: with a count of picks, this many boxes are traced for each.
    score
        Of a trace, from its boxes': `mean` or `max`.
    """

    distance: float
    link: float
    gap: int
    shortest: int
    spanned: float
    score: TraceScore

    def __post_init__(self) -> None:
        for name in ("distance", "link", "spanned"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"tracing: {name} must be above zero and finite, found {value}")
        if self.gap < 0 or self.shortest < 1:
            raise InputError(f"tracing: gap must not be negative and shortest at least 1, found {self.gap} and {self.shortest}")

    @classmethod
    def for_radius(
        cls, radius: float, *, distance: float, link: float, gap: float, shortest: float, spanned: float, score: TraceScore
    ) -> "Tracing":
        """Scale lengths that are given in radii of the particle (voxels); a link reaches the eight neighbours at least."""
        return cls(
            distance=distance * radius,
            link=max(_LEAST_LINK, link * radius),
            gap=round(gap * radius),
            shortest=max(1, round(shortest * radius)),
            spanned=spanned * radius,
            score=score,
        )


def default_tracing(radius: float) -> Tracing:
    """Return the default tracing for particles of `radius` voxels."""
    return Tracing.for_radius(
        radius,
        distance=defaults.TRACE_DISTANCE,
        link=defaults.TRACE_LINK,
        gap=defaults.TRACE_GAP,
        shortest=defaults.TRACE_SHORTEST,
        spanned=defaults.TRACE_SPANNED,
        score=defaults.TRACE_SCORE,
    )


@dataclass(slots=True)
class Trace:
    """A trace that grows: sums over its boxes, and where the last one is."""

    z: int
    y: int
    x: int
    boxes: int = 0
    sums: tuple[int, int, int] = (0, 0, 0)
    score_sum: float = 0.0
    score_max: float = -math.inf

    def add(self, z: int, y: int, x: int, score: float) -> None:
        """Take one more box."""
        self.z, self.y, self.x = z, y, x
        self.boxes += 1
        self.sums = (self.sums[0] + z, self.sums[1] + y, self.sums[2] + x)
        self.score_sum += score
        self.score_max = max(self.score_max, score)


def traces(slices: Iterator[Boxes], *, link: float, gap: int) -> Iterator[Trace]:
    """Link the boxes of slices, z ascending; traces come as they end.

    Parameters
    ----------
    slices
        Of consecutive z; a slice without boxes may be left out.
    link, gap
        See `Tracing`.
    """
    is_open: list[Trace] = []
    for boxes in slices:
        going_on = [trace for trace in is_open if boxes.z - trace.z <= gap + 1]
        yield from (trace for trace in is_open if boxes.z - trace.z > gap + 1)
        is_open = going_on
        taken = set()
        places, scores = boxes.index_yx.tolist(), boxes.score.tolist()
        for i, j in _links(is_open, boxes, link):
            is_open[i].add(boxes.z, places[j][0], places[j][1], scores[j])
            taken.add(j)
        for j, ((y, x), score) in enumerate(zip(places, scores, strict=True)):
            if j not in taken:
                begun = Trace(boxes.z, y, x)
                begun.add(boxes.z, y, x, score)
                is_open.append(begun)
    yield from is_open


def _links(is_open: list[Trace], boxes: Boxes, link: float) -> Iterator[tuple[int, int]]:
    """Pairs of trace and box, the nearest first; each in one pair only."""
    if not is_open or not len(boxes):
        return
    ends = np.array([(trace.y, trace.x) for trace in is_open], dtype=np.int64)
    near = cKDTree(ends).query_ball_tree(cKDTree(boxes.index_yx), link + 1)  # whether it is near enough is decided in integers
    pairs = np.array([(i, j) for i, found in enumerate(near) for j in found], dtype=np.int64).reshape(-1, 2)
    squared = ((ends[pairs[:, 0]] - boxes.index_yx[pairs[:, 1]]) ** 2).sum(axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], squared))
    used_traces: set[int] = set()
    used_boxes: set[int] = set()
    for i, j in pairs[order[squared[order] <= link * link]].tolist():
        if i not in used_traces and j not in used_boxes:
            used_traces.add(i)
            used_boxes.add(j)
            yield i, j
