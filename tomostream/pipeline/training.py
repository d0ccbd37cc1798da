"""`train`: resolve a configuration, then train in this process or as a job of its queue."""

from __future__ import annotations

from tomostream.config import Configuration
from tomostream.learn.torchrun import launched
from tomostream.pipeline.inputs import without_unreadable
from tomostream.progress import Progress
from tomostream.project import Project
from tomostream.remote.places import Place, place
from tomostream.stages.shared.resolved_run import ResolvedRun, resolve
from tomostream.stages.training.click_doubts import tell_doubts
from tomostream.stages.training.inputs import check_positions
from tomostream.stages.training.placement import train_where_asked
from tomostream.stages.training.stage import train_together


def train_model(configuration: Configuration, *, out: Place | None, overwrite: bool, progress: Progress) -> Place:
    """Train in this process, or as one of the processes that torchrun started; return the model folder.

    A finished model of the same configuration and data is kept; unfinished training goes on from its last checkpoint.

    Raises
    ------
    TomostreamError
        Before any training, if the configuration, the clicks and the tomograms don't fit together.
    """
    folder = model_folder(configuration, out)

    train_together(
        lambda: _resolved(configuration, progress), folder, device=configuration.predict.device, overwrite=overwrite, progress=progress
    )
    return folder


def train_configured(configuration: Configuration, *, out: Place | None, overwrite: bool, progress: Progress) -> Place:
    """Train where the configuration's `cluster` says; return the model folder.

    Under torchrun, train in this process: the place was chosen when the processes were started.

    Raises
    ------
    TomostreamError
        As `train_model`; if the queue refuses the job, or its jobs end again and again.
    """
    if launched().world > 1:
        return train_model(configuration, out=out, overwrite=overwrite, progress=progress)
    folder = model_folder(configuration, out)
    train_where_asked(_resolved(configuration, progress), folder, overwrite=overwrite, progress=progress)
    return folder


def _resolved(configuration: Configuration, progress: Progress) -> ResolvedRun:
    """The run with its clicks, checked; without the tomograms that can't be read."""
    run = resolve(configuration, with_clicks=True)
    check_positions(run)
    tell_doubts(run, progress)
    return without_unreadable(run, progress)


def model_folder(configuration: Configuration, out: Place | None) -> Place:
    """Return the folder of the model: `out`, or by default that of the project."""
    return place(out) if out is not None else Project(configuration.project).model
