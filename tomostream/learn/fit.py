"""Train a network: steps, then recalibrate, validate, remember the best, save; again until the steps are done.

1. Resume from the checkpoint if there is one with the same fingerprint.
2. An epoch is at most `steps_per_epoch` batches, made in a background thread; each gives one AdamW step (bf16 by autocast where asked).
3. At its end a copy of the network gets batch-norm statistics of uniform crops; the copy is validated, and kept if it is the best so far.
4. The checkpoint and `metrics.csv` are replaced; a kill loses at most the epoch in flight.

The same batches, settings, thread count, processor and library versions give the same weights, bit for bit, killed or not.  The
exception is a run limited by `minutes`: how many steps fit in depends on the clock.

Several processes (`processes`) each take a batch of their own in every step, which is that of one process with all these batches
together.  The first of them alone reads and writes the folder, validates, and looks at the clock; the others follow.

Limits: one device per process; the best epoch's weights are kept in memory beside the network's.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tomostream.errors import InputError, TomostreamError
from tomostream.learn.batch import Batch
from tomostream.learn.checkpoint import Row, TrainingState, Weights, load_checkpoint, save_checkpoint
from tomostream.learn.objectives import Criterion
from tomostream.learn.precision import autocast, resolve_device, resolve_precision
from tomostream.learn.prefetch import prefetched
from tomostream.learn.processes import Processes
from tomostream.learn.recalibration import recalibrated
from tomostream.learn.schedule import Schedule, learning_rate
from tomostream.learn.shared_norm import with_shared_norms
from tomostream.learn.training_files import METRICS_NAME
from tomostream.remote.atomic_files import write_atomically

_PREFETCH = 2  # batches ready ahead of the step


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How long and how fast to train."""

    steps: int  # optimisation steps in all
    minutes: float | None  # stop after this time, if it comes first; such a run can't be repeated exactly
    steps_per_epoch: int  # steps between validations
    learning_rate: float  # at the start
    schedule: Schedule
    weight_decay: float  # of AdamW
    precision: str  # auto, float32 or bf16
    device: str  # auto, cpu or cuda

    def __post_init__(self) -> None:
        for name in ("steps", "steps_per_epoch", "learning_rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"train.{name} must be above zero, found {getattr(self, name)}")
        if self.minutes is not None and not self.minutes > 0:
            raise InputError(f"train.minutes must be above zero, found {self.minutes}")
        if self.weight_decay < 0:
            raise InputError(f"train.weight_decay must not be negative, found {self.weight_decay}")


@dataclass(frozen=True, slots=True)
class FitResult:
    """What training came to."""

    best_epoch: int  # counted from 1
    rows: list[Row]  # the metrics, one row per epoch
    steps: int  # done in all
    seconds: float  # used, over all runs
    precision: str  # float32 or bf16


def fit(  # noqa: PLR0913 (all that the one training loop of all networks needs)
    network: nn.Module,
    *,
    batches: Callable[[int], Iterable[Batch]],
    objective: Criterion,
    validate: Callable[[nn.Module], dict[str, float]],
    recalibrate: Callable[[], Iterable[torch.Tensor]],
    settings: FitSettings,
    folder: Path | None,
    fingerprint: dict[str, Any],
    report: Callable[[int, str], None],
    processes: Processes,
) -> FitResult:
    """Train `network` in place; it ends in evaluation mode with the best epoch's weights.

    Parameters
    ----------
    batches
        From the epoch's number (from 0) to its batches (of this process); a pure function of it, if the run is to be resumable exactly.
    objective
        Of all processes' batches together; see `Objective.processes`.
    validate
        From the network (evaluation mode, no gradients, the training's precision, on the training's device) to metrics; the key `criterion`
        decides which epoch is best: larger is better.
    recalibrate
        Gives batches (n, 1, z, y, x) of uniform crops, the same at every call.
    folder
        Gets `checkpoint.pt` and `metrics.csv`; None in all processes but the first.
    fingerprint
        What makes this run this run (input, network, seeds; JSON values); the settings are added to it.
    report
        Called with a number of steps done and a short note.
    processes
        That train together; `validate` and `recalibrate` are used by the first only.

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
    device = resolve_device(settings.device)
    precision = resolve_precision(settings.precision, device)
    identity = fingerprint | {"fit": asdict(settings) | {"precision": precision, "device": device.type}}
    network.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stubs know it in 4-D only
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    learner = with_shared_norms(network, processes)  # the same weights
    state = processes.from_first(lambda: None if folder is None else load_checkpoint(folder, identity))
    if state is not None:
        network.load_state_dict(state.weights)
        optimiser.load_state_dict(state.optimiser)
        report(state.step, f"resumed after epoch {state.epoch}")
    clock = _Clock(settings, 0.0 if state is None else state.elapsed, processes)

    def examined() -> tuple[Weights, Row]:
        with torch.no_grad(), autocast(device, precision):
            candidate = recalibrated(network, recalibrate(), device=device)
            return _on_cpu(candidate.state_dict()), validate(candidate)

    # our other layers are deterministic by themselves; cuDNN's convolutions only if asked
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        while state is None or not clock.is_over(state.step):
            rows = [] if state is None else state.rows
            learner.train()
            step, row = _train_epoch(learner, optimiser, batches(len(rows)), objective, clock, rows, device, precision, report)
            candidate, metrics = processes.from_first(examined)
            row |= metrics
            is_best = state is None or _key(row["criterion"]) > _key(state.rows[state.best_epoch - 1]["criterion"])
            rows = [*rows, row]
            state = TrainingState(
                epoch=len(rows),
                step=step,
                elapsed=clock.elapsed,
                weights=_on_cpu(network.state_dict()),
                optimiser=optimiser.state_dict(),
                best_weights=candidate if is_best or state is None else state.best_weights,
                best_epoch=len(rows) if is_best or state is None else state.best_epoch,
                rows=rows,
            )
            if folder is not None:
                save_checkpoint(folder, state, identity)
                write_metrics(folder / METRICS_NAME, rows)
            report(0, f"epoch {state.epoch}: criterion {row['criterion']:.3f}, best epoch {state.best_epoch}")
    if folder is not None:
        write_metrics(folder / METRICS_NAME, state.rows)  # a kill may have come between the checkpoint and the table
    network.load_state_dict(state.best_weights)
    network.eval()
    return FitResult(state.best_epoch, state.rows, state.step, state.elapsed, precision)


def _train_epoch(  # noqa: PLR0913 (likewise)
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: Iterable[Batch],
    objective: Criterion,
    clock: "_Clock",
    rows: list[Row],
    device: torch.device,
    precision: str,
    report: Callable[[int, str], None],
) -> tuple[int, Row]:
    """Take the steps of one epoch; return the steps done in all, and the epoch's mean terms."""
    settings = clock.settings
    first = int(rows[-1]["step"]) if rows else 0
    criteria = [row["criterion"] for row in rows]
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    step, rate = first, settings.learning_rate
    with prefetched(batches, limit=min(settings.steps_per_epoch, settings.steps - first), depth=_PREFETCH) as ready:
        for batch in ready:
            rate = learning_rate(settings.schedule, full=settings.learning_rate, progress=clock.progress(step), criteria=criteria)
            for group in optimiser.param_groups:
                group["lr"] = rate
            here = Batch(*(part.to(device, non_blocking=True) for part in batch))
            with autocast(device, precision):
                logits = network(here.image)
            loss = objective(logits, here)
            terms = {name: float(value) for name, value in loss.terms.items()}  # the same in all processes, so one speaks
            if clock.processes.is_first and not all(math.isfinite(value) for value in terms.values()):
                raise TomostreamError(_not_finite(step + 1, terms, rate))
            optimiser.zero_grad()
            loss.total.backward()
            clock.processes.average_gradients(network)
            optimiser.step()
            step += 1
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + 1
            report(1, f"loss {terms['loss']:.4f}")
            if clock.is_over(step):
                break
    if step == first:
        raise TomostreamError(
            f"epoch {len(rows) + 1} has no batch; are there labels in the training tomograms, and are they larger than a crop?"
        )
    means = {f"train_{name}": sums[name] / counts[name] for name in sums}
    return step, {"epoch": float(len(rows) + 1), "step": float(step), "learning_rate": rate} | means


class _Clock:
    """How much of the run is done, in steps or in minutes, whichever is further; the first process's clock counts."""

    def __init__(self, settings: FitSettings, elapsed: float, processes: Processes) -> None:
        self.settings, self.processes = settings, processes
        self._start = time.monotonic() - elapsed

    @property
    def elapsed(self) -> float:
        """Seconds used, over all runs."""
        return time.monotonic() - self._start

    def progress(self, step: int) -> float:
        """Return the share that is done after `step` steps, in [0, 1]."""
        minutes = self.settings.minutes
        by_time = 0.0 if minutes is None else self.processes.from_first(lambda: self.elapsed / (60 * minutes))
        return min(1.0, max(step / self.settings.steps, by_time))

    def is_over(self, step: int) -> bool:
        """Return whether the run ends after `step` steps."""
        return self.progress(step) >= 1


def write_metrics(path: Path, rows: list[Row]) -> None:
    """Write one line per epoch; a term that an epoch did not have is left empty.

    Raises
    ------
    InputError
        If the file can't be written.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(names)] + [",".join(f"{row[name]:.9g}" if name in row else "" for name in names) for row in rows]
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def _key(criterion: float) -> float:
    """Sort key: NaN, a validation without a result, is worst."""
    return -math.inf if math.isnan(criterion) else criterion


def _on_cpu(weights: dict[str, Any]) -> Weights:
    return {name: value.detach().to("cpu", copy=True) for name, value in weights.items()}


def _not_finite(step: int, terms: dict[str, float], rate: float) -> str:
    texts = ", ".join(f"{name} {value:g}" for name, value in terms.items())
    return (
        f"the loss is not finite at step {step} ({texts}); lower train.learning_rate (now {rate:g}), or check the tomograms' statistics; "
        "the checkpoint of the last epoch is kept"
    )
