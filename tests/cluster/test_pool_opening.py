import gc
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import cluster_tasks
import dask
import psutil
import pytest
from cli_runner import tomostream
from cluster_support import Heard, started_scheduler, stop
from distributed.utils import LoopRunner
from mrc_files import random_volume, write_mrc
from store_files import tree

from tomostream.cluster import Resources, open_pool
from tomostream.cluster import pool_opening as opening
from tomostream.cluster.dask_pool import IN_FLIGHT_PER_WORKER
from tomostream.errors import InputError, MachineError, TomostreamError
from tomostream.progress import Progress

pytestmark = pytest.mark.slow


def settings_of(kind, scheduler):
    return {
        "serial": Resources(),
        "threads": Resources(workers=3),
        "scheduler": Resources(scheduler=scheduler.address),
    }[kind]


KINDS = ("serial", "threads", "scheduler")
IN_FLIGHT = {"serial": 1, "threads": 3, "scheduler": IN_FLIGHT_PER_WORKER}


@pytest.mark.parametrize("kind", KINDS)
def test_every_task_has_its_result_and_few_are_in_flight(kind, scheduler):
    drawn, finished, most = 0, {}, 0

    def tasks():
        nonlocal drawn
        for n in range(40):
            drawn += 1
            yield n

    with open_pool(settings_of(kind, scheduler), Progress()) as pool:
        for task, result in pool.run(cluster_tasks.square, tasks()):
            finished[task] = result
            most = max(most, drawn - len(finished) + 1)
    assert finished == {n: n * n for n in range(40)}
    assert most == IN_FLIGHT[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_users_errors_are_results_and_run_raises_the_first(kind, scheduler):
    with open_pool(settings_of(kind, scheduler), Progress()) as pool:
        outcomes = dict(pool.outcomes(cluster_tasks.refuse_odd, range(4)))
        assert {n: str(outcome) for n, outcome in outcomes.items()} == {0: "0", 1: "1 is odd", 2: "2", 3: "3 is odd"}
        with pytest.raises(InputError, match="is odd"):
            list(pool.run(cluster_tasks.refuse_odd, range(9)))


def test_workers_work_in_the_clients_folder_one_task_at_a_time(scheduler, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_pool(Resources(scheduler=str(scheduler.file)), Progress()) as pool:
        assert {folder for _, folder in pool.run(cluster_tasks.working_folder, range(3))} == {str(tmp_path)}
        assert all(alone for _, alone in pool.run(cluster_tasks.overlap, [str(tmp_path)] * 8))


def test_a_worker_that_does_not_see_the_clients_folder_says_so(scheduler, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getcwd", lambda: str(tmp_path / "only here"))
    with (
        open_pool(Resources(scheduler=scheduler.address), Progress()) as pool,
        pytest.raises(MachineError, match=r"does not see the folder .*only here"),
    ):
        list(pool.run(cluster_tasks.square, [1]))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    for i in range(3):
        write_mrc(folder / f"t{i}.mrc", random_volume((40, 48, 36), "f4", seed=i))
    (folder / "points.csv").write_text("x_voxel,y_voxel,z_voxel\n5,6,7\n20,30,25\n")
    return folder


def through_all_stages(out, *options):
    files = [f"t{i}.mrc" for i in range(3)]
    for command in (
        ["convert", *files, "-o", f"{out}/t", "--chunk", "16", "--shard", "32"],
        ["stats", f"{out}/t"],
        ["labels", f"{out}/t/t0.ome.zarr", "--points", "points.csv", "--radius", "80A", "-o", f"{out}/labels.ome.zarr"],
        ["pick", f"{out}/t", "--radius", "40A", "--count", "25", "-o", f"{out}/p"],
    ):
        done = tomostream(*command, *options)
        assert done.code == 0, done.err
    found = tree(out)
    assert sum(name.endswith(".csv") for name in found) == 3
    return {name: content for name, content in found.items() if "made-by" not in name}  # these name the folder


@pytest.fixture(scope="module")
def reference(sources):
    before = Path.cwd()
    os.chdir(sources)
    try:
        return through_all_stages("none")
    finally:
        os.chdir(before)


@pytest.mark.parametrize("by", ["address", "file"])
def test_all_stages_leave_the_same_bytes_through_a_running_scheduler(by, scheduler, sources, reference, monkeypatch):
    monkeypatch.chdir(sources)
    assert through_all_stages(f"by {by}", "--scheduler", str(getattr(scheduler, by))) == reference


def test_all_stages_leave_the_same_bytes_with_threads(sources, reference, monkeypatch):
    monkeypatch.chdir(sources)
    assert through_all_stages("threads", "--workers", "3") == reference


def test_what_a_worker_says_is_shown_and_failures_stay_their_own(scheduler, sources, tmp_path, monkeypatch):
    monkeypatch.chdir(sources)
    (tmp_path / "broken.mrc").write_bytes(b"\x89PNG" * 1000)
    done = tomostream("convert", "t0.mrc", tmp_path / "broken.mrc", "t1.mrc", "-o", tmp_path / "out", "--scheduler", scheduler.address)
    assert done.code == 3
    assert "1 of 3 inputs failed" in done.message
    assert "broken.mrc: is not an MRC file" in done.message
    assert f"t1: {tmp_path}/out/t1.ome.zarr" in done.err.splitlines()


def test_a_local_cluster_listens_on_loopback_only_and_runs_a_lost_task_again(tmp_path):
    earlier = {child.pid for child in psutil.Process().children(recursive=True)}
    with open_pool(Resources(kind="local", workers=2), Progress()) as pool:
        results = dict(pool.run(cluster_tasks.die_once, [(n, str(tmp_path)) for n in range(4)]))
        ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))} - earlier
        open_to = {c.laddr.ip for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN and c.pid in ours}
    assert sorted(n for n, _ in results) == [0, 1, 2, 3]
    assert os.getpid() not in results.values()
    assert open_to == {"127.0.0.1"}


