"""`train`: from clicks to a model folder.

1. Convert the clicked tomograms that are still MRC; open and measure what is read.
2. A finished model of the same settings and data is kept; unfinished training resumes from its last checkpoint.
3. The strategy trains and writes the model, under a lock of the folder.
4. With several species, 2 and 3 are done for each species in a folder of its own below `parts`, and the models are packed into one
   (`strategies.several_models`).

Under torchrun the first process does all of it, and sends the others what they need to take their part in the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tomostream.cluster import Resources
from tomostream.errors import ExistsError, InputError
from tomostream.fingerprint import Fingerprint
from tomostream.learn.training_files import CHECKPOINT_NAME, METRICS_NAME
from tomostream.normalisation import INVERTED
from tomostream.progress import Progress
from tomostream.remote.places import Place, RemotePath, place
from tomostream.stages.conversion.stage import convert_many
from tomostream.stages.shared.resolved_run import ResolvedRun
from tomostream.stages.shared.species_runs import species_runs
from tomostream.stages.training.changes import changed_settings
from tomostream.stages.training.click_check import check_clicks, normalisation_for
from tomostream.stages.training.inputs import OpenedInputs, check_positions, clicks_of, labelled_inputs, open_inputs, training_fingerprint
from tomostream.stages.training.packing import pack_models, part_folder
from tomostream.stages.training.remote_folder import train_remotely
from tomostream.store.conversion import ConvertSettings
from tomostream.store.identity import is_same_identity
from tomostream.store.locks import exclusive
from tomostream.strategies.catalogued import strategy_named
from tomostream.strategies.model_folder import RECORD_NAME, SETTINGS_NAME, WEIGHTS_NAME, has_model, read_folder
from tomostream.strategies.training_memory import training_buffer
from tomostream.strategies.training_record import adopted_training, read_training_record, write_training_record
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
            for _ in range(processes.from_first(int)):
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
    return _is_this_runs(run, folder, processes) is True


def refusal(run: ResolvedRun, folder: Place, *, processes: int) -> str | None:
    """Return the words in which training will refuse to replace the finished model of a folder, as far as that can be known before any work.

    Raises
    ------
    TomostreamError
        If the run, the clicks or the tomograms don't fit together.
    """
    if _is_this_runs(run, folder, processes) is not False:
        return None
    return _refusal(run, folder, _fingerprint(run, processes, folder))


def _refusal(run: ResolvedRun, folder: Place, fingerprint: Fingerprint) -> str:
    return (
        f"model folder {folder} was made with other settings or data ({changed_settings(folder, fingerprint, clicks_of(run))}); use another "
        "folder, or --overwrite to replace it"
    )


def _is_this_runs(run: ResolvedRun, folder: Place, processes: int) -> bool | None:
    """Whether a finished model is that of this run; None if there is none, or tomograms must be converted before it can be known."""
    needed = [run.tomograms[name] for name in clicks_of(run).needed]
    if not all((place(one.store) / "zarr.json").is_file() for one in needed if one.is_source) or not has_model(folder):
        return None
    try:
        recorded = read_training_record(folder)
    except FileNotFoundError:
        return None
    return is_same_identity(recorded, _fingerprint(run, processes, folder))


def _fingerprint(run: ResolvedRun, processes: int, folder: Place) -> Fingerprint:
    """Whatever decides the model, or each of several."""
    runs = species_runs(run)
    if len(runs) > 1:
        return {"models": {one.species[0].name: training_fingerprint(one, open_inputs(one), processes) for one in runs}}
    return _fingerprint_of_one(run, open_inputs(run), processes, folder)


def _fingerprint_of_one(run: ResolvedRun, opened: OpenedInputs, processes: int, folder: Place) -> Fingerprint:
    """Whatever decides the model.  A finished model of before there were robust statistics is as good: it goes on with the plain ones."""
    fingerprint = training_fingerprint(run, opened, processes)
    try:
        recorded = read_training_record(folder)
    except OSError:
        return fingerprint
    if recorded is not None and "normalisation" not in recorded and has_model(folder):
        del fingerprint["normalisation"]
    return fingerprint


def _train_into(run: ResolvedRun, folder: Path, *, overwrite: bool, progress: Progress, processes: Processes) -> None:
    """Train the model, or the model of each species; in the first process, which tells the others how many trainings there are."""
    runs = species_runs(run)
    for one in runs:
        training_buffer(one.strategy, one.learning)  # too small a budget is refused before anything is converted
    _refuse_own_start(run, folder)
    check_positions(run)
    _convert_needed(run, progress)
    fingerprint = adopted_training(folder, _fingerprint(run, processes.world, folder))
    state = _state(folder, fingerprint)
    if state == "done":
        progress.say(f"model {folder} is already trained with these settings")
        processes.from_first(lambda: 0)
        return
    if state == "other" and not overwrite:
        raise ExistsError(_refusal(run, folder, fingerprint))
    # what is wrong with the clicks of any species is told before the first is trained, and before an old model is removed
    normalisations = [normalisation_for(check_clicks(one, progress)) for one in runs]
    processes.from_first(lambda: len(runs))
    if len(runs) == 1:
        _train_one(run, folder, fingerprint, normalisations[0], is_new=state != "partial", progress=progress, processes=processes)
        return
    with _made(folder):
        _prepare_folder(folder, run, fingerprint, is_new=state != "partial")
        for number, (one, normalisation) in enumerate(zip(runs, normalisations, strict=True), 1):
            progress.say(f"{one.species[0].name}: model {number} of {len(runs)}")
            _train_part(one, part_folder(folder, one), normalisation, progress, processes)
        pack_models(folder, runs)


def _train_part(run: ResolvedRun, folder: Path, normalisation: str, progress: Progress, processes: Processes) -> None:
    """Train the model of one species of several, unless that is done; what other settings made is replaced."""
    fingerprint = adopted_training(folder, _fingerprint(run, processes.world, folder))
    state = _state(folder, fingerprint)
    if state == "done":
        progress.say(f"model {folder} is already trained with these settings")
        _take_part(None, folder, progress, processes)
        return
    _train_one(run, folder, fingerprint, normalisation, is_new=state != "partial", progress=progress, processes=processes)


def _train_one(
    run: ResolvedRun, folder: Path, fingerprint: Fingerprint, normalisation: str, *, is_new: bool, progress: Progress, processes: Processes
) -> None:
    """Train one model into its folder."""
    opened = open_inputs(run)
    if normalisation == INVERTED:
        progress.say("the clicked particles are bright: the sign of the voxels is changed as they are read")
    labelled, validation = labelled_inputs(run, opened, normalisation, progress)
    buffer = training_buffer(run.strategy, run.learning)
    training = Training(run.learning, labelled, validation, opened.level, opened.spacing, fingerprint, buffer, normalisation)
    with _made(folder):
        _prepare_folder(folder, run, fingerprint, is_new=is_new)
        _take_part(training, folder, progress, processes)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder, and keep it locked."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"model folder {folder} can't be made: {error.strerror or error}; choose another folder") from None
    with exclusive(folder / LOCK_NAME, f"model folder {folder}"):
        yield


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
    """Tell whether the folder is absent, done, partial (both with this fingerprint) or other; a damaged model is made again: partial."""
    try:
        if read_training_record(folder) != fingerprint:
            return "other"
    except FileNotFoundError:
        # the lock, and what a kill left of the record itself, are nobody's results
        return "other" if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()) else "absent"
    try:
        read_folder(folder)
    except InputError:
        return "partial"
    return "done"


def _prepare_folder(folder: Path, run: ResolvedRun, fingerprint: Fingerprint, *, is_new: bool) -> None:
    if is_new:
        # what another training left would be mixed with this one's
        for name in (WEIGHTS_NAME, SETTINGS_NAME, METRICS_NAME, CHECKPOINT_NAME, RECORD_NAME):
            (folder / name).unlink(missing_ok=True)
    write_training_record(folder, fingerprint)
    run.write_configuration(folder / "resolved.yaml")
