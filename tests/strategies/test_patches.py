"""Scores of fixed patches: the grid tiles any volume, and blocks give the bits of the whole."""

import itertools

import numpy as np
import pytest
import torch
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from networks import lively

from tomostream.errors import InputError
from tomostream.geometry import BlockGrid, Box
from tomostream.inference.protocol import BlockScorer
from tomostream.inference.region_scoring import read_extended
from tomostream.learn.batch_norm_folding import deployed
from tomostream.strategies.patches import PatchGrid, PatchScorer

STRIDE, PADDING = 4, 3


@examples(40)
@given(shape=st.tuples(*[st.integers(1, 50)] * 3), edge=st.tuples(*[st.integers(2, 6)] * 3))
def test_every_voxel_has_one_owner_that_sees_enough_around_it(shape, edge):
    grid = PatchGrid(shape, tuple(STRIDE * e for e in edge), PADDING, STRIDE)
    whole = Box.whole(shape)
    owned = np.zeros(shape, dtype=int)
    for patch in grid.patches(whole):
        owned[patch.owned.slices] += 1
        assert patch.seen.shape == grid.patch_shape
        assert patch.seen.contains(patch.owned.expanded(PADDING).clipped(whole))
        for axis in range(3):
            if shape[axis] >= grid.edge[axis]:
                assert patch.seen.start[axis] >= 0
                assert patch.seen.stop[axis] <= shape[axis]
            else:
                assert patch.seen.start[axis] == 0
    assert (owned == 1).all()


@examples(40)
@given(data=st.data(), shape=st.tuples(*[st.integers(1, 60)] * 3))
def test_a_box_gets_just_the_patches_that_own_its_voxels(data, shape):
    grid = PatchGrid(shape, (16, 12, 20), PADDING, STRIDE)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    box = Box(start, tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)))
    every = list(grid.patches(Box.whole(shape)))
    assert list(grid.patches(box)) == [patch for patch in every if not patch.owned.clipped(box).is_empty]
    read = grid.seen(box)
    assert all(read.contains(patch.seen) for patch in grid.patches(box))
    assert all(0 <= a < n for a, n in zip(read.start, shape, strict=True))


def scorer(precision="float32"):
    return PatchScorer(lively(species=2), edge=(16, 16, 16), padding=PADDING, device="cpu", precision=precision, threads=None)


def logits_of(scorer_, volume, box):
    read = scorer_.read_box(box, volume.shape)
    return scorer_.logits(read_extended(lambda b: volume[b.slices], read, volume.shape), read, box, volume.shape)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("shape", [(9, 30, 37), (16, 27, 16)])
def test_blocks_have_the_bits_of_the_whole(shape, precision):
    volume = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    given_scorer = scorer(precision)
    whole = logits_of(given_scorer, volume, Box.whole(shape))
    for core in BlockGrid(shape, (7, 11, 13)).cores():
        np.testing.assert_array_equal(logits_of(given_scorer, volume, core), whole[(slice(None), *core.slices)])


def test_a_patch_has_the_networks_own_logits():
    volume = np.random.default_rng(0).standard_normal((16, 16, 26)).astype(np.float32)
    found = logits_of(scorer(), volume, Box.whole(volume.shape))
    network = deployed(lively(species=2))
    with torch.inference_mode():
        first, last = (network(torch.from_numpy(volume[None, None, :, :, part]))[0].numpy() for part in (slice(0, 16), slice(10, 26)))
    np.testing.assert_allclose(found, np.concatenate([first[..., :13], last[..., 3:]], axis=3), rtol=1e-4, atol=1e-5)


def test_amid_mixed_precision_training_the_bits_are_the_same():
    volume = np.random.default_rng(0).standard_normal((16, 16, 16)).astype(np.float32)
    plain = logits_of(scorer(), volume, Box.whole(volume.shape))
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(logits_of(scorer(), volume, Box.whole(volume.shape)), plain)


def test_it_is_a_block_scorer_whose_bytes_grow_with_the_block():
    given_scorer = scorer()
    assert isinstance(given_scorer, BlockScorer)
    assert given_scorer.species == 2
    small, large = (given_scorer.block_bytes(Box((0, 0, 0), (n, n, n)), (200, 200, 200)) for n in (20, 120))
    assert large - small > 4 * 3 * (120**3 - 20**3)


@pytest.mark.parametrize(("edge", "padding"), [((16, 16, 18), 3), ((8, 16, 16), 4), ((16, 16, 16), -1)])
def test_patches_that_dont_fit_are_refused(edge, padding):
    with pytest.raises(InputError, match="patch"):
        PatchScorer(lively(), edge=edge, padding=padding, device="cpu", precision="float32", threads=None)


def test_unknown_precision_is_refused():
    with pytest.raises(InputError, match="float8"):
        scorer("float8")


def test_the_last_patch_ends_with_the_volume():
    grid = PatchGrid((20, 20, 20), (16, 16, 16), PADDING, STRIDE)
    starts = [patch.seen.start for patch in grid.patches(Box.whole((20, 20, 20)))]
    assert starts == list(itertools.product((0, 4), repeat=3))
