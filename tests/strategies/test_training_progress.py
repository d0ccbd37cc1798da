"""How far a training is, and its metrics, are those of the species in training; told by `status` and the workbench alike."""

import fcntl
import json
import math
import os

import pytest
import yaml
from cli_runner import tomostream

from tomostream.project import RUN_LOCK
from tomostream.strategies.training_progress import TrainingProgress, latest_metrics, training_progress
from tomostream.view.rounds import _metrics

RECORD = {"format": 1, "models": {"ribosome": {}, "fas": {}, "apoferritin": {}}}


def write(folder, files):
    """Files with their contents, each later than the one before."""
    for number, (name, text) in enumerate(files.items(), 1):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, ns=(number * 10**9, number * 10**9))


def metrics(*rows):
    return "epoch,step,train_loss\n" + "".join(f"{number},{step},{loss}\n" for number, (step, loss) in enumerate(rows, 1))


SECOND_OF_THREE = {
    "training.json": json.dumps(RECORD),
    "resolved.yaml": "train: {minutes: 5}\n",
    "parts/ribosome/resolved.yaml": "train: {steps: 600}\n",
    "parts/ribosome/metrics.csv": metrics((300, 0.5), (600, 0.25)),
    "parts/fas/resolved.yaml": "train: {steps: 400}\n",
    "parts/fas/metrics.csv": metrics((50, 0.75), (120, "")),
}
REPLACED = {
    "model.json": "{}",
    "metrics.csv": "species,epoch,step,train_loss\nribosome,1,9,0.5\nfas,1,9,0.5\n",
    "parts/ribosome/metrics.csv": metrics((9, 0.5)),
    "parts/fas/metrics.csv": metrics((9, 0.5)),
    **{f"next/{name}": text for name, text in SECOND_OF_THREE.items() if "ribosome" not in name},
}


@pytest.mark.parametrize("files", [SECOND_OF_THREE, REPLACED], ids=["first", "replaced"])
def test_it_is_that_of_the_species_in_training(tmp_path, files):
    write(tmp_path, files)
    found = training_progress(tmp_path)
    assert found == TrainingProgress("fas", 2, 3, 120, 400)
    assert str(found) == "fas, 2 of 3, step 120 of 400"


def test_one_that_has_just_begun_and_a_single_model(tmp_path):
    write(tmp_path, SECOND_OF_THREE | {"parts/apoferritin/resolved.yaml": "train: {steps: 400}\n"})
    assert str(training_progress(tmp_path)) == "apoferritin, 3 of 3"
    write(tmp_path / "one", {"training.json": '{"format": 1}', "resolved.yaml": "train: {steps: 70}\n", "metrics.csv": metrics((20, 1))})
    assert str(training_progress(tmp_path / "one")) == "step 20 of 70"
    assert str(training_progress(tmp_path / "none")) == ""


@pytest.mark.parametrize("broken", ["", "epoch,step\n1\n", "epoch,step\nx,y\n", '"', "\0"])
def test_a_table_that_is_being_written_or_broken_is_no_error(tmp_path, broken):
    write(tmp_path, SECOND_OF_THREE | {"parts/fas/metrics.csv": broken, "parts/fas/resolved.yaml": broken})
    assert training_progress(tmp_path).species == "fas"
    latest_metrics(tmp_path)


@pytest.mark.parametrize("files", [SECOND_OF_THREE, REPLACED], ids=["first", "replaced"])
def test_each_species_has_metrics_of_its_own(tmp_path, files):
    write(tmp_path, files)
    found = latest_metrics(tmp_path)
    assert list(found) == ["ribosome", "fas"]
    assert found["ribosome"]["train_loss"] == ([0.5, 0.25] if files is SECOND_OF_THREE else [0.5])
    assert found["fas"]["step"] == [50, 120]
    assert math.isnan(found["fas"]["train_loss"][1])
    assert _metrics(tmp_path)["fas"]["train_loss"] == [0.75, 0]


def test_a_finished_model_has_them_by_its_column(tmp_path):
    write(tmp_path, {"parts/fas/metrics.csv": metrics((1, 1)), "metrics.csv": REPLACED["metrics.csv"]})
    assert latest_metrics(tmp_path)["ribosome"] == {"epoch": [1], "step": [9], "train_loss": [0.5]}
    write(tmp_path / "one", {"metrics.csv": metrics((1, 1))})
    assert _metrics(tmp_path / "one") == {"": {"epoch": [1], "step": [1], "train_loss": [1]}}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (SECOND_OF_THREE, "model {} fas, 2 of 3, step 120 of 400\n"),
        (REPLACED, "model {} fas, 2 of 3, step 120 of 400; the model of before serves until this one is whole\n"),
    ],
    ids=["first", "replaced"],
)
def test_status_tells_it(tmp_path, files, words):
    write(tmp_path / "model", files)
    (tmp_path / "resolved.yaml").write_text(yaml.safe_dump({"species": [{"name": "fas"}], "tomograms": ["none.mrc"]}))
    assert words.format("stopped at") in tomostream("status", tmp_path).out
    told = json.loads(tomostream("status", tmp_path, "--json").out)
    assert told["training"] == {"species": "fas", "number": 2, "count": 3, "step": 120, "steps": 400}
    assert (told["model"], told["steps"], told["replaces"]) == ("stopped", 120, files is REPLACED)
    with (tmp_path / RUN_LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert words.format("training") in tomostream("status", tmp_path).out
