import numpy as np
import pytest
import torch
from networks import network_of

from tomostream.errors import DeviceMemoryError, InputError
from tomostream.geometry import Box, halves
from tomostream.inference import region_scoring as regions
from tomostream.inference.machine import environment
from tomostream.inference.plan import PredictionPlan
from tomostream.inference.region_scoring import encode_scores, encoding_attributes, read_extended, score_region
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.scorer import StreamedNetwork, UNetScorer, score_array


def volume_of(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def plan_of(network, shape, core, *, level=0, shard=None):
    return PredictionPlan(
        volume=shape,
        level=level,
        stride=network.stride,
        radius=network.influence_radius,
        chunk=(8, 8, 8),
        shard=shard or shape,
        core=core,
        species=network.species,
        block_bytes=0,
    )


def whole_logits(network, volume, shape, level):
    """The oracle: the deployed network by torch on the whole extended volume, interpolated by torch; nothing of the package's inference."""
    padding = [(0, -n % network.stride) for n in volume.shape]
    extended = torch.from_numpy(np.pad(volume, padding, mode="edge"))[None, None]
    with torch.inference_mode():
        logits = network(extended)[:, :, : volume.shape[0], : volume.shape[1], : volume.shape[2]]
        if level:
            logits = torch.nn.functional.interpolate(logits, scale_factor=2**level, mode="trilinear", align_corners=False)
    return logits[0, :, : shape[0], : shape[1], : shape[2]].numpy()


def scored(network, volume, plan, *, region=None, as_logits=True, threads=1, radius=None):
    streamed = StreamedNetwork(network, device="cpu", precision="float32", threads=threads)
    if radius is not None:
        streamed.influence_radius = radius
    scorer = UNetScorer(streamed)
    where = region or Box.whole(plan.volume)
    return score_region(lambda box: volume[box.slices], plan, where, scorer, as_logits=as_logits, note=pytest.fail)


@pytest.mark.parametrize("channels", [(4,), (3, 4), (3, 4, 5), (2, 3, 3, 4)])  # strides 1, 2, 4, 8
@pytest.mark.parametrize("core", [(64, 64, 64), (16, 16, 16), (13, 7, 29), (8, 37, 5)])
def test_logits_of_any_blocks_are_those_of_the_whole_volume(channels, core):
    network = network_of(channels, species=2)
    shape = (13, 37, 18)
    volume = volume_of(shape)
    result = scored(network, volume, plan_of(network, shape, core))
    expected = whole_logits(network, volume, shape, 0)
    assert np.abs(expected).max() > 1  # lively logits, so 1e-4 means something
    np.testing.assert_allclose(result, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("level", "shape"), [(1, (25, 38, 53)), (2, (41, 50, 21))])
@pytest.mark.parametrize("core", [(64, 64, 64), (16, 24, 8), (11, 17, 30)])
def test_coarser_levels_are_interpolated_without_a_trace_of_blocks(level, shape, core):
    network = network_of((3, 4, 5))
    volume = volume_of(tuple(-(-n // 2**level) for n in shape))
    result = scored(network, volume, plan_of(network, shape, core, level=level, shard=(24, 40, 40)))
    np.testing.assert_allclose(result, whole_logits(network, volume, shape, level), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 1])
def test_one_block_grid_gives_the_same_bits_in_any_order_and_every_time(level):
    network = network_of((3, 4, 5))
    shape = (26, 17, 42)
    volume = volume_of(tuple(-(-n // 2**level) for n in shape))
    plan = plan_of(network, shape, (16, 16, 16), level=level, shard=(24, 24, 24))
    first = scored(network, volume, plan)
    for index in reversed(list(plan.shards.indices())):
        shard = plan.shards.core(index)
        again = scored(network, volume, plan, region=shard)
        assert again.tobytes() == first[(slice(None), *shard.slices)].tobytes()


def test_influence_radius_is_reached_and_never_exceeded():
    network = network_of((3, 4, 5))
    radius = network.influence_radius
    shape = (4, 4, 96)
    zero = np.zeros(shape, dtype=np.float32)
    plan = plan_of(network, shape, shape)
    base = scored(network, zero, plan)
    reached = 0
    for x in range(44, 52):
        changed = zero.copy()
        changed[:, :, x] = 100
        where = np.nonzero((scored(network, changed, plan) != base).any(axis=(0, 1, 2)))[0]
        reached = max(reached, *np.abs(where - x))
    assert radius - 4 <= reached <= radius


def test_a_halo_one_stride_too_small_would_be_seen():
    network = network_of((3, 4, 5))
    shape = (16, 16, 96)
    volume = volume_of(shape)
    good = plan_of(network, shape, (16, 16, 32))
    expected = whole_logits(network, volume, shape, 0)
    assert np.abs(scored(network, volume, good) - expected).max() < 1e-4
    assert np.abs(scored(network, volume, good, radius=4) - expected).max() > 1e-3


def test_far_ends_are_extended_by_replication_only_there():
    volume = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    reads = []

    def read(box):
        reads.append(box)
        return volume[box.slices]

    result = read_extended(read, Box((0, 0, 1), (4, 2, 4)), (2, 2, 2))
    assert result[:, 0, :].tolist() == [[1, 1, 1], [5, 5, 5], [5, 5, 5], [5, 5, 5]]
    assert reads == [Box((0, 0, 1), (2, 2, 2))]


def test_large_blocks_are_read_in_pieces(monkeypatch):
    monkeypatch.setattr(regions, "READ_VOXELS", 64 * 64 * 30)
    volume = volume_of((150, 140, 30))
    reads = []

    def read(box):
        reads.append(box)
        return volume[box.slices]

    box = Box((3, 5, 2), (150, 133, 29))
    assert np.array_equal(read_extended(read, box, volume.shape), volume[box.slices])
    assert len(reads) == 9
    assert all(piece.size <= 64 * 64 * 30 for piece in reads)


def test_probabilities_are_the_sigmoid_of_the_logits_in_float32():
    network = network_of((3, 4), species=2)
    volume = volume_of((9, 10, 11))
    plan = plan_of(network, volume.shape, (8, 8, 8))
    logits = scored(network, volume, plan)
    probabilities = scored(network, volume, plan, as_logits=False)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits.astype(np.float64))), atol=1e-6)


def test_a_volume_in_memory_is_scored_from_a_network_in_training_which_is_left_alone():
    network = ResidualUNet((3, 4, 5), 1, seed=3).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    volume = volume_of((14, 17, 22))
    result = score_array(volume, network, precision="float32", memory=2 * 10**9, device="cpu")
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network.eval()
    np.testing.assert_allclose(result, 1 / (1 + np.exp(-whole_logits(network, volume, volume.shape, 0))), atol=1e-5)


def test_bf16_is_near_float32():
    network = network_of((8, 16, 32))
    volume = volume_of((16, 32, 32))
    a, b = (StreamedNetwork(network, device="cpu", precision=p, threads=1).logits(volume) for p in ("float32", "bf16"))
    assert np.abs(a - b).max() < 0.05 * np.abs(a).max()
    assert a.dtype == b.dtype == np.float32


def test_short_gpu_memory_halves_the_block_goes_on_and_says_so():
    network = network_of((3, 4))
    shape = (20, 20, 44)
    volume = volume_of(shape)
    plan = plan_of(network, shape, shape)
    notes = []

    class Small(StreamedNetwork):
        def planes(self, block, keep):
            if block.size > 12_000:
                raise DeviceMemoryError(f"a block of {block.shape} voxels does not fit")
            yield from super().planes(block, keep)

    scorer = UNetScorer(Small(network, device="cpu", precision="float32", threads=1))
    result = score_region(lambda box: volume[box.slices], plan, Box.whole(shape), scorer, as_logits=True, note=notes.append)
    np.testing.assert_allclose(result, whole_logits(network, volume, shape, 0), atol=1e-4)
    assert len(notes) == 3  # the block of 44, and both of its halves
    assert all("does not fit; going on with half the block" in note for note in notes)


def test_halves_cut_the_longest_edge_and_share_nothing():
    a, b = halves(Box((0, 5, 0), (3, 12, 2)))
    assert (a, b) == (Box((0, 5, 0), (3, 8, 2)), Box((0, 8, 0), (3, 12, 2)))


def test_bad_settings_are_refused_with_what_is_allowed():
    network = network_of((3, 4))
    with pytest.raises(InputError, match="float32 or bf16, found 'float16'"):
        StreamedNetwork(network, device="cpu", precision="float16", threads=1)
    with pytest.raises(InputError, match="ResidualUNet, found Identity"):
        StreamedNetwork(torch.nn.Identity(), device="cpu", precision="float32", threads=1)
    with pytest.raises(InputError, match=r"multiples of the network's stride 2, found \(4, 4, 3\)"):
        StreamedNetwork(network, device="cpu", precision="float32", threads=1).logits(np.zeros((4, 4, 3), dtype=np.float32))


def test_int8_scores_decode_to_half_a_step_and_missing_ones_stay_below_all():
    scores = np.linspace(0, 1, 1000, dtype=np.float32).reshape(10, 10, 10)
    stored = encode_scores(scores, "int8")
    facts = encoding_attributes("int8")
    decoded = stored * facts["score_scale"] + facts["score_offset"]
    assert np.abs(decoded - scores).max() <= 0.5 / 254 + 1e-6
    assert (stored.min(), stored.max()) == (-127, 127)
    missing = np.full((1, 1, 1), np.nan, dtype=np.float32)
    assert encode_scores(missing, "int8").item() == facts["score_missing"] == -128
    assert np.isnan(encode_scores(missing, "float16").item())
    assert encode_scores(scores, "float32") is scores
    assert encoding_attributes("float16") == {}


def test_environment_names_what_decides_the_bits():
    facts = environment("cpu")
    assert facts["torch"] == torch.__version__
    assert "device" in facts