def test_a_convert_whose_worker_is_killed_ends_with_the_same_bytes(sources, reference, monkeypatch):
    monkeypatch.chdir(sources)
    killed = []

    def kill_a_writer():
        deadline = time.monotonic() + 30
        while not killed and time.monotonic() < deadline:
            for ledger in Path("chaos").glob("t/*.partial/ledger.jsonl"):
                lines = ledger.read_text().splitlines()
                if len(lines) > 2 and lines[-1].endswith("}"):
                    killed.append(json.loads(lines[1])["holder"]["pid"])
                    os.kill(killed[0], signal.SIGKILL)
                    return

    watcher = threading.Thread(target=kill_a_writer)
    watcher.start()
    done = tomostream(
        "convert", "t0.mrc", "t1.mrc", "t2.mrc", "-o", "chaos/t", "--chunk", "16", "--shard", "32", "--cluster", "local", "--workers", "2"
    )
    watcher.join()
    assert done.code == 0, done.err
    assert killed
    assert killed[0] != os.getpid()
    plain = tomostream("convert", "t0.mrc", "t1.mrc", "t2.mrc", "-o", "calm/t", "--chunk", "16", "--shard", "32")
    assert plain.code == 0
    assert tree("chaos") == tree("calm")


def test_a_task_that_kills_every_worker_is_named_and_its_neighbours_are_done():
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        open_pool(Resources(kind="local", workers=1), Progress()) as pool,
    ):
        outcomes = dict(pool.outcomes(cluster_tasks.die, range(4)))
    assert "--memory" in str(outcomes.pop(1))
    assert outcomes == {0: 0, 2: 2, 3: 3}


def test_a_lost_scheduler_ends_the_stage_with_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "CONNECT_SECONDS", 1)
    process, found = started_scheduler(tmp_path)
    heard = Heard()
    timer = threading.Timer(1.0, stop, [process])
    timer.start()
    with (
        open_pool(Resources(scheduler=found.address), heard) as pool,
        pytest.raises(TomostreamError, match="run the same command again"),
    ):
        list(pool.run(cluster_tasks.square, range(3)))
    timer.join()
    assert "no worker yet" in heard.texts[0]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("tcp://127.0.0.1:1", "answers there"),
        ("nothing.json", "neither a file nor an address"),
        ("foo://bar", "unknown address scheme"),
        ("points.csv", "answers there"),
    ],
)
def test_where_no_scheduler_is_one_message_says_so(where, words, sources, tmp_path, monkeypatch):
    monkeypatch.chdir(sources)
    monkeypatch.setattr(opening, "CONNECT_SECONDS", 1)
    done = tomostream("convert", "t0.mrc", "-o", tmp_path, "--scheduler", where)
    assert done.code == 2
    assert f"--scheduler {where}" in done.message
    assert words in done.message
    assert not list(tmp_path.iterdir())


def test_a_client_that_failed_leaves_nothing_for_the_collector_to_close(sources, tmp_path, monkeypatch):
    """What `Client.__del__` -> `LoopRunner.stop` waits for is held while the next client starts: both would wait for ever."""
    monkeypatch.setattr(opening, "CONNECT_SECONDS", 1)
    (tmp_path / "broken.json").write_text("{}")

    def loops():
        return sum(thread.name == "IO loop" for thread in threading.enumerate())

    before = loops()
    for where in ("tcp://127.0.0.1:1", "foo://bar", "tls://127.0.0.1:1", str(tmp_path / "broken.json")):
        with pytest.raises(InputError, match="answers there"):
            opening._join(where)
        assert loops() == before, where
    with LoopRunner._lock:
        collector = threading.Thread(target=gc.collect, daemon=True)
        collector.start()
        collector.join(20)
        assert not collector.is_alive()


def test_slurm_without_its_package_names_the_extra(sources, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    done = tomostream("convert", sources / "t0.mrc", "-o", tmp_path, "--cluster", "slurm")
    assert done.code == 2
    assert "pip install 'tomostream[slurm]'" in done.message


def test_slurm_where_no_jobs_can_be_submitted_does_not_wait(sources, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", object())
    monkeypatch.setenv("PATH", str(tmp_path))
    done = tomostream("convert", sources / "t0.mrc", "-o", tmp_path, "--cluster", "slurm")
    assert done.code == 2
    assert "sbatch" in done.message
