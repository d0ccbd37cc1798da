"""What tells look-alikes is added to the logits as the formula says: in any block, on a processor and on a device, and from the model's folder."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_records import rewrite_record
from networks import network_of
from padded_volume import reader_of

from tomostream.errors import InputError
from tomostream.geometry import BlockGrid, Box
from tomostream.inference.region_scoring import read_extended
from tomostream.strategies.model_folder import TrainingSummary
from tomostream.strategies.unet.device_scorer import DeviceFusedScorer
from tomostream.strategies.unet.fusion import FusedScorer, MatchedSettings
from tomostream.strategies.unet.lookalikes import LIMIT, LookAlikes
from tomostream.strategies.unet.model import UNetSettings, load_model, save_model
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.populations import Populations
from tomostream.strategies.unet.scorer import StreamedNetwork
from tomostream.strategies.unet.shells import profiles_at

SHAPE = (21, 40, 34)
CHANNELS = (3, 4, 5)
MATCHED = MatchedSettings(support_vox=(4.3, 5.6), floor=0.4, weight=(3.0, 2.0), intercept=(-1.0, 2.0), smooth_vox=1.6)
PROFILES = (np.cos(np.linspace(0, np.pi, 5)), np.sin(np.linspace(0, np.pi, 6)))
TOLD = LookAlikes(
    shells=(((3.0, -1.0, 2.0, 4.0), (-2.0, 1.0, 5.0, 2.0)), ()),
    offset=((0.5, -1.5), ()),
    most=(-1.6, 0.0),
    weight=(0.3, 0.0),
    scale=(0.5, 1.0),
)
SETTINGS = UNetSettings(
    channels=CHANNELS, species=("a", "b"), radius_ang=(30.0, 20.0), level=0, spacing=10.0, clip_sigma=3.0, label_shape="sphere",
    objective={"name": "nnpu"}, precision="float32", trained_on=("t1",), version="0", matched=MATCHED, lookalikes=TOLD,
)  # fmt: skip


@pytest.fixture(scope="module")
def volume():
    return np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


def network():
    return StreamedNetwork(network_of(CHANNELS, species=2), device="cpu", precision="float32", threads=1)


def fused(told=None):
    return FusedScorer(network(), MATCHED, PROFILES, told, threads=1)


def score(scorer, volume, needed):
    read = scorer.read_box(needed, SHAPE)
    return scorer.logits(read_extended(lambda box: volume[box.slices], read, SHAPE), read, needed, SHAPE)


def test_the_clipped_log_odds_are_added_to_the_species_that_is_told(volume):
    plain, told = (score(scorer, volume, Box.whole(SHAPE)) for scorer in (fused(), fused(TOLD)))
    np.testing.assert_array_equal(told[1], plain[1])
    places = np.random.default_rng(1).integers(0, SHAPE, (60, 3))
    profiles = profiles_at(reader_of(volume), places, support=4.3, floor=0.4)
    odds = Populations(np.array(TOLD.shells[0]), np.array(TOLD.offset[0])).log_odds(profiles)
    intercept = MATCHED.intercept[0]
    added = ((told[0] - intercept) / 0.5 - (plain[0] - intercept))[tuple(places.T)]
    np.testing.assert_allclose(added, 0.3 * np.clip(odds, -LIMIT, -1.6), atol=1e-4)
    assert 0 < (odds > -1.6).sum() < 60
    assert np.ptp(odds) > 2


def test_sure_places_are_limited(volume):
    sure = replace(TOLD, scale=(1.0, 1.0), most=(2.0, 0.0), shells=(tuple(tuple(100 * one for one in own) for own in TOLD.shells[0]), ()))
    plain, told = (score(scorer, volume, Box.whole(SHAPE))[0] for scorer in (fused(), fused(sure)))
    assert (told - plain).max() == pytest.approx(0.3 * 2, abs=1e-4)
    assert (told - plain).min() == pytest.approx(-0.3 * LIMIT, abs=1e-4)


@pytest.mark.parametrize("block", [(8, 8, 8), (21, 13, 34), (1, 40, 5)])
def test_blocks_give_what_the_whole_volume_gives(volume, block):
    scorer = fused(TOLD)
    whole = score(scorer, volume, Box.whole(SHAPE))
    for core in BlockGrid(SHAPE, block).cores():
        np.testing.assert_allclose(score(scorer, volume, core), whole[(slice(None), *core.slices)], atol=1e-4)


def test_it_takes_more_memory_than_the_filter_alone_and_reads_the_same():
    needed, shape = Box((0, 0, 0), (400, 400, 400)), (400, 400, 400)
    assert fused(TOLD).read_box(needed, shape) == fused().read_box(needed, shape)
    assert fused(TOLD).block_bytes(needed, shape) > fused().block_bytes(needed, shape)


def test_a_device_gives_what_the_processor_gives(volume):
    processor, device = fused(TOLD), DeviceFusedScorer(network(), MATCHED, PROFILES, TOLD)
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
    found = score(model.scorer(device="cpu", precision="float32", threads=1), volume, Box.whole(SHAPE))
    same = FusedScorer(StreamedNetwork(model.deployed, device="cpu", precision="float32", threads=1), MATCHED, PROFILES, TOLD, threads=1)
    np.testing.assert_array_equal(found, score(same, volume, Box.whole(SHAPE)))


def test_a_model_of_before_or_one_that_tells_nothing_is_scored_as_before(volume):
    plain, nothing = (
        score(fused(told), volume, Box.whole(SHAPE)) for told in (None, LookAlikes(((), ()), ((), ()), (0.0, 0.0), (0.0, 0.0), (1.0, 1.0)))
    )
    np.testing.assert_array_equal(plain, nothing)


def test_what_is_planned_for_is_the_largest():
    planned = LookAlikes.planned((3.0, 0.2))
    assert [len(own) for own in planned.shells] == [2, 2]
    assert len(planned.weight) == 2


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"shells": [[[1.0]], []]}, "needs an offset and 4 weights of shells"),
        ({"offset": [[0.5], []]}, "needs an offset"),
        ({"weight": [1.0]}, "must have a value for each of the 2 species"),
        ({"shells": [[]], "offset": [[]], "most": [0.0], "weight": [1.0], "scale": [1.0]}, "each of the 2 species"),
        ({"scale": [1.0]}, "each of the 2 species"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_words(tmp_path, wrong, named):
    save_model(tmp_path, network_of(CHANNELS, species=2).eval(), SETTINGS, TrainingSummary(), PROFILES)
    rewrite_record(tmp_path, lambda values: values["settings"]["lookalikes"].update(wrong))
    with pytest.raises(InputError, match=named):
        load_model(tmp_path)


def test_it_needs_the_filter(tmp_path):
    save_model(tmp_path, network_of(CHANNELS, species=2).eval(), replace(SETTINGS, matched=None), TrainingSummary())
    with pytest.raises(InputError, match="must have a value for each of the 0 species"):
        load_model(tmp_path)
