"""How is a model replaced so that the old one serves until the new one is whole?

1. What replaces a whole model is trained in the folder `next` below it: an ordinary model folder, resumed like any other.  Its record says for which
   training the folder was given up: that one goes on without being asked again.
2. When the new model is whole, `promote` moves its files into their places, `model.json` last.
3. A kill between two moves leaves a folder without `model.json`, which nobody takes for a model; the next training finishes the moves first.
4. What belongs to no species of the model is removed last (`tidy`).
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from tomostream.errors import InputError
from tomostream.fingerprint import Fingerprint
from tomostream.learn.training_files import CHECKPOINT_NAME, CONFIGURATION_NAME, METRICS_NAME, NEXT_NAME, PARTS_NAME
from tomostream.remote.atomic_files import synchronise
from tomostream.remote.places import Place
from tomostream.store.identity import is_same_identity
from tomostream.strategies.model_folder import RECORD_NAME, SETTINGS_NAME, WEIGHTS_NAME, has_model, read_folder
from tomostream.strategies.training_record import read_training_record

MODEL_FILES = (WEIGHTS_NAME, SETTINGS_NAME, METRICS_NAME, CHECKPOINT_NAME, RECORD_NAME)


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a model that can be used."""
    try:
        read_folder(folder)
    except InputError:
        return False
    return True


def is_given_up(folder: Place, fingerprint: Fingerprint) -> bool:
    """Whether a training with this fingerprint has begun to replace the model of a folder."""
    try:
        recorded = read_training_record(folder / NEXT_NAME)
    except OSError:
        return False
    return is_same_identity(recorded, fingerprint)


def is_half_promoted(folder: Path) -> bool:
    """Whether a kill has interrupted `promote`."""
    return has_model(folder / NEXT_NAME) and not has_model(folder)


def promote(folder: Path) -> None:
    """Put the model in `next` into the place of the old one, or go on with that after a kill.

    Raises
    ------
    InputError
        If the disk refuses.
    """
    following = folder / NEXT_NAME
    try:
        if (following / WEIGHTS_NAME).exists():  # the first file to be moved: until then all files here are the old model's
            (folder / SETTINGS_NAME).unlink(missing_ok=True)
            synchronise(folder)
            for name in (WEIGHTS_NAME, METRICS_NAME, CHECKPOINT_NAME):  # of which the new one may have none
                (folder / name).unlink(missing_ok=True)
            for part in sorted(following.glob(f"{PARTS_NAME}/*")):
                (folder / PARTS_NAME).mkdir(exist_ok=True)
                target = folder / PARTS_NAME / part.name
                if target.exists():
                    shutil.rmtree(target)
                part.rename(target)
        for name in (WEIGHTS_NAME, METRICS_NAME, CHECKPOINT_NAME, CONFIGURATION_NAME, RECORD_NAME, SETTINGS_NAME):
            if (following / name).exists():
                synchronise(folder)
                (following / name).replace(folder / name)
        synchronise(folder)
        shutil.rmtree(following)
    except OSError as error:
        raise InputError(
            f"{following} can't be moved into {folder}: {error.strerror or error}; give the command again to go on, it is not trained again"
        ) from None


def tidy(folder: Path, species: Collection[str]) -> None:
    """Remove what a finished model does not need: a training that was to replace it, and the models of other species.

    Parameters
    ----------
    species
        Those whose models the folder keeps; none: of a single model.
    """
    for found in _superfluous(folder, species):
        shutil.rmtree(found, ignore_errors=True)
    if (folder / PARTS_NAME).is_dir() and not any((folder / PARTS_NAME).iterdir()):
        (folder / PARTS_NAME).rmdir()


def is_untidy(folder: Path, species: Collection[str]) -> bool:
    """Whether there is something for `tidy`."""
    return bool(_superfluous(folder, species))


def _superfluous(folder: Path, species: Collection[str]) -> list[Path]:
    parts = [part for part in folder.glob(f"{PARTS_NAME}/*") if part.name not in species and (part / RECORD_NAME).is_file()]
    return [*parts, *([folder / NEXT_NAME] if (folder / NEXT_NAME).is_dir() else [])]
