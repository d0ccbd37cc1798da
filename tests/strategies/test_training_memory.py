"""A budget that a stage does not fit is refused before any work; one that it fits, it keeps."""

import os
import subprocess
import sys

import numpy as np
import pytest
import yaml
from cli_runner import tomostream
from peak_memory import PEAK
from repository import REPOSITORY
from small_project import make_project

from tomostream.config import configuration_from, load_configuration
from tomostream.errors import BudgetError
from tomostream.strategies.catalogued import strategy_named
from tomostream.strategies.slices2d.cost import expected_half_height
from tomostream.strategies.training_memory import training_buffer, training_bytes
from tomostream.strategies.validation import REGION_VOX, boxes_around

pytestmark = pytest.mark.slow


def test_the_buffer_is_what_the_step_leaves(tmp_path):
    def given(memory, **train):
        path = make_project(tmp_path, memory=memory, network={"channels": [8, 16, 32]}, train={"precision": "float32"} | train)
        return strategy_named("nnpu"), load_configuration(path).learning

    assert training_buffer(*given("2GB")) == 500_000_000
    tight = given("1GB", crop=48)
    assert training_buffer(*tight) == 1_000_000_000 - training_bytes(*tight) < 250_000_000
    with pytest.raises(
        BudgetError, match=r"training needs at least 2.82 GB \(4 crops of 96 voxels, 8 channels .*budget is 2 GB; raise --memory"
    ):
        training_buffer(*given("2GB", crop=96))


@pytest.mark.parametrize("values", [{"memory": "600MB", "train": {"steps": 1, "crop": 64}}, {"pick": {"count": 5, "smooth": "900vox"}}])
def test_run_refuses_what_a_late_stage_lacks_before_it_makes_anything(tmp_path, values):
    done = tomostream("run", make_project(tmp_path, **values))
    assert done.code == 2
    assert "the memory budget is" in done.message
    assert not (tmp_path / "project").exists()


def test_train_alone_refuses_before_it_converts(tmp_path):
    done = tomostream("train", make_project(tmp_path, memory="600MB", train={"crop": 64}))
    assert done.code == 2
    assert "training needs at least" in done.message
    assert not (tmp_path / "project").exists()


STEPS = [
    ("nnpu", "float32", {"crop": 40, "batch": 4}, [16, 32, 64]),
    ("nnpu", "bf16", {"crop": 40, "batch": 4}, [16, 32, 64]),
    ("deepetpicker", "float32", {"crop": 32, "batch": 3}, [8, 16, 24, 36]),
    ("deepetpicker", "float32", {"crop": 40, "batch": 4}, [8, 16, 24, 36]),
    ("slices2d", "float32", {"crop": 48, "batch": 4}, [24, 48, 96]),
    ("slices2d", "float32", {"crop": 56, "batch": 16}, [24, 48, 96]),
]


@pytest.mark.parametrize(("name", "precision", "train", "channels"), STEPS)
def test_a_step_stays_within_its_projection(tmp_path, name, precision, train, channels):
    given = {"objective": {"name": name}, "network": {"channels": channels}, "predict": {"device": "cpu"}}
    path = make_project(tmp_path, train={"steps": 2, "precision": precision} | train, **given)
    code = f"import sys; from tomostream.cli.main import main; sys.argv = ['tomostream', 'train', {str(path)!r}]\ntry:\n    main()\nfinally:\n    print({PEAK})"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment, timeout=300)
    assert (tmp_path / "project" / "model" / "model.json").exists(), done.stderr
    peak, projected = int(done.stdout.split()[-1]), training_bytes(strategy_named(name), load_configuration(path).learning)
    assert peak <= projected + 50_000_000
    assert peak >= 0.6 * projected  # not hopelessly careful


@pytest.mark.parametrize(
    ("name", "train", "said"),
    [
        ("deepetpicker", {"crop": 96, "batch": 2}, "training needs at least 2.79 GB (2 crops of 96 voxels, 8 channels"),
        ("slices2d", {"crop": 160, "batch": 8}, "training needs at least 2.11 GB (8 crops of 160 voxels, 24 channels"),
    ],
)
def test_the_other_networks_steps_are_refused_too(tmp_path, name, train, said):
    given = {"objective": {"name": name}, "network": {}, "predict": {"device": "cpu"}, "memory": "2GB"}
    configuration = load_configuration(make_project(tmp_path, train={"precision": "float32"} | train, **given))
    with pytest.raises(BudgetError) as refused:
        training_buffer(strategy_named(name), configuration.learning)
    assert str(refused.value).startswith(said)


def test_the_height_of_a_slab_is_what_the_configuration_tells_or_that_of_level_auto(tmp_path):
    def half_height(radii, level, **train):
        path = make_project(tmp_path, species=2, objective={"name": "slices2d"}, network={"level": level}, train=train)
        values = yaml.safe_load(path.read_text())
        values["species"] = [one | {"radius": radius} for one, radius in zip(values["species"], radii, strict=True)]
        return expected_half_height(configuration_from(values, "test").learning)

    assert half_height(("10vox", "20vox"), 0) == pytest.approx(12)
    assert half_height(("10vox", "20vox"), "auto") == pytest.approx(6)  # level 1
    assert half_height(("100A", "150A"), "auto") == pytest.approx(0.6 * 12)  # the smaller has fewer than 8 voxels
    assert half_height(("100A", "150A"), 1, label_radius="6vox") == pytest.approx(3)


def test_slabs_that_turn_out_higher_are_refused_before_they_are_read(tmp_path):
    train = {"crop": 40, "batch": 64, "precision": "float32", "label_radius": "200A"}
    given = {"objective": {"name": "slices2d"}, "network": {"level": 0, "channels": [8, 16]}, "predict": {"device": "cpu"}}
    done = tomostream("train", make_project(tmp_path, train=train, memory="2GB", **given))
    assert done.code == 2
    assert "64 slabs of 40 x 40 x 40 voxels" in done.message
    assert not list((tmp_path / "project").glob("model/*.safetensors"))


@pytest.mark.parametrize("shape", [(40, 160, 160), (319, 161, 170), (160, 480, 470), (3, 1, 500)])
def test_validation_regions_hold_all_clicks_and_are_not_larger_than_said(shape):
    points = np.random.default_rng(0).uniform(-0.5, np.array(shape) - 0.5, (200, 3))
    boxes = boxes_around(shape, points)
    assert max(max(box.shape) for box in boxes) <= REGION_VOX
    inside = [((points >= np.array(box.start) - 0.5) & (points < np.array(box.stop) - 0.5)).all(axis=1) for box in boxes]
    np.testing.assert_array_equal(np.sum(inside, axis=0), 1)
