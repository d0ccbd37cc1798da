"""Correlation by FFT is the formula, in blocks as in the whole, within the memory that it states."""

import tracemalloc

import numpy as np
import pytest
import scipy.fft
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from tomostream.errors import BudgetError
from tomostream.geometry import BlockGrid, Box
from tomostream.inference.block_search import plan_scorer
from tomostream.inference.plan import PlanRequest, PredictionPlan
from tomostream.inference.protocol import BlockScorer
from tomostream.inference.region_scoring import score_region, score_volume
from tomostream.strategies.matched_filter.correlation import CorrelationScorer, Target, ball_of, normalised_kernel, small_spectrum

RADIUS = 3.4
HALF = 3


def volume_of(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def kernel_of(seed):
    return normalised_kernel(volume_of((2 * HALF + 1,) * 3, seed), RADIUS)


def scorer_of(*, kernels=2, species=1, floor=0.3, offset=0.1, slope=12.0):
    targets = [Target([kernel_of(10 * s + k) for k in range(kernels)], HALF, RADIUS, offset, slope) for s in range(species)]
    return CorrelationScorer(targets, floor=floor, threads=None)


def oracle(volume, kernels, floor):
    """The formula in float64, by sums in space; beyond the volume is 0."""
    padded = np.pad(volume.astype(np.float64), HALF)
    ball = ball_of(HALF, RADIUS).astype(np.float64)
    n = ball.sum()
    inner = (slice(HALF, -HALF),) * 3
    mean = ndimage.correlate(padded, ball / n, mode="constant")[inner]
    variance = ndimage.correlate(padded**2, ball / n, mode="constant")[inner] - mean**2
    best = np.max([ndimage.correlate(padded, k.astype(np.float64), mode="constant")[inner] for k in kernels], axis=0)
    return best / np.sqrt(n * (variance + floor**2))


def whole(scorer, volume):
    box = Box.whole(volume.shape)
    return scorer.logits(volume, box, box, volume.shape)


@pytest.mark.parametrize("floor", [0.0, 0.6])
def test_correlation_is_the_formula(floor):
    volume = volume_of((13, 18, 15))
    scorer = scorer_of(floor=floor)
    box = Box.whole(volume.shape)
    found = scorer.correlations(volume, box, box, volume.shape)[0]
    np.testing.assert_allclose(found, oracle(volume, [kernel_of(0), kernel_of(1)], floor), atol=2e-6)
    assert np.abs(found).max() <= 1 + 1e-6
    np.testing.assert_allclose(whole(scorer, volume)[0], (found - 0.1) * 12, atol=1e-5)


@examples(15)
@given(core=st.tuples(*[st.integers(3, 25)] * 3), seed=st.integers(0, 5))
def test_blocks_of_any_shape_give_the_whole_volumes_logits(core, seed):
    volume = volume_of((21, 17, 24), seed)
    scorer = scorer_of(species=2)
    expected = whole(scorer, volume)
    for needed in BlockGrid(volume.shape, core).cores():
        read = scorer.read_box(needed, volume.shape)
        part = scorer.logits(volume[read.slices], read, needed, volume.shape)
        np.testing.assert_allclose(part, expected[(slice(None), *needed.slices)], atol=1e-4)


@pytest.mark.parametrize("level", [0, 1])
def test_one_block_grid_gives_the_same_bits_in_any_order(level):
    shape = (40, 33, 50)
    volume = volume_of([-(-n // 2**level) for n in shape])
    scorer = scorer_of()
    plan = PredictionPlan(shape, level, 1, 0, (8, 8, 8), (24, 24, 24), (16, 16, 16), 1, 0)
    first = score_volume(volume, plan, scorer, as_logits=True)
    np.testing.assert_allclose(first, score_volume(volume, plan_for(shape, level), scorer, as_logits=True), atol=1e-4)
    for index in reversed(list(plan.shards.indices())):
        shard = plan.shards.core(index)
        again = score_region(lambda box: volume[box.slices], plan, shard, scorer_of(), as_logits=True, note=pytest.fail)
        assert again.tobytes() == first[(slice(None), *shard.slices)].tobytes()


def plan_for(shape, level=0, memory=2 * 10**9, block_size=None):
    return plan_scorer(PlanRequest(volume=shape, level=level, memory=memory, block_size=block_size, name="t"), scorer_of())


def test_threads_change_no_bit():
    volume = volume_of((30, 32, 31))
    target = Target([kernel_of(0)], HALF, RADIUS, 0.0, 1.0)
    one, two = (whole(CorrelationScorer([target], floor=0.3, threads=n), volume) for n in (1, 2))
    assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("mixed", [False, True])
def test_measured_peak_is_within_the_projection(mixed):
    shape = (70, 90, 80)
    scorer = mixed_scorer(MIXING) if mixed else scorer_of(species=2)
    volume = volume_of(shape)
    needed = Box((10, 0, 20), (60, 64, 80))
    whole(scorer, volume[:16, :16, :16].copy())  # tables of the transforms
    read = scorer.read_box(needed, shape)
    tracemalloc.start()
    scorer.logits(volume[read.slices].copy(), read, needed, shape)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.5 * scorer.block_bytes(needed, shape) < peak <= scorer.block_bytes(needed, shape)


@pytest.mark.parametrize("floor", [0.0, 0.6])
def test_an_empty_place_scores_nothing(floor):
    volume = volume_of((30, 30, 30))
    volume[:, :, 12:] = 0
    found = whole(scorer_of(floor=floor, offset=0.0, slope=1.0), volume)
    assert np.isfinite(found).all()
    if floor:
        assert np.abs(found[0, :, :, 16:]).max() < 1e-5


def test_a_kernel_finds_itself():
    volume = 0.01 * volume_of((24, 24, 24))
    volume[5:12, 9:16, 11:18] += 5 * kernel_of(1)
    found = whole(scorer_of(floor=0.0, offset=0.0, slope=1.0), volume)[0]
    assert np.unravel_index(found.argmax(), found.shape) == (8, 12, 14)
    assert found.max() > 0.98


def test_kernel_has_zero_mean_and_unit_norm_in_the_ball_only():
    kernel = kernel_of(3).astype(np.float64)
    assert abs(kernel.sum()) < 1e-5
    assert abs((kernel**2).sum() - 1) < 1e-5
    assert not kernel[~ball_of(HALF, RADIUS)].any()
    assert not normalised_kernel(np.ones((7, 7, 7), dtype=np.float32), RADIUS).any()


def test_small_spectrum_is_that_of_the_padded_kernel():
    kernel = kernel_of(4)
    np.testing.assert_allclose(small_spectrum(kernel, (12, 15, 16), 1), scipy.fft.rfftn(kernel, s=(12, 15, 16)), atol=1e-5)


MIXING = np.random.default_rng(6).normal(size=(50, 35)).astype(np.float32)


def mixed_scorer(mixing, **values):
    """A scorer whose correlation is the largest of weighted sums of its kernels'."""
    kernels = [kernel_of(number) for number in range(mixing.shape[1])]
    return CorrelationScorer([Target(kernels, HALF, RADIUS, 0.1, 12.0, mixing=mixing)], floor=0.3, threads=None, **values)


@pytest.mark.parametrize("piece", [None, 11])
def test_mixed_correlations_are_those_with_the_mixed_kernels(piece):
    mixing = MIXING[:7, :4]
    mixed = [np.tensordot(row, [kernel_of(number) for number in range(4)], axes=1) for row in mixing]
    volume = volume_of((18, 20, 23))
    found = whole(mixed_scorer(mixing, piece=piece), volume)[0]
    np.testing.assert_allclose(found, (oracle(volume, mixed, 0.3) - 0.1) * 12, atol=1e-4)


def test_any_scorer_is_planned_within_the_memory():
    scorer = scorer_of()
    assert isinstance(scorer, BlockScorer)
    roomy = plan_for((200, 200, 200))
    assert len(roomy.shards) == 1
    tight = plan_for((300, 300, 300), memory=800_000_000)
    assert tight.block_bytes <= 800_000_000
    assert len(tight.shards) > 1
    assert all(edge % chunk == 0 for edge, chunk in zip(tight.shard, tight.chunk, strict=True))
    tiny = plan_for((64, 64, 64), memory=tight_memory())
    assert max(tiny.core) < 64
    assert tiny.shard == (64, 64, 64)
    with pytest.raises(BudgetError, match=r"predicting t needs at least .* but the memory budget is 100 MB"):
        plan_for((64, 64, 64), memory=100_000_000)
    with pytest.raises(BudgetError, match=r"core 256,256,256"):
        plan_for((300, 300, 300), memory=700_000_000, block_size=(256, 256, 256))
    assert plan_for((300, 300, 300), block_size=(50, 60, 70)).core == (50, 60, 70)


def tight_memory():
    """Less than a chunk takes, more than an eighth of it."""
    return plan_for((64, 64, 64)).block_bytes - 2_000_000
