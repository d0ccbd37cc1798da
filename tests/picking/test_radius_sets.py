"""Which voxels may be picks: all that the greedy loop ever picks, at any radius of the range; in a whole volume nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picking_oracle import VOLUMES, greedy_loop

from tomostream.geometry import Box, triple
from tomostream.picking.radius_sets import NEVER, Radii, least_radii

KINDS = st.sampled_from(sorted(VOLUMES))


def in_order(scores, floor):
    place = np.argwhere(scores > floor)
    return place[np.argsort(-scores[scores > floor].astype(np.float64), kind="stable")]


def by_trying(scores, radii, floor):
    """The least floor(R^2) at which each voxel is a pick: the loop for every radius that there is."""
    least = {}
    for squared in range(radii.first, radii.last + 1):
        for voxel in map(tuple, greedy_loop(scores, (squared + 0.5) ** 0.5, floor)[0].tolist()):
            least.setdefault(voxel, squared)
    return least


@settings(deadline=None, max_examples=40)
@given(KINDS, st.integers(0, 2**32 - 1), st.sampled_from([1.0, 1.5, 2.0, 2.9]), st.sampled_from([1.0, 1.3, 2.0, 4.0]))
def test_in_a_whole_volume_they_are_exactly_the_picks_of_all_radii(kind, seed, least, times):
    rng = np.random.default_rng(seed)
    scores = VOLUMES[kind](rng, tuple(rng.integers(1, 9, 3)))
    floor, radii = float(rng.choice([-np.inf, 0.25, 0.7])), Radii(least, times * least)
    place = in_order(scores, floor)
    found = least_radii(place, radii, window=triple(scores.shape), open_low=(False,) * 3, open_high=(False,) * 3)
    kept = {tuple(voxel): int(first) for voxel, first in zip(place.tolist(), found, strict=True) if first != NEVER}
    assert kept == by_trying(scores, radii, floor)


@settings(deadline=None, max_examples=40)
@given(KINDS, st.integers(0, 2**32 - 1), st.sampled_from([1.0, 1.5, 2.9]), st.integers(0, 4))
def test_a_window_leaves_out_no_voxel_that_is_a_pick_in_the_volume(kind, seed, radius, halo):
    rng = np.random.default_rng(seed)
    scores = VOLUMES[kind](rng, tuple(rng.integers(2, 12, 3)))
    radii, whole = Radii(radius, 2 * radius), Box.whole(triple(scores.shape))
    start = triple([int(rng.integers(0, n)) for n in scores.shape])
    core = Box(start, triple([int(rng.integers(a + 1, n + 1)) for a, n in zip(start, scores.shape, strict=True)]))
    window = core.expanded(halo).clipped(whole)
    place = in_order(scores[window.slices], 0.25)
    found = least_radii(
        place,
        radii,
        window=window.shape,
        open_low=tuple(a > 0 for a in window.start),
        open_high=tuple(b < n for b, n in zip(window.stop, scores.shape, strict=True)),
    )
    kept = {tuple(voxel): int(first) for voxel, first in zip((place + window.start).tolist(), found, strict=True) if first != NEVER}
    for voxel, first in by_trying(scores, radii, 0.25).items():
        if all(a <= at < b for a, at, b in zip(core.start, voxel, core.stop, strict=True)):
            assert kept[voxel] <= first


def by_formula(place, radii, open_low, open_high, window):
    """The two sets of every voxel as the module's docstring defines them, each compared with all earlier ones."""
    least, known = [], []
    for voxel in place.tolist():
        margin = min(
            [voxel[axis] + 1 for axis in range(3) if open_low[axis]] + [window[axis] - voxel[axis] for axis in range(3) if open_high[axis]],
            default=10**6,
        )
        every = set(range(radii.first, radii.last + 1))
        maybe, surely = set(every), {radius for radius in every if radius < margin**2}
        for other, surely_u, maybe_u in known:
            squared = sum((a - b) ** 2 for a, b in zip(voxel, other, strict=True))
            maybe -= {radius for radius in surely_u if radius >= squared}
            surely -= {radius for radius in maybe_u if radius >= squared}
        if maybe:
            known.append((voxel, surely, maybe))
        least.append(min(maybe, default=NEVER))
    return least


@settings(deadline=None, max_examples=50)
@given(
    KINDS | st.just("noise"),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1.0, 1.5, 2.0, 2.9]),
    st.sampled_from([1.0, 1.3, 2.0, 4.0]),
    st.tuples(*[st.booleans()] * 6),
)
def test_with_any_open_faces_they_are_those_of_the_formula(kind, seed, least, times, is_open):
    rng = np.random.default_rng(seed)
    scores = rng.random(rng.integers(6, 12, 3)) if kind == "noise" else VOLUMES[kind](rng, tuple(rng.integers(1, 8, 3)))
    radii = Radii(least, times * least)
    place = in_order(scores, 0.25)[:300]
    faces = {"open_low": is_open[:3], "open_high": is_open[3:], "window": triple(scores.shape)}
    assert least_radii(place, radii, **faces).tolist() == by_formula(place, radii, **faces)


def test_the_local_maxima_alone_would_not_do():
    scores = np.zeros((1, 1, 12))
    scores[0, 0] = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0.9, 0.8, 0.7]  # a ramp: one local maximum, many picks
    place = in_order(scores, 0.0)
    found = least_radii(place, Radii(2.0, 3.0), window=(1, 1, 12), open_low=(False,) * 3, open_high=(False,) * 3)
    assert place[found != NEVER][:, 2].tolist() == [0, 3, 4, 6, 8, 9]  # at radius 2: 0 3 6 9; at 3: 0 4 8


@pytest.mark.parametrize("radius", [1.0, 2.5])
def test_ties_are_kept_in_the_order_of_the_loop(radius):
    scores = np.ones((4, 5, 6))
    place = in_order(scores, 0.0)
    found = least_radii(place, Radii(radius, radius), window=(4, 5, 6), open_low=(False,) * 3, open_high=(False,) * 3)
    np.testing.assert_array_equal(place[found != NEVER], greedy_loop(scores, radius)[0])
