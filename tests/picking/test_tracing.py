"""Traced picks are those of the plain loops over the whole volume, whatever the blocks; each rule of tracing shows by itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from picking_oracle import VOLUMES, greedy_loop
from picking_requests import asked, volume

from tomostream.budget import LIBRARIES_BYTES
from tomostream.errors import BudgetError, InputError
from tomostream.geometry import Box
from tomostream.picking.planning import window_bytes
from tomostream.picking.protocol import Picks, Source
from tomostream.picking.slice_boxes import BOX_BYTES
from tomostream.picking.traced import TracePicker
from tomostream.picking.tracing import Tracing

MEMORY = 10**9
PLAIN = Tracing(distance=2.0, link=1.5, gap=1, shortest=1, spanned=3.0, score="mean")


def trace(scores: np.ndarray, tracing: Tracing = PLAIN, **changes: object) -> Picks:
    return TracePicker(tracing).pick(volume(scores), *asked(**{"radius": 1.3, "memory": MEMORY, **changes}))


def boxes_of_slice(plane: np.ndarray, distance: float, floor: float) -> list[tuple[float, int, int]]:
    """Voxels that come before their eight neighbours, thinned out by the sequential loop."""
    plane = plane.astype(np.float64)
    before = np.full(plane.shape, -np.inf)
    for (y, x), value in np.ndenumerate(plane):
        around = [
            (v, u)
            for v in range(max(0, y - 1), min(plane.shape[0], y + 2))
            for u in range(max(0, x - 1), min(plane.shape[1], x + 2))
            if (v, u) != (y, x) and not math.isnan(plane[v, u])
        ]
        if all((value, -y, -x) > (plane[v, u], -v, -u) for v, u in around):
            before[y, x] = value
    place, score = greedy_loop(before[None], distance, floor)
    return [(float(s), int(y), int(x)) for (_, y, x), s in zip(place, score, strict=True)]


def traced_plainly(
    scores: np.ndarray, tracing: Tracing, radius: float, threshold: float | None, count: int | None
) -> list[tuple[float, ...]]:
    """The same rules over the whole volume, with plain loops."""
    slices = [boxes_of_slice(plane, tracing.distance, -math.inf) for plane in scores]
    floor = -math.inf if threshold is None else threshold
    if threshold is None and count is not None:
        best = sorted((s for boxes in slices for s, _, _ in boxes), reverse=True)[: math.ceil(count * tracing.spanned)]
        floor = np.nextafter(best[-1], -np.inf) if len(best) == math.ceil(count * tracing.spanned) else -math.inf
    growing: list[list[tuple[int, int, int, float]]] = []
    ended: list[list[tuple[int, int, int, float]]] = []
    for z, found in enumerate(slices):
        boxes = [box for box in found if box[0] > floor]
        ended += [t for t in growing if z - t[-1][0] > tracing.gap + 1]
        growing = [t for t in growing if z - t[-1][0] <= tracing.gap + 1]
        pairs = sorted(
            ((t[-1][1] - y) ** 2 + (t[-1][2] - x) ** 2, i, j) for i, t in enumerate(growing) for j, (_, y, x) in enumerate(boxes)
        )
        used: set[int] = set()
        for squared, i, j in pairs:
            if squared <= tracing.link**2 and growing[i][-1][0] < z and j not in used:
                growing[i].append((z, boxes[j][1], boxes[j][2], boxes[j][0]))
                used.add(j)
        growing += [[(z, y, x, s)] for j, (s, y, x) in enumerate(boxes) if j not in used]
    rows = []
    for t in ended + growing:
        if len(t) >= tracing.shortest:
            centre = [sum(row[axis] for row in t) / len(t) for axis in range(3)]
            total = 0.0
            for row in t:
                total += row[3]
            rows.append((-(max(row[3] for row in t) if tracing.score == "max" else total / len(t)), *centre))
    kept: list[tuple[float, ...]] = []
    for row in sorted(rows):
        if all(sum((a - b) ** 2 for a, b in zip(row[1:], other[1:], strict=True)) > radius**2 for other in kept):
            kept.append(row)
    return [(*(math.floor(c + 0.5) for c in row[1:]), -row[0]) for row in kept[:count]]


@pytest.mark.parametrize("kind", [kind for kind in VOLUMES if kind != "NaN and infinities"])
@examples(40)
@given(data=st.data())
def test_traced_picks_are_those_of_the_plain_loops_for_any_block(kind, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    scores = VOLUMES[kind](rng, tuple(data.draw(st.tuples(*[st.integers(1, 11)] * 3))))
    tracing = Tracing(
        distance=data.draw(st.sampled_from([0.5, 1.0, 2.0, 3.7])),
        link=data.draw(st.sampled_from([0.7, 1.5, 3.0])),
        gap=data.draw(st.integers(0, 2)),
        shortest=data.draw(st.integers(1, 3)),
        spanned=data.draw(st.sampled_from([0.5, 2.0, 4.0])),
        score=data.draw(st.sampled_from(["mean", "max"])),
    )
    threshold, count = data.draw(st.sampled_from([(0.0, None), (0.4, None), (-math.inf, None), (None, 3), (None, 50), (0.2, 5)]))
    block = data.draw(st.tuples(*[st.integers(2, 8)] * 3))
    radius = data.draw(st.sampled_from([0.9, 2.3, 5.1]))
    picks = trace(scores, tracing, radius=radius, threshold=threshold, count=count, block=block)
    found = [(*place, score) for place, score in zip(picks.index_zyx.tolist(), picks.score.tolist(), strict=True)]
    assert found == traced_plainly(scores, tracing, radius, threshold, count)


def column(*slices: tuple[int, int, int, float], shape: tuple[int, int, int] = (12, 16, 16)) -> np.ndarray:
    scores = np.zeros(shape, dtype=np.float32)
    for z, y, x, score in slices:
        scores[z, y, x] = score
    return scores


def test_boxes_near_each_other_on_consecutive_slices_are_one_particle_at_their_mean():
    picks = trace(column((3, 8, 8, 0.9), (4, 9, 8, 0.6), (5, 9, 9, 0.6)), threshold=0.5)
    assert picks.index_zyx.tolist() == [[4, 9, 8]]
    assert picks.score.tolist() == pytest.approx([0.7])
    best = trace(column((3, 8, 8, 0.9), (4, 9, 8, 0.6)), Tracing(2.0, 1.5, 1, 1, 3.0, "max"), threshold=0.5)
    assert best.score.tolist() == pytest.approx([0.9])


@pytest.mark.parametrize(("missed", "particles"), [(1, 1), (2, 2)])
def test_a_trace_bridges_no_more_slices_than_the_gap(missed, particles):
    assert len(trace(column((3, 8, 8, 0.9), (4 + missed, 8, 8, 0.8)), threshold=0.5, radius=0.5)) == particles


def test_a_box_farther_than_the_link_begins_a_trace_of_its_own():
    assert len(trace(column((3, 8, 8, 0.9), (4, 8, 10, 0.8)), threshold=0.5)) == 2
    assert len(trace(column((3, 8, 8, 0.9), (4, 8, 9, 0.8)), threshold=0.5)) == 1


def test_a_trace_takes_one_box_a_slice_and_the_nearest():
    wide = Tracing(distance=2.0, link=4.0, gap=0, shortest=2, spanned=3.0, score="max")
    picks = trace(column((3, 8, 8, 0.9), (4, 8, 5, 0.99), (4, 8, 9, 0.7)), wide, threshold=0.5)
    assert picks.index_zyx.tolist() == [[4, 8, 9]]  # z and x are 3.5 and 8.5


def test_short_traces_are_dropped():
    two = Tracing(distance=2.0, link=1.5, gap=0, shortest=2, spanned=3.0, score="mean")
    scores = column((3, 8, 8, 0.9), (7, 2, 2, 0.6), (8, 2, 2, 0.6))
    assert trace(scores, two, threshold=0.5).index_zyx.tolist() == [[8, 2, 2]]


def test_of_picks_closer_than_the_radius_the_better_stays():
    scores = column((3, 8, 8, 0.7), (3, 8, 11, 0.9))
    assert trace(scores, threshold=0.5, radius=3.0).index_zyx.tolist() == [[3, 8, 11]]
    assert len(trace(scores, threshold=0.5, radius=2.9)) == 2


def test_missing_and_infinite_scores_are_no_boxes():
    scores = np.full((3, 9, 9), np.nan, dtype=np.float32)
    scores[0, 2, 2], scores[0, 6, 6] = 0.8, -np.inf
    assert trace(scores, count=10).index_zyx.tolist() == [[0, 2, 2]]


def test_a_plateau_is_one_box():
    assert len(trace(np.full((1, 9, 9), 0.5, dtype=np.float32), threshold=0.1, radius=0.5)) == 1


def test_box_border_and_mask_keep_picks_out():
    scores = column((3, 8, 8, 0.9), (8, 1, 1, 0.8))
    assert len(trace(scores, threshold=0.5, border=2.0)) == 1
    assert len(trace(scores, threshold=0.5, box=Box((6, 0, 0), (12, 16, 16)))) == 1
    mask = np.ones(scores.shape, dtype=bool)
    mask[3] = False
    picks = trace(scores, threshold=0.5, mask=lambda box: mask[box.slices])
    assert picks.index_zyx.tolist() == [[8, 1, 1]]


def test_what_a_block_has_read_is_read_again_only_at_its_faces():
    scores = np.random.default_rng(0).random((20, 40, 40), dtype=np.float32)
    times = np.zeros(scores.shape, dtype=int)

    def read(box: Box) -> np.ndarray:
        times[box.slices] += 1
        return scores[box.slices]

    TracePicker(PLAIN).pick(Source(read, (20, 40, 40)), *asked(radius=3.0, threshold=0.9, memory=MEMORY, block=(10, 20, 20)))
    assert times[:, :19, :19].max() == 1
    assert times.max() == 4


def test_more_peaks_than_the_memory_holds_are_refused_with_the_remedy():
    scores = np.random.default_rng(0).random((64, 128, 128), dtype=np.float32)
    smallest = 2 * window_bytes((8, 8, 8), halo=1, radius=1.0, smooth=0.0, domain=(64, 128, 128))
    with pytest.raises(BudgetError, match=r"peaks above -inf.*raise the threshold or the memory"):
        trace(scores, threshold=-math.inf, memory=LIBRARIES_BYTES + max(smallest, 2 * 4000 * BOX_BYTES))
    assert len(trace(scores, threshold=0.9999, memory=LIBRARIES_BYTES + max(smallest, 2 * 4000 * BOX_BYTES))) > 0


def test_impossible_settings_are_refused_with_their_values():
    scores = np.zeros((3, 4, 5), dtype=np.float32)
    with pytest.raises(InputError, match="give a threshold"):
        trace(scores)
    with pytest.raises(InputError, match=r"count.* at least 1, found 0"):
        trace(scores, count=0)
    with pytest.raises(InputError, match="radius: -1"):
        trace(scores, count=1, radius=-1.0)
    with pytest.raises(InputError, match="link must be above zero and finite, found 0"):
        Tracing(distance=2.0, link=0.0, gap=1, shortest=1, spanned=3.0, score="mean")
    with pytest.raises(InputError, match="found -1 and 1"):
        Tracing(distance=2.0, link=1.0, gap=-1, shortest=1, spanned=3.0, score="max")


def test_lengths_in_radii_become_voxels_and_slices():
    made = Tracing.for_radius(10.0, distance=0.8, link=0.5, gap=0.14, shortest=0.35, spanned=1.5, score="max")
    assert made == Tracing(distance=8.0, link=5.0, gap=1, shortest=4, spanned=15.0, score="max")
    assert Tracing.for_radius(4.0, distance=0.8, link=0.3, gap=0.2, shortest=0.3, spanned=1.0, score="max").link == 1.5
    assert Tracing.for_radius(0.5, distance=1.0, link=1.0, gap=0.1, shortest=0.1, spanned=1.0, score="max").shortest == 1
