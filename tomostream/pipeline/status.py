"""`status`: how far is a run?  Read from the project folder, from any shell; writes nothing and waits for nothing.

1. The tomograms come from the resolved configuration or, if its inputs can't be seen from here, from the results so far.
2. Each stage of a tomogram is `done` (the result exists), `running` or `stopped` with a number of finished shards (from the ledger of
   the unfinished store), `failed` (it failed in the last run and was not done later), or `pending`.
3. A run is at work if something holds the lock of the project folder; the lock ends with the process.
4. Pace and time left of the current stage come from the tomograms and shards done since it began.

Limits: shards that an earlier run finished count in the pace of a resumed stage; the project must be on a file system of this machine;
a run on another machine is seen only through a shared file system that supports locks.
"""

from __future__ import annotations

import datetime
import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tomostream.config import load_configuration
from tomostream.errors import InputError, TomostreamError
from tomostream.learn.training_files import METRICS_NAME, NEXT_NAME
from tomostream.pipeline.journal import Event
from tomostream.pipeline.run_history import failures_in, last_run
from tomostream.project import RUN_LOCK, Project, input_paths, is_mrc
from tomostream.remote.path_kinds import Kind, Wanted, instead, kind_at
from tomostream.remote.places import RemotePath
from tomostream.stages.prediction.candidates import work_place
from tomostream.store.ledger import LEDGER_NAME
from tomostream.store.local_build import local_layout
from tomostream.store.zarr_opening import PARTIAL_SUFFIX
from tomostream.strategies.model_folder import RECORD_NAME, has_model
from tomostream.strategies.training_progress import TrainingProgress, last_step, metrics_of, training_progress

STAGES = ("convert", "predict", "pick")


@dataclass(frozen=True, slots=True)
class Progressed:
    """State of one stage of one tomogram: `done`, `running`, `stopped`, `failed`, `pending` or `-` (nothing to do)."""

    state: str
    shards_done: int = 0
    shards: int = 0

    def __str__(self) -> str:
        return f"{self.state} {self.shards_done}/{self.shards}" if self.shards else self.state


@dataclass(frozen=True, slots=True)
class RunStatus:
    """State of a run."""

    project: str
    is_running: bool
    owner: str | None  # the process that holds the project, while it runs
    stage: str | None  # the last one that began
    model: str  # done, training, stopped or pending
    steps: int  # training steps done at the end of the last epoch
    tomograms: dict[str, dict[str, Progressed]]
    failures: dict[str, str]
    is_evaluated: bool
    per_minute: float | None  # tomograms per minute in the current stage
    seconds_left: float | None
    last_event: str | None  # time of the journal's last event
    has_started: bool = True  # whether the project was ever run
    retries: int = 0  # tasks given to another worker since the run began
    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # tomograms by stage and state
    is_finished: bool = False  # whether nothing is left to do
    made: list[str] = field(default_factory=list)  # what a finished run leaves, in words
    training: TrainingProgress | None = None  # of a model that is in training, or whose training was stopped
    replaces: bool = False  # whether a model of other settings serves until that one is whole


def read_status(folder: Path) -> RunStatus:
    """Read the state of a run from its project folder, or from the project folder of a configuration file.

    Raises
    ------
    InputError
        If there is no such folder, or its configuration can't be read.
    """
    if folder.is_file() and kind_at(folder) in (Kind.CONFIGURATION, Kind.FILE):
        configured = Project(load_configuration(folder).project).folder
        if isinstance(configured, RemotePath):
            raise InputError(f"{configured}: status is available for projects on this machine's file systems only")
        folder = configured
    elif not folder.is_dir() or kind_at(folder) in (Kind.STORE, Kind.MODEL):
        raise InputError(f"{instead(folder, Wanted.PROJECT) or folder}; or give its configuration")
    project = Project(folder)
    resolved = Path(folder) / "resolved.yaml"
    if not resolved.is_file():  # a run writes this first
        return _never_started(folder)
    try:
        configuration = yaml.safe_load(resolved.read_text(encoding="utf-8"))
        species = [str(one["name"]) for one in configuration["species"]]
        patterns = [str(pattern) for pattern in configuration["tomograms"]]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(f"{resolved} can't be read: {' '.join(str(error).split())}") from None
    owner = _owner(Path(folder))
    events = last_run(Path(folder))
    failures = failures_in(events)
    try:
        names = {name: is_mrc(path) for name, path in input_paths(patterns).items()}
    except TomostreamError:
        names = dict.fromkeys(_names_made(Path(folder), species), True)
    tomograms: dict[str, dict[str, Progressed]] = {}
    for name, is_converted in names.items():
        states = {
            "convert": _store(Path(str(project.tomograms)) / f"{name}.ome.zarr", owner is not None) if is_converted else Progressed("-"),
            "predict": _all_of(
                [_score_map(_scores(Path(folder), species, kind) / f"{name}.ome.zarr", owner is not None) for kind in species]
            ),
            "pick": Progressed("done" if (Path(folder) / "picks" / f"{name}.csv").is_file() else "pending"),
        }
        if name in failures:
            states = {
                stage: Progressed("failed") if found.state in ("pending", "running", "stopped") else found
                for stage, found in states.items()
            }
        tomograms[name] = states
    stage = next((str(event["stage"]) for event in reversed(events) if event["event"] == "stage"), None)
    model, training = _model(Path(folder) / "model", owner is not None)
    is_finished = owner is None and model == "done" and bool(tomograms) and not failures and _is_all_done(tomograms)
    rate, left = _pace(events, stage, tomograms) if owner is not None else (None, None)
    return RunStatus(
        project=str(folder),
        is_running=owner is not None,
        owner=owner,
        stage=stage,
        model=model,
        steps=_steps_done(Path(folder) / "model") if training is None else training.step,
        tomograms=tomograms,
        failures=failures,
        is_evaluated=(Path(folder) / "evaluation.json").is_file(),
        per_minute=rate,
        seconds_left=left,
        last_event=events[-1]["time"] if events else None,
        retries=sum(event["event"] == "retried" for event in events),
        counts={name: _counted([states[name] for states in tomograms.values()]) for name in STAGES},
        is_finished=is_finished,
        made=_made(Path(folder), len(tomograms) * len(species), list(tomograms)) if is_finished else [],
        training=training,
        replaces=training is not None and has_model(Path(folder) / "model"),
    )


