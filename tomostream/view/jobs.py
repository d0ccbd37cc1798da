"""Which commands run in the background, how far are they, and what did they print?

A job is a command of `tomostream` in a process of its own, in a process group of its own, so that an interrupt of the server ends it once
and orderly.  Its output goes into files in the project (`view/KIND.out`, `view/KIND.err`); how far it is is read from there, and from
the log of the run.  A job that was stopped resumes when it is started again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict, cast

from tomostream.errors import BusyError
from tomostream.strategies.training_progress import training_progress
from tomostream.view.messages import JobAnswer, JobProgress, JobState
from tomostream.view.workspace import Workspace

Kind = Literal["convert", "run", "candidates", "suggest", "export"]
_PACKAGE = str(Path(__file__).parents[2])  # the same tomostream as this one
_TRAINING = "train"  # the task of taking steps
_LINES = 12  # of the output that are shown
_TAIL_BYTES = 65536
_ERROR = "tomostream: error: "
_GRACE_SECONDS = 10.0  # between the request to end and the end by force


class _Followed(TypedDict, total=False):
    """An event of a run's journal, as far as the page shows it."""

    event: str
    stage: str
    stages: list[str]
    tomogram: str
    tomograms: int | None
    why: str
    title: str


@dataclass(slots=True)
class Job:
    """A command that runs or ran.

    Parameters
    ----------
    kind
        What it is for.
    about
        What it works on, for the page: a tomogram's name, a format.
    """

    kind: str
    about: str
    process: subprocess.Popen[bytes]
    folder: Path
    started: float
    log: Path
    log_start: int  # bytes of the run's log that were there before
    ended: float | None = None
    is_stopped: bool = False
    _log_read: int = 0
    _events: list[_Followed] = field(default_factory=list)

    @property
    def is_running(self) -> bool:
        """Whether its process is alive."""
        running = self.process.poll() is None
        if not running and self.ended is None:
            self.ended = time.time()
        return running

    @property
    def state(self) -> JobState:
        """`running`, `done`, `partly` (some inputs failed), `stopped` or `failed`."""
        if self.is_running:
            return "running"
        code = self.process.returncode
        if self.is_stopped or code in (130, 143, -signal.SIGTERM, -signal.SIGKILL):
            return "stopped"
        ends: dict[int, JobState] = {0: "done", 3: "partly"}
        return ends.get(code, "failed")

    @property
    def lines(self) -> list[str]:
        """The last lines that it printed."""
        return [line[:400] for line in self._printed()[-_LINES:]]

    def _printed(self) -> list[str]:
        """The lines in the last kilobytes that it printed."""
        try:
            with (self.folder / f"{self.kind}.err").open("rb") as handle:
                handle.seek(max(0, handle.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = handle.read().decode(errors="replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()]

    def why_failed(self, name: str) -> str:
        """Why an input of this name failed, in the command's words: its row in the table of failures, or the one error."""
        printed = self._printed()
        rows = [line.strip() for line in printed if line.startswith(f"  {name}: ")]
        errors = [line for line in printed if line.startswith(_ERROR)]
        return (rows or errors or printed or ["it said nothing"])[-1].removeprefix(_ERROR).removeprefix(f"{name}: ")

    def to_json(self) -> JobAnswer:
        """What the page shows."""
        state = self.state
        return {
            "kind": self.kind, "about": self.about, "state": state, "lines": self.lines,
            "seconds": round((self.ended or time.time()) - self.started, 1), "progress": self._progress() if self.kind == "run" else None,
        }  # fmt: skip

    def _progress(self) -> JobProgress:
        """Return the current stage, its finished tomograms, and the task that is followed."""
        self._read_log()
        stage: str | None = None
        stages: list[str] = []
        tomograms: int | None = None
        done: dict[str, set[str]] = {}  # a stage may tell of a tomogram twice: when it is made, and when it is found made
        failed: dict[str, str] = {}
        open_titles: list[str] = []
        for event in self._events:
            kind = event["event"]
            if kind == "run":
                stages, tomograms = list(event.get("stages", [])), event.get("tomograms")
            elif kind == "stage":
                stage, open_titles = str(event["stage"]), []
            elif kind == "done":
                done.setdefault(str(event.get("stage")), set()).add(str(event.get("tomogram")))
            elif kind == "failed":
                failed[str(event.get("tomogram"))] = str(event.get("why"))
            elif kind == "start":
                open_titles.append(str(event.get("title")))
            elif kind == "finish" and event.get("title") in open_titles:
                open_titles.remove(str(event["title"]))
        return {
            "stage": stage, "stages": stages, "tomograms": tomograms, "done": {name: len(names) for name, names in done.items()}, "failed": failed,
            "doing": self._in_words(open_titles[-1]) if open_titles else None,
        }  # fmt: skip

    def _in_words(self, title: str) -> str:
        """A task, and of a training how far it is: `train fas, 2 of 3, step 120 of 400`."""
        return f"{title} {training_progress(self.log.parent / 'model')}".rstrip() if title == _TRAINING else title

    def _read_log(self) -> None:
        try:
            with self.log.open("rb") as handle:
                handle.seek(self.log_start + self._log_read)
                fresh = handle.read()
        except OSError:
            return
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._log_read += len(whole)
        for line in whole.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and event.get("event") in ("run", "stage", "done", "failed", "start", "finish"):
                self._events.append(cast(_Followed, event))


class Jobs:
    """Starts commands, one of each kind at a time."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._jobs: dict[str, Job] = {}

    def start(self, kind: Kind, arguments: Sequence[str], *, about: str = "") -> Job:
        """Start `tomostream ARGUMENTS`.

        Raises
        ------
        BusyError
            If a job of this kind is running.
        """
        known = self._jobs.get(kind)
        if known is not None and known.is_running:
            raise BusyError(
                f"'{kind}' is already running ({known.about or 'since ' + time.strftime('%H:%M:%S', time.localtime(known.started))})"
            )
        output, errors = self._workspace.own(f"{kind}.out"), self._workspace.own(f"{kind}.err")
        log = self._workspace.project / "log.jsonl"
        with output.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tomostream", *arguments],  # -P: no module is taken from the folder of the data
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                cwd=self._workspace.base,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [_PACKAGE, os.environ.get("PYTHONPATH")]))},
            )
        job = Job(kind, about, process, errors.parent, time.time(), log, log.stat().st_size if log.is_file() else 0)
        self._jobs[kind] = job
        return job

    def get(self, kind: str) -> Job | None:
        """The last job of a kind."""
        return self._jobs.get(kind)

    def stop(self, kind: str) -> None:
        """Ask a job to stop; its finished work stays."""
        job = self._jobs.get(kind)
        if job is not None and job.is_running:
            job.is_stopped = True
            _signal(job, signal.SIGTERM)

    def close(self) -> list[str]:
        """Stop all jobs; return the kinds that were running."""
        running = [job for job in self._jobs.values() if job.is_running]
        for job in running:
            self.stop(job.kind)
        until = time.monotonic() + _GRACE_SECONDS
        for job in running:
            try:
                job.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(job, signal.SIGKILL)
        return [job.kind for job in running]

    def to_json(self) -> list[JobAnswer]:
        """All jobs, for the page."""
        return [job.to_json() for job in self._jobs.values()]


def _signal(job: Job, number: signal.Signals) -> None:
    try:
        os.killpg(job.process.pid, number)
    except ProcessLookupError:
        return
