"""`train` from a configuration: resolve it, then train here or where it asks for."""

from __future__ import annotations

import functools

from tomostream.config import Configuration
from tomostream.learn.torchrun import launched
from tomostream.progress import Progress
from tomostream.project import Project
from tomostream.remote.places import Place, place
from tomostream.stages.shared.resolved_run import resolve
from tomostream.stages.training.placement import train_where_asked
from tomostream.stages.training.stage import train_together


def train_model(configuration: Configuration, *, out: Place | None, overwrite: bool, progress: Progress) -> Place:
    """Train in this process, or as one of the processes that torchrun started; returns the model folder.

    A finished model of the same configuration and data is left as it is; unfinished training goes on from its last checkpoint.

    Raises
    ------
    TomostreamError
        If the configuration, the clicks or the tomograms don't fit together; before any training.
    """
    folder = model_folder(configuration, out)
    resolved = functools.partial(resolve, configuration, with_clicks=True)
    train_together(resolved, folder, device=configuration.predict.device, overwrite=overwrite, progress=progress)
    return folder


def train_configured(configuration: Configuration, *, out: Place | None, overwrite: bool, progress: Progress) -> Place:
    """Train where the configuration's `cluster` says; under torchrun always here, since whoever started the processes has chosen where.

    Raises
    ------
    TomostreamError
        As `train_model`; if the queue refuses the job, or its jobs end again and again.
    """
    if launched().world > 1:
        return train_model(configuration, out=out, overwrite=overwrite, progress=progress)
    folder = model_folder(configuration, out)
    train_where_asked(resolve(configuration, with_clicks=True), folder, overwrite=overwrite, progress=progress)
    return folder


def model_folder(configuration: Configuration, out: Place | None) -> Place:
    """Where the model goes."""
    return place(out) if out is not None else Project(configuration.project).model
