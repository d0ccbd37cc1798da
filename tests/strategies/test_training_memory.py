"""A budget that a stage does not fit is refused before any work; one that it fits, it keeps."""

import os
import subprocess
import sys

import numpy as np
import pytest
from cli_runner import tomostream
from peak_memory import PEAK
from repository import REPOSITORY
from small_project import make_project

from tomostream.config import load_configuration
from tomostream.errors import BudgetError
from tomostream.strategies.catalogued import strategy_named
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


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_step_stays_within_its_projection(tmp_path, precision):
    path = make_project(tmp_path, network={"channels": [16, 32, 64]}, train={"steps": 2, "crop": 40, "batch": 4, "precision": precision})
    code = f"import sys; from tomostream.cli.main import main; sys.argv = ['tomostream', 'train', {str(path)!r}]\ntry:\n    main()\nfinally:\n    print({PEAK})"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment, timeout=300)
    assert (tmp_path / "project" / "model" / "model.json").exists(), done.stderr
    assert int(done.stdout.split()[-1]) <= training_bytes(strategy_named("nnpu"), load_configuration(path).learning) + 50_000_000


@pytest.mark.parametrize("shape", [(40, 160, 160), (319, 161, 170), (160, 480, 470), (3, 1, 500)])
def test_validation_regions_hold_all_clicks_and_are_not_larger_than_said(shape):
    points = np.random.default_rng(0).uniform(-0.5, np.array(shape) - 0.5, (200, 3))
    boxes = boxes_around(shape, points)
    assert max(max(box.shape) for box in boxes) <= REGION_VOX
    inside = [((points >= np.array(box.start) - 0.5) & (points < np.array(box.stop) - 0.5)).all(axis=1) for box in boxes]
    np.testing.assert_array_equal(np.sum(inside, axis=0), 1)
