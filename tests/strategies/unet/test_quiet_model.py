"""A model measures the noise near a tomogram's faces and scores them with less trust; in any block, and not if it was made before."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from model_records import rewrite_record

from tomostream.errors import InputError
from tomostream.geometry import BlockGrid, Box
from tomostream.inference.face_noise import FACE_GAINS, FaceNoise
from tomostream.inference.region_scoring import read_extended
from tomostream.strategies.adaptive_statistics import adaptation_bytes, adapts, own_statistics
from tomostream.strategies.model_folder import TrainingSummary
from tomostream.strategies.unet.fusion import MatchedSettings
from tomostream.strategies.unet.model import UNetModel, UNetSettings, load_model, save_model
from tomostream.strategies.unet.network import ResidualUNet

SHAPE = (20, 60, 54)
MATCHED = MatchedSettings(support_vox=(4.0,), floor=0.4, weight=(3.0,), intercept=(-1.0,), smooth_vox=1.0)
PROFILES = (np.cos(np.linspace(0, np.pi, 5)),)
SETTINGS = UNetSettings(
    channels=(4, 8), species=("a",), radius_ang=(30.0,), level=0, spacing=10.0, clip_sigma=3.0, label_shape="sphere",
    objective={"name": "nnpu"}, precision="float32", trained_on=("t1",), version="0", matched=MATCHED, batch_statistics="tomogram",
    faces=FaceNoise(smooth_vox=0.9, reach_vox=4, background=(-2.0,)),
)  # fmt: skip


def network():
    result = ResidualUNet((4, 8), 1, seed=0)
    result.head.weight.data *= 30
    return result.eval().requires_grad_(False)


def model_of(settings=SETTINGS):
    return UNetModel(settings, TrainingSummary(), Path(), network(), PROFILES)


@pytest.fixture
def volume():
    result = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    result[:, :, :3] += 6 * np.random.default_rng(1).standard_normal((5, 15, 1)).repeat(4, 0).repeat(4, 1).astype(np.float32)
    return result


def statistics(model, volume):
    return own_statistics(model, lambda box: volume[box.slices], SHAPE, device="cpu")


def score(model, volume, needed):
    scorer = model.scorer(device="cpu", precision="float32", threads=1)
    read = scorer.read_box(needed, SHAPE)
    return scorer.logits(read_extended(lambda box: volume[box.slices], read, SHAPE), read, needed, SHAPE)


def test_logits_near_noisy_faces_are_nearer_the_background(volume):
    own = statistics(model_of(), volume)
    assert set(FACE_GAINS) <= own.keys()
    quiet, loud = model_of().with_statistics(own), model_of(replace(SETTINGS, faces=None)).with_statistics(own)
    found, before = (score(model, volume, Box.whole(SHAPE))[0] for model in (quiet, loud))
    np.testing.assert_array_equal(found[:, 4:-4, 4:-4], before[:, 4:-4, 4:-4])
    ratio = np.abs(found + 2)[:, 4:-4, :2].mean() / np.abs(before + 2)[:, 4:-4, :2].mean()
    assert ratio < 0.6
    for core in BlockGrid(SHAPE, (9, 33, 20)).cores():
        np.testing.assert_allclose(score(quiet, volume, core)[0], found[core.slices], atol=1e-4)


def test_a_model_of_before_is_scored_as_before(volume):
    old = replace(SETTINGS, faces=None)
    assert set(FACE_GAINS).isdisjoint(statistics(model_of(old), volume))


def test_faces_are_measured_without_own_batch_statistics_too(volume):
    model = model_of(replace(SETTINGS, batch_statistics="training"))
    assert adapts(model)
    assert set(statistics(model, volume)) == set(FACE_GAINS)
    assert adaptation_bytes(model) > 0
    assert not adapts(model_of(replace(SETTINGS, batch_statistics="training", faces=None)))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"reach_vox": 0}, "reach_vox at least 1"), ({"smooth_vox": 0.0}, "smooth_vox must be above 0"), ({"background": [1.0, 2.0]}, "faces.background"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_in_words(tmp_path, wrong, named):
    save_model(tmp_path, network(), SETTINGS, TrainingSummary(), PROFILES)
    rewrite_record(tmp_path, lambda values: values["settings"]["faces"].update(wrong))
    with pytest.raises(InputError, match=named):
        load_model(tmp_path)


def test_the_model_folder_keeps_it(tmp_path):
    save_model(tmp_path, network(), SETTINGS, TrainingSummary(), PROFILES)
    assert load_model(tmp_path).settings.faces == SETTINGS.faces
