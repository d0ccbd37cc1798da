"""What a GPU does between reading and writing, tried on the processor: the same scores as the processor's own way, to rounding; blocks as the whole."""

import numpy as np
import pytest
import torch
from networks import network_of

from tomostream.errors import DeviceMemoryError
from tomostream.geometry import Box
from tomostream.inference import device_scores
from tomostream.inference.block_search import plan_scorer
from tomostream.inference.device_scores import DeviceScorer, interpolated, stored_region
from tomostream.inference.plan import PlanRequest
from tomostream.inference.protocol import BlockScorer
from tomostream.inference.region_scoring import encode_scores, score_region
from tomostream.picking.smoothing import ball_mean
from tomostream.strategies.matched_filter.correlation import CorrelationScorer
from tomostream.strategies.matched_filter.device_correlation import DeviceCorrelation
from tomostream.strategies.unet.device_ball_mean import device_ball_mean
from tomostream.strategies.unet.device_scorer import DeviceFusedScorer, DeviceUNetScorer
from tomostream.strategies.unet.fusion import FusedScorer, MatchedSettings, matched_targets
from tomostream.strategies.unet.scorer import StreamedNetwork, UNetScorer
from tomostream.upsample import supporting_box, upsample

SHAPE = (33, 44, 36)  # of level 0
MATCHED = MatchedSettings(support_vox=(4.3, 5.6), floor=0.4, weight=(20.0, 9.0), intercept=(-1.0, 2.0), smooth_vox=1.6)
PROFILES = (np.cos(np.linspace(0, np.pi, 5)), np.sin(np.linspace(0, np.pi, 6)))


def volume_of(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network():
    return StreamedNetwork(network_of((3, 4, 5), species=2), device="cpu", precision="float32", threads=1)


def both(kind):
    if kind == "alone":
        return UNetScorer(network()), DeviceUNetScorer(network())
    return FusedScorer(network(), MATCHED, PROFILES, threads=1), DeviceFusedScorer(network(), MATCHED, PROFILES)


def plan_of(scorer, core, level):
    request = PlanRequest(volume=SHAPE, level=level, memory=8 * 10**9, block_size=core, name="a volume", chunk=(8, 8, 8))
    return plan_scorer(request, scorer)


@pytest.mark.parametrize("kind", ["alone", "fused"])
def test_it_is_a_scorer_of_both_kinds(kind):
    processor, device = both(kind)
    assert isinstance(device, DeviceScorer)
    assert isinstance(device, BlockScorer)
    assert not isinstance(processor, DeviceScorer)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("core", [SHAPE, (16, 24, 36)])
@pytest.mark.parametrize("kind", ["alone", "fused"])
def test_stored_scores_are_the_processors(kind, core, level):
    processor, device = both(kind)
    plan = plan_of(processor, core, level)
    volume = volume_of(plan.level_shape)

    def read(box):
        return volume[box.slices]

    region = Box.whole(SHAPE)
    expected = score_region(read, plan, region, processor, as_logits=True, note=pytest.fail)
    found = stored_region(read, plan, region, device, as_logits=True, dtype="float32", note=pytest.fail)
    assert np.abs(expected).max() > 1  # lively
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max() / 4))
    probabilities = score_region(read, plan, region, processor, as_logits=False, note=pytest.fail)
    for dtype in ("float32", "float16", "int8"):
        stored = stored_region(read, plan, region, device, as_logits=False, dtype=dtype, note=pytest.fail)
        wanted = np.stack([encode_scores(one, dtype) for one in probabilities])
        assert stored.dtype == wanted.dtype
        atol = {"float32": 1e-4, "float16": 1e-3, "int8": 1}[dtype]
        np.testing.assert_allclose(stored.astype(np.float64), wanted.astype(np.float64), rtol=0, atol=atol)
    assert len(np.unique(stored)) > 20


