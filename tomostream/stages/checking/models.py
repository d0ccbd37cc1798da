"""Check model folders.  Those of several species hold each model twice: packed with the others, and in a folder of its own; one is made again from the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tomostream.errors import InputError, TomostreamError
from tomostream.learn.training_files import CONFIGURATION_NAME, METRICS_NAME, PARTS_NAME
from tomostream.remote.atomic_files import write_atomically
from tomostream.stages.checking.damage import Damage
from tomostream.stages.checking.folders import check_configuration, check_metrics, in_words
from tomostream.stages.training.packing import pack_models
from tomostream.strategies.model_folder import RECORD_NAME, SETTINGS_NAME, WEIGHTS_NAME, read_folder
from tomostream.strategies.training_record import read_training_record, write_training_record

_FILES = f"{SETTINGS_NAME}, {WEIGHTS_NAME}"


def check_model(folder: Path) -> Iterator[Damage]:
    """Check a model folder: its hash, its settings, the names, shapes and values of its arrays, the models of its species, and the other files of the training."""
    yield from _model(folder, partial(_remake_whole, folder) if _species_trained(folder) else None)
    for species in _species_in(folder):
        yield from _part(folder, species)
    yield from _files_beside(folder)


def _model(folder: Path, mend: Callable[[], None] | None) -> Iterator[Damage]:
    from tomostream.strategies.loading import load_model

    try:
        _, weights = read_folder(folder)
        load_model(folder)
    except TomostreamError as error:
        yield Damage(str(folder), _FILES, in_words(error), mend)
        return
    from safetensors.numpy import load

    for name, array in load(weights).items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            yield Damage(str(folder), f"{WEIGHTS_NAME}: {name}", "it has values that are not finite")


def _part(folder: Path, species: str) -> Iterator[Damage]:
    """Check the folder of the model of one of several species."""
    from tomostream.strategies.several_models import files_in, is_same_model

    part, mend = folder / PARTS_NAME / species, partial(_remake_part, folder, species)
    missing = [name for name in (SETTINGS_NAME, WEIGHTS_NAME) if not (part / name).is_file()]
    if missing:
        problem = (
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: the next training would train this species again"
        )
        yield Damage(str(part), _FILES, problem, mend)
        return
    found = list(_model(part, mend))
    yield from found
    yield from _files_beside(part)
    try:
        packed = {one.species: one for one in files_in(folder)}
    except InputError:
        return  # told of the folder itself
    own = packed.get((species,))
    if not found and (own is None or not is_same_model(own, files_in(part)[0])):
        yield Damage(str(part), _FILES, f"this is not the model of {species} that is packed in {folder}", mend)


def _files_beside(folder: Path) -> Iterator[Damage]:
    yield from _training_record(folder)
    yield from check_metrics(folder / METRICS_NAME)
    yield from check_configuration(folder / CONFIGURATION_NAME)


def _training_record(folder: Path) -> Iterator[Damage]:
    try:
        problem = None if read_training_record(folder) is not None else "it is no JSON object; train again"
    except FileNotFoundError:
        return
    except (InputError, OSError) as error:
        problem = in_words(error)
    if problem is not None:
        yield Damage(str(folder / RECORD_NAME), "all of it", problem)


def _species_trained(folder: Path) -> list[str]:
    """The species of several models, as the record of their training has them; none of a single model."""
    try:
        models = (read_training_record(folder) or {}).get("models")
    except (InputError, OSError):
        return []
    return list(models) if isinstance(models, dict) else []


def _species_in(folder: Path) -> list[str]:
    """The species that have folders of their own, or should have; of a model that was copied without them only those that are there."""
    there = [part.name for part in sorted(folder.glob(f"{PARTS_NAME}/*")) if (part / SETTINGS_NAME).is_file()]
    return list(dict.fromkeys([*(_species_trained(folder) if (folder / SETTINGS_NAME).is_file() else []), *there]))


def _remake_part(folder: Path, species: str) -> None:
    """Put back the model of a species from those that are packed.

    Raises
    ------
    InputError
        If these are damaged.
    """
    from tomostream.strategies.several_models import files_in

    part = folder / PARTS_NAME / species
    own = next((one for one in files_in(folder) if one.species == (species,)), None)
    if own is None:
        raise InputError(f"{folder} has no model of {species}; train again, or remove {part}")
    models = (read_training_record(folder) or {}).get("models", {})
    if species in models:
        write_training_record(part, models[species])
    write_atomically(part / WEIGHTS_NAME, own.weights)
    write_atomically(part / SETTINGS_NAME, own.record)


def _remake_whole(folder: Path) -> None:
    """Pack the models of all species again.

    Raises
    ------
    InputError
        If one of them is damaged, or of another training.
    """
    models = (read_training_record(folder) or {})["models"]
    parts = {species: folder / PARTS_NAME / species for species in models}
    for species, part in parts.items():
        if not part.is_dir() or read_training_record(part) != models[species]:
            raise InputError(f"{part} is not of the same training; train again: only what is missing is trained")
        read_folder(part)
    pack_models(folder, parts)
