"""Scores of a model that adapts are those of the network with the tomogram's own batch-norm statistics, on the whole volume."""

import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from cli_runner import tomostream
from model_records import rewrite_record
from mrc_files import write_mrc
from scipy.special import expit

import tomostream as ts
from tomostream.errors import InputError
from tomostream.inference.batch_statistics import Sampling
from tomostream.learn.batch_norm_folding import deployed
from tomostream.learn.recalibration import recalibrated
from tomostream.normalisation import ROBUST
from tomostream.strategies.adaptive_statistics import adapts
from tomostream.strategies.deepetpicker.model import PatchSettings
from tomostream.strategies.deepetpicker.network import CoordinateUNet
from tomostream.strategies.loading import load_model
from tomostream.strategies.model_folder import TrainingSummary, pack_arrays, write_folder
from tomostream.strategies.network_arrays import network_arrays
from tomostream.strategies.slices2d.detector import SliceDetector
from tomostream.strategies.slices2d.model import SliceSettings
from tomostream.strategies.unet.model import UNetSettings, save_model
from tomostream.strategies.unet.network import ResidualUNet

pytestmark = pytest.mark.slow

SPACING = 10.0
SETTINGS = UNetSettings(
    channels=(3, 4), species=("ribosome",), radius_ang=(60.0,), level=0, spacing=SPACING, clip_sigma=3.0, label_shape="sphere",
    objective={"name": "nnpu"}, precision="float32", trained_on=(), version="0", batch_statistics="tomogram",
)  # fmt: skip
SHAPE = (24, 44, 52)


def network():
    result = ResidualUNet((3, 4), 1, seed=0)
    result.head.weight.data *= 30
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapting")
    for name, settings in (("own", SETTINGS), ("kept", replace(SETTINGS, batch_statistics="training"))):
        save_model(folder / name, network(), settings)
    rng = np.random.default_rng(0)
    write_mrc(folder / "a.mrc", rng.normal(5, 2, SHAPE).astype(np.float32), spacing=SPACING)
    write_mrc(folder / "b.mrc", rng.gamma(1.0, 1.0, SHAPE).astype(np.float32), spacing=SPACING)  # skewed: other features
    done = tomostream("convert", folder / "a.mrc", folder / "b.mrc", "-o", folder / "tomograms", "--shard", 32, "--chunk", 16)
    assert done.code == 0, done.err
    done = tomostream("stats", folder / "tomograms" / "a.ome.zarr", folder / "tomograms" / "b.ome.zarr")  # no test waits for another's
    assert done.code == 0, done.err
    return folder


def oracle(volume):
    """The deployed network, with batch statistics of the volume cut into crops, on the whole volume."""
    _, y, x = SHAPE
    crops = [volume[:, a : a + 40, b : b + 40] for a in (0, y - 40) for b in (0, x - 40)]
    batch = torch.from_numpy(np.stack(crops)[:, None])
    own = deployed(recalibrated(network(), [batch], device=torch.device("cpu")))
    with torch.inference_mode():
        return own(torch.from_numpy(volume)[None, None])[0, 0].numpy()


def scores(folder, out, *options, model="own"):
    done = tomostream(
        "predict", folder / "tomograms", "--model", folder / model, "-o", out, "--logits", "--threads", 1, "--device", "cpu", *options
    )
    assert done.code == 0, done.err
    return {name: np.asarray(ts.open(out / f"{name}.ome.zarr").array) for name in ("a", "b")}


@pytest.mark.parametrize("options", [(), ("--block-size", "13"), ("--block-size", "50", "--cluster", "local", "--workers", "2")], ids=str)
def test_scores_of_any_blocks_and_workers_are_those_of_the_network_with_the_tomograms_statistics(folder, tmp_path, options):
    found = scores(folder, tmp_path, *options)
    for name, logits in found.items():
        tomogram = ts.open(folder / "tomograms" / f"{name}.ome.zarr")
        expected = oracle(tomogram.normalisation.of_kind(ROBUST).apply(np.asarray(tomogram.array)))
        assert np.abs(expected).max() > 1
        np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)


