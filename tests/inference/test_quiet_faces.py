"""Near the faces logits are divided towards the background; in any block, on any device, and nowhere else."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tomostream.geometry import BlockGrid, Box
from tomostream.inference.device_scores import DeviceScorer
from tomostream.inference.face_noise import ALONG_X, ALONG_Y, FaceNoise
from tomostream.inference.protocol import BlockScorer
from tomostream.inference.quiet_faces import quiet

SHAPE = (7, 23, 19)
NOISE = FaceNoise(smooth_vox=1.0, reach_vox=4, background=(-3.0, 2.0))
edge = st.integers(1, 12)


class Fixed:
    """A scorer whose logits are those of a volume."""

    species = 2

    def __init__(self, values):
        self.values = values

    def read_box(self, needed, shape):
        return needed

    def block_bytes(self, needed, shape):
        return 100

    def logits(self, image, read, needed, shape):
        return self.values[(slice(None), *needed.slices)].copy()


class FixedOnDevice(Fixed):
    device, memory = torch.device("cpu"), 10**6

    def device_logits(self, image, read, needed, shape):
        return torch.from_numpy(self.logits(None, read, needed, shape))


def values_of():
    return np.random.default_rng(0).normal(0, 10, (2, *SHAPE)).astype(np.float32)


def gains_of(names=(ALONG_Y, ALONG_X)):
    rng = np.random.default_rng(1)
    return {name: np.maximum(1, rng.normal(1.5, 1, (2, SHAPE[0], 4))).astype(np.float32) for name in names}


def wanted(values, gains):
    """The formula, voxel by voxel."""
    whole = np.ones(SHAPE, dtype=np.float64)
    for z, y, x in np.ndindex(*SHAPE):
        for name, at, n in ((ALONG_Y, x, SHAPE[2]), (ALONG_X, y, SHAPE[1])):
            if name in gains and at < 4:
                whole[z, y, x] *= gains[name][0, z, at]
            if name in gains and n - 1 - at < 4:
                whole[z, y, x] *= gains[name][1, z, n - 1 - at]
    background = np.array(NOISE.background).reshape(2, 1, 1, 1)
    return background + (values - background) / whole


def score(scorer, box):
    return scorer.logits(np.empty(box.shape, dtype=np.float32), box, box, SHAPE)


@pytest.mark.parametrize("names", [(ALONG_Y,), (ALONG_X,), (ALONG_Y, ALONG_X)])
def test_it_is_the_formula(names):
    gains = gains_of(names)
    found = score(quiet(Fixed(values_of()), NOISE, gains), Box.whole(SHAPE))
    np.testing.assert_allclose(found, wanted(values_of(), gains), rtol=1e-5, atol=1e-5)
    inside = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    np.testing.assert_array_equal(found[inside], values_of()[inside])


@given(block=st.tuples(edge, edge, edge))
def test_any_block_gives_the_bits_of_the_whole(block):
    scorer = quiet(Fixed(values_of()), NOISE, gains_of())
    whole = score(scorer, Box.whole(SHAPE))
    for core in BlockGrid(SHAPE, block).cores():
        np.testing.assert_array_equal(score(scorer, core), whole[(slice(None), *core.slices)])


def test_on_a_device_it_is_the_same():
    host, device = (quiet(scorer(values_of()), NOISE, gains_of()) for scorer in (Fixed, FixedOnDevice))
    assert isinstance(host, BlockScorer)
    assert not isinstance(host, DeviceScorer)
    assert isinstance(device, DeviceScorer)
    assert (device.device, device.memory, device.species) == (torch.device("cpu"), 10**6, 2)
    for box in (Box.whole(SHAPE), Box((1, 2, 0), (6, 23, 7))):
        np.testing.assert_array_equal(device.device_logits(torch.empty(box.shape), box, box, SHAPE).numpy(), score(host, box))
        np.testing.assert_array_equal(score(device, box), score(host, box))


def test_without_streaks_it_is_the_scorer_itself():
    scorer = Fixed(values_of())
    assert quiet(scorer, NOISE, {}) is scorer
    assert quiet(scorer, NOISE, {name: np.ones_like(gain) for name, gain in gains_of().items()}) is scorer


def test_the_order_of_voxels_above_the_background_stays_within_a_line():
    found = score(quiet(Fixed(values_of()), NOISE, gains_of()), Box.whole(SHAPE))
    for number, z in ((0, 0), (1, 6)):
        line = values_of()[number, z, 4:-4, 0]
        np.testing.assert_array_equal(np.argsort(line), np.argsort(found[number, z, 4:-4, 0]))
