"""A block at once, in tiles, is the stream of planes: the same logits to rounding; tiles cover what is kept, and fit the memory."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import network_of

from tomostream.geometry import Box
from tomostream.strategies.unet.scorer import StreamedNetwork
from tomostream.strategies.unet.whole_block import SMALLEST_PART_VOX, WholeBlocks, largest_tile, tile_bytes, tiles, whole_logits


def volume_of(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def whole_blocks(network, most_voxels, kind=torch.float32):
    own = network.to(dtype=kind, memory_format=torch.channels_last_3d)
    head = torch.nn.Conv3d(network.channels[0], network.species, 1)
    head.load_state_dict(network.head.state_dict())
    return WholeBlocks(own, head.float(), radius=network.influence_radius, most_voxels=most_voxels)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [(4,), (3, 4), (3, 4, 5), (2, 3, 3, 4)])  # strides 1, 2, 4, 8
@pytest.mark.parametrize("most_voxels", [10**9, 50_000, 1])
def test_logits_in_tiles_are_those_of_the_stream(channels, most_voxels):
    network = network_of(channels, species=2)
    volume, keep = volume_of((24, 72, 32)), Box((3, 0, 5), (21, 72, 30))
    expected = StreamedNetwork(network, device="cpu", precision="float32", threads=1).logits(volume, keep)
    found = whole_blocks(network, most_voxels).logits(volume, keep)
    assert np.abs(expected).max() > 1  # lively logits, so 1e-4 means something
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max() / 4), rtol=0)


def test_bf16_is_near_float32():
    network = network_of((8, 16, 32))
    volume = volume_of((16, 32, 32))
    whole = Box.whole(volume.shape)
    a = StreamedNetwork(network, device="cpu", precision="float32", threads=1).logits(volume)
    b = whole_blocks(network_of((8, 16, 32)), 10**9, torch.bfloat16).logits(volume, whole)
    assert np.abs(a - b).max() < 0.05 * np.abs(a).max()


def test_the_same_tiles_give_the_same_bits():
    network = network_of((3, 4, 5))
    volume = volume_of((24, 40, 32))
    blocks = whole_blocks(network, 25_000)
    assert blocks.logits(volume, Box.whole(volume.shape)).tobytes() == blocks.logits(volume, Box.whole(volume.shape)).tobytes()


def test_a_tile_one_stride_too_small_would_be_seen():
    network = network_of((3, 4, 5))
    volume = volume_of((16, 16, 96))
    whole = Box.whole(volume.shape)
    expected = whole_blocks(network, 10**9).logits(volume, whole)
    poor = WholeBlocks(network, network.head, radius=4, most_voxels=16 * 16 * 50).logits(volume, whole)
    assert np.abs(poor - expected).max() > 1e-3


@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    corner=st.tuples(*[st.floats(0, 1)] * 3),
    edges=st.tuples(*[st.floats(0, 1)] * 3),
    radius=st.integers(0, 9),
    most=st.integers(1, 20_000),
)
def test_tiles_cover_what_is_kept_once_with_the_radius_around(shape, corner, edges, radius, most):
    stride = 4
    block = tuple(stride * n for n in shape)
    start = tuple(int(share * (n - 1)) for share, n in zip(corner, block, strict=True))
    stop = tuple(a + 1 + int(share * (n - a - 1)) for a, share, n in zip(start, edges, block, strict=True))
    keep = Box(start, stop)
    seen = np.zeros(block, dtype=int)
    for tile in tiles(block, keep, radius=radius, stride=stride, most_voxels=most):
        seen[tile.part.slices] += 1
        assert tile.read.contains(tile.part.expanded(radius).clipped(Box.whole(block)))
        assert all(edge % stride == 0 for edge in (*tile.read.start, *tile.read.stop))
        assert tile.read.size <= most or max(tile.part.shape) <= SMALLEST_PART_VOX
    assert (seen[keep.slices] == 1).all()
    assert seen.sum() == keep.size


@pytest.mark.parametrize("channels", [(8, 16, 32), (16, 32, 64), (32, 64, 128), (4, 64)])
@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("memory", [10**9, 8 * 10**9, 64 * 10**9, 10**12])
def test_the_largest_tile_fits_the_memory_and_twice_as_much_does_not(channels, itemsize, memory):
    voxels = largest_tile(memory, channels, species=2, itemsize=itemsize)
    assert tile_bytes(voxels, channels, species=2, itemsize=itemsize) <= memory
    numbers = [voxels * wide / 8**level for level, wide in enumerate(channels)]
    assert max(numbers) < 2**31
    is_too_large = tile_bytes(2 * voxels, channels, species=2, itemsize=itemsize) > memory
    assert is_too_large or 2 * max(numbers) >= 2**31


def test_a_tiny_budget_leaves_tiles_of_a_voxel():
    assert largest_tile(10**6, (8, 16), species=1, itemsize=2) == 1


def test_a_network_that_is_not_folded_is_no_matter_of_silence():
    network = network_of((3, 4))
    network.encoders[0] = torch.nn.Identity()
    with pytest.raises(TypeError, match="a residual block is needed, found Identity"):
        whole_logits(network, network.head, torch.zeros(1, 1, 4, 4, 4))
