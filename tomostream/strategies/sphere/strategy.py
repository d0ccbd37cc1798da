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
    """A matched filter with a ball or shell of the particle's radius; see `strategies.protocol.Strategy`.

    Its models are of the kind `average`, with a profile that is not learnt.
    """

    name = "sphere"
    summary = "matched filter: a ball or shell of the radius; nothing is learnt, seconds"

    def train(self, training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
        """Choose the shapes and write the model folder, in the first process alone."""
        from tomostream.strategies.sphere.training import train_sphere

        if folder is not None:
            train_sphere(training, folder, progress)


SPHERE = SphereStrategy()
