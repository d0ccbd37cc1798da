from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from example_counts import drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from picking_oracle import VOLUMES, greedy_loop

from tomostream.geometry import Box
from tomostream.picking.greedy import Ball, label_window, rounded_down
from tomostream.picking.planning import VOXEL_BYTES


def label(scores: np.ndarray, *, threshold: float, radius: float, window: Box, core: Box) -> tuple[set[int], set[int]]:
    """Label a core; linear indices of the volume."""
    labels = label_window(
        scores[window.slices],
        threshold=threshold,
        radius=radius,
        core=core.relative_to(window.start),
        open_low=tuple(a > 0 for a in window.start),
        open_high=tuple(a < n for a, n in zip(window.stop, scores.shape, strict=True)),
    )
    index = np.arange(scores.size).reshape(scores.shape)[window.slices].ravel()
    return set(index[labels.accepted.index].tolist()), set(index[labels.undecided.index].tolist())


@pytest.mark.parametrize("kind", ["white noise", "heavy ties", "plateaus", "ramp", "crowded blobs"])
def test_what_a_window_calls_certain_holds_in_the_whole_volume(kind):
    rng = np.random.default_rng(list(kind.encode()))
    n_certain = 0
    for _ in range(drawn(30)):
        scores = VOLUMES[kind](rng, (14, 14, 14)).astype(np.float32)
        radius, threshold = float(rng.choice([1.0, 2.0, 3.0])), 0.2
        core = Box((4, 4, 4), (10, 10, 10))
        window = core.expanded(int(rng.integers(0, 5)))
        accepted, undecided = label(scores, threshold=threshold, radius=radius, window=window, core=core)
        index, _ = greedy_loop(scores, radius, threshold)
        in_core = index[(index >= core.start).all(axis=1) & (index < core.stop).all(axis=1)]
        true = set(np.ravel_multi_index(tuple(in_core.T), scores.shape).tolist())
        assert accepted <= true <= accepted | undecided
        n_certain += len(accepted)
    assert n_certain > 0 or kind == "ramp"


def test_a_window_of_the_whole_volume_leaves_nothing_undecided():
    scores = VOLUMES["heavy ties"](np.random.default_rng(0), (9, 9, 9)).astype(np.float32)
    whole = Box.whole((9, 9, 9))
    accepted, undecided = label(scores, threshold=0.5, radius=2.0, window=whole, core=whole)
    index, _ = greedy_loop(scores, 2.0, 0.5)
    assert accepted == set(np.ravel_multi_index(tuple(index.T), scores.shape).tolist())
    assert not undecided


def test_a_halo_of_twice_the_radius_decides_separate_particles():
    scores = np.zeros((24, 24, 24), dtype=np.float32)
    scores[11:13, 11:13, 11:13] = 1
    core = Box((8, 8, 8), (12, 12, 12))
    accepted, undecided = label(scores, threshold=0.5, radius=4.0, window=core.expanded(8), core=core)
    assert accepted == {(11 * 24 + 11) * 24 + 11}
    assert not undecided


@settings(deadline=None)
@given(st.floats(allow_nan=False), st.floats(width=32, allow_nan=False))
def test_a_rounded_down_threshold_compares_as_in_float64(threshold, score):
    value = np.float32(score)
    assert bool(value > rounded_down(threshold, np.dtype(np.float32))) == (float(value) > threshold)


@settings(deadline=None)
@given(st.floats(0.1, 9.0))
def test_a_ball_holds_just_the_voxels_within_the_radius(radius):
    ball = Ball.of(radius, (100, 100, 100))
    offsets = np.indices(ball.inside.shape) - np.array(ball.reach)[:, None, None, None]
    np.testing.assert_array_equal(ball.inside == 1, (offsets**2).sum(axis=0) <= radius * radius)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threshold", [-1.0, 0.99])
def test_a_window_takes_no_more_memory_than_projected(dtype, threshold):
    scores = np.random.default_rng(0).random((70, 70, 70)).astype(dtype)
    core = Box((6, 6, 6), (64, 64, 64))
    tracemalloc.start()
    label_window(scores, threshold=threshold, radius=6.0, core=core, open_low=(True,) * 3, open_high=(True,) * 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak + scores.nbytes <= VOXEL_BYTES * scores.size
