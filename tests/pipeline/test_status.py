"""`status` says what lies in the project folder, whatever the run is doing; the journal keeps what happened."""

import json
import shutil
import threading

import numpy as np
import pytest
import torch
import yaml
from cli_runner import tomostream
from small_project import make_project
from store_files import spec_of

from tomostream.cli.console import ConsoleProgress
from tomostream.cluster import Resources
from tomostream.config import load_configuration
from tomostream.errors import BusyError, ExistsError, InputError
from tomostream.pipeline.execution import run_project
from tomostream.pipeline.journal import Journal, read_journal
from tomostream.pipeline.status import read_status
from tomostream.progress import Progress
from tomostream.project import RUN_LOCK
from tomostream.remote.places import place
from tomostream.stages.prediction.stage import PredictSettings, predict_many
from tomostream.store.locks import exclusive
from tomostream.store.omezarr import StoreWriter

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project that was converted, and trained for a few steps; nothing is predicted."""
    folder = tmp_path_factory.mktemp("status")
    path = make_project(folder)
    values = yaml.safe_load(path.read_text())
    values["train"] |= {"steps": 10}
    path.write_text(yaml.safe_dump(values))
    progress = ConsoleProgress(folder / "project" / "log.jsonl")
    (folder / "project").mkdir()
    run_project(load_configuration(path), stages=["convert", "stats", "train"], overwrite=False, progress=progress)
    return folder


@pytest.fixture
def project(trained, tmp_path):
    shutil.copytree(trained / "project", tmp_path / "project")
    return tmp_path / "project"


def begin_scores(project, name, *, shards):
    """A half-written score map."""
    volume = np.zeros((40, 64, 56), dtype=np.float32)
    (project / "scores").mkdir(exist_ok=True)
    spec = spec_of(volume, chunk=(16, 16, 16), shard=(32, 32, 32), levels=1, name=name)
    writer = StoreWriter.create_or_resume(
        project / "scores" / f"{name}.ome.zarr", spec, fingerprint={"made": "for a test"}, overwrite=False
    )
    for index in writer.pending()[:shards]:
        writer.write(index, volume[writer.shards.core(index).slices])
        writer.mark_done(index)
    return writer


def test_a_run_that_stopped_after_training(project):
    found = read_status(project)
    assert not found.is_running
    assert (found.stage, found.model, found.steps) == ("train", "done", 10)
    assert found.counts == {"convert": {"done": 2}, "predict": {"pending": 2}, "pick": {"pending": 2}}


def test_shards_of_a_half_written_store_are_counted_while_it_is_written(project):
    with begin_scores(project, "t1", shards=3):
        assert str(read_status(project).tomograms["t1"]["predict"]) == "stopped 3/8"
        with exclusive(project / RUN_LOCK, "the project"):
            found = read_status(project)
            assert found.is_running
            assert f"process {__import__('os').getpid()}" in found.owner
            assert str(found.tomograms["t1"]["predict"]) == "running 3/8"
            assert str(found.tomograms["t2"]["predict"]) == "pending"
    assert not read_status(project).is_running


def test_what_failed_is_told_with_its_reason_until_it_is_done(project):
    journal = Journal(project / "log.jsonl")
    journal.write("stage", stage="predict")
    journal.write("retried", tomogram="t2", shard=[0, 0, 0], why="the disk is gone")
    journal.write("failed", tomogram="t2", why="the disk is gone")
    found = read_status(project)
    assert found.retries == 1
    assert found.failures == {"t2": "predict: the disk is gone"}
    assert found.tomograms["t2"]["predict"].state == "failed"
    journal.write("done", tomogram="t2")
    assert read_status(project).failures == {}


def test_time_left_follows_from_what_is_done(project):
    journal = Journal(project / "log.jsonl")
    journal.write("stage", stage="predict")
    journal.write("done", tomogram="t1")
    (project / "scores" / "t1.ome.zarr").mkdir(parents=True)
    with exclusive(project / RUN_LOCK, "the project"):
        found = read_status(project)
    assert found.per_minute > 0
    assert found.seconds_left == pytest.approx(60 / found.per_minute)


def test_inputs_that_are_gone_leave_the_names_of_what_was_made(project, tmp_path):
    values = yaml.safe_load((project / "resolved.yaml").read_text())
    values["tomograms"] = [str(tmp_path / "gone" / "*.mrc")]
    (project / "resolved.yaml").write_text(yaml.safe_dump(values))
    assert set(read_status(project).tomograms) == {"t1", "t2"}


def test_the_command_prints_json_or_a_table(project):
    done = tomostream("status", project, "--json")
    assert done.code == 0
    assert json.loads(done.out)["counts"]["convert"] == {"done": 2}
    assert "not running" in tomostream("status", project).out


def test_no_project_is_one_clear_message(tmp_path):
    done = tomostream("status", tmp_path / "nothing")
    assert done.code == 2
    assert "does not exist; give the folder of `tomostream run`" in done.message
    (tmp_path / "resolved.yaml").write_text("tomograms: [")
    with pytest.raises(InputError, match="can't be read"):
        read_status(tmp_path)


def test_a_project_that_never_started_says_so_and_is_no_error(tmp_path):
    configuration = make_project(tmp_path)
    for what in (tmp_path, configuration):  # a folder without a run; a configuration whose project is not there yet
        done = tomostream("status", what)
        assert (done.code, done.err) == (0, "")
        assert "no run has started there" in done.out
        assert tomostream("status", what, "--json").json["has_started"] is False


def test_status_does_not_load_torch(project):
    code = "import sys; from tomostream.pipeline.status import read_status; from pathlib import Path; read_status(Path(sys.argv[1])); print('torch' in sys.modules)"
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code, str(project)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_two_writers_of_a_journal_never_tear_lines(tmp_path):
    path = tmp_path / "log.jsonl"

    def write(who):
        journal = Journal(path)
        for number in range(200):
            journal.write("done", tomogram=f"{who}-{number}", text="x" * 300)

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(read_journal(path))) == len(path.read_text().splitlines()) == 800


def test_the_journal_tells_shards_and_the_picks_that_are_made_beside(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "all")
    values = yaml.safe_load((trained / "run.yaml").read_text())
    values["project"] = str(tmp_path / "all" / "project")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    log = tmp_path / "log.jsonl"
    run_project(load_configuration(tmp_path / "run.yaml"), stages=["predict", "pick"], overwrite=False, progress=ConsoleProgress(log))
    told = [(event["event"], event["stage"], event["tomogram"]) for event in read_journal(log) if event["event"] in ("shard", "done")]
    assert told == [
        *[("shard", "predict", "t1"), ("done", "predict", "t1"), ("done", "pick", "t1")],
        *[("shard", "predict", "t2"), ("done", "predict", "t2"), ("done", "pick", "t2")],
        *[("done", "pick", "t1"), ("done", "pick", "t2")],  # the stage finds them made
    ]
    assert [event["event"] for event in read_journal(log, without=("shard", "start", "finish", "message"))] == [
        *("run", "stage"),
        *(["done"] * 4),
        "stage",
        *(["done"] * 2),
        "end",
    ]


def test_broken_lines_of_a_journal_are_passed_over_and_secrets_masked(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"event": "run", "time"\n[1]\n\n')
    Journal(path).write("failed", tomogram="t", why="https://me:secret@host/x.mrc is gone")
    (only,) = read_journal(path)
    assert only["tomogram"] == "t"
    assert "secret" not in path.read_text()


def test_a_second_run_on_the_same_project_is_refused(trained):
    with exclusive(trained / "project" / RUN_LOCK, "the project"), pytest.raises(BusyError, match="in use by"):
        run_project(load_configuration(trained / "run.yaml"), stages=["pick"], overwrite=False, progress=Progress())


def predict(project, out, **settings):
    return predict_many(
        {"t1": str(project / "tomograms" / "t1.ome.zarr")}, model=place(project / "model"), out=place(out), settings=PredictSettings(**settings),
        resources=Resources(threads=1), overwrite=False, progress=Progress(),
    )  # fmt: skip


def test_scores_begun_on_another_kind_of_machine_are_not_mixed_unasked(project, tmp_path):
    (store,) = predict(project, tmp_path)[0]
    whole = json.loads((store / "zarr.json").read_text())
    # as if another torch had finished it: the same work, so it stays
    ours = whole["attributes"]["tomostream"]
    ours["fingerprint"]["torch"] = "1.0"
    (store / "zarr.json").write_text(json.dumps(whole))
    assert predict(project, tmp_path) == [[store]]
    assert json.loads((store / "zarr.json").read_text()) == whole
    # as if another torch had begun it
    fingerprint = ours["fingerprint"]
    shutil.rmtree(store)
    volume = np.zeros((40, 64, 56), dtype=np.float32)
    shape = tuple(fingerprint["shard"])
    spec = spec_of(volume, chunk=(64, 64, 64), shard=shape, levels=1, name="t1")
    with StoreWriter.create_or_resume(store, spec, fingerprint=fingerprint, overwrite=False) as begun:
        for version in ("1.0", "0.9", "1.0"):  # whoever scored a shard
            begun.add_note({"machine": {"torch": version}})
    with pytest.raises(ExistsError, match=r"another kind of machine \(torch 1\.0, now .*--mixed-devices"):
        predict(project, tmp_path)
    predict(project, tmp_path, mixed_devices=True)
    kinds = json.loads((store / "zarr.json").read_text())["attributes"]["tomostream"]["mixed_devices"]
    assert [kind["torch"] for kind in kinds if len(kind) == 1] == ["0.9", "1.0"]
    assert {kind["torch"] for kind in kinds} == {"0.9", "1.0", torch.__version__}
    assert len(kinds) == 3


class StopsAt(Progress):
    """Interrupts the run when it comes to a certain piece of work."""

    def __init__(self, title):
        self.title = title

    def track(self, title, total):
        if title == self.title:
            raise KeyboardInterrupt
        return super().track(title, total)


def test_picks_of_finished_tomograms_appear_while_others_are_still_scored(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "all")
    values = yaml.safe_load((trained / "run.yaml").read_text())
    values["project"] = str(tmp_path / "all" / "project")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(KeyboardInterrupt):
        run_project(load_configuration(tmp_path / "run.yaml"), stages=["predict", "pick"], overwrite=False, progress=StopsAt("predict t2"))
    found = read_status(tmp_path / "all" / "project")
    assert {name: str(states["pick"]) for name, states in found.tomograms.items()} == {"t1": "done", "t2": "pending"}
    run_project(load_configuration(tmp_path / "run.yaml"), stages=["predict", "pick"], overwrite=False, progress=Progress())
    assert read_status(tmp_path / "all" / "project").counts["pick"] == {"done": 2}
