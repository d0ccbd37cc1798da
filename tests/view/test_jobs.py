"""Jobs in the background: told how far they are, stopped when asked, one of a kind."""

import json
import time
from pathlib import Path

import pytest

from tomostream.errors import BusyError, InputError
from tomostream.view.jobs import Jobs
from tomostream.view.picks import PickTables
from tomostream.view.rounds import Rounds
from tomostream.view.workspace import Workspace, open_workspace, write_configuration


@pytest.fixture
def workspace(mrc_folder: Path, tmp_path: Path) -> Workspace:
    return open_workspace([str(mrc_folder)], project=tmp_path / "project", clicks=None)


def ended(jobs: Jobs, kind: str) -> dict[str, object]:
    until = time.monotonic() + 60
    job = jobs.get(kind)
    assert job is not None
    while job.is_running and time.monotonic() < until:
        time.sleep(0.05)
    return job.to_json()


@pytest.mark.slow
def test_files_are_converted_where_run_looks_for_them(workspace):
    jobs = Jobs(workspace)
    rounds = Rounds(workspace, jobs, PickTables(workspace))
    assert [rounds.tomogram_state(name)["state"] for name in workspace.entries] == ["unconverted", "unconverted"]
    rounds.convert(None)
    assert ended(jobs, "convert")["state"] == "done"
    assert [rounds.tomogram_state(name)["state"] for name in workspace.entries] == ["ready", "ready"]
    assert workspace.tomogram("ball_1").spacing == pytest.approx(10)
    with pytest.raises(InputError, match="all tomograms are converted"):
        rounds.convert(None)


@pytest.mark.slow
def test_one_of_a_kind_at_a_time_and_stopping_is_no_failure(workspace):
    jobs = Jobs(workspace)
    jobs.start("suggest", ["view", "--no-browser", "-o", str(workspace.project / "other")], about="waits")
    with pytest.raises(BusyError, match="is already running"):
        jobs.start("suggest", ["--version"])
    time.sleep(1.5)
    jobs.stop("suggest")
    assert ended(jobs, "suggest")["state"] == "stopped"
    jobs.start("suggest", ["--version"])
    assert ended(jobs, "suggest")["state"] == "done"
    jobs.start("suggest", ["inspect", "nothing-there.mrc"])
    failed = ended(jobs, "suggest")
    assert failed["state"] == "failed"
    assert "nothing-there.mrc" in str(failed["lines"])


def test_closing_ends_what_runs(workspace):
    jobs = Jobs(workspace)
    job = jobs.start("run", ["view", "--no-browser", "-o", str(workspace.project / "other")])
    assert jobs.close() == ["run"]
    assert job.process.poll() is not None
    assert jobs.close() == []


def test_how_far_a_run_is_is_read_from_its_log_from_where_it_began(workspace):
    jobs = Jobs(workspace)
    workspace.project.mkdir(exist_ok=True)
    log = workspace.project / "log.jsonl"
    log.write_text(json.dumps({"event": "stage", "stage": "report", "time": "before"}) + "\n")
    job = jobs.start("run", ["--version"])
    events = [
        {"event": "run", "stages": ["convert", "train"], "tomograms": 2}, {"event": "stage", "stage": "convert"},
        {"event": "done", "stage": "convert", "tomogram": "a"}, {"event": "done", "stage": "convert", "tomogram": "a"},
        {"event": "failed", "stage": "convert", "tomogram": "b", "why": "broken"},
        {"event": "stage", "stage": "train"}, {"event": "start", "stage": "train", "title": "train"},
    ]  # fmt: skip
    with log.open("a") as file:
        for event in events:
            file.write(json.dumps(event) + "\n")
        file.write('no json\n{"event": "half')
        file.flush()
        expected = {
            "stage": "train",
            "stages": ["convert", "train"],
            "tomograms": 2,
            "done": {"convert": 1},
            "failed": {"b": "broken"},
            "doing": "train",
        }
        assert job.to_json()["progress"] == expected
        file.write('"}\n' + json.dumps({"event": "finish", "title": "train"}) + "\n")
    assert job.to_json()["progress"] == expected | {"doing": None}
    ended(jobs, "run")


@pytest.mark.slow
def test_the_second_round_replaces_the_model_and_the_first_does_not(workspace, monkeypatch):
    jobs = Jobs(workspace)
    rounds = Rounds(workspace, jobs, PickTables(workspace))
    asked: list[list[str]] = []
    monkeypatch.setattr(jobs, "start", lambda kind, arguments, about="": asked.append([kind, *arguments]))
    with pytest.raises(InputError, match="the name and the radius"):
        rounds.train_and_pick()
    write_configuration(workspace, [{"name": "ball", "radius": "60A"}], voxel_size=None)
    rounds.train_and_pick()
    with pytest.raises(InputError, match="no model yet"):
        rounds.suggest(10)
    (workspace.project / "model").mkdir()
    (workspace.project / "model" / "model.json").write_text("{}")
    rounds.train_and_pick()
    rounds.suggest(10)
    assert [call[0] for call in asked] == ["run", "run", "suggest"]
    assert "--overwrite" not in asked[0]
    assert "--overwrite" in asked[1]
