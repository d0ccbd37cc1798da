"""Functions on configurations: train a model, run all stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomostream.api.sources import checked_path
from tomostream.progress import Progress
from tomostream.python_words import PythonProgress, speaks_python
from tomostream.remote.places import Place, RemotePath, place

if TYPE_CHECKING:
    from tomostream.evaluation import Evaluation


@speaks_python
def train(
    config: str | Path | RemotePath | dict[str, Any],
    *,
    out: str | Path | RemotePath | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Place:
    """Train with a configuration (a YAML file or its values), and return the model folder.

    Raises
    ------
    TomostreamError
        Before any training, if configuration, clicks and tomograms don't fit together.
    """
    from tomostream.config import configuration_from, load_configuration
    from tomostream.pipeline.training import train_model

    configuration = (
        configuration_from(config, "configuration") if isinstance(config, dict) else load_configuration(checked_path(config, "config"))
    )
    return train_model(configuration, out=None if out is None else place(out), overwrite=overwrite, progress=progress or PythonProgress())


@speaks_python
def run(
    config: str | Path | RemotePath | dict[str, Any],
    *,
    stages: Sequence[str] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Evaluation | None:
    """Take a data set through all stages, as `tomostream run` does; call it again to resume.

    Parameters
    ----------
    config
        A YAML file, or its values.
    stages
        The stages to run; none: all.
    overwrite
        Replace results that were made with other settings.
    progress
        Receives the progress; None: no progress, and warnings are Python warnings.

    Returns
    -------
    Evaluation or None
        None if the configuration names no truth.

    Raises
    ------
    TomostreamError
        From the first stage that can't go on; `SomeFailedError` at the end if some tomograms failed and the rest are done.
    """
    from tomostream.config import configuration_from, load_configuration
    from tomostream.pipeline.execution import check_stages, run_project

    configuration = (
        configuration_from(config, "configuration") if isinstance(config, dict) else load_configuration(checked_path(config, "config"))
    )
    return run_project(configuration, stages=check_stages(stages), overwrite=overwrite, progress=progress or PythonProgress())
