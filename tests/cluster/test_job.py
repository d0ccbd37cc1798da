"""On a real SLURM (tests/slurm/start.sh): one command in jobs of its own, and a training that is cancelled, goes on, and ends as it would have."""

import json
import subprocess
import threading
import time
from pathlib import Path

import pytest
import yaml
from cli_runner import in_process_of_its_own, tomostream
from cluster_support import Heard
from small_project import make_project, tree_bytes

from tomostream.cluster import Resources, job, job_keeper
from tomostream.cluster.job import job_script, run_job
from tomostream.cluster.queue import JobRequest
from tomostream.cluster.slurm import QUEUE
from tomostream.config import load_configuration
from tomostream.errors import InputError, TomostreamError
from tomostream.pipeline.training import train_configured, train_model
from tomostream.progress import Progress
from tomostream.stages.training import placement as training_job

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


@pytest.fixture(autouse=True)
def _slurm(slurm_is_up, monkeypatch):
    monkeypatch.setattr(job_keeper, "ASK_SECONDS", 0.2)
    monkeypatch.setattr(job, "_LATE_SECONDS", 1.0)
    monkeypatch.setattr(job, "_LOOK_SECONDS", 0.1)


def jobs_named(name):
    asked = subprocess.run(["squeue", "--noheader", "--name", name, "--format", "%i"], capture_output=True, text=True, check=True)
    return asked.stdout.split()


def wait_until(condition, seconds=200):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


def settings(folder, **values):
    usual = {"threads": 1, "memory": 10**9, "walltime": "00:10:00", "log_folder": str(folder / "the logs")}
    return Resources(kind="slurm", **usual | values)


def run(folder, *command, name, heard=None, mark=lambda: None, **values):
    heard = heard or Heard()
    arguments = {"name": name, "processes": 1, "gpus": 0, "progress": heard, "mark": mark}
    run_job(lambda logs, number: ["bash", "-c", *command], QUEUE, settings(folder, **values), **arguments)
    return heard


def test_a_commands_lines_are_told_and_its_end_is_noticed(tmp_path):
    heard = run(tmp_path, 'echo one "$PWD"; echo two; echo three >&2', name=f"lines-{tmp_path.name}")
    assert [text for text in heard.texts if not text.startswith("SLURM: ")] == [f"one {Path.cwd()}", "two", "three"]


def test_an_error_of_the_command_is_raised_once_in_its_words(tmp_path):
    heard = Heard()
    with pytest.raises(TomostreamError, match=r"^no such thing$"):
        run(tmp_path, "echo 'tomostream: error: no such thing'; echo Traceback; exit 2", name=f"error-{tmp_path.name}", heard=heard)
    assert all(text.startswith("SLURM: ") for text in heard.texts)


def test_a_command_that_fails_without_words_names_its_output(tmp_path):
    with pytest.raises(TomostreamError, match=r"exit code 9.*0\.out"):
        run(tmp_path, "exit 9", name=f"silent-{tmp_path.name}")


def test_jobs_are_submitted_again_as_long_as_they_come_further(tmp_path):
    """Each job comes one further and is then cancelled; the fifth finishes."""
    count = tmp_path / "count"
    script = f"echo x >> {count}; [ $(wc -l < {count}) = 5 ] || {{ scancel $SLURM_JOB_ID; sleep 60; }}"
    heard = run(tmp_path, script, name=f"again-{tmp_path.name}", mark=lambda: count.read_text() if count.exists() else "")
    assert count.read_text() == 5 * "x\n"
    assert sum("submitting another" in text for text in heard.texts) == 4


def test_jobs_that_come_no_further_are_not_submitted_for_ever(tmp_path):
    with pytest.raises(TomostreamError, match=r"3 SLURM jobs ended.*walltime"):
        run(tmp_path, "scancel $SLURM_JOB_ID; sleep 60", name=f"hopeless-{tmp_path.name}")


def test_what_slurm_refuses_is_told_in_its_words(tmp_path):
    with pytest.raises(InputError, match=r"SLURM refuses the job: .+ Correct queue"):
        run(tmp_path, "true", name="refused", queue="nowhere")


