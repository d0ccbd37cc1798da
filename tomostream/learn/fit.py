"""Train a network in epochs: take steps, recalibrate, validate, keep the best weights, save.

1. Resume from the checkpoint if there is one with the same fingerprint.
2. An epoch is at most `steps_per_epoch` steps of one batch each (`steps`).
3. At its end a copy of the network gets batch-norm statistics of uniform crops.  The copy is validated, and kept if it is the best so far.
4. The checkpoint and `metrics.csv` are replaced, so a kill loses at most the current epoch.

The same batches, settings, thread count, processor and library versions give the same weights, bit for bit, interrupted or not.  The
exception is a run limited by `minutes`, whose number of steps depends on the clock.

With several processes (`processes`), each takes a batch of its own in every step; the step equals that of one process with all these
batches together.  Only the first process reads and writes the folder, validates, and looks at the clock.

Limits: one device per process; the best epoch's weights are kept in memory beside the network's.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tomostream.fingerprint import Fingerprint
from tomostream.learn.batch import Batch
from tomostream.learn.checkpoint import Row, TrainingState, Weights, load_checkpoint, save_checkpoint
from tomostream.learn.objectives import Criterion
from tomostream.learn.precision import autocast
from tomostream.learn.processes import Processes
from tomostream.learn.recalibration import recalibrated
from tomostream.learn.steps import Clock, FitSettings, Stepper
from tomostream.learn.training_files import METRICS_NAME
from tomostream.remote.atomic_files import write_atomically


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a network is trained on, and how it is validated.

    Parameters
    ----------
    batches
        Returns this process's batches of an epoch, given its number (from 0).  It must be a pure function for an exact resume.
    objective
        Evaluated on all processes' batches together; see `Objective.processes`.
    validate
        Returns metrics of the network (evaluation mode, no gradients, precision and device of the training).  The key `criterion` decides
        which epoch is best: larger is better.  Called in the first process only.
    recalibrate
        Returns batches (n, 1, z, y, x) of uniform crops, the same at every call.  Called in the first process only.
    """

    batches: Callable[[int], Iterable[Batch]]
    objective: Criterion
    validate: Callable[[nn.Module], dict[str, float]]
    recalibrate: Callable[[], Iterable[torch.Tensor]]


@dataclass(frozen=True, slots=True)
class FitResult:
    """The outcome of training."""

    best_epoch: int  # counted from 1
    rows: list[Row]  # the metrics, one row per epoch
    steps: int  # done in all
    seconds: float  # used, over all runs
    precision: str  # float32 or bf16


def fit(
    network: nn.Module,
    lesson: Lesson,
    settings: FitSettings,
    *,
    folder: Path | None,
    fingerprint: Fingerprint,
    report: Callable[[int, str], None],
    processes: Processes,
) -> FitResult:
    """Train `network` in place; at the end it is in evaluation mode and has the best epoch's weights.

    Parameters
    ----------
    folder
        Gets `checkpoint.pt` and `metrics.csv`; None in all processes but the first.
    fingerprint
        JSON values that identify the run (input, network, seeds); the settings are added to it.
    report
        Called with the number of steps done since the last call and a short note.
    processes
        The processes that train together.

    Raises
    ------
    ExistsError
        If the folder's checkpoint is of another run.
    InputError
        If a setting is wrong or the folder can't be written.
    TomostreamError
        If the loss is not finite, or an epoch has no batch.
    PeerEndedError
        If another process ended.
    """
    stepper = Stepper(network, lesson.objective, settings, processes, report)
    identity = fingerprint | {"fit": asdict(settings) | {"precision": stepper.precision, "device": stepper.device.type}}
    state = processes.from_first(lambda: None if folder is None else load_checkpoint(folder, identity))
    if state is not None:
        network.load_state_dict(state.weights)
        stepper.optimiser.load_state_dict(state.optimiser)
        report(state.step, f"resumed after epoch {state.epoch}")
    clock = Clock(settings, 0.0 if state is None else state.elapsed, processes)
    # all other layers are deterministic by themselves; cuDNN's convolutions must be told
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        while state is None or not clock.is_over(state.step):
            rows = [] if state is None else state.rows
            step, row = stepper.epoch(lesson.batches(len(rows)), rows, clock)
            candidate, metrics = processes.from_first(lambda: _examined(network, lesson, stepper))
            state = _after(state, network, stepper.optimiser, candidate, step=step, row=row | metrics, elapsed=clock.elapsed)
            if folder is not None:
                save_checkpoint(folder, state, identity)
                write_metrics(folder / METRICS_NAME, state.rows)
            report(0, f"epoch {state.epoch}: criterion {state.rows[-1]['criterion']:.3f}, best epoch {state.best_epoch}")
    if folder is not None:
        write_metrics(folder / METRICS_NAME, state.rows)  # a kill may have come between the checkpoint and the table
    network.load_state_dict(state.best_weights)
    network.eval()
    return FitResult(state.best_epoch, state.rows, state.step, state.elapsed, stepper.precision)


def _examined(network: nn.Module, lesson: Lesson, stepper: Stepper) -> tuple[Weights, Row]:
    """Return the weights with recalibrated batch-norm statistics, and the metrics of a network with them."""
    with torch.no_grad(), autocast(stepper.device, stepper.precision):
        candidate = recalibrated(network, lesson.recalibrate(), device=stepper.device)
        return _on_cpu(candidate.state_dict()), lesson.validate(candidate)


def _after(
    before: TrainingState | None,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    candidate: Weights,
    *,
    step: int,
    row: Row,
    elapsed: float,
) -> TrainingState:
    """Return the state at the end of an epoch; `candidate` becomes the best weights if the epoch's criterion is the best so far."""
    rows = [*(() if before is None else before.rows), row]
    is_best = before is None or _key(row["criterion"]) > _key(before.rows[before.best_epoch - 1]["criterion"])
    return TrainingState(
        epoch=len(rows),
        step=step,
        elapsed=elapsed,
        weights=_on_cpu(network.state_dict()),
        optimiser=optimiser.state_dict(),
        best_weights=candidate if is_best or before is None else before.best_weights,
        best_epoch=len(rows) if is_best or before is None else before.best_epoch,
        rows=rows,
    )


def write_metrics(path: Path, rows: list[Row]) -> None:
    """Write a CSV table with one row per epoch; a cell is empty if the epoch did not have that term.

    Raises
    ------
    InputError
        If the file can't be written.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(names)] + [",".join(f"{row[name]:.9g}" if name in row else "" for name in names) for row in rows]
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def _key(criterion: float) -> float:
    """Return a sort key by which NaN, a validation without a result, is the worst."""
    return -math.inf if math.isnan(criterion) else criterion


def _on_cpu(weights: dict[str, Any]) -> Weights:
    return {name: value.detach().to("cpu", copy=True) for name, value in weights.items()}
