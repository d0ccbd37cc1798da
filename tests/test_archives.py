"""What a release wrote is read for ever: stores, score maps, models of every kind, tables, projects with all their records.

`tests/data/archives/v0.1` was written by version 0.1 and is never made again: `convert`, `stats`, `train` (five clicks in a made-up tomogram),
`predict --score-dtype int8`, `pick --radius 4vox --count 5`; `logits.npy` are what it gave for the tomogram with each model; `project` has
two made-up tomograms, and the project folder that `run` left of them.

`v0.2` was written by `tests/support/make_archive.py`: a project of the same inputs, and a model of each kind.  Its files say their formats.
Until 0.2 is released it may be made again; after that, never.
"""

import json
import shutil

import numpy as np
import pytest
from cli_runner import tomostream
from repository import TESTS

import tomostream as ts
from tomostream.strategies.loading import load_model
from tomostream.strategies.model_folder import FORMAT, read_record

pytestmark = pytest.mark.slow

ARCHIVES = TESTS / "data" / "archives"
OLD = ARCHIVES / "v0.1"
RELEASES = sorted(path.name for path in ARCHIVES.iterdir())
MODELS = sorted(f"{path.parts[-3]}/{path.name}" for path in ARCHIVES.glob("*/models/*"))
KINDS = {
    "few_shot": "unet",
    "nnpu": "unet",
    "species": "several",
    "sphere": "average",
    "alone": "unet",
    "average": "average",
    "template": "template",
    "deepetpicker": "deepetpicker",
    "slices2d": "slices2d",
}


def test_a_tomogram_has_its_voxels_and_statistics():
    tomogram = ts.open(OLD / "tomograms" / "tiny.ome.zarr")
    array = np.asarray(tomogram.array)
    assert (array.shape, array.dtype, tomogram.spacing) == ((16, 32, 32), np.int8, 10.0)
    assert tomogram.normalisation.mean == pytest.approx(array.mean(dtype=np.float64), abs=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_scores_as_it_did(name):
    release, kind = name.split("/")
    folder = ARCHIVES / release / "models" / kind
    model = load_model(folder)
    assert model.kind == KINDS[kind]
    if release == "v0.1":
        assert model.summary.best_epoch >= 1
    array = np.asarray(ts.open(OLD / "tomograms" / "tiny.ome.zarr").array)
    found = ts.predict(array, model, logits=True, threads=1)
    np.testing.assert_allclose(found, np.load(folder / "logits.npy"), atol=1e-4, rtol=0)


def test_a_record_of_before_has_todays_form():
    record = read_record(OLD / "models" / "deepetpicker")
    assert record.format == FORMAT
    assert record.settings["channels"] == [3, 4]
    assert record.summary.label_radius_vox == pytest.approx([2.4])
    assert read_record(OLD / "models" / "nnpu").summary.expected_numbers == [[24]]


def test_a_score_map_is_picked_as_it_was(tmp_path):
    done = tomostream("pick", OLD / "scores" / "tiny.ome.zarr", "--radius", "4vox", "--count", 5, "-o", tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / "tiny.csv").read_text() == (OLD / "picks" / "tiny.csv").read_text()


@pytest.fixture(params=RELEASES)
def project(request, tmp_path, monkeypatch):
    """A copy of the project of a release, from whose folder its paths count."""
    shutil.copytree(ARCHIVES / request.param / "project", tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here" / "project"


def test_a_project_is_whole_and_finished(project):
    checked = tomostream("check", project, "--json")
    assert (checked.code, checked.json) == (0, [])
    status = tomostream("status", project)
    assert status.code == 0, status.err
    assert f"{project}: finished" in status.out


def test_what_a_project_has_is_not_made_again(project):
    picks = (project / "picks" / "t1.csv").read_bytes()
    for stage in ("convert", "predict", "pick"):
        done = tomostream("run", "run.yaml", "--stage", stage)
        assert done.code == 0, done.err
        assert done.err.count("already made with these settings") == 2
    assert (project / "picks" / "t1.csv").read_bytes() == picks


def test_the_dry_run_of_a_project_says_what_the_run_does(project):
    planned = tomostream("run", "run.yaml", "--dry-run", "--json")
    states = {step["stage"]: step["state"] for step in planned.json}
    # what the model that is there made stays; scores of one that will be trained anew are to do
    assert states["convert"] == "done"
    assert {states["predict"], states["pick"]} == {"done" if states["train"] == "done" else "to do"}
    kept = tomostream("run", "run.yaml", "--dry-run", "--json", "--stage", "predict", "--stage", "pick")
    assert {(step["stage"], step["state"]) for step in kept.json} == {("predict", "done"), ("pick", "done")}
    before = [path.stat().st_mtime_ns for path in sorted((project / "scores").rglob("*")) if path.is_file()]
    assert tomostream("run", "run.yaml", "--stage", "predict").code == 0
    assert [path.stat().st_mtime_ns for path in sorted((project / "scores").rglob("*")) if path.is_file()] == before
    refused = tomostream("run", "run.yaml", "--stage", "train")
    assert states["train"] == ("other settings" if refused.code else "done")
    assert planned.code == refused.code
    if refused.code == 0:
        assert "is already trained with these settings" in refused.err
        return
    assert read_record(project / "model").settings["version"] != ts.__version__
    assert refused.code == 2
    assert refused.message.removeprefix("tomostream: error: ") in planned.err
    assert "labels" not in refused.message, "the clicks are those of before"


def test_a_project_is_evaluated_and_reported(project):
    before = json.loads((project / "evaluation.json").read_text())
    assert tomostream("run", "run.yaml", "--stage", "evaluate").code == 0
    assert json.loads((project / "evaluation.json").read_text()) == before
    done = tomostream("report", project, "-o", project.parent / "report.html")
    assert done.code == 0, done.err
    assert "tomogram-1" in (project.parent / "report.html").read_text()
