"""How is a model trained into a folder on an object store?  In a local folder, which is then uploaded.

Training saves checkpoints again and again, and reads them back: that stays on a local disk, below the user's cache folder (`~/.cache/tomostream`,
or XDG_CACHE_HOME), in a folder that belongs to the URL.

1. The URL is leased: one training at a time, on whatever machine.
2. Where nothing is known locally, a finished model is fetched first, so that it is recognised and not trained again.
3. After training all files are uploaded, also those of each species below `parts`, `model.json` last, and an older one is removed before: what has a `model.json` is whole.

Limits: a stopped training resumes only on the machine that began it; elsewhere it starts again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tomostream.errors import InputError, TomostreamError
from tomostream.learn.training_files import CHECKPOINT_NAME, PARTS_NAME
from tomostream.remote.copies import download, upload, work_folder
from tomostream.remote.leases import Lease
from tomostream.remote.places import RemotePath
from tomostream.strategies.model_folder import RECORD_NAME, SETTINGS_NAME, has_model

LAST_NAME = SETTINGS_NAME
CHECKPOINT_SUFFIX = Path(CHECKPOINT_NAME).suffix
LEASE_NAME = ".lease.json"


def train_remotely(folder: RemotePath, train: Callable[[Path], object]) -> RemotePath:
    """Train into a local folder and upload it; return the URL.

    Raises
    ------
    BusyError
        If another process trains the same model.
    TomostreamError
        Of the training; it names the URL, not the local folder.
    """
    local = work_folder(folder, "training")
    try:
        local.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{local} can't be made: {error.strerror or error}; training keeps its checkpoints there: set XDG_CACHE_HOME to a writable folder"
        ) from None
    with Lease(folder / LEASE_NAME, f"model folder {folder}") as lease:
        if not (local / RECORD_NAME).exists() and has_model(folder):
            for name in folder.below():
                if name != LEASE_NAME:
                    (local / name).parent.mkdir(parents=True, exist_ok=True)
                    download(folder / name, local / name)
        try:
            train(local)
        except TomostreamError as error:
            if str(local) not in str(error):
                raise
            raise type(error)(str(error).replace(str(local), str(folder))) from None
        lease.check()
        _upload(local, folder)
    return folder


def _upload(local: Path, folder: RemotePath) -> None:
    """Make the URL hold what the local folder does; nothing is written if it does so already."""
    names, there = _results(local), folder.below()
    if set(names) <= there.keys() and (folder / LAST_NAME).read_bytes() == (local / LAST_NAME).read_bytes():
        return
    (folder / LAST_NAME).unlink(missing_ok=True)
    for name in there:  # of species that are none any more
        if name.startswith(f"{PARTS_NAME}/") and name not in names:
            (folder / name).unlink(missing_ok=True)
    for name in names:
        upload(local / name, folder / name)


def _results(local: Path) -> list[str]:
    """What belongs to a finished model, and to those of its species, `model.json` last; not the checkpoints, nor hidden files."""
    files = [*local.iterdir(), *local.glob(f"{PARTS_NAME}/*/*")]
    names = [
        path.relative_to(local).as_posix()
        for path in files
        if path.is_file() and not path.name.startswith(".") and path.suffix != CHECKPOINT_SUFFIX
    ]
    return sorted(names, key=lambda name: (name == LAST_NAME, name))
