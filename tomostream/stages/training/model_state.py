"""Is the model of a run there, and if not, what will training do?  Small files are read, nothing is computed.

The record of a training (`training.json`) is its fingerprint; of several models it has one for each species.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tomostream.fingerprint import Fingerprint
from tomostream.learn.training_files import NEXT_NAME
from tomostream.remote.places import Place, place
from tomostream.stages.shared.resolved_run import ResolvedRun
from tomostream.stages.shared.species_runs import species_runs
from tomostream.stages.training.changes import changed_settings
from tomostream.stages.training.inputs import clicks_of, open_inputs, training_fingerprint
from tomostream.stages.training.replacing import is_given_up, is_whole
from tomostream.store.identity import is_same_identity
from tomostream.strategies.model_folder import has_model
from tomostream.strategies.training_record import adopted_training, read_training_record

State = Literal["absent", "done", "partial", "other"]


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
    if _is_this_runs(run, folder, processes) is not False or is_begun(run, folder, processes=processes):
        return None
    return refusal_words(run, folder, fingerprint_of(run, processes, folder))


def refusal_words(run: ResolvedRun, folder: Place, fingerprint: Fingerprint) -> str:
    """Return why a training with this fingerprint does not replace the model of a folder unasked."""
    return (
        f"model folder {folder} was made with other settings or data ({changed_settings(folder, fingerprint, clicks_of(run))}); use another "
        "folder, or --overwrite to replace it"
    )


def is_begun(run: ResolvedRun, folder: Place, *, processes: int) -> bool:
    """Whether this training has begun to replace the model of a folder, and goes on without being asked again."""
    return are_converted(run) and is_given_up(folder, fingerprint_of(run, processes, folder / NEXT_NAME))


def _is_this_runs(run: ResolvedRun, folder: Place, processes: int) -> bool | None:
    """Whether a finished model is that of this run; None if there is none, or tomograms must be converted before it can be known."""
    if not are_converted(run) or not has_model(folder):
        return None
    try:
        recorded = read_training_record(folder)
    except FileNotFoundError:
        return None
    return is_same_identity(recorded, fingerprint_of(run, processes, folder))


def are_converted(run: ResolvedRun) -> bool:
    """Whether the tomograms that training reads are there: before, a fingerprint can't be known."""
    needed = [run.tomograms[name] for name in clicks_of(run).needed]
    return all((place(one.store) / "zarr.json").is_file() for one in needed if one.is_source)


def fingerprint_of(run: ResolvedRun, processes: int, folder: Place) -> Fingerprint:
    """Return whatever decides the model, or each of several.

    Parameters
    ----------
    folder
        Of the model: one of before there were robust statistics is as good and goes on with the plain ones.
    """
    runs = species_runs(run)
    if len(runs) > 1:
        return {"models": {one.species[0].name: training_fingerprint(one, open_inputs(one), processes) for one in runs}}
    fingerprint = training_fingerprint(run, open_inputs(run), processes)
    try:
        recorded = read_training_record(folder)
    except OSError:
        return fingerprint
    if recorded is not None and "normalisation" not in recorded and has_model(folder):
        del fingerprint["normalisation"]
    return fingerprint


def state_of(folder: Path, fingerprint: Fingerprint) -> State:
    """Tell whether a model is absent, done, partial (both with this fingerprint) or other; a damaged one is made again: partial."""
    try:
        if read_training_record(folder) != fingerprint:
            return "other"
    except FileNotFoundError:
        # the lock, and what a kill left of the record itself, are nobody's results
        return "other" if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()) else "absent"
    return "done" if is_whole(folder) else "partial"


def part_state(run: ResolvedRun, folder: Path, processes: int) -> State:
    """Tell the state of the model of one species; see `state_of`."""
    return state_of(folder, adopted_training(folder, fingerprint_of(run, processes, folder)))
