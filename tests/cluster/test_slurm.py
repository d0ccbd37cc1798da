"""On a real SLURM (tests/slurm/start.sh): jobs that wait, end, are cancelled, have no GPU, and a client that is stopped or killed."""

import signal
import subprocess
import sys
import threading
import time

import cluster_tasks
import dask
import pytest
from cluster_support import Heard, slurm_settings
from cluster_tls import tls
from repository import SUPPORT, WORKERS_PATH

from tomostream.cluster import job_keeper, open_pool
from tomostream.errors import InputError, TomostreamError

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


@pytest.fixture(autouse=True)
def _slurm(slurm_is_up, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", WORKERS_PATH)  # jobs inherit it: their workers import this suite's tasks
    monkeypatch.setattr(job_keeper, "ASK_SECONDS", 0.5)
    yield
    left = jobs_of(tmp_path)
    for number, *_ in left:
        subprocess.run(["scancel", number], check=False)
    assert not left, "jobs were left behind"


def queue():
    """(number, state, comment) of our jobs."""
    asked = subprocess.run(["squeue", "--noheader", "--format", "%i|%T|%k"], capture_output=True, text=True, check=True)
    return [tuple(line.split("|", 2)) for line in asked.stdout.splitlines()]


def jobs_of(folder):
    return [(number, state) for number, state, comment in queue() if comment == str(folder) and state in ("PENDING", "RUNNING")]


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
    return found


def test_jobs_run_tasks_and_are_gone_afterwards(tmp_path):
    heard = Heard()
    with open_pool(slurm_settings(tmp_path, workers=2), heard) as pool:
        assert dict(pool.run(cluster_tasks.square, range(10))) == {n: n * n for n in range(10)}
        script = pool._client.cluster.job_script()
    assert "--lifetime 480s --lifetime-stagger 60s" in script
    assert "#SBATCH --mem=1240M" in script  # the budget, and Dask's process beside it
    assert not any("encrypted" in text for text in heard.texts)
    wait_until(lambda: not jobs_of(tmp_path))


def test_a_cancelled_job_is_replaced_and_its_task_done(tmp_path):
    heard = Heard()

    def cancel():
        wait_until((tmp_path / "started").exists)
        [(number, _)] = jobs_of(tmp_path)
        subprocess.run(["scancel", number], check=True)
        wait_until(lambda: (tmp_path / "started").read_text() == "xx")
        (tmp_path / "go").touch()

    with open_pool(slurm_settings(tmp_path), heard) as pool:
        other = threading.Thread(target=cancel)
        other.start()
        assert [result for _, result in pool.run(cluster_tasks.wait_for_go, [str(tmp_path)])] == ["done"]
        other.join()
    assert any("ended; submitting another" in text for text in heard.texts)


def test_jobs_that_wait_are_told_with_slurms_reason(tmp_path):
    heard = Heard()
    with open_pool(slurm_settings(tmp_path, options=("--begin=now+4",)), heard) as pool:
        assert dict(pool.run(cluster_tasks.square, [2])) == {2: 4}
    assert any("1 of 1 jobs wait in the queue (BeginTime)" in text for text in heard.texts), heard.texts


@pytest.mark.parametrize("values", [{"queue": "nowhere"}, {"memory": 10**12}, {"options": ("--gres=tape:1",)}])
def test_what_slurm_refuses_is_told_in_its_words(values, tmp_path):
    with pytest.raises(InputError, match=r"SLURM refuses the job: .+") as refused, open_pool(slurm_settings(tmp_path, **values), Heard()):
        pass
    assert "Traceback" not in str(refused.value)


def test_jobs_that_end_without_a_result_are_not_submitted_for_ever(tmp_path):
    over = threading.Event()

    def cancel_whatever_comes():
        while not over.wait(0.1):
            for number, _ in jobs_of(tmp_path):
                subprocess.run(["scancel", number], check=False)

    canceller = threading.Thread(target=cancel_whatever_comes)
    with open_pool(slurm_settings(tmp_path), Heard()) as pool:
        canceller.start()
        try:
            with pytest.raises(TomostreamError, match=r"4 SLURM jobs ended .*without a finished task .*logs"):
                list(pool.run(cluster_tasks.wait_for, [str(tmp_path / "never")]))
        finally:
            over.set()
            canceller.join()


def test_a_gpu_that_is_only_on_paper_is_a_fault_of_the_machine_with_a_limit(tmp_path):
    heard = Heard()
    with open_pool(slurm_settings(tmp_path, gpus=1), heard, needs_gpu=True) as pool:
        [(_, outcome)] = pool.outcomes(cluster_tasks.need_gpu, [1])
    assert "no GPU" in str(outcome)
    assert any("failed 3 times in a row" in text for text in heard.texts)


def test_each_process_of_a_job_with_two_gpus_sees_one_of_them(tmp_path):
    with open_pool(slurm_settings(tmp_path, gpus=2), Heard(), needs_gpu=True) as pool:
        wait_until(lambda: len(pool._client.nthreads()) == 2)
        seen = {gpu for _, gpu in pool.run(cluster_tasks.visible_gpu, range(12))}
    assert seen == {"0", "1"}


def test_scheduler_and_jobs_speak_tls_if_dask_is_configured_so(tmp_path, certificates):
    with dask.config.set(tls(certificates)), open_pool(slurm_settings(tmp_path), Heard()) as pool:
        assert pool._client.scheduler.address.startswith("tls://127.0.0.1:")
        assert dict(pool.run(cluster_tasks.square, [5])) == {5: 25}


CLIENT = """
import sys, pathlib
sys.path.insert(0, {tests!r})
import cluster_tasks
from tomostream.cli import main as cli
from cluster_support import slurm_settings
from tomostream.cluster import open_pool
from tomostream.progress import Progress
import signal
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, cli._on_signal)
folder = pathlib.Path({folder!r})
with open_pool(slurm_settings(folder), Progress()) as pool:
    list(pool.run(cluster_tasks.wait_for_go, [str(folder)]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_client_that_is_stopped_takes_its_jobs_along(number, tmp_path):
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT.format(tests=str(SUPPORT), folder=str(tmp_path))], stderr=subprocess.PIPE, text=True
    )
    wait_until((tmp_path / "started").exists)
    client.send_signal(number)
    _, told = client.communicate(timeout=30)
    if number != signal.SIGKILL:
        assert client.returncode == 128 + number
        assert "Traceback" not in told
        wait_until(lambda: not jobs_of(tmp_path), seconds=5)  # though the task still waits
    (tmp_path / "go").touch()
    wait_until(lambda: not jobs_of(tmp_path), seconds=90)  # killed outright: workers end when they miss the scheduler
