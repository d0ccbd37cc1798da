"""`torchrun -m tomostream train`: one process is plain training, two leave one model; killed and rerun; one message where something is wrong."""

import json
import time

import psutil
import pytest
from cli_runner import tomostream
from small_project import make_project, tree_bytes
from torchrun_runs import start, torchrun

from tomostream.cli import program
from tomostream.config import load_configuration
from tomostream.errors import InputError, PeerEndedError
from tomostream.learn.torchrun import ONE, launched
from tomostream.pipeline.training import train_model
from tomostream.progress import Progress

pytestmark = pytest.mark.slow

STEPS = {"steps": 20, "steps_per_epoch": 5, "crop": 16, "batch": 2, "precision": "float32"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A small project, converted, with a model trained in one process."""
    path = make_project(tmp_path_factory.mktemp("torchrun"), train=STEPS)
    train_model(load_configuration(path), out=path.parent / "plain", overwrite=False, progress=Progress())
    return path


@pytest.fixture(scope="module")
def pair(project):
    """The model folder that two processes leave, and what they said."""
    folder = project.parent / "pair"
    code, told = torchrun("-m", "tomostream", "train", project, "-o", folder)
    assert code == 0, told
    return folder, told


def under_torchrun(monkeypatch, rank, world):
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank}.items():
        monkeypatch.setenv(name, str(value))


def test_one_process_under_torchrun_gives_the_bytes_of_plain_training(project, monkeypatch):
    under_torchrun(monkeypatch, 0, 1)
    folder = project.parent / "one"
    train_model(load_configuration(project), out=folder, overwrite=False, progress=Progress())
    assert tree_bytes(folder) == tree_bytes(project.parent / "plain")


def test_two_processes_leave_one_model_and_speak_once(project, pair):
    folder, told = pair
    assert json.loads((folder / "model.json").read_text())["summary"]["processes"] == 2
    assert "2 processes, 2 x 2 crops a step" in told
    assert told.count("training on t1") == told.count("best epoch") == 1
    assert json.loads((folder / "training.json").read_text())["processes"] == 2
    plain = tree_bytes(project.parent / "plain")
    assert tree_bytes(folder).keys() == plain.keys()
    assert tree_bytes(folder)["model.safetensors"] != plain["model.safetensors"]


def test_both_killed_in_the_midst_and_started_again_give_the_same_bytes(project, pair):
    folder = project.parent / "killed"
    running = start("-m", "tomostream", "train", project, "-o", folder)
    deadline = time.monotonic() + 200
    while not (folder / "checkpoint.pt").exists():
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.02)
    everyone = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
    for process in everyone:
        process.kill()
    running.communicate(timeout=30)
    assert not (folder / "model.json").exists()
    code, told = torchrun("-m", "tomostream", "train", project, "-o", folder)
    assert code == 0, told
    assert tree_bytes(folder) == tree_bytes(pair[0])


def test_what_one_process_began_is_not_gone_on_with_by_two(project):
    code, told = torchrun("-m", "tomostream", "train", project, "-o", project.parent / "plain")
    assert code != 0
    assert told.count("tomostream: error: ") == 1
    assert "made with other settings" in told
    assert told.count("Traceback") <= 1  # torchrun's own
    assert "exitcode  : 2" in told


@pytest.mark.parametrize(("rank", "messages"), [(0, 1), (1, 0)])
def test_the_end_of_another_process_is_told_by_the_first_alone(monkeypatch, rank, messages):
    def ended(arguments):
        raise PeerEndedError("another process ended")

    under_torchrun(monkeypatch, rank, 2)
    monkeypatch.setattr(program, "app", ended)
    done = tomostream("train", "any.yaml")
    assert done.code == 2
    assert done.err.count("tomostream: error: another process ended") == messages


def test_run_is_no_command_for_torchrun(project, monkeypatch):
    under_torchrun(monkeypatch, 0, 4)
    done = tomostream("run", project)
    assert done.code == 2
    assert "torchrun started 4 processes" in done.message


def test_torchruns_variables_are_read_only_where_torchrun_set_them(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "7")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert launched() == ONE
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("RANK", "six")
    with pytest.raises(InputError, match="RANK='six'"):
        launched()