def test_an_array_is_scored_as_its_store(folder, tmp_path):
    found = scores(folder, tmp_path)
    for name, logits in found.items():
        array = np.asarray(ts.open(folder / "tomograms" / f"{name}.ome.zarr").array)
        np.testing.assert_allclose(ts.predict(array, folder / "own", logits=True, threads=1), logits, atol=1e-4, rtol=0)
        np.testing.assert_allclose(ts.predict(array, folder / "own", threads=1), expit(logits), atol=1e-4, rtol=0)


def test_a_box_is_scored_with_the_whole_tomograms_statistics(folder, tmp_path):
    whole, part = scores(folder, tmp_path / "whole"), scores(folder, tmp_path / "part", "--box", "4:20,8:40,8:40")
    inside = (slice(4, 20), slice(8, 40), slice(8, 40))
    for name in whole:
        np.testing.assert_allclose(part[name][inside], whole[name][inside], atol=1e-4, rtol=0)


def test_a_model_that_keeps_its_statistics_and_one_of_before_the_choice_score_alike(folder, tmp_path):
    kept = scores(folder, tmp_path / "kept", model="kept")
    own = scores(folder, tmp_path / "own")
    assert all(np.abs(kept[name] - own[name]).max() > 0.1 for name in kept)
    old = folder / "old"
    shutil.copytree(folder / "kept", old)
    rewrite_record(old, lambda values: values["settings"].pop("batch_statistics"))
    assert not adapts(load_model(old))
    again = scores(folder, tmp_path / "old", model="old")
    assert all(np.array_equal(kept[name], again[name]) for name in kept)


def test_a_setting_that_is_not_known_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="'someone'"):
        save_model(tmp_path, network(), replace(SETTINGS, batch_statistics="someone"))


def strategy_models(folder, strategy):
    """Models of a strategy with random weights: one that adapts, and one with the statistics that it should find in tomogram b."""
    if strategy == "deepetpicker":
        network, sampling = CoordinateUNet((3, 4), 1, seed=0), Sampling((40, 40, 40), (2, 2, 2), 12, 2)
        own_settings = partial(PatchSettings, channels=(3, 4), patch=(40, 40, 40), padding=12)
    else:
        network, sampling = SliceDetector((3, 4), 1, seed=0), Sampling((8, 64, 64), (1, 2, 2))
        own_settings = partial(SliceSettings, channels=(3, 4))
    tomogram = ts.open(folder / "tomograms" / "b.ome.zarr")
    tomogram = tomogram.with_normalisation(tomogram.normalisation.of_kind(ROBUST))  # what models are trained with, and read
    found = recalibrated(network.eval(), sampling.images(tomogram.read_standardised, tomogram.shape), device=torch.device("cpu"))
    for name, own, statistics in ((f"{strategy}-own", network, "tomogram"), (f"{strategy}-found", found, "training")):
        settings = own_settings(
            species=("ribosome",), radius_ang=(60.0,), level=0, spacing=SPACING, clip_sigma=3.0, trained_on=(), version="0", batch_statistics=statistics
        )  # fmt: skip
        write_folder(folder / name, strategy, pack_arrays(network_arrays(own)), settings, TrainingSummary())


@pytest.mark.parametrize("strategy", ["deepetpicker", "slices2d"])
def test_the_other_networks_take_a_tomograms_statistics_too(folder, tmp_path, strategy):
    strategy_models(folder, strategy)
    own, expected = (scores(folder, tmp_path / kind, model=f"{strategy}-{kind}") for kind in ("own", "found"))
    np.testing.assert_array_equal(own["b"], expected["b"])
    assert np.abs(own["a"] - expected["a"]).max() > 0.01


def test_memory_that_is_too_small_for_the_statistics_is_refused_before_work(folder, tmp_path):
    wide = ResidualUNet((64, 4), 1, seed=0)
    save_model(folder / "wide", wide, replace(SETTINGS, channels=(64, 4)))
    arguments = ["predict", folder / "tomograms" / "a.ome.zarr", "--model", folder / "wide", "-o", tmp_path / "out", "--memory", "1GB"]
    done = tomostream(*arguments)
    assert done.code == 2
    assert "measuring the batch-norm statistics of a needs 1.1" in done.message
    assert not (tmp_path / "out").exists()
