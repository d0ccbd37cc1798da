"""`train`: from clicks to a model folder.

1. Convert the clicked tomograms that are still MRC; open and measure what is read.
2. A finished model of the same settings and data is kept; unfinished training resumes from its last checkpoint.
3. The strategy trains and writes the model, under a lock of the folder.
4. With several species, 2 and 3 are done for each species in a folder of its own below `parts`, and the models are packed into one
   (`strategies.several_models`).
5. A model of other settings serves until the one that replaces it is whole (`replacing`).

Under torchrun the first process does all of it, and sends the others what they need to take their part in the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tomostream.cluster import Resources
from tomostream.errors import ExistsError, InputError
from tomostream.fingerprint import Fingerprint
from tomostream.learn.training_files import CONFIGURATION_NAME, NEXT_NAME, PARTS_NAME
from tomostream.normalisation import INVERTED
from tomostream.progress import Progress
from tomostream.remote.links import refuse_links
from tomostream.remote.places import Place, RemotePath
from tomostream.stages.conversion.stage import convert_many
from tomostream.stages.shared.resolved_run import ResolvedRun
from tomostream.stages.shared.species_runs import species_runs
from tomostream.stages.training.click_check import check_clicks, normalisation_for
from tomostream.stages.training.inputs import check_positions, clicks_of, labelled_inputs, open_inputs
from tomostream.stages.training.model_state import fingerprint_of, is_begun, part_state, refusal_words, state_of
from tomostream.stages.training.packing import pack_models
from tomostream.stages.training.remote_folder import train_remotely
from tomostream.stages.training.replacing import MODEL_FILES, is_half_promoted, is_untidy, is_whole, promote, tidy
from tomostream.store.conversion import ConvertSettings
from tomostream.store.locks import exclusive
from tomostream.strategies.catalogued import strategy_named
from tomostream.strategies.training_memory import training_buffer
from tomostream.strategies.training_record import adopted_training, write_training_record
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


def _train_into(run: ResolvedRun, folder: Path, *, overwrite: bool, progress: Progress, processes: Processes) -> None:
    """Train the model, or the model of each species; in the first process, which sends the others the number of trainings."""
    runs = species_runs(run)
    for one in runs:
        training_buffer(one.strategy, one.learning)  # too small a budget is refused before anything is converted
    _refuse_own_start(run, folder)
    refuse_links((folder / NEXT_NAME, folder / PARTS_NAME, *folder.glob(f"{PARTS_NAME}/*"), *folder.glob(f"{NEXT_NAME}/*")), "a model")
    check_positions(run)
    _convert_needed(run, progress)
    if is_half_promoted(folder):
        with _made(folder):
            promote(folder)
    fingerprint = adopted_training(folder, fingerprint_of(run, processes.world, folder))
    state = state_of(folder, fingerprint)
    kept = [one.species[0].name for one in runs] if len(runs) > 1 else []
    if state == "done":
        progress.say(f"model {folder} is already trained with these settings")
        processes.from_first(lambda: 0)
        if is_untidy(folder, kept):
            with _made(folder):
                tidy(folder, kept)
        return
    if state == "other" and not overwrite and not is_begun(run, folder, processes=processes.world):
        raise ExistsError(refusal_words(run, folder, fingerprint))
    # report what is wrong with the clicks of any species before training the first
    normalisations = [normalisation_for(check_clicks(one, progress)) for one in runs]
    processes.from_first(lambda: len(runs))
    with _made(folder):
        is_replaced = state == "other" and is_whole(folder)
        into = folder / NEXT_NAME if is_replaced else folder
        if is_replaced:
            progress.say(f"model {folder} stays as it is until the new one is whole")
        if len(runs) == 1:
            _train_one(run, into, normalisations[0], progress, processes)
        else:
            _train_several(run, runs, folder, into, normalisations, progress, processes)
        if is_replaced:
            promote(folder)
        tidy(folder, kept)


def _train_several(
    run: ResolvedRun,
    runs: Sequence[ResolvedRun],
    folder: Path,
    into: Path,
    normalisations: Sequence[str],
    progress: Progress,
    processes: Processes,
) -> None:
    """Train the model of each species below `into`, unless `folder` has it, and pack them."""
    fingerprint = adopted_training(into, fingerprint_of(run, processes.world, into))
    _prepare_folder(into, run, fingerprint, is_new=state_of(into, fingerprint) != "partial")
    parts: dict[str, Path] = {}
    for number, (one, normalisation) in enumerate(zip(runs, normalisations, strict=True), 1):
        name = one.species[0].name
        parts[name] = folder / PARTS_NAME / name
        if part_state(one, parts[name], processes.world) == "done":
            progress.say(f"{name}: model {number} of {len(runs)}: already trained with these settings")
            _take_part(None, None, progress, processes)
            continue
        progress.say(f"{name}: model {number} of {len(runs)}")
        parts[name] = into / PARTS_NAME / name
        _train_one(one, parts[name], normalisation, progress, processes)
    pack_models(into, parts)


def _train_one(run: ResolvedRun, folder: Path, normalisation: str, progress: Progress, processes: Processes) -> None:
    """Train one model into its folder, unless it is whole there; what other settings made is replaced."""
    fingerprint = adopted_training(folder, fingerprint_of(run, processes.world, folder))
    state = state_of(folder, fingerprint)
    if state == "done":
        _take_part(None, None, progress, processes)
        return
    opened = open_inputs(run)
    if normalisation == INVERTED:
        progress.say("the clicked particles are bright: the sign of the voxels is changed as they are read")
    labelled, validation = labelled_inputs(run, opened, normalisation, progress)
    buffer = training_buffer(run.strategy, run.learning)
    training = Training(run.learning, labelled, validation, opened.level, opened.spacing, fingerprint, buffer, normalisation)
    _prepare_folder(folder, run, fingerprint, is_new=state != "partial")
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


def _prepare_folder(folder: Path, run: ResolvedRun, fingerprint: Fingerprint, *, is_new: bool) -> None:
    if is_new:
        # what another training left would be mixed with this one's
        for name in MODEL_FILES:
            (folder / name).unlink(missing_ok=True)
    write_training_record(folder, fingerprint)  # makes the folder too
    run.write_configuration(folder / CONFIGURATION_NAME)
