"""Training goes on from a model, in fewer steps; from another kind of model it does not."""

import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_project import make_project

from tomostream import defaults
from tomostream.config import configuration_from
from tomostream.errors import ConfigurationError, ExistsError, InputError
from tomostream.pipeline.training import train_model
from tomostream.progress import Progress

pytestmark = pytest.mark.slow
STEPS = {"steps": 20, "steps_per_epoch": 10, "crop": 16, "batch": 4, "precision": "float32"}
NONE = STEPS | {"steps": 1, "steps_per_epoch": 1, "learning_rate": 1e-9}  # as good as no step


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A trained project, and its configuration's values."""
    folder = tmp_path_factory.mktemp("first")
    values = yaml.safe_load(make_project(folder, train=STEPS).read_text())
    train_model(configuration_from(values, "first"), out=None, overwrite=False, progress=Progress())
    return folder, values


def trained(values, out):
    train_model(configuration_from(values, "again"), out=out, overwrite=False, progress=Progress())
    return load_file(out / "model.safetensors")


def test_it_begins_where_the_model_ended(first, tmp_path):
    folder, values = first
    model = folder / "project" / "model"
    before = load_file(model / "model.safetensors")
    found = trained(values | {"train": NONE | {"start": str(model)}}, tmp_path / "again")
    fresh = trained(values | {"train": NONE}, tmp_path / "fresh")
    weights = [name for name in before if name.endswith("conv.weight")]
    assert weights
    for name in weights:
        torch.testing.assert_close(found[name], before[name], atol=1e-6, rtol=0)
    assert any((fresh[name] - before[name]).abs().max() > 1e-3 for name in weights)


def test_where_the_model_lies_does_not_matter_and_which_it_is_does(first, tmp_path):
    folder, values = first
    start, moved, out = tmp_path / "start", tmp_path / "moved", tmp_path / "model"
    shutil.copytree(folder / "project" / "model", start)
    trained(values | {"train": NONE | {"start": str(start)}}, out)
    start.rename(moved)
    stamp = (out / "model.safetensors").stat().st_mtime_ns
    trained(values | {"train": NONE | {"start": str(moved)}}, out)  # done already
    assert (out / "model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(ExistsError):
        trained(values | {"train": NONE}, out)


def test_fewer_steps_unless_they_are_given(first):
    folder, values = first
    model = str(folder / "project" / "model")
    assert configuration_from(values | {"train": {"start": model}}, "c").train.steps == defaults.STEPS_FROM_A_MODEL
    assert configuration_from(values | {"train": {"start": model, "steps": 7}}, "c").train.steps == 7
    assert configuration_from(values | {"train": {}}, "c").train.steps == defaults.STEPS


def test_a_model_of_another_shape_is_refused_before_work(first, tmp_path):
    folder, values = first
    given = values | {"network": {"channels": [4, 9]}, "train": NONE | {"start": str(folder / "project" / "model")}}
    with pytest.raises(InputError, match=r"network.channels \[4, 8\], this training \[4, 9\]"):
        train_model(configuration_from(given, "c"), out=tmp_path / "model", overwrite=False, progress=Progress())
    assert not (tmp_path / "model").exists()


def test_no_model_and_strategies_that_do_not_go_on_are_refused(first, tmp_path):
    _, values = first
    with pytest.raises(InputError, match=r"is a folder, not a model folder"):
        trained(values | {"train": NONE | {"start": str(tmp_path)}}, tmp_path / "model")
    with pytest.raises(ConfigurationError, match="the strategy average can't continue from a model"):
        configuration_from(values | {"objective": {"name": "average"}, "train": {"start": str(tmp_path)}}, "c")


def test_a_model_is_not_trained_over_itself(first):
    folder, values = first
    model = folder / "project" / "model"
    before = (model / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="copy the old model elsewhere first"):
        train_model(
            configuration_from(values | {"train": NONE | {"start": str(model)}}, "c"), out=None, overwrite=True, progress=Progress()
        )
    assert (model / "model.safetensors").read_bytes() == before