def _is_all_done(tomograms: dict[str, dict[str, Progressed]]) -> bool:
    return all(state.state in ("done", "-") for states in tomograms.values() for state in states.values())


def _made(folder: Path, maps: int, names: list[str]) -> list[str]:
    """What a finished run has made, in words."""
    picks = sum(len((folder / "picks" / f"{name}.csv").read_text(encoding="utf-8").splitlines()) - 1 for name in names)
    found = [
        f"the model {folder / 'model'}",
        f"{maps} score {'map' if maps == 1 else 'maps'} in {folder / 'scores'}",
        f"{picks} picks of {len(names)} {'tomogram' if len(names) == 1 else 'tomograms'} in {folder / 'picks'}",
    ]
    return found + [f"{folder / name}" for name in ("evaluation.json", "report.html") if (folder / name).is_file()]


def _never_started(folder: Path) -> RunStatus:
    return RunStatus(
        project=str(folder), is_running=False, owner=None, stage=None, model="pending", steps=0, tomograms={}, failures={},
        is_evaluated=False, per_minute=None, seconds_left=None, last_event=None, has_started=False,
    )  # fmt: skip


def _owner(folder: Path) -> str | None:
    """Return the process that holds the project's lock, as it described itself; None if there is none."""
    try:
        descriptor = os.open(folder / RUN_LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(descriptor, 4096).decode(errors="replace").strip() or "another process"
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(descriptor)
    return None


def _scores(folder: Path, species: list[str], kind: str) -> Path:
    return Path(str(Project(folder).score_folder(kind, len(species))))


def _score_map(path: Path, is_running: bool) -> Progressed:
    """State of a score map; if only candidates are kept, that of the full map in the work folder while it is unfinished."""
    found, work = _store(path, is_running), _store(Path(str(work_place(path))), is_running)
    if found.state == "done" or work.state == "pending":
        return found
    return work if work.state != "done" else Progressed("running" if is_running else "stopped")


def _store(path: Path, is_running: bool) -> Progressed:
    if path.is_dir():
        return Progressed("done")
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    try:
        layout = local_layout(partial)
        lines = (partial / LEDGER_NAME).read_bytes().splitlines()
    except (OSError, ValueError, KeyError, TypeError):
        return Progressed("pending")
    if layout is None:
        return Progressed("pending")
    total = 1
    for n, edge in zip(layout.levels[0].shape, layout.levels[0].shard, strict=True):
        total *= -(-n // edge)
    return Progressed("running" if is_running else "stopped", len({line for line in lines if line.startswith(b'{"shard"')}), total)


def _all_of(parts: list[Progressed]) -> Progressed:
    """Combine the states of the score maps of several species into one."""
    order = ("running", "stopped", "pending", "done")
    worst = min(parts, key=lambda part: order.index(part.state))
    return Progressed(worst.state, min(part.shards_done for part in parts if part.shards) if worst.shards else 0, worst.shards)


def _names_made(folder: Path, species: list[str]) -> list[str]:
    places = [folder / "tomograms", *(_scores(folder, species, kind) for kind in species)]
    names = {path.name.removesuffix(PARTIAL_SUFFIX).removesuffix(".ome.zarr") for where in places for path in where.glob("*.ome.zarr*")}
    return sorted(names | {path.stem for path in (folder / "picks").glob("*.csv")})


def _model(folder: Path, is_running: bool) -> tuple[str, TrainingProgress | None]:
    """Return the state of the model; and how far its training is, unless it is done or has not begun."""
    is_replaced = (folder / NEXT_NAME / RECORD_NAME).is_file()
    if has_model(folder) and not is_replaced:
        return "done", None
    if (folder / RECORD_NAME).is_file() or is_replaced:
        return "training" if is_running else "stopped", training_progress(folder)
    return "pending", None


def _steps_done(folder: Path) -> int:
    """Steps of a finished training; of several models, of the last."""
    tables = list(metrics_of(folder / METRICS_NAME).values())
    return last_step(tables[-1]) if tables else 0


def _counted(states: list[Progressed]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in states:
        found[one.state] = found.get(one.state, 0) + 1
    return found


def _pace(events: list[Event], stage: str | None, tomograms: dict[str, dict[str, Progressed]]) -> tuple[float | None, float | None]:
    """Return the pace of the current stage in tomograms per minute, and the seconds until its end; None if not known."""
    if stage not in STAGES:
        return None, None
    last = max(number for number, event in enumerate(events) if event["event"] == "stage")
    began, since = events[last], events[last:]  # picks made during scoring must not count in the pace of the stage `pick`
    seconds = (datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(began["time"])).total_seconds()
    finished = sum(1 for event in since if event["event"] == "done" and event.get("stage") == stage)
    parts = [found[stage] for found in tomograms.values()]
    under_way = sum(part.shards_done / part.shards for part in parts if part.state == "running")
    if seconds <= 0 or finished + under_way == 0:
        return None, None
    rate = (finished + under_way) / seconds
    waiting = sum(part.state in ("pending", "running") for part in parts) - under_way
    return 60 * rate, waiting / rate
