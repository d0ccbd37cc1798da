"""What a machine does to a run: a disk that is full, a GPU that is not there, a broken file among many, kills at random moments.

More of the kind: workers, jobs and clients that die in tests/cluster, kills of single stages in their own tests.
"""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from cli_runner import tomostream
from cluster_support import start, started_scheduler, stop
from mrc_files import random_volume, write_mrc
from repository import REPOSITORY
from small_project import SPACING, make_project, tree_bytes

from tomostream.pipeline.status import read_status
from tomostream.strategies.unet.model import UNetSettings, save_model
from tomostream.strategies.unet.network import ResidualUNet

pytestmark = pytest.mark.slow


class SmallDisk:
    """A disk of a few megabytes, in memory."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=64k", "tmpfs")

    def _mount(self, *options):
        done = subprocess.run(["mount", *options, str(self.folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a disk of its own needs root: {done.stderr.strip()}")

    def resize(self, size):
        self._mount("-o", f"remount,size={size}")

    def close(self):
        subprocess.run(["umount", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    if os.getuid() or shutil.which("mount") is None:
        pytest.skip("a disk of its own needs root, and mount")
    found = SmallDisk(tmp_path / "disk")
    yield found
    found.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network that was never trained: what it says does not matter here."""
    folder = tmp_path_factory.mktemp("model") / "model"
    settings = UNetSettings(
        channels=(4, 8), species=("ribosome",), radius_ang=(40.0,), level=0, spacing=SPACING, clip_sigma=3.0, label_shape="sphere",
        objective={"name": "nnpu"}, precision="float32", trained_on=(), version="0", batch_statistics="tomogram",
    )  # fmt: skip
    save_model(folder, ResidualUNet((4, 8), 1, seed=0), settings)
    return folder


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A tomogram whose scores are two shards, of 2 MB each."""
    folder = tmp_path_factory.mktemp("wide")
    write_mrc(folder / "wide.mrc", random_volume((8, 256, 512), "f4"), spacing=SPACING)
    done = tomostream("convert", folder / "wide.mrc", "-o", folder, "--shard", "8,256,256")
    assert done.code == 0, done.err
    return folder / "wide.ome.zarr"


def full(done):
    """The command stopped as it should where the disk is full."""
    assert done.code == 2, done.err
    assert "the disk is full" in done.message or "No space left on device" in done.message
    return done.message


def test_convert_on_a_full_disk_keeps_what_is_done_and_goes_on(disk, tmp_path, monkeypatch):
    source = write_mrc(tmp_path / "t.mrc", random_volume((64, 64, 64), "f4"), spacing=SPACING)
    options = ("--shard", "32", "--chunk", "16", "--codec", "none")
    disk.resize("600k")
    refused = tomostream("convert", source, "-o", disk.folder, *options)
    assert refused.code == 2
    assert "has 614 KB free" in refused.message  # before any work
    with monkeypatch.context() as patched:  # another process fills it after that look
        patched.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 0, 10**9))
        assert "t.ome.zarr.partial" in full(tomostream("convert", source, "-o", disk.folder, *options))
    assert not (disk.folder / "t.ome.zarr").exists()
    ledger = (disk.folder / "t.ome.zarr.partial" / "ledger.jsonl").read_text()
    assert 0 < ledger.count('"shard": [') < 8
    disk.resize("8m")
    for out in (disk.folder, tmp_path / "calm"):
        done = tomostream("convert", source, "-o", out, *options)
        assert done.code == 0, done.err
    assert tree_bytes(disk.folder) == tree_bytes(tmp_path / "calm")


def test_predict_on_a_full_disk_keeps_what_is_done_and_goes_on(disk, tmp_path, model, wide):
    command = ("predict", wide, "--model", model, "--block-size", "8,256,256", "--threads", 1, "--device", "cpu", "-o")
    disk.resize("3m")
    assert "wide.ome.zarr.partial" in full(tomostream(*command, disk.folder))
    assert not (disk.folder / "wide.ome.zarr").exists()
    assert (disk.folder / "wide.ome.zarr.partial" / "ledger.jsonl").read_text().count('{"shard"') == 1
    disk.resize("16m")
    for out in (disk.folder, tmp_path / "calm"):
        done = tomostream(*command, out)
        assert done.code == 0, done.err
    assert tree_bytes(disk.folder) == tree_bytes(tmp_path / "calm")


def test_pick_on_a_full_disk_leaves_no_table_and_goes_on(disk, tmp_path, wide):
    command = ("pick", wide, "--radius", "4vox", "--count", 2000, "-o")
    full(tomostream(*command, disk.folder))
    assert not list(disk.folder.glob("*.csv"))
    disk.resize("4m")
    for out in (disk.folder, tmp_path / "calm"):
        done = tomostream(*command, out)
        assert done.code == 0, done.err
    assert tree_bytes(disk.folder) == tree_bytes(tmp_path / "calm")


def test_a_node_that_claims_a_gpu_and_has_none_is_told_before_any_work(tmp_path, model, wide):
    process, found = started_scheduler(tmp_path)
    options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1", "--resources", "GPU=1")
    worker = start(tmp_path, "worker", found.address, *options, name="worker")
    try:
        done = tomostream("predict", wide, "--model", model, "-o", tmp_path / "scores", "--device", "cuda", "--scheduler", found.address)
    finally:
        stop(worker, process)
    assert done.code == 2, done.err
    assert "cuda" in done.message
    assert not list((tmp_path / "scores").glob("*"))


def test_broken_tomograms_among_many_are_told_and_the_others_are_picked(tmp_path, model):
    path = make_project(tmp_path)
    values = yaml.safe_load(path.read_text())
    values |= {"tomograms": [str(tmp_path / "*.mrc")], "pick": {"count": 20}}
    path.write_text(yaml.safe_dump(values))
    for name in ("t3", "t4"):
        shutil.copy(tmp_path / "t1.mrc", tmp_path / f"{name}.mrc")
    (tmp_path / "torn.mrc").write_bytes((tmp_path / "t1.mrc").read_bytes()[:5000])
    write_mrc(tmp_path / "flat.mrc", np.zeros((40, 64, 56), np.float32), spacing=SPACING)
    shutil.copytree(model, tmp_path / "project" / "model")
    stages = [part for stage in ("convert", "stats", "predict", "pick") for part in ("--stage", stage)]
    for _ in range(2):  # the second time nothing is left to do but what is broken
        done = tomostream("run", path, *stages)
        assert done.code == 3, done.err
        assert "2 of 6 inputs failed" in done.message
        assert "torn: convert: " in done.message
        assert "truncated" in done.message
        assert "flat: predict: tomogram 'flat' is constant" in done.message
        assert sorted(table.stem for table in (tmp_path / "project/picks").glob("*.csv")) == ["t1", "t2", "t3", "t4"]
        found = read_status(tmp_path / "project")
        assert set(found.failures) == {"torn", "flat"}
        assert found.counts["pick"] == {"done": 4, "failed": 2}


def test_kills_of_scheduler_worker_and_client_leave_the_same_bytes(tmp_path):
    """One of the runs of bench/chaos.py."""
    command = [sys.executable, REPOSITORY / "bench" / "chaos.py", "--ways", "scheduler", "--runs", "1", "--kills", "3"]
    done = subprocess.run(
        [*command, "--folder", tmp_path / "chaos", "-o", tmp_path / "report"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = json.loads((tmp_path / "report.json").read_text())
    assert run["is_good"]
    assert run["kills"][:2] == ["scheduler", "worker"]  # the client too, unless it is done before
