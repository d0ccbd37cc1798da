"""The slice detector through the stages: trained, scored, traced, evaluated; with two species; resumed bit for bit; broken models refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import tomostream
from small_project import make_project

import tomostream.learn.fit as fit_module
from tomostream.config import load_configuration
from tomostream.errors import InputError
from tomostream.pipeline.execution import run_project
from tomostream.progress import Progress
from tomostream.strategies.array_model import unpack
from tomostream.strategies.loading import load_model
from tomostream.strategies.model_folder import read_folder
from tomostream.strategies.slices2d.model import SliceModel, SliceSettings

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {
    "objective": {"name": "slices2d"},
    "train": {"steps": 60, "steps_per_epoch": 20, "crop": 24, "batch": 4, "precision": "float32", "learning_rate": 5e-3},
}


class Killed(BaseException):
    """Stands for a signal: nothing in the package may swallow it."""


def run(path: Path, stages: list[str] | None = None) -> None:
    run_project(load_configuration(path), stages=stages or [], overwrite=False, progress=Progress())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slices2d")
    run(make_project(folder, **SETTINGS))
    return folder / "project"


def test_five_clicks_find_the_other_particles(finished):
    assert json.loads((finished / "evaluation.json").read_text())["pooled"]["f1"] >= 0.9


def test_defaults_are_the_strategys_own_where_nothing_is_said(tmp_path):
    path = make_project(tmp_path, objective={"name": "slices2d"}, network={}, train={"steps": 7})
    configuration = load_configuration(path)
    assert (configuration.network.channels, configuration.train.crop, configuration.train.steps) == ((24, 48, 96), 64, 7)
    assert load_configuration(make_project(tmp_path, network={}, train={})).network.channels != (24, 48, 96)


def test_picks_of_a_score_map_are_traced_unless_another_way_is_asked_for(finished, tmp_path):
    arguments = ["pick", finished / "scores" / "t1.ome.zarr", "--radius", "4vox", "--count", "24"]
    assert tomostream(*arguments, "-o", tmp_path / "a", "--block-size", "9,20,17").code == 0
    assert (tmp_path / "a" / "t1.csv").read_bytes() == (finished / "picks" / "t1.csv").read_bytes()
    assert tomostream(*arguments, "-o", tmp_path / "b", "--method", "greedy").code == 0
    assert (tmp_path / "b" / "t1.csv").read_bytes() != (finished / "picks" / "t1.csv").read_bytes()
    assert "one of greedy, mean-pool, trace, found 'tracing'" in tomostream(*arguments, "-o", tmp_path / "c", "--method", "tracing").message


def test_each_species_is_a_class_with_its_own_scores(tmp_path):
    run(make_project(tmp_path, species=2, **(SETTINGS | {"train": SETTINGS["train"] | {"together": True}})))
    evaluation = json.loads((tmp_path / "project" / "evaluation.json").read_text())
    assert {name: values["pooled"]["f1"] >= 0.6 for name, values in evaluation["species"].items()} == {"ribosome": True, "fas": True}


def test_training_that_is_killed_goes_on_and_ends_with_the_same_weights(finished, tmp_path, monkeypatch):
    path = make_project(tmp_path, **SETTINGS)
    written = fit_module.write_metrics

    def killed(file: Path, rows: list[dict[str, float]]) -> None:
        if len(rows) == 2:
            raise Killed
        written(file, rows)

    with monkeypatch.context() as patched:
        patched.setattr(fit_module, "write_metrics", killed)
        with pytest.raises(Killed):
            run(path, ["convert", "train"])
    assert not (tmp_path / "project" / "model" / "model.json").exists()
    run(path, ["train"])
    weights, whole = ((folder / "model" / "model.safetensors").read_bytes() for folder in (tmp_path / "project", finished))
    assert weights == whole


def test_a_model_whose_parts_do_not_fit_is_refused(finished):
    model = load_model(finished / "model")
    assert isinstance(model, SliceModel)
    scorer = model.scorer(device="cpu", precision="float32", threads=None)
    assert scorer.species == 1
    wide = replace(model, settings=replace(model.settings, channels=(4, 9)))
    with pytest.raises(InputError, match=r"model folder .* is broken"):
        wide.scorer(device="cpu", precision="float32", threads=None)
    short = replace(model, arrays={name: value for name, value in model.arrays.items() if name != "head.bias"})
    with pytest.raises(InputError, match="its arrays don't match the network"):
        short.scorer(device="cpu", precision="float32", threads=None)
    record, weights = read_folder(finished / "model")
    lacking = record.model_copy(update={"settings": {key: value for key, value in record.settings.items() if key != "channels"}})
    with pytest.raises(InputError, match=r"broken: channels"):
        unpack(SliceModel, SliceSettings, lacking, weights, finished / "model")
    assert all(np.isfinite(value).all() for value in model.arrays.values())
