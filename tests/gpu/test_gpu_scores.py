"""Scores of a GPU are those of a processor, within what the precision allows; the same bits every time; short memory is met, or told."""

import numpy as np
import pytest
import torch
from networks import network_of

from tomostream.errors import DeviceMemoryError
from tomostream.geometry import Box
from tomostream.inference.block_search import plan_scorer
from tomostream.inference.device_scores import DeviceScorer, stored_region
from tomostream.inference.machine import environment
from tomostream.inference.plan import PlanRequest, PredictionPlan
from tomostream.inference.region_scoring import score_region
from tomostream.learn.precision import resolve_device
from tomostream.strategies.unet.device_scorer import DeviceFusedScorer, DeviceUNetScorer
from tomostream.strategies.unet.fusion import FusedScorer, MatchedSettings
from tomostream.strategies.unet.scorer import StreamedNetwork, UNetScorer

pytestmark = pytest.mark.gpu
CHANNELS = (8, 16, 32)
SHAPE = (60, 100, 76)  # of level 0; the network reads level 1
LEVEL_SHAPE = (30, 50, 38)


def volume_of(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def plan_of(network, core, *, level=1, shape=SHAPE):
    return PredictionPlan(
        volume=shape, level=level, stride=network.stride, radius=network.influence_radius, chunk=(8, 8, 8), shard=shape, core=core,
        species=network.species, block_bytes=0,
    )  # fmt: skip


def network_on(device, precision, network=None, gpu_memory=None):
    return StreamedNetwork(network or network_of(CHANNELS), device=device, precision=precision, threads=1, gpu_memory=gpu_memory)


def alone(device, precision, network=None, gpu_memory=None):
    own = network_on(device, precision, network, gpu_memory)
    return UNetScorer(own) if device == "cpu" else DeviceUNetScorer(own)


def fused(device, precision):
    """The default model: network and matched filter."""
    matched = MatchedSettings(support_vox=(5.6,), floor=0.4, weight=(20.0,), intercept=(-1.0,), smooth_vox=1.6)
    profiles = (np.cos(np.linspace(0, np.pi, 6)),)
    own = network_on(device, precision)
    return FusedScorer(own, matched, profiles, threads=1) if device == "cpu" else DeviceFusedScorer(own, matched, profiles)


def logits_of(scorer, plan, note=pytest.fail):
    volume = volume_of(plan.level_shape)
    if isinstance(scorer, DeviceScorer):
        whole = Box.whole(plan.volume)
        return stored_region(lambda box: volume[box.slices], plan, whole, scorer, as_logits=True, dtype="float32", note=note)
    return score_region(lambda box: volume[box.slices], plan, Box.whole(plan.volume), scorer, as_logits=True, note=note)


@pytest.fixture(scope="module")
def expected():
    """On the processor, in float32, in one block."""
    return {
        "alone": logits_of(alone("cpu", "float32"), plan_of(network_of(CHANNELS), SHAPE)),
        "fused": logits_of(fused("cpu", "float32"), fused_plan(SHAPE)),
    }


def fused_plan(core):
    request = PlanRequest(volume=SHAPE, level=1, memory=8 * 10**9, block_size=core, name="a volume", chunk=(8, 8, 8))
    return plan_scorer(request, fused("cpu", "float32"))


@pytest.mark.parametrize("core", [SHAPE, (32, 40, 48), (13, 100, 29)])
@pytest.mark.parametrize("kind", ["alone", "fused"])
def test_float32_scores_of_any_blocks_are_the_processors_to_1e_4(device, kind, core, expected):
    if kind == "alone":
        found = logits_of(alone(device, "float32"), plan_of(network_of(CHANNELS), core))
    else:
        found = logits_of(fused(device, "float32"), fused_plan(core))
    difference = np.abs(found - expected[kind]).max()
    print(f"largest difference of logits, {kind}, float32, blocks of {core}: {difference:.2e} of {np.abs(expected[kind]).max():.1f}")
    assert np.abs(expected[kind]).max() > 1
    assert difference < 1e-4 * max(1, np.abs(expected[kind]).max() / 4)


@pytest.mark.parametrize("kind", ["alone", "fused"])
def test_bf16_scores_are_near_float32s(device, kind, expected):
    scorer = alone(device, "bf16") if kind == "alone" else fused(device, "bf16")
    found = logits_of(scorer, plan_of(network_of(CHANNELS), SHAPE) if kind == "alone" else fused_plan(SHAPE))
    error = np.abs(found - expected[kind])
    print(f"bf16 against float32, {kind}: mean {error.mean():.2e}, largest {error.max():.2e} of {np.abs(expected[kind]).max():.1f}")
    assert error.max() < 0.05 * np.abs(expected[kind]).max()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("channels", [CHANNELS, (16, 32, 64), (32, 64, 128)])
def test_the_same_blocks_give_the_same_bits_every_time(device, precision, channels):
    network = network_of(channels)
    plan = plan_of(network, (32, 64, 48))
    first = logits_of(alone(device, precision, network), plan)
    torch.randn(1000, 1000, device=device) @ torch.randn(1000, 1000, device=device)  # something in between
    assert logits_of(alone(device, precision, network), plan).tobytes() == first.tobytes()


def test_tiles_within_a_block_leave_no_trace(device, expected):
    scorer = alone(device, "float32", gpu_memory=283_000_000)  # tiles of some 10^4 voxels
    found = logits_of(scorer, plan_of(network_of(CHANNELS), SHAPE), note=print)
    assert np.abs(found - expected["alone"]).max() < 1e-4 * np.abs(expected["alone"]).max()


def test_two_species_and_four_levels(device):
    network = network_of((4, 8, 16, 16), species=2)
    plan = plan_of(network, (48, 48, 48), level=0, shape=(40, 96, 64))
    found, wanted = (logits_of(alone(where, "float32", network), plan) for where in (device, "cpu"))
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_memory_for_nothing_is_refused_in_words(cuda):
    with pytest.raises(DeviceMemoryError, match="does not fit into the GPU's memory"):
        logits_of(alone(cuda, "float32", gpu_memory=1000), plan_of(network_of(CHANNELS), (16, 16, 16)), note=print)


def test_a_block_that_does_not_fit_is_halved_until_it_does_and_it_is_said(cuda):
    # the plan of tiles believes in 4 GB, but the process may take 0.3 GB only
    network = network_of((16, 32, 64))
    plan = plan_of(network, (200, 240, 240), level=0, shape=(200, 240, 240))
    wanted = logits_of(alone(cuda, "float32", network), plan)
    scorer = alone(cuda, "float32", network, gpu_memory=4 * 10**9)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.6e9 / torch.cuda.get_device_properties(0).total_memory)
    notes = []
    found = logits_of(scorer, plan, note=notes.append)
    print("\n".join(notes))
    assert notes
    assert all("does not fit into the GPU's memory" in note and "going on with half the block" in note for note in notes)
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_memory_of_a_tile_is_what_was_projected(cuda):
    from tomostream.strategies.unet.whole_block import tile_bytes

    for channels, precision, itemsize in (((16, 32, 64), "bf16", 2), ((16, 32, 64), "float32", 4), ((32, 64, 128), "bf16", 2)):
        network = network_of(channels)
        scorer = network_on(cuda, precision, network)
        block = volume_of((160, 256, 256))
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        scorer.logits(block)
        peak, projected = torch.cuda.max_memory_reserved(), tile_bytes(block.size, channels, species=1, itemsize=itemsize)
        print(
            f"{channels} {precision}: {peak / 1e9:.2f} GB reserved at the peak, {projected / 1e9:.2f} GB projected for {block.size / 1e6:.1f} Mvox"
        )
        assert peak <= projected


