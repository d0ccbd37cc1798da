"""`train`: from clicks to a model folder.

1. Convert the clicked tomograms that are still MRC; open and measure what is read.
2. A finished model of the same settings and data is kept; unfinished training resumes from its last checkpoint.
3. The strategy trains and writes the model, under a lock of the folder.

Under torchrun the first process does all of it, and sends the others what they need to take their part in the steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tomostream.cluster import Resources
from tomostream.errors import ExistsError, InputError
from tomostream.fingerprint import Fingerprint, differences
from tomostream.learn.training_files import CHECKPOINT_NAME, METRICS_NAME
from tomostream.normalisation import INVERTED
from tomostream.progress import Progress
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.places import Place, RemotePath, place
from tomostream.stages.conversion.stage import convert_many
from tomostream.stages.shared.click_tables import ClickTables
from tomostream.stages.shared.fingerprints import adopted_record
from tomostream.stages.shared.resolved_run import ResolvedRun
from tomostream.stages.training.click_check import check_clicks, normalisation_for
from tomostream.stages.training.inputs import OpenedInputs, check_positions, clicks_of, labelled_inputs, open_inputs, training_fingerprint
from tomostream.stages.training.remote_folder import train_remotely
from tomostream.store.conversion import ConvertSettings
from tomostream.store.identity import is_same_identity
from tomostream.store.locks import exclusive
from tomostream.store.typed_json import json_object
from tomostream.strategies.catalogued import strategy_named
from tomostream.strategies.model_folder import RECORD_NAME, SETTINGS_NAME, WEIGHTS_NAME
from tomostream.strategies.training_memory import training_buffer
from tomostream.strategies.training_set import Training

if TYPE_CHECKING:
    from tomostream.learn.processes import Processes

LOCK_NAME = ".lock"


def train_together(resolved: Callable[[], ResolvedRun], folder: Place, *, device: str, overwrite: bool, progress: Progress) -> None:
    """Train into a folder; started by torchrun, together with the other processes.

    Parameters
    ----------
    resolved
        Gives the run, with its clicks; only the first process calls it, so that errors are reported once.
    device
        `cpu`, `cuda` or `auto`.

    Raises
    ------
    TomostreamError
        If the run, the clicks or the tomograms don't fit together; before any training.
    """
    from tomostream.learn.processes import joined

    with joined(device) as processes:
        if not processes.is_first:
            _take_part(None, None, Progress(), processes)
            return
        run = resolved()

        def train_into(local: Path) -> None:
            _train_into(run, local, overwrite=overwrite, progress=progress, processes=processes)

        if isinstance(folder, RemotePath):
            train_remotely(folder, train_into)
        else:
            train_into(folder)


def is_trained(run: ResolvedRun, folder: Place, *, processes: int) -> bool:
    """Whether the folder holds the finished model of this run; small files are read, nothing is computed.

    Raises
    ------
    TomostreamError
        If the run, the clicks or the tomograms don't fit together.
    """
    needed = [run.tomograms[name] for name in clicks_of(run).needed]
    if not all((place(one.store) / "zarr.json").is_file() for one in needed if one.is_source) or not (folder / SETTINGS_NAME).is_file():
        return False
    opened = open_inputs(run)
    try:
        recorded = json_object((folder / RECORD_NAME).read_bytes())
    except FileNotFoundError:
        return False
    return is_same_identity(recorded, _fingerprint(run, opened, processes, folder))


def _fingerprint(run: ResolvedRun, opened: OpenedInputs, processes: int, folder: Place) -> Fingerprint:
    """Whatever decides the model.  A finished model of before there were robust statistics is as good: it goes on with the plain ones."""
    fingerprint = training_fingerprint(run, opened, processes)
    try:
        recorded = json_object((folder / RECORD_NAME).read_bytes())
    except OSError:
        return fingerprint
    if recorded is not None and "normalisation" not in recorded and (folder / SETTINGS_NAME).exists():
        del fingerprint["normalisation"]
    return fingerprint


def _train_into(run: ResolvedRun, folder: Path, *, overwrite: bool, progress: Progress, processes: Processes) -> None:
    buffer = training_buffer(run.strategy, run.learning)  # too small a budget is refused before anything is converted
    _refuse_own_start(run, folder)
    check_positions(run)
    _convert_needed(run, progress)
    opened = open_inputs(run)
    fingerprint = adopted_record(folder / RECORD_NAME, _fingerprint(run, opened, processes.world, folder))
    state = _state(folder, fingerprint)
    if state == "done":
        progress.say(f"model {folder} is already trained with these settings")
        _take_part(None, folder, progress, processes)
        return
    if state == "other" and not overwrite:
        raise ExistsError(
            f"model folder {folder} was made with other settings or data ({_changed(folder, fingerprint, clicks_of(run))}); use another folder, or "
            "--overwrite to replace it"
        )
    normalisation = normalisation_for(check_clicks(run, progress))
    if normalisation == INVERTED:
        progress.say("the clicked particles are bright: the sign of the voxels is changed as they are read")
    labelled, validation = labelled_inputs(run, opened, normalisation, progress)
    training = Training(run.learning, labelled, validation, opened.level, opened.spacing, fingerprint, buffer, normalisation)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"model folder {folder} can't be made: {error.strerror or error}; choose another folder") from None
    with exclusive(folder / LOCK_NAME, f"model folder {folder}"):
        _prepare_folder(folder, run, fingerprint, is_new=state != "partial")
        _take_part(training, folder, progress, processes)


def _refuse_own_start(run: ResolvedRun, folder: Path) -> None:
    """Refuse to train into the folder of the model that training starts from: it would be removed before it is read."""
    start = run.learning.train.start
    if isinstance(start, Path) and start.resolve() == folder.resolve():
        raise InputError(
            f"train.start: {start} is also the folder of the new model; copy the old model elsewhere first, or train into another folder with -o"
        )


def _convert_needed(run: ResolvedRun, progress: Progress) -> None:
    unconverted = {name: run.tomograms[name].path for name in clicks_of(run).needed if run.tomograms[name].is_source}
    if unconverted:
        settings = ConvertSettings(voxel_size=run.voxel_size)
        resources = Resources(memory=run.learning.memory)
        convert_many(
            unconverted, run.project.tomograms, settings, resources=resources, overwrite=False, progress=progress, tells_done=False
        )


def _take_part(training: Training | None, folder: Path | None, progress: Progress, processes: Processes) -> None:
    """Train with the other processes; the first one distributes the training (None: nothing to do) and the folder."""
    training = processes.from_first(lambda: training)
    if training is not None:
        strategy_named(training.settings.objective.name).train(training, folder, progress, processes)


def _state(folder: Path, fingerprint: Fingerprint) -> str:
    """Tell whether the folder is absent, done, partial (both with this fingerprint) or other."""
    record = folder / RECORD_NAME
    if not record.exists():
        # the lock, and what a kill left of the record itself, are nobody's results
        return "other" if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()) else "absent"
    if json_object(record.read_bytes()) != fingerprint:
        return "other"
    return "done" if (folder / SETTINGS_NAME).exists() else "partial"


def _changed(folder: Path, fingerprint: Fingerprint, clicks: ClickTables) -> str:
    """What is now other than what a model folder records, in words."""
    try:
        recorded = json_object((folder / RECORD_NAME).read_bytes())
    except FileNotFoundError:
        return f"it has no {RECORD_NAME}, so tomostream did not make what is in it"
    if recorded is None:
        return f"its {RECORD_NAME} is damaged"
    # tables are known by their content
    old, new = dict(recorded), dict(fingerprint)
    before, after = old.pop("labels", None), new.pop("labels", None)
    texts = [differences(old, new)]
    if before != after:
        files = [*clicks.train_tables, *clicks.validate_tables]
        changed = [file for file, content in zip(files, after or [], strict=True) if content not in (before or [])]
        texts.insert(
            0,
            f"labels: {', '.join(changed)} changed since, or was not given then"
            if changed
            else "labels: fewer tables, or in another order",
        )
    return "; ".join(filter(None, texts))


def _prepare_folder(folder: Path, run: ResolvedRun, fingerprint: Fingerprint, *, is_new: bool) -> None:
    if is_new:
        # what another training left would be mixed with this one's
        for name in (WEIGHTS_NAME, SETTINGS_NAME, METRICS_NAME, CHECKPOINT_NAME, RECORD_NAME):
            (folder / name).unlink(missing_ok=True)
    write_atomically(folder / RECORD_NAME, json.dumps(fingerprint, indent=1))
    run.write_configuration(folder / "resolved.yaml")
