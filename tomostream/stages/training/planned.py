"""What will training do with the model of each species?  For the dry run: small files are read, nothing is computed or written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tomostream.errors import InputError
from tomostream.fingerprint import Fingerprint
from tomostream.learn.training_files import NEXT_NAME, PARTS_NAME
from tomostream.remote.places import Place
from tomostream.stages.shared.resolved_run import ResolvedRun
from tomostream.stages.shared.species_runs import species_runs
from tomostream.stages.training.changes import changed_of_one
from tomostream.stages.training.model_state import State, are_converted, fingerprint_of, is_trained, state_of
from tomostream.store.identity import is_same_identity
from tomostream.strategies.model_folder import has_model
from tomostream.strategies.training_record import adopted_training, read_training_record

_KEPT = "kept, it is trained with these settings"


@dataclass(frozen=True, slots=True)
class PlannedTraining:
    """The training of one species.

    Parameters
    ----------
    species
        Its name.
    is_kept
        Whether its model is there.
    words
        What will be done, and why; empty where there is nothing yet.
    """

    species: str
    is_kept: bool
    words: str


def planned_trainings(run: ResolvedRun, folder: Place, *, processes: int) -> list[PlannedTraining]:
    """Return what training will do for each of several species; then the species whose models will be removed.

    Parameters
    ----------
    run
        With several species, each with a model of its own.
    folder
        Of the model.

    Raises
    ------
    TomostreamError
        If a run, its clicks or its tomograms don't fit together.
    """
    runs = species_runs(run)
    if is_trained(run, folder, processes=processes):
        return [PlannedTraining(one.species[0].name, True, _KEPT) for one in runs]
    record = _recorded(folder) if has_model(folder) else None
    models = record.get("models") if record is not None else None
    packed: Fingerprint = models if isinstance(models, dict) else {}
    planned = [_planned(one, folder, processes, packed, is_single=record is not None and models is None) for one in runs]
    names = [one.species for one in planned]
    return planned + [
        PlannedTraining(name, False, "is none of the species now: its model is removed") for name in packed if name not in names
    ]


def _planned(run: ResolvedRun, folder: Place, processes: int, packed: Fingerprint, *, is_single: bool) -> PlannedTraining:
    name = run.species[0].name
    if not are_converted(run):
        return PlannedTraining(name, False, "")
    part = folder / PARTS_NAME / name
    fingerprint = adopted_training(part, fingerprint_of(run, processes, part))
    state = _state(part, fingerprint, packed.get(name))
    following = _state(folder / NEXT_NAME / PARTS_NAME / name, fingerprint, None)
    if state == "done":
        return PlannedTraining(name, True, _KEPT)
    if following == "done":
        return PlannedTraining(name, True, "kept, it was trained before the last training was stopped")
    if "partial" in (state, following):
        return PlannedTraining(name, False, "goes on where it stopped")
    before = packed.get(name) or _recorded(part)
    if before is not None:
        return PlannedTraining(name, False, f"trained anew ({changed_of_one(before, fingerprint, None) or 'its model is damaged'})")
    return PlannedTraining(name, False, "new" if packed else "trained anew (there is one model for all)" if is_single else "")


def _state(folder: Place, fingerprint: Fingerprint, packed: Fingerprint | None) -> State:
    """The state of a model of one species; on an object store that of the packed one stands for it."""
    if isinstance(folder, Path):
        return state_of(folder, fingerprint)
    return "done" if packed is not None and is_same_identity(packed, fingerprint) else "absent"


def _recorded(folder: Place) -> Fingerprint | None:
    try:
        return read_training_record(folder)
    except (InputError, OSError):
        return None