def test_joined_operations_are_as_near_to_float32_as_single_ones(cuda):
    from tomostream.strategies.unet import whole_block

    network = network_of((16, 32, 64))
    volume = volume_of((64, 96, 96))
    exact = network_on(cuda, "float32", network).logits(volume)
    joined = network_on(cuda, "bf16", network).logits(volume)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole_block, "can_be_joined", lambda network: False)
        apart = network_on(cuda, "bf16", network).logits(volume)
    errors = [float(np.abs(found - exact).mean() / np.abs(exact).mean()) for found in (joined, apart)]
    print(f"bf16 against float32, mean difference of the mean logit: joined {errors[0]:.2e}, apart {errors[1]:.2e}")
    assert errors[0] < 1.2 * errors[1]


def test_threads_that_share_the_card_give_the_bits_of_one(device):
    from concurrent.futures import ThreadPoolExecutor

    scorer, plan = fused(device, "bf16"), fused_plan((32, 40, 48))
    first = logits_of(scorer, plan)
    with ThreadPoolExecutor(4) as executor:
        for found in executor.map(lambda _: logits_of(scorer, plan), range(8)):
            assert found.tobytes() == first.tobytes()


def test_the_device_has_a_number(cuda):
    assert resolve_device(cuda) == resolve_device("auto") == torch.device("cuda", torch.cuda.current_device())


def test_the_environment_names_card_and_cudnn(cuda):
    assert torch.cuda.get_device_name() in environment(cuda)["device"]
    assert "cuDNN" in environment(cuda)["device"]
