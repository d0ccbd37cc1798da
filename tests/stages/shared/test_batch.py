import contextlib
import errno
from dataclasses import dataclass
from pathlib import Path

import pytest
from store_files import noise, write_foreign, write_store

from tomostream.cluster.resources import Resources
from tomostream.errors import BudgetError, BusyError, ExistsError, InputError, SomeFailedError
from tomostream.progress import Progress
from tomostream.remote.atomic_files import write_atomically
from tomostream.stages.shared import batch
from tomostream.stages.shared.batch import for_each, writable_folder
from tomostream.stages.shared.fingerprints import refuse_other_kind, tomogram_fingerprint
from tomostream.stages.shared.sidecar import is_made_by, record_made_by
from tomostream.store.naming import distinct_names
from tomostream.tomogram import open_tomogram


@dataclass(frozen=True)
class Task:
    name: str


class Heard(Progress):
    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


def tasks(*names):
    return [Task(name) for name in names]


def work(task, progress):
    if task.name.startswith("bad"):
        raise BudgetError(f"{task.name} is too large")
    if task.name == "busy":
        raise BusyError("another process has it")
    if task.name == "eio":
        raise OSError(errno.EIO, "Input/output error", "/dev/broken")
    if task.name == "bug":
        raise KeyError("bug")
    return task.name.upper()


def test_results_come_in_the_order_of_the_tasks():
    assert for_each(tasks("b", "a", "c"), work, progress=Progress()) == ["B", "A", "C"]


def test_a_worker_sends_its_messages_and_what_it_chose_and_the_client_repeats_them(monkeypatch):
    def telling(task, progress):
        progress.say("said")
        progress.record("chosen", map=task.name, picks=3)
        progress.record("shard", tomogram=task.name)  # which the client notes itself
        return 1

    outcome, notes = batch._recorded(telling, Task("a"))
    assert (outcome, notes) == (1, [("say", "said", {}), ("record", "chosen", {"map": "a", "picks": 3})])

    class Pool:
        def outcomes(self, work, tasks, is_grouped):
            return [(task, work(task)) for task in tasks]

    @contextlib.contextmanager
    def open_pool(resources, progress):
        yield Pool()

    monkeypatch.setattr(batch, "open_pool", open_pool)
    heard, kept = Progress(), []
    heard.record = lambda event, **facts: kept.append((event, facts))
    assert for_each(tasks("a"), telling, resources=Resources(kind="local"), progress=heard) == [1]
    assert ("chosen", {"map": "a", "picks": 3}) in kept


def test_some_failures_are_gathered_with_what_is_done():
    heard = Heard()
    with pytest.raises(SomeFailedError, match="2 of 4 inputs failed") as caught:
        for_each(tasks("a", "bad", "eio", "z"), work, progress=heard)
    assert caught.value.exit_code == 3
    assert caught.value.done == ["A", "Z"]
    assert [name for name, _ in caught.value.failures] == ["bad", "eio"]
    assert "/dev/broken: Input/output error" in caught.value.failures[1][1]
    assert [text.partition(":")[0] for text in heard.warnings] == ["bad", "eio"]


def test_the_only_tasks_error_is_the_stages_and_all_failures_keep_their_kind():
    with pytest.raises(BudgetError, match=r"^bad is too large$"):
        for_each(tasks("bad"), work, progress=Progress())
    with pytest.raises(BudgetError, match=r"all 2 inputs failed:\n  bad1: .*\n  bad2: ") as caught:
        for_each(tasks("bad1", "bad2"), work, progress=Progress())
    assert caught.value.exit_code == 2


def test_another_writer_and_a_bug_end_the_stage():
    with pytest.raises(BusyError):
        for_each(tasks("a", "busy", "c"), work, progress=Progress())
    with pytest.raises(KeyError):
        for_each(tasks("a", "bug"), work, progress=Progress())


def test_names_are_the_files_or_the_folders():
    assert distinct_names(["x/TS_1.mrc.gz", "https://host/b/TS_2.ome.zarr/"]) == {
        "TS_1": "x/TS_1.mrc.gz",
        "TS_2": "https://host/b/TS_2.ome.zarr/",
    }
    same = ["one/t.mrc", "two/t.mrc", "s3://bucket/three/t.ome.zarr"]
    assert list(distinct_names(same, from_folder=True)) == ["one", "two", "three"]
    with pytest.raises(InputError, match=r"one/t.mrc and two/t.mrc.*--name-from-folder"):
        distinct_names(same)
    with pytest.raises(InputError, match="no input"):
        distinct_names([])


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/below")):
        with pytest.raises(InputError, match="can't be made"):
            writable_folder(folder)
    assert writable_folder(tmp_path / "a" / "b").is_dir()


def test_a_result_is_made_by_its_fingerprint_until_either_changes(tmp_path):
    result = tmp_path / "r.csv"
    assert not is_made_by(result, {"a": 1})
    write_atomically(result, "one")
    record_made_by(result, {"a": 1})
    assert is_made_by(result, {"a": 1})
    assert not is_made_by(result, {"a": 2})
    result.write_text("two")
    assert not is_made_by(result, {"a": 1})
    result.unlink()
    assert not is_made_by(result, {"a": 1})


def test_a_failed_write_leaves_the_old_text_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "t.json"
    write_atomically(target, "old")

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left"):
        write_atomically(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_other_softwares_stores_are_told_apart_by_their_files(tmp_path, monkeypatch):
    path = write_foreign(tmp_path / "f.zarr", [noise(9, 9, 9)])
    first = tomogram_fingerprint(open_tomogram(path))
    monkeypatch.chdir(tmp_path)
    assert tomogram_fingerprint(open_tomogram("f.zarr")) == first
    chunk = next(file for file in (path / "0").rglob("*.*.*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes() + b"x")
    assert tomogram_fingerprint(open_tomogram(path)) != first


def test_a_store_is_replaced_only_by_its_own_kind(tmp_path):
    tomogram = write_store(tmp_path / "t.ome.zarr", noise(8, 8, 8))
    mask = write_store(tmp_path / "m.ome.zarr", noise(8, 8, 8), kind="labels")
    refuse_other_kind(tomogram, None)
    refuse_other_kind(mask, "labels")
    refuse_other_kind(tmp_path / "nothing", "labels")
    with pytest.raises(ExistsError, match="is a tomogram, which a label mask never replaces"):
        refuse_other_kind(tomogram, "labels")
    with pytest.raises(ExistsError, match="is a label mask, which a score map never replaces"):
        refuse_other_kind(mask, "scores")