def test_leaving_cancels_the_job_that_waits_or_runs(tmp_path):
    class Leaving(Progress):
        def say(self, text):
            if text == "started" or "waits in the queue (BeginTime)" in text:
                raise KeyboardInterrupt

    for number, options in enumerate([(), ("--begin=now+60",)]):
        name = f"left{number}-{tmp_path.name}"
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, "echo started; sleep 60", name=name, heard=Leaving(), options=options)
        wait_until(lambda name=name: not jobs_named(name), seconds=20)


def test_the_script_asks_for_what_all_processes_need():
    wanted = Resources(kind="slurm", threads=4, memory=2 * 10**9, queue="gpu", account="em", options=("--nice",))
    script = job_script(["true"], QUEUE, JobRequest("x", wanted, processes=2, gpus=2, threads=4, output=Path("/logs/0.out")))
    for line in (
        'output="/logs/0.out"',
        'cpus-per-task="8"',
        'mem="4387M"',
        'gpus="2"',
        'partition="gpu"',
        'account="em"',
        'time="04:00:00"',
        "nice",
    ):
        assert f"#SBATCH --{line}\n" in script


# training


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A small project whose cluster is SLURM, with a model trained in this process."""
    folder = tmp_path_factory.mktemp("job")
    cluster = {"kind": "slurm", "threads": 1, "walltime": "00:10:00", "interface": "lo", "log_folder": str(folder / "logs")}
    path = make_project(
        folder, cluster=cluster, memory="1GB", train={"steps": 20, "steps_per_epoch": 5, "crop": 16, "batch": 2, "precision": "float32"}
    )
    train_model(load_configuration(path), out=folder / "plain", overwrite=False, progress=Progress())
    return path


def test_a_training_as_a_job_leaves_the_bytes_of_one_in_this_process(project):
    folder = project.parent / "project" / "model"
    done = in_process_of_its_own("run", project, "--stage", "train", timeout=300)
    assert done.code == 0, done.err
    assert "(tomostream-train)" in done.err
    assert "best epoch" in done.err
    mine, plain = tree_bytes(folder), tree_bytes(project.parent / "plain")
    for made in (mine, plain):
        assert yaml.safe_load(made.pop("resolved.yaml"))["train"]["steps"] == 20
    assert mine == plain
    again = in_process_of_its_own("run", project, "--stage", "train")  # finished work is not queued for
    assert "already trained" in again.err
    assert "SLURM" not in again.err


def test_two_processes_in_a_job_that_is_cancelled_go_on_in_the_next(project, monkeypatch):
    monkeypatch.setattr(training_job, "JOB_NAME", f"train-{project.parent.name}")
    values = yaml.safe_load(project.read_text())
    values["cluster"]["train_processes"] = 2
    path = project.parent / "two.yaml"
    path.write_text(yaml.safe_dump(values))
    folder, heard = project.parent / "two", Heard()

    def cancel():
        wait_until((folder / "checkpoint.pt").exists)
        subprocess.run(["scancel", "--name", training_job.JOB_NAME], check=True)

    other = threading.Thread(target=cancel)
    other.start()
    train_configured(load_configuration(path), out=folder, overwrite=False, progress=heard)
    other.join()
    assert json.loads((folder / "model.json").read_text())["summary"]["processes"] == 2
    assert any("submitting another" in text for text in heard.texts), heard.texts
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["epoch", "1", "2", "3", "4"]


def test_bad_clicks_are_told_before_any_job_waits(project, tmp_path):
    values = yaml.safe_load(project.read_text())
    values["species"][0]["expected"] = 1
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(values))
    done = in_process_of_its_own("train", path, "-o", tmp_path / "model")
    assert done.code == 2
    assert "expected is 1" in done.message
    assert "SLURM" not in done.err


def test_a_signature_in_a_url_is_not_written_into_a_jobs_files(project, tmp_path):
    values = yaml.safe_load(project.read_text())
    values["truth"] = "https://me:secret@example.org/truth.csv"
    path = tmp_path / "secret.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match="password or signature"):
        train_configured(load_configuration(path), out=tmp_path / "model", overwrite=False, progress=Progress())


def test_train_has_no_tasks_to_hand_out(project):
    for arguments in (["--workers", "2"], ["--cluster", "local"], ["--scheduler", "tcp://127.0.0.1:1"]):
        done = tomostream("train", project, *arguments)
        assert done.code == 2
        assert "torchrun" in done.message