@pytest.mark.parametrize("level", [0, 1, 2])
def test_interpolation_has_the_bits_of_the_processors(level):
    shape = tuple(-(-n // 2**level) for n in SHAPE)
    target = Box((3, 0, 17), (32, 44, 34))
    support = supporting_box(target, level, shape)
    values = np.stack([volume_of(support.shape), volume_of(support.shape, 1)])
    expected = np.empty((2, *target.shape), dtype=np.float32)
    upsample(values, support.start, target, level, shape, expected)
    found = interpolated(torch.from_numpy(values.copy()), support.start, target, level, shape).numpy()
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("radius", [1.0, 1.6, 2.0, 3.3, 5.0])
def test_mean_over_the_ball_is_the_pickers(radius):
    volume = volume_of((9, 20, 31))
    whole = Box.whole(volume.shape)
    for wanted in (whole, Box((2, 0, 11), (7, 20, 18))):
        at = wanted.expanded(int(radius)).clipped(whole)
        part = volume[at.slices]
        expected = ball_mean(part, at=at, wanted=wanted, shape=volume.shape, radius=radius)
        found = device_ball_mean(torch.from_numpy(part), at=at, wanted=wanted, shape=volume.shape, radius=radius).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)
        if wanted == whole:
            every = found
    assert found.tobytes() == np.ascontiguousarray(every[wanted.slices]).tobytes()  # blocks as the whole


@pytest.mark.parametrize("memory", [4 * 10**9, 10**6])  # one piece, many
def test_correlation_is_the_processors(memory):
    targets = matched_targets(MATCHED, PROFILES)
    processor = CorrelationScorer(targets, floor=0.4, threads=1)
    shape = (50, 40, 72)
    volume = volume_of(shape)
    volume[10:30, 10:30, 10:30] = 0  # an empty place
    needed = Box((0, 3, 0), (50, 40, 66))
    read = processor.read_box(needed, shape)
    image = volume[read.slices].copy()
    expected = processor.logits(image, read, needed, shape)
    found = torch.zeros(expected.shape)
    DeviceCorrelation(targets, floor=0.4, memory=memory).add_to(found, torch.from_numpy(image), read, needed)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-4)


def test_a_block_that_does_not_fit_is_halved_and_it_is_said(monkeypatch):
    processor, device = both("fused")
    plan = plan_of(processor, SHAPE, 1)
    volume = volume_of(plan.level_shape)
    expected = score_region(lambda box: volume[box.slices], plan, Box.whole(SHAPE), processor, as_logits=True, note=pytest.fail)
    usual = DeviceFusedScorer.device_logits

    def short(self, image, read, needed, shape):
        if needed.size > 3000:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return usual(self, image, read, needed, shape)

    monkeypatch.setattr(DeviceFusedScorer, "device_logits", short)
    notes = []
    found = stored_region(
        lambda box: volume[box.slices], plan, Box.whole(SHAPE), device, as_logits=True, dtype="float32", note=notes.append
    )
    assert notes
    assert all("does not fit into the GPU's memory" in note and "going on with half the block" in note for note in notes)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max() / 4))

    def never(self, image, read, needed, shape):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DeviceFusedScorer, "device_logits", never)
    with pytest.raises(DeviceMemoryError):
        stored_region(
            lambda box: volume[box.slices], plan, Box((0, 0, 0), (8, 8, 8)), device, as_logits=True, dtype="float32", note=notes.append
        )


def test_pieces_leave_no_trace(monkeypatch):
    processor, device = both("fused")
    plan = plan_of(processor, SHAPE, 1)
    volume = volume_of(plan.level_shape)
    found = []
    for most in (2**26, 5000):
        monkeypatch.setattr(device_scores, "_LARGEST_PIECE", most)
        monkeypatch.setattr(device_scores, "_LEAST_PIECE", 1)
        found.append(
            stored_region(
                lambda box: volume[box.slices], plan, Box.whole(SHAPE), device, as_logits=False, dtype="float32", note=pytest.fail
            )
        )
    assert found[0].tobytes() == found[1].tobytes()
