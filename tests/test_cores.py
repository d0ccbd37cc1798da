"""The default of `--threads`: the cores of the affinity, or of the control group's quota if that is less."""

import os
import subprocess
import sys

import pytest

from tomostream import cores
from tomostream.cli.main import keep_to_the_quota
from tomostream.cluster import Resources, task_threads
from tomostream.cores import cores_here, quota_of


def groups(folder, own, files):
    """Make the files of control groups."""
    (folder / "own").write_text(own)
    for name, text in files.items():
        (folder / "mounted" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "mounted" / name).write_text(text)
    return folder / "own", folder / "mounted"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        (
            "0::/a/b\n",
            {"cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n", "a/b/cpu.max": "800000 100000\n"},
            2.0,
        ),  # the least counts
        ("0::/docker/123\n", {"cpu.max": "400000 100000\n"}, 4.0),  # mounted as the container's root
        ("3:cpu,cpuacct:/x\n0::/\n", {"cpu,cpuacct/x/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"}, 0.5),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("0::/\n", {"cpu.max": "nonsense\n"}, None),
        ("", {}, None),
    ],
)
def test_quotas_of_both_versions_of_control_groups(tmp_path, own, files, expected):
    assert quota_of(*groups(tmp_path, own, files)) == expected


def test_no_control_groups_are_no_quota(tmp_path):
    assert quota_of(tmp_path / "absent", tmp_path) is None


@pytest.mark.parametrize(("quota", "affinity", "expected"), [(None, 6, 6), (2.5, 6, 2), (0.5, 6, 1), (8.0, 6, 6)])
def test_threads_by_default_are_the_lesser_of_affinity_and_quota(monkeypatch, quota, affinity, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)))
    monkeypatch.setattr(cores, "own_quota", lambda: quota)
    assert cores_here() == expected
    assert task_threads(Resources()) == expected
    assert task_threads(Resources(kind="local", workers=2)) == max(1, expected // 2)
    assert task_threads(Resources(threads=5)) == 5


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_process_on_one_core_has_one_thread():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from tomostream.cluster import Resources, task_threads; print(task_threads(Resources()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["1"]


def test_libraries_keep_to_a_quota_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(cores, "own_quota", lambda: 3.0)
    monkeypatch.setattr("tomostream.cli.main.own_quota", lambda: 3.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    keep_to_the_quota()
    assert os.environ["OMP_NUM_THREADS"] == "7"
    monkeypatch.delenv("OMP_NUM_THREADS")
    keep_to_the_quota()
    assert os.environ.pop("OMP_NUM_THREADS") == "3"
    monkeypatch.setattr("tomostream.cli.main.own_quota", lambda: None)
    keep_to_the_quota()
    assert "OMP_NUM_THREADS" not in os.environ
