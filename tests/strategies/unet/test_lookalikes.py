"""What tells look-alikes is added to the logits as the formula says: in any block, on a processor and on a device, and from the model's folder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from model_records import rewrite_record
from networks import network_of

from tomostream.errors import InputError
from tomostream.geometry import BlockGrid, Box
from tomostream.inference.device_scores import DeviceScorer
from tomostream.inference.face_noise import FaceNoise
from tomostream.inference.protocol import BlockScorer
from tomostream.inference.quiet_faces import DeviceQuietScorer, quiet
from tomostream.inference.region_scoring import read_extended
from tomostream.strategies.model_folder import TrainingSummary
from tomostream.strategies.unet.device_scorer import DeviceFusedScorer
from tomostream.strategies.unet.fusion import FusedScorer, MatchedSettings
from tomostream.strategies.unet.lookalikes import LIMIT, LookAlikes, ToldApartScorer, told_apart
from tomostream.strategies.unet.model import UNetModel, UNetSettings, load_model, save_model
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.populations import Populations
from tomostream.strategies.unet.scorer import StreamedNetwork
from tomostream.strategies.unet.shells import profiles_at

SHAPE = (21, 40, 34)
CHANNELS = (3, 4, 5)
MATCHED = MatchedSettings(support_vox=(4.3, 5.6), floor=0.4, weight=(3.0, 2.0), intercept=(-1.0, 2.0), smooth_vox=1.6)
PROFILES = (np.cos(np.linspace(0, np.pi, 5)), np.sin(np.linspace(0, np.pi, 6)))
TOLD = LookAlikes(
    support_vox=(4.5, 3.2),
    floor=0.4,
    shells=(((3.0, -1.0, 2.0, 4.0), (-2.0, 1.0, 5.0, 2.0)), ()),
    offset=((0.5, -1.5), ()),
    weight=(0.3, 0.0),
)
SETTINGS = UNetSettings(
    channels=CHANNELS, species=("a", "b"), radius_ang=(30.0, 20.0), level=0, spacing=10.0, clip_sigma=3.0, label_shape="sphere",
    objective={"name": "nnpu"}, precision="float32", trained_on=("t1",), version="0", matched=MATCHED, lookalikes=TOLD,
)  # fmt: skip
PLAIN = replace(SETTINGS, lookalikes=None)


def reader(volume):
    def read(box):
        result = np.zeros(box.shape, dtype=np.float32)
        inside = box.clipped(Box.whole(SHAPE))
        result[inside.relative_to(box.start).slices] = volume[inside.slices]
        return result

    return read


@pytest.fixture(scope="module")
def volume():
    return np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


def network():
    return StreamedNetwork(network_of(CHANNELS, species=2), device="cpu", precision="float32", threads=1)


def fused():
    return FusedScorer(network(), MATCHED, PROFILES, threads=1)


def score(scorer, volume, needed):
    read = scorer.read_box(needed, SHAPE)
    return scorer.logits(read_extended(lambda box: volume[box.slices], read, SHAPE), read, needed, SHAPE)


def test_the_clipped_log_odds_are_added_to_the_species_that_is_told(volume):
    plain, told = (score(scorer, volume, Box.whole(SHAPE)) for scorer in (fused(), told_apart(fused(), TOLD, threads=1)))
    np.testing.assert_array_equal(told[1], plain[1])
    places = np.random.default_rng(1).integers(0, SHAPE, (60, 3))
    profiles = profiles_at(reader(volume), places, support=4.5, floor=0.4)
    odds = Populations(np.array(TOLD.shells[0]), np.array(TOLD.offset[0])).log_odds(profiles)
    added = (told - plain)[0][tuple(places.T)]
    np.testing.assert_allclose(added, 0.3 * np.clip(odds, -LIMIT, LIMIT), atol=1e-4)
    assert np.ptp(odds) > 2


def test_sure_places_are_limited(volume):
    sure = replace(TOLD, shells=(tuple(tuple(100 * one for one in own) for own in TOLD.shells[0]), ()))
    plain, told = (score(scorer, volume, Box.whole(SHAPE))[0] for scorer in (fused(), told_apart(fused(), sure, threads=1)))
    assert np.abs(told - plain).max() == pytest.approx(0.3 * LIMIT, abs=1e-4)


@pytest.mark.parametrize("block", [(8, 8, 8), (21, 13, 34), (1, 40, 5)])
def test_blocks_give_what_the_whole_volume_gives(volume, block):
    scorer = told_apart(fused(), TOLD, threads=1)
    whole = score(scorer, volume, Box.whole(SHAPE))
    for core in BlockGrid(SHAPE, block).cores():
        np.testing.assert_allclose(score(scorer, volume, core), whole[(slice(None), *core.slices)], atol=1e-4)


def test_a_ball_wider_than_the_network_sees_widens_what_is_read():
    wide = LookAlikes((60.0, 3.2), 0.4, (((1.0,) * 7,), ()), ((0.0,), ()), (1.0, 0.0))
    scorer, needed, shape = told_apart(fused(), wide, threads=1), Box((90, 90, 90), (100, 100, 100)), (200, 200, 200)
    assert scorer.read_box(needed, shape).contains(needed.expanded(60))
    assert scorer.block_bytes(needed, shape) > fused().block_bytes(needed, shape)


def test_a_device_gives_what_the_processor_gives(volume):
    processor = told_apart(fused(), TOLD, threads=1)
    device = told_apart(DeviceFusedScorer(network(), MATCHED, PROFILES), TOLD, threads=None)
    assert isinstance(device, DeviceScorer)
    assert isinstance(device, BlockScorer)
    assert not isinstance(processor, DeviceScorer)
    noise = FaceNoise(smooth_vox=0.9, reach_vox=4, background=(-2.0, 0.0))
    assert isinstance(quiet(device, noise, {"faces.along_y": np.full((2, SHAPE[0], 4), 2.0, dtype=np.float32)}), DeviceQuietScorer)
    for needed in (Box.whole(SHAPE), Box((4, 0, 7), (21, 30, 20))):
        read = processor.read_box(needed, SHAPE)
        assert device.read_box(needed, SHAPE) == read
        image = read_extended(lambda box: volume[box.slices], read, SHAPE)
        found = device.device_logits(torch.from_numpy(image), read, needed, SHAPE).numpy()
        np.testing.assert_allclose(found, processor.logits(image, read, needed, SHAPE), rtol=0, atol=1e-4)


def test_a_model_keeps_it_and_scores_with_it(tmp_path, volume):
    save_model(tmp_path, ResidualUNet(CHANNELS, 2, seed=0).eval(), SETTINGS, TrainingSummary(), PROFILES)
    model = load_model(tmp_path)
    assert model.settings.lookalikes == TOLD
    scorer, plain = (one.scorer(device="cpu", precision="float32", threads=1) for one in (model, replace(model, settings=PLAIN)))
    assert isinstance(scorer, ToldApartScorer)
    np.testing.assert_array_equal(
        score(scorer, volume, Box.whole(SHAPE)), score(told_apart(plain, TOLD, threads=1), volume, Box.whole(SHAPE))
    )


def test_a_model_of_before_or_one_that_tells_nothing_is_scored_as_before():
    nothing = LookAlikes((4.5, 3.2), 0.4, ((), ()), ((), ()), (0.0, 0.0))
    for told in (None, nothing):
        model = UNetModel(replace(SETTINGS, lookalikes=told), TrainingSummary(), Path(), network_of(CHANNELS, species=2).eval(), PROFILES)
        assert isinstance(model.scorer(device="cpu", precision="float32", threads=1), FusedScorer)


def test_what_is_planned_for_is_the_largest():
    planned = LookAlikes.planned((3.0, 0.2), 0.4)
    assert [len(own) for own in planned.shells] == [2, 2]
    assert len(planned.weight) == 2


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"shells": [[[1.0]], []]}, "needs an offset and 4 shells"),
        ({"offset": [[0.5], []]}, "needs an offset"),
        ({"weight": [1.0]}, "must have a value for each species"),
        ({"support_vox": [0.0, 3.2]}, "must be 1 to 1000 voxels, found 0"),
        ({"support_vox": [1e9, 3.2]}, "must be 1 to 1000 voxels"),
        ({"support_vox": [4.5], "shells": [[]], "offset": [[]], "weight": [1.0]}, "each of the 2 species"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_words(tmp_path, wrong, named):
    save_model(tmp_path, network_of(CHANNELS, species=2).eval(), SETTINGS, TrainingSummary(), PROFILES)
    rewrite_record(tmp_path, lambda values: values["settings"]["lookalikes"].update(wrong))
    with pytest.raises(InputError, match=named):
        load_model(tmp_path)


def test_it_needs_the_filter(tmp_path):
    save_model(tmp_path, network_of(CHANNELS, species=2).eval(), replace(SETTINGS, matched=None), TrainingSummary())
    with pytest.raises(InputError, match="lookalikes needs a matched filter"):
        load_model(tmp_path)
