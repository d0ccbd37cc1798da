"""Take the steps of an epoch: for each batch a forward pass, a backward pass and one AdamW step.

The batches are made in a background thread; bf16 is used through autocast.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from tomostream.errors import InputError, TomostreamError
from tomostream.learn.batch import Batch
from tomostream.learn.checkpoint import Row
from tomostream.learn.device_memory import device_memory
from tomostream.learn.objectives import Criterion, Loss
from tomostream.learn.precision import autocast, resolve_device, resolve_precision
from tomostream.learn.prefetch import prefetched
from tomostream.learn.processes import Processes
from tomostream.learn.schedule import Schedule, learning_rate
from tomostream.learn.shared_norm import with_shared_norms

_PREFETCH = 2  # batches ready ahead of the step
_SHORT = "lower train.batch, train.crop or network.channels, or use predict.device: cpu"


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


class Clock:
    """How much of the run is done, by steps or by minutes, whichever is further; the clock is that of the first process."""

    def __init__(self, settings: FitSettings, elapsed: float, processes: Processes) -> None:
        self._settings, self._processes = settings, processes
        self._start = time.monotonic() - elapsed

    @property
    def elapsed(self) -> float:
        """Seconds used, over all runs."""
        return time.monotonic() - self._start

    def progress(self, step: int) -> float:
        """Return the share that is done after `step` steps, in [0, 1]."""
        minutes = self._settings.minutes
        by_time = 0.0 if minutes is None else self._processes.from_first(lambda: self.elapsed / (60 * minutes))
        return min(1.0, max(step / self._settings.steps, by_time))

    def is_over(self, step: int) -> bool:
        """Return whether the run ends after `step` steps."""
        return self.progress(step) >= 1


class _Means:
    """Mean of each term over the batches that had it."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, terms: dict[str, float]) -> None:
        """Add the terms of a batch."""
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def row(self) -> Row:
        """Return the means as columns of the metrics."""
        return {f"train_{name}": self._sums[name] / self._counts[name] for name in self._sums}


class Stepper:
    """Take the steps of an epoch with a network and its optimiser.

    Parameters
    ----------
    network
        Trained in place, on the device of the settings.
    objective
        Evaluated on all processes' batches together.
    processes
        The processes that train together.
    report
        Called after each step, with 1 and a short note.
    """

    def __init__(
        self, network: nn.Module, objective: Criterion, settings: FitSettings, processes: Processes, report: Callable[[int, str], None]
    ) -> None:
        self.device = resolve_device(settings.device)
        self.precision = resolve_precision(settings.precision, self.device)
        network.to(device=self.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stubs know it in 4-D only
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self._learner = with_shared_norms(network, processes)  # shares the weights
        self._objective, self._settings, self._processes, self._report = objective, settings, processes, report

    def epoch(self, batches: Iterable[Batch], rows: list[Row], clock: Clock) -> tuple[int, Row]:
        """Take the steps of one epoch.

        Parameters
        ----------
        batches
            If there are more than the epoch has steps, the rest is not used.
        rows
            Of the epochs before.

        Returns
        -------
        tuple
            The total number of steps done, and the epoch's mean terms.

        Raises
        ------
        TomostreamError
            If the loss is not finite, or there is no batch.
        """
        settings = self._settings
        first = int(rows[-1]["step"]) if rows else 0
        criteria = [row["criterion"] for row in rows]
        means = _Means()
        step, rate = first, settings.learning_rate
        self._learner.train()
        with prefetched(batches, limit=min(settings.steps_per_epoch, settings.steps - first), depth=_PREFETCH) as ready:
            for batch in ready:
                rate = learning_rate(settings.schedule, full=settings.learning_rate, progress=clock.progress(step), criteria=criteria)
                terms = self._step(batch, step, rate)
                step += 1
                means.add(terms)
                self._report(1, f"loss {terms['loss']:.4f}")
                if clock.is_over(step):
                    break
        if step == first:
            raise TomostreamError(
                f"epoch {len(rows) + 1} has no batch; are there labels in the training tomograms, and are they larger than a crop?"
            )
        return step, {"epoch": float(len(rows) + 1), "step": float(step), "learning_rate": rate} | means.row()

    def _step(self, batch: Batch, step: int, rate: float) -> dict[str, float]:
        """Take the step that follows `step` others; return the terms of the loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        what = f"a step on {tuple(batch.image.shape)} voxels (crops, 1, z, y, x)"
        with device_memory(self.device, what, _SHORT):
            loss = self._loss(batch)
            terms = {name: float(value) for name, value in loss.terms.items()}  # the same in all processes, so the first one reports
        if self._processes.is_first and not all(math.isfinite(value) for value in terms.values()):
            raise TomostreamError(_not_finite(step + 1, terms, rate))
        self.optimiser.zero_grad()
        with device_memory(self.device, what, _SHORT):
            loss.total.backward()
        self._processes.average_gradients(self._learner)
        self.optimiser.step()
        return terms

    def _loss(self, batch: Batch) -> Loss:
        here = batch.to(self.device, non_blocking=True)
        with autocast(self.device, self.precision):
            logits = self._learner(here.image)
        return self._objective(logits, here)


def _not_finite(step: int, terms: dict[str, float], rate: float) -> str:
    texts = ", ".join(f"{name} {value:g}" for name, value in terms.items())
    return (
        f"the loss is not finite at step {step} ({texts}); lower train.learning_rate (now {rate:g}), or check the tomograms' statistics; "
        "the checkpoint of the last epoch is kept"
    )
