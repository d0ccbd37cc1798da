"""The rival `deepetpicker` through the same commands: it learns, scores alike in any blocks, and refuses what does not fit."""

import json

import numpy as np
import pytest
from model_records import rewrite_record
from small_project import make_project, tree_bytes

import tomostream as ts
from tomostream.cluster import Resources
from tomostream.config import load_configuration
from tomostream.errors import InputError
from tomostream.pipeline.execution import STAGES, run_project
from tomostream.pipeline.training import train_model
from tomostream.progress import Progress
from tomostream.stages.prediction.stage import PredictSettings, predict_many
from tomostream.strategies.deepetpicker.model import label_radius

pytestmark = pytest.mark.slow

TRAIN = {"steps": 30, "steps_per_epoch": 10, "crop": 32, "precision": "float32"}


def project_of(folder, **train):
    given = {"objective": {"name": "deepetpicker"}, "network": {"channels": [4, 8], "level": 0}, "train": TRAIN | train}
    path = make_project(folder, **given)
    # fully labelled: what is not labelled is background to this strategy
    rows = (folder / "truth.csv").read_text().splitlines()
    (folder / "train.csv").write_text("\n".join([rows[0], *(row for row in rows if row.startswith("t1"))]) + "\n")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deepetpicker")
    run_project(load_configuration(project_of(folder)), stages=list(STAGES), overwrite=False, progress=Progress())
    return folder


def test_it_finds_the_particles_of_a_tomogram_without_labels(finished):
    assert json.loads((finished / "project" / "evaluation.json").read_text())["tomograms"]["t2"]["f1"] >= 0.9


def test_score_maps_are_picked_by_mean_pooling(finished):
    attributes = ts.open(finished / "project" / "scores" / "t1.ome.zarr").attributes
    assert (attributes["strategy"], attributes["pick_method"]) == ("deepetpicker", "mean-pool")


def test_any_block_size_gives_the_same_bits(finished, tmp_path):
    predict_many(
        {"t2": str(finished / "project" / "tomograms" / "t2.ome.zarr")},
        model=finished / "project" / "model",
        out=tmp_path,
        settings=PredictSettings(block_size=(13, 24, 19)),
        resources=Resources(threads=1),
        overwrite=False,
        progress=Progress(),
    )
    whole, blocks = (ts.open(folder / "t2.ome.zarr").array.compute() for folder in (finished / "project" / "scores", tmp_path))
    np.testing.assert_array_equal(blocks, whole)


def test_the_same_training_gives_the_same_model(finished, tmp_path):
    folder = tmp_path / "again"
    model = train_model(load_configuration(project_of(tmp_path)), out=folder, overwrite=False, progress=Progress())
    name = "model.safetensors"
    assert tree_bytes(model)[name] == tree_bytes(finished / "project" / "model")[name]


def test_patches_that_are_all_padding_are_refused_before_training(tmp_path):
    with pytest.raises(InputError, match=r"train\.crop"):
        train_model(load_configuration(project_of(tmp_path, crop=24)), out=None, overwrite=False, progress=Progress())


def test_a_model_of_other_channels_is_called_broken(finished, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    for name in ("model.safetensors", "model.json"):
        (model / name).write_bytes((finished / "project" / "model" / name).read_bytes())
    rewrite_record(model, lambda values: values["settings"].update(channels=[4, 9]))
    with pytest.raises(InputError, match="broken"):
        ts.predict(str(finished / "project" / "tomograms" / "t2.ome.zarr"), model=model, out=tmp_path / "out")


def test_its_own_defaults_stand_in_only_where_nothing_is_said(tmp_path):
    configuration = load_configuration(make_project(tmp_path, objective={"name": "deepetpicker"}, network={}, train={"crop": 48}))
    assert (configuration.train.crop, configuration.train.labelled_fraction, configuration.train.label_shape) == (48, 1.0, "gaussian")
    assert configuration.network.channels == (8, 16, 24, 36)


def test_a_label_is_the_core_of_its_particle():
    assert label_radius(5.0) == pytest.approx(3.0)
    assert label_radius(20.0) == 5.0
