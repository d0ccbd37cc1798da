"""The strategy `sphere`; importing it does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tomostream.progress import Progress
from tomostream.strategies.matched_filter.strategy import AverageStrategy
from tomostream.strategies.training_set import Training

if TYPE_CHECKING:
    from tomostream.learn.processes import Processes


class SphereStrategy(AverageStrategy):
    """A ball or shell of the particle's radius as a matched filter: a model of `average`, whose profile is not learnt; see `strategies.protocol.Strategy`."""

    name = "sphere"
    summary = "matched filter: a ball or shell of the radius; nothing is learnt, seconds"

    def train(self, training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
        """Choose the shape and write the model folder; there are no steps to share, so the first process does it."""
        from tomostream.strategies.sphere.training import train_sphere

        if folder is not None:
            train_sphere(training, folder, progress)


SPHERE = SphereStrategy()
