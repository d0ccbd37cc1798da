"""Jobs in the background: told how far they are, stopped when asked, one of a kind."""

import json
import shutil
import time
from pathlib import Path

import pytest
import yaml
from repository import REPOSITORY

from tomostream.errors import BusyError, ConfigurationError, InputError
from tomostream.view.configuration_form import write_configuration
from tomostream.view.jobs import Jobs
from tomostream.view.picks import PickTables
from tomostream.view.rounds import Rounds
from tomostream.view.workspace import Workspace, open_workspace

pytestmark = pytest.mark.slow


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
def test_a_file_that_can_not_be_converted_says_why_and_the_others_are_ready(mrc_folder, tmp_path):
    shutil.copytree(mrc_folder, tmp_path / "mine")
    (tmp_path / "mine" / "broken.mrc").write_bytes((mrc_folder / "ball_1.mrc").read_bytes()[:5000])
    workspace = open_workspace([str(tmp_path / "mine")], project=tmp_path / "project", clicks=None)
    jobs = Jobs(workspace)
    rounds = Rounds(workspace, jobs, PickTables(workspace))
    rounds.convert(None)
    assert ended(jobs, "convert")["state"] == "partly"
    states = {name: rounds.tomogram_state(name) for name in workspace.entries}
    assert {name: one["state"] for name, one in states.items()} == {"ball_1": "ready", "ball_2": "ready", "broken": "failed"}
    assert "broken.mrc" in states["broken"]["problem"]
    assert "truncated" in states["broken"]["problem"]


def test_why_an_input_failed_is_its_row_or_the_one_error(workspace):
    job = Jobs(workspace).start("convert", ["--version"])
    job.process.wait()
    printed = job.folder / "convert.err"
    printed.write_text(
        "warning: a: told early\ntomostream: error: 2 of 3 inputs failed, the others are done:\n  a: is short\n  b: is long\n"
    )
    assert [job.why_failed(name) for name in "ab"] == ["is short", "is long"]
    printed.write_text("tomostream: error: a.mrc: has no voxel spacing\n")
    assert job.why_failed("a") == "a.mrc: has no voxel spacing"
    printed.write_text("")
    assert job.why_failed("a") == "it said nothing"


def test_a_file_that_is_gone_stops_a_run_until_the_configuration_is_saved_without_it(mrc_folder, tmp_path):
    shutil.copytree(mrc_folder, tmp_path / "mine")
    workspace = open_workspace([str(tmp_path / "mine")], project=tmp_path / "project", clicks=None)
    rounds = Rounds(workspace, Jobs(workspace), PickTables(workspace))
    ball = [{"name": "ball", "radius": "60A"}]
    assert len(write_configuration(workspace, ball, voxel_size=None).tomograms) == 2
    (tmp_path / "mine" / "ball_1.mrc").unlink()
    with pytest.raises(InputError, match=r"ball_1\.mrc is not there any more; bring it back, or press Change and Save"):
        rounds.train_and_pick()
    assert [Path(one).name for one in write_configuration(workspace, ball, voxel_size=None).tomograms] == ["ball_2.mrc"]
    (tmp_path / "mine" / "ball_2.mrc").unlink()
    with pytest.raises(InputError, match="none of the tomograms is there"):
        write_configuration(workspace, ball, voxel_size=None)


def test_what_somebody_wrote_into_the_configuration_stays_when_the_form_is_saved(mrc_folder, tmp_path):
    opened = {"project": tmp_path / "project", "clicks": None}
    ball = {"name": "ball", "radius": "60A", "expected": None}
    write_configuration(open_workspace([str(mrc_folder)], **opened), [ball], voxel_size=12.5, minutes=3.0)
    path = tmp_path / "project" / "tomostream.yaml"
    values = yaml.safe_load(path.read_text())
    assert (values["voxel_size"], values["train"]) == (12.5, {"minutes": 3})
    values |= {"truth": "truth.csv", "train": {"minutes": 3, "seed": 7}, "pick": {"count": 9}}
    values["species"] = [{"name": "ball", "radius": "60A", "expected": {"ball_1": 14, "ball_2": 12}}]
    path.write_text(yaml.safe_dump(values))
    later = open_workspace([str(mrc_folder)], **opened)
    assert later.is_ours
    wider = {"name": "ball", "radius": "70A"}  # the page leaves out what it can't show
    write_configuration(later, [wider, {"name": "rod", "radius": "40A", "expected": 5}], voxel_size=None, minutes=None)
    saved = yaml.safe_load(path.read_text())
    assert saved["species"] == [values["species"][0] | wider, {"name": "rod", "radius": "40A", "expected": 5}]
    assert {key: saved[key] for key in ("truth", "pick", "voxel_size", "train", "labels")} == {
        "truth": "truth.csv", "pick": {"count": 9}, "voxel_size": 12.5, "train": {"seed": 7}, "labels": values["labels"],
    }  # fmt: skip
    for text in ("species: [", "nothing of ours"):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=r"tomostream\.yaml"):
            write_configuration(later, [wider], voxel_size=None)
        assert path.read_text() == text


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
        model = workspace.project / "model"
        for path, text in {
            "training.json": json.dumps({"format": 1, "models": {"ribosome": {}, "fas": {}}}),
            "parts/fas/resolved.yaml": "train: {steps: 400}\n",
            "parts/fas/metrics.csv": "epoch,step\n1,60\n2,120\n",
        }.items():
            (model / path).parent.mkdir(parents=True, exist_ok=True)
            (model / path).write_text(text)
        assert job.to_json()["progress"] == expected | {"doing": "train fas, 2 of 2, step 120 of 400"}
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


@pytest.mark.parametrize(
    ("model", "species", "goes_on"),
    [
        ("nnpu", ["ribosome"], True),
        ("species", ["ribosome", "fas"], False),  # of another strategy
        ("nnpu", ["80S"], False),  # renamed
        ("nnpu", ["ribosome", "fas"], False),  # added
        ("average", ["ribosome"], False),  # of another strategy
    ],
)
def test_the_next_round_goes_on_from_a_model_of_its_species_and_begins_anew_without(
    mrc_folder, tmp_path, monkeypatch, model, species, goes_on
):
    project, own = tmp_path / "project", tmp_path / "my.yaml"
    names = "".join(f"- {{name: {name}, radius: 60A}}\n" for name in species)
    own.write_text(
        f"project: {project}\ntomograms: ['{mrc_folder}/*.mrc']\nspecies:\n{names}labels: {{train: [${{WHERE}}/clicks.csv]}}\n"
        "network: {channels: [4, 8]}\ntrain: {seed: 5}\n"
    )
    monkeypatch.setenv("WHERE", str(tmp_path))
    before = own.read_bytes()
    workspace = open_workspace([str(own)], project=None, clicks=None)
    assert not workspace.is_ours
    shutil.copytree(REPOSITORY / "tests" / "data" / "archives" / "v0.2" / "models" / model, project / "model")
    jobs, asked = Jobs(workspace), []
    monkeypatch.setattr(jobs, "start", lambda kind, arguments, about="": asked.append((arguments, about)))
    Rounds(workspace, jobs, PickTables(workspace)).train_and_pick()
    [([command, config, *rest], about)] = asked
    assert (command, rest, about) == ("run", ["--overwrite"], f"again, from the {'model' if goes_on else 'start'}")
    start = str(project / "view" / "last-model")
    if goes_on:
        assert yaml.safe_load(Path(config).read_text())["train"] == {"seed": 5, "start": start}
    else:
        assert config == str(own)
    assert own.read_bytes() == before  # the user's own
