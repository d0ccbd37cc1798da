"""Tests that every queue must pass: the properties that the stages rely on."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from tomostream.catalogue import QUEUES, installed
from tomostream.cluster import Resources, checked, open_pool
from tomostream.cluster.job import run_job
from tomostream.cluster.queue import JobQueue, Queue
from tomostream.cluster.queues import job_queue_named, queue_named
from tomostream.config import configuration_from
from tomostream.errors import InputError, TomostreamError
from tomostream.pipeline.training import train_configured
from tomostream.progress import Progress
from tomostream.testing import queue_tasks
from tomostream.testing.small_project import make_project

_LONG = 120.0  # seconds to wait for anything


class _Heard(Progress):
    """Record the messages."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def say(self, text: str) -> None:
        self.texts.append(text)

    def warn(self, text: str) -> None:
        self.texts.append(text)


def _until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + _LONG
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
    return found


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class QueueTests:
    """Tests of a queue.  Subclass it as `TestMine`, and set `name`.

    Attributes
    ----------
    name
        The queue's name, as for `--cluster`.
    values
        Further resources that the queue needs, such as `walltime` or `options`.
    """

    name: ClassVar[str]
    values: ClassVar[dict[str, Any]] = {}

    @classmethod
    def _resources(cls, folder: Path, **values: Any) -> Resources:
        usual: dict[str, Any] = {"workers": 1, "threads": 1, "memory": 10**9, "log_folder": str(folder / "logs")}
        return checked(Resources(kind=cls.name, **(usual | cls.values | values)))

    # its entry point

    def test_it_is_installed_and_speaks_the_protocol(self) -> None:
        assert self.name in installed(QUEUES)
        queue = queue_named(self.name)
        assert isinstance(queue, Queue)
        assert queue.name == self.name
        assert queue.summary
        assert "\n" not in queue.summary

    def test_being_asked_for_imports_neither_dask_nor_torch(self) -> None:
        code = f"import sys; from tomostream.cluster.queues import queue_named as q; q({self.name!r}); sys.exit(bool({{'torch', 'distributed'}} & set(sys.modules)))"
        assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0

    def test_a_process_has_a_core_at_least(self, tmp_path: Path) -> None:
        queue = queue_named(self.name)
        assert queue is not None
        assert queue.task_threads(self._resources(tmp_path, threads=None)) >= 1

    # workers

    def test_tasks_run_in_other_processes_and_come_back(self, tmp_path: Path) -> None:
        with open_pool(self._resources(tmp_path, workers=2), Progress()) as pool:
            results = dict(pool.run(queue_tasks.where, range(8)))
            outcomes = dict(pool.outcomes(queue_tasks.refuse_odd, range(4)))
        assert sorted(results) == list(range(8))
        assert (socket.gethostname(), os.getpid()) not in results.values()
        assert [outcomes[0], outcomes[2]] == [0, 2]
        assert all(isinstance(outcomes[odd], InputError) for odd in (1, 3))

    def test_a_task_whose_worker_dies_is_run_again(self, tmp_path: Path) -> None:
        with open_pool(self._resources(tmp_path), Progress()) as pool:
            assert [done for _, done in pool.run(queue_tasks.die_once, [str(tmp_path / "died")])] == ["done"]

    @pytest.mark.parametrize("ends_by_an_error", [False, True])
    def test_its_workers_are_gone_when_it_is_left(self, tmp_path: Path, ends_by_an_error: bool) -> None:
        class LeavingError(Exception):
            pass

        found: list[tuple[str, int]] = []
        try:
            with open_pool(self._resources(tmp_path), Progress()) as pool:
                found += [where for _, where in pool.run(queue_tasks.where, range(2))]
                if ends_by_an_error:
                    raise LeavingError
        except LeavingError:
            pass
        _until(lambda: not any(host == socket.gethostname() and _is_alive(pid) for host, pid in found))


class JobQueueTests(QueueTests):
    """Tests of a queue that also runs commands as jobs."""

    @classmethod
    def _queue(cls) -> JobQueue:
        queue = job_queue_named(cls.name)
        assert queue is not None, "it lacks a part of JobQueue"
        return queue

    def _run(self, folder: Path, *command: str, heard: Progress, mark: Callable[[], object] = lambda: None) -> None:
        def made(logs: Path, number: int) -> Sequence[str]:
            return ["bash", "-c", *command]

        name = f"tests-{folder.name}"
        run_job(made, self._queue(), self._resources(folder), name=name, processes=1, gpus=0, progress=heard, mark=mark)

    def test_a_commands_lines_are_told_and_its_end_is_noticed(self, tmp_path: Path) -> None:
        heard = _Heard()
        self._run(tmp_path, 'echo one "$PWD"; echo two; echo three >&2', heard=heard)
        assert [text for text in heard.texts if not text.startswith(f"{self._queue().title}: ")] == [f"one {Path.cwd()}", "two", "three"]

    def test_an_error_of_the_command_is_raised_once_in_its_words(self, tmp_path: Path) -> None:
        with pytest.raises(TomostreamError, match=r"^no such thing$"):
            self._run(tmp_path, "echo 'tomostream: error: no such thing'; echo Traceback; exit 2", heard=_Heard())

    def test_a_job_that_is_ended_from_outside_goes_on_in_another(self, tmp_path: Path) -> None:
        heard, queue, count = _Heard(), self._queue(), tmp_path / "count"

        def end_the_first() -> None:
            _until(count.exists)
            [job] = re.findall(rf"{re.escape(queue.title)}: job (\S+) \(", "\n".join(heard.texts))
            assert job in (queue.states([job]) or {})
            queue.cancel(job)

        other = threading.Thread(target=end_the_first)
        other.start()
        script = f"echo x >> {count}; [ $(wc -l < {count}) = 2 ] || sleep {_LONG}"
        self._run(tmp_path, script, heard=heard, mark=lambda: count.read_text() if count.exists() else "")
        other.join()
        assert count.read_text() == 2 * "x\n"
        assert sum("submitting another" in text for text in heard.texts) == 1

    def test_leaving_ends_the_job(self, tmp_path: Path) -> None:
        class Leaving(_Heard):
            def say(self, text: str) -> None:
                super().say(text)
                if text == "started":
                    raise KeyboardInterrupt

        heard, queue = Leaving(), self._queue()
        with pytest.raises(KeyboardInterrupt):
            self._run(tmp_path, f"echo started; sleep {_LONG}", heard=heard)
        [job] = re.findall(rf"{re.escape(queue.title)}: job (\S+) \(", "\n".join(heard.texts))
        _until(lambda: job not in (queue.states([job]) or {}))

    def test_a_training_as_a_job_leaves_the_bytes_of_one_in_this_process(self, tmp_path: Path) -> None:
        steps = {"steps": 4, "steps_per_epoch": 2, "crop": 16, "batch": 2, "precision": "float32"}
        values = yaml.safe_load(make_project(tmp_path, memory="1GB", train=steps).read_text())
        own = {"threads": 1, "log_folder": str(tmp_path / "logs"), **self.values}
        for kind, more in (("none", {"threads": 1}), (self.name, own)):
            given = configuration_from(values | {"cluster": {"kind": kind, **more}}, kind)
            train_configured(given, out=tmp_path / kind, overwrite=False, progress=Progress())
        ours, theirs = ((tmp_path / kind / "model.safetensors").read_bytes() for kind in ("none", self.name))
        assert ours == theirs
