"""Scores and picks have the same bytes wherever they are computed; what fails there is told here."""

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import cluster_tasks
import numpy as np
import psutil
import pytest
from cli_runner import tomostream
from mrc_files import write_mrc
from small_project import SPACING, make_project, tree_bytes

from tomostream.cluster import Resources, open_pool, resident
from tomostream.progress import Progress
from tomostream.stages.prediction import shard_task as shard_scoring

pytestmark = pytest.mark.slow

BLOCK = "40"
WAYS = {
    "local": ["--cluster", "local", "--workers", "2"],
    "address": ["--scheduler", "{address}"],
    "file": ["--scheduler", "{file}"],
    "slurm": ["--cluster", "slurm", "--workers", "2", "--cluster-option", "interface=lo", "--cluster-option", "walltime=00:20:00"],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    made = tomostream("run", make_project(folder), "--stage", "convert", "--stage", "stats", "--stage", "train")
    assert made.code == 0, made.err
    wide = np.random.default_rng(0).normal(size=(40, 320, 320)).astype(np.float32)  # scores of four shards
    write_mrc(folder / "wide.mrc", wide, spacing=SPACING)
    converted = tomostream("convert", folder / "wide.mrc", "-o", folder / "project/tomograms")
    assert converted.code == 0, converted.err
    return folder / "project"


def predict(project, out, *where):
    return tomostream(
        *(
            "predict",
            project / "tomograms",
            "--model",
            project / "model",
            "-o",
            out,
            "--block-size",
            BLOCK,
            "--threads",
            1,
            "--device",
            "cpu",
            *where,
        )
    )


def predict_and_pick(project, out, *where):
    done = predict(project, out / "scores", *where)
    assert done.code == 0, done.err
    done = tomostream("pick", out / "scores", "--radius", "4vox", "--count", 24, "-o", out / "picks", *where)
    assert done.code == 0, done.err
    return tree_bytes(out)


@pytest.fixture(scope="module")
def reference(project, tmp_path_factory):
    found = predict_and_pick(project, tmp_path_factory.mktemp("none"))
    assert sum(name.endswith(".csv") for name in found) == 3
    assert sum("/c/" in name for name in found) == 6  # shards
    return found


@pytest.mark.parametrize("way", [pytest.param(way, marks=pytest.mark.slurm if way == "slurm" else ()) for way in WAYS])
def test_scores_and_picks_have_the_same_bytes_wherever_they_are_computed(way, project, reference, tmp_path, request):
    if way == "slurm":
        request.getfixturevalue("slurm_is_up")
    known = request.getfixturevalue("scheduler")
    where = [text.format(address=known.address, file=known.file) for text in WAYS[way]]
    assert predict_and_pick(project, tmp_path, *where) == reference


def test_a_broken_tomogram_among_others_is_reported_and_the_others_are_done(project, reference, scheduler, tmp_path):
    stores = tmp_path / "tomograms"
    shutil.copytree(project / "tomograms", stores)
    write_mrc(tmp_path / "flat.mrc", np.zeros((40, 40, 40), np.float32), spacing=SPACING)
    assert tomostream("convert", tmp_path / "flat.mrc", "-o", stores).code == 0
    shutil.copytree(stores / "t1.ome.zarr", stores / "holes.ome.zarr")
    for shard in (stores / "holes.ome.zarr/0").rglob("*"):
        if shard.is_file() and shard.name != "zarr.json":
            shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    for shard in (stores / "holes.ome.zarr/1").rglob("*"):
        if shard.is_file() and shard.name != "zarr.json":
            shard.write_bytes(b"")
    done = tomostream(
        *("predict", stores, "--model", project / "model", "-o", tmp_path / "scores", "--block-size", BLOCK, "--threads", 1),
        *("--device", "cpu", "--scheduler", scheduler.address),
    )
    assert done.code == 3, done.err
    assert "2 of 5 inputs failed" in done.message
    assert "'flat' is constant" in done.message
    assert "holes" in done.message
    made = tree_bytes(tmp_path / "scores")
    whole = {name.removeprefix("scores/"): content for name, content in reference.items() if name.startswith("scores/")}
    assert {name: content for name, content in made.items() if not name.startswith("holes")} == whole


def test_a_worker_killed_in_the_midst_leaves_the_same_bytes(project, reference, tmp_path):
    killed = []

    def kill_a_worker():
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            ledgers = [path.read_text() for path in tmp_path.glob("scores/*.partial/ledger.jsonl")]
            if any('"shard"' in text for text in ledgers):
                for child in psutil.Process().children(recursive=True):
                    if "spawn_main" in " ".join(child.cmdline()) and not child.children():
                        killed.append(child.pid)
                        os.kill(child.pid, signal.SIGKILL)
                        return

    watcher = threading.Thread(target=kill_a_worker)
    watcher.start()
    done = predict(project, tmp_path / "scores", "--cluster", "local", "--workers", "2")
    watcher.join()
    assert done.code == 0, done.err
    assert killed
    whole = {name: content for name, content in reference.items() if name.startswith("scores/")}
    assert tree_bytes(tmp_path) == whole


def test_what_workers_keep_is_loaded_once_each_and_freed_at_the_end(scheduler, tmp_path):
    load = cluster_tasks.CountedLoad(str(tmp_path))
    with open_pool(Resources(scheduler=scheduler.address), Progress()) as pool:
        assert dict(pool.run(cluster_tasks.square, [2])) == {2: 4}  # the worker is there
        with pool.keeping(load):
            assert len(list(Path(tmp_path).iterdir())) == 1  # before any task
            assert {result for _, result in pool.run(cluster_tasks.use_load, [load] * 8)} == {1}
        assert len(list(Path(tmp_path).iterdir())) == 1
        assert {result for _, result in pool.run(cluster_tasks.use_load, [load])} == {2}  # it was freed


def test_in_this_process_it_is_loaded_by_the_first_task_and_freed(tmp_path):
    load = cluster_tasks.CountedLoad(str(tmp_path))
    with open_pool(Resources(), Progress()) as pool, pool.keeping(load):
        assert {result for _, result in pool.run(cluster_tasks.use_load, [load] * 3)} == {1}
    assert resident(load) == 2


def test_a_machine_of_another_kind_gives_its_tasks_back(project, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_scoring, "machine_environment", lambda device: (("device", "another kind"),))
    done = predict(project, tmp_path / "scores")
    assert done.code == 2
    assert "another kind" in done.message
    assert "the scores of 't1' come from" in done.message
    assert not list(tmp_path.glob("scores/*.zarr"))
