"""Training that goes on from a model keeps what its clicks chose, and its number of particles by volume."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from store_files import noise, write_store

from tomostream.config import configuration_from, load_configuration
from tomostream.pipeline.training import train_model
from tomostream.progress import Progress
from tomostream.strategies.loading import load_model
from tomostream.strategies.model_folder import TrainingSummary
from tomostream.strategies.training_set import Labelled, Training
from tomostream.strategies.unet import earlier_choice as module
from tomostream.strategies.unet.earlier_choice import earlier_choice
from tomostream.strategies.unet.pretrained.evidence import JOINING
from tomostream.strategies.unet.pretrained.judging import Judge
from tomostream.testing.small_project import SHAPE, SPACING, make_project
from tomostream.tomogram import open_tomogram

pytestmark = pytest.mark.slow

VOXELS = math.prod(SHAPE)
TOLD = {
    "chosen_ways": [str(JOINING[1])],
    "evidence": [{str(way): 0.5 for way in JOINING}],
    "left_out_ranks": [[0.0, 4.0, 9.0]],
    "expected_numbers": [[40]],
    "clicked_voxels": [VOXELS],
}


@pytest.fixture
def training(tmp_path):
    settings = load_configuration(make_project(tmp_path)).learning
    settings = dataclasses.replace(
        settings,
        species=tuple(one.model_copy(update={"expected": None}) for one in settings.species),
        train=settings.train.model_copy(update={"start": "model"}),
    )
    write_store(tmp_path / "t1.ome.zarr", noise(*SHAPE), spacing=SPACING, name="t1")
    write_store(tmp_path / "t2.ome.zarr", noise(2 * SHAPE[0], *SHAPE[1:]), spacing=SPACING, name="t2")
    labelled = Labelled([open_tomogram(tmp_path / f"{name}.ome.zarr") for name in ("t1", "t2")], [[np.ones((5, 3))], [np.ones((1, 3))]])
    return Training(settings, labelled, None, 0, SPACING, {}, 0)


def choice(monkeypatch, training, *, has_backbone=True, **changes):
    record = SimpleNamespace(summary=TrainingSummary(**(TOLD | changes)), settings={"network_shares": [0.5]})
    monkeypatch.setattr(module, "checked_start", lambda _: record)
    return earlier_choice(training, has_backbone=has_backbone)


def test_way_and_number_are_those_of_the_model(monkeypatch, training):
    found = choice(monkeypatch, training)
    (verdict,) = found.verdicts
    assert verdict.way == JOINING[1]
    assert verdict.number == 2 * (4 + 1)
    assert list(found.shares) == [0.5]
    assert not found.needs_backbone
    (species,) = found.with_numbers(training)
    assert species.expected == {"t1": 40, "t2": 80}  # by volume


def test_more_clicks_than_the_model_expected_raise_the_number(monkeypatch, training):
    (species,) = choice(monkeypatch, training, expected_numbers=[[3]]).with_numbers(training)
    assert species.expected == {"t1": 6, "t2": 6}


def test_a_number_that_is_given_stays(monkeypatch, training):
    given = tuple(one.model_copy(update={"expected": 7}) for one in training.settings.species)
    training = dataclasses.replace(training, settings=dataclasses.replace(training.settings, species=given))
    (species,) = choice(monkeypatch, training).with_numbers(training)
    assert species.expected == 7


@pytest.mark.parametrize(
    "changes",
    [{"chosen_ways": None}, {"chosen_ways": ["the network alone"]}, {"evidence": None}, {"left_out_ranks": None}],
)
def test_a_model_that_does_not_tell_is_judged_anew(monkeypatch, training, changes):
    assert choice(monkeypatch, training, **changes) is None


def test_a_head_needs_the_pretrained_features(monkeypatch, training):
    headed = {"chosen_ways": [str(JOINING[-1])]}
    assert choice(monkeypatch, training, **headed).needs_backbone
    assert choice(monkeypatch, training, has_backbone=False, **headed) is None


def test_without_a_number_in_the_model_there_is_none(monkeypatch, training):
    assert choice(monkeypatch, training, expected_numbers=None).with_numbers(training) is None
    assert choice(monkeypatch, training, clicked_voxels=None).with_numbers(training) is None


def test_without_a_start_there_is_no_earlier_choice(training):
    settings = dataclasses.replace(training.settings, train=training.settings.train.model_copy(update={"start": None}))
    assert earlier_choice(dataclasses.replace(training, settings=settings), has_backbone=True) is None


@pytest.mark.slow
def test_nothing_is_judged_again(monkeypatch, tmp_path):
    steps = {"steps": 10, "steps_per_epoch": 10, "crop": 16, "batch": 4, "precision": "float32"}
    values = yaml.safe_load(make_project(tmp_path, train=steps).read_text())
    del values["species"][0]["expected"]
    train_model(configuration_from(values, "first"), out=None, overwrite=False, progress=Progress())
    first = load_model(tmp_path / "project/model").summary

    def judged(*_, **__):
        raise AssertionError("left-out clicks are ranked again")

    monkeypatch.setattr(Judge, "decide", judged)
    values["train"] = steps | {"start": str(tmp_path / "project/model")}
    train_model(configuration_from(values, "again"), out=tmp_path / "again", overwrite=False, progress=Progress())
    again = load_model(tmp_path / "again").summary
    assert (again.chosen_ways, again.expected_numbers) == (first.chosen_ways, first.expected_numbers)
