"""Network and matched filter add up as the formula says, in any block; the default model is such a sum."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_records import rewrite_record
from networks import network_of
from scipy import ndimage

from tomostream.geometry import BlockGrid, Box
from tomostream.inference.region_scoring import read_extended
from tomostream.strategies.matched_filter.correlation import CorrelationScorer
from tomostream.strategies.matched_filter.kernels import profile_target
from tomostream.strategies.model_folder import TrainingSummary
from tomostream.strategies.unet.fusion import FusedScorer, MatchedSettings
from tomostream.strategies.unet.model import UNetSettings, load_model, save_model
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.scorer import StreamedNetwork

pytestmark = pytest.mark.slow

SHAPE = (37, 42, 51)
CHANNELS = (4, 8)
MATCHED = MatchedSettings(support_vox=(4.0, 5.5), floor=0.6, weight=(7.0, -3.0), intercept=(0.5, -1.25), smooth_vox=2.0)
PROFILES = (np.array([-2.0, -1.5, -1.0, -0.3, 0.2, 0.1, 0.0]), np.array([1.0, 0.5, -0.5, -1.0, -0.2, 0.1, 0.3]))


def fused(matched=MATCHED):
    network = StreamedNetwork(network_of(CHANNELS, species=2), device="cpu", precision="float32", threads=None)
    return FusedScorer(network, matched, PROFILES, threads=None)


@pytest.fixture(scope="module")
def volume():
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def score(scorer, volume, needed):
    read = scorer.read_box(needed, volume.shape)
    return scorer.logits(read_extended(lambda box: volume[box.slices], read, volume.shape), read, needed, volume.shape)


def test_the_logit_is_the_network_averaged_plus_the_weighted_correlation(volume):
    found = score(fused(), volume, Box.whole(SHAPE))
    network = StreamedNetwork(network_of(CHANNELS, species=2), device="cpu", precision="float32", threads=None)
    padded = np.pad(volume, [(0, -n % 2) for n in SHAPE], mode="edge")
    plain = network.logits(padded)[:, : SHAPE[0], : SHAPE[1], : SHAPE[2]].astype(np.float64)
    z, y, x = np.mgrid[-2:3, -2:3, -2:3]
    ball = (z**2 + y**2 + x**2 <= 4).astype(np.float64)
    inside = ndimage.convolve(np.ones(SHAPE), ball, mode="constant")
    for number in range(2):
        target = profile_target(PROFILES[number], MATCHED.support_vox[number])
        correlation = CorrelationScorer([target], floor=MATCHED.floor, threads=None).correlations(
            volume, Box.whole(SHAPE), Box.whole(SHAPE), SHAPE
        )[0]
        mean = ndimage.convolve(plain[number], ball, mode="constant") / inside
        wanted = mean + MATCHED.weight[number] * correlation + MATCHED.intercept[number]
        np.testing.assert_allclose(found[number], wanted, atol=1e-4)


@pytest.mark.parametrize("block", [(16, 16, 16), (7, 20, 33), (37, 42, 9)])
def test_blocks_give_what_the_whole_volume_gives(volume, block):
    scorer = fused()
    whole = score(scorer, volume, Box.whole(SHAPE))
    for core in BlockGrid(SHAPE, block).cores():
        np.testing.assert_allclose(score(scorer, volume, core), whole[(slice(None), *core.slices)], atol=1e-4)


def test_pieces_bound_what_is_transformed_at_a_time(volume):
    target = profile_target(PROFILES[0], 4.0, slope=3.0)
    whole, piecewise = (CorrelationScorer([target], floor=0.6, threads=None, piece=piece) for piece in (None, 16))
    np.testing.assert_allclose(score(piecewise, volume, Box.whole(SHAPE)), score(whole, volume, Box.whole(SHAPE)), atol=1e-5)
    wide = Box.whole((200, 200, 200))
    assert piecewise.block_bytes(wide, wide.shape) < 0.3 * whole.block_bytes(wide, wide.shape)


def test_without_smoothing_and_weight_it_is_the_network(volume):
    plain = replace(MATCHED, weight=(0.0, 0.0), intercept=(0.0, 0.0), smooth_vox=0.0)
    needed = Box((3, 5, 7), (20, 22, 30))
    network = StreamedNetwork(network_of(CHANNELS, species=2), device="cpu", precision="float32", threads=None)
    scorer = fused(plain)
    read = scorer.read_box(needed, SHAPE)
    image = read_extended(lambda box: volume[box.slices], read, SHAPE)
    np.testing.assert_array_equal(scorer.logits(image, read, needed, SHAPE), network.logits(image, needed.relative_to(read.start)))


def test_a_model_folder_keeps_the_filter(tmp_path):
    settings = UNetSettings(
        channels=CHANNELS, species=("a", "b"), radius_ang=(40.0, 55.0), level=1, spacing=10.0, clip_sigma=3.0, label_shape="sphere",
        objective={"name": "nnpu"}, precision="float32", trained_on=("t1",), version="0", matched=MATCHED,
    )  # fmt: skip
    network = ResidualUNet(CHANNELS, 2, seed=0)
    save_model(tmp_path, network, settings, TrainingSummary(), PROFILES)
    loaded = load_model(tmp_path)
    assert loaded.settings == settings
    for kept, profile in zip(loaded.profiles, PROFILES, strict=True):
        np.testing.assert_array_equal(kept, profile)
    for one, other in zip(loaded.network.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    rewrite_record(tmp_path, lambda values: values["settings"].pop("matched"))  # then nobody knows what the further arrays are
    with pytest.raises(Exception, match="is broken"):
        load_model(tmp_path)


def test_the_projection_covers_image_and_logits():
    scorer = fused()
    needed = Box((0, 0, 0), (32, 32, 32))
    read = scorer.read_box(needed, (200, 200, 200))
    assert scorer.block_bytes(needed, (200, 200, 200)) > 4 * read.size + 2 * 2 * 4 * needed.size
