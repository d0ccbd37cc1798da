"""How is a model trained into a folder on an object store?  In a local folder, which is then uploaded.

Training saves checkpoints again and again, and reads them back: that stays on a local disk, below the user's cache folder (`~/.cache/tomostream`,
or XDG_CACHE_HOME), in a folder that belongs to the URL.

1. The URL is leased: one training at a time, on whatever machine.
2. Where nothing is known locally, a finished model is fetched first, so that it is recognised and not trained again.
3. After training all files are uploaded, `model.json` last, and an older one is removed before: what has a `model.json` is whole.

Limits: a stopped training resumes only on the machine that began it; elsewhere it starts again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tomostream.errors import InputError, TomostreamError
from tomostream.remote.copies import download, upload, work_folder
from tomostream.remote.leases import Lease
from tomostream.remote.places import RemotePath
from tomostream.strategies.model_folder import RECORD_NAME, SETTINGS_NAME, has_model

LAST_NAME = SETTINGS_NAME
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
                    download(folder / name, local / name)
        try:
            train(local)
        except TomostreamError as error:
            if str(local) not in str(error):
                raise
            raise type(error)(str(error).replace(str(local), str(folder))) from None
        lease.check()
        if not _is_uploaded(local, folder):
            (folder / LAST_NAME).unlink(missing_ok=True)
            for file in _results(local):
                upload(file, folder / file.name)
    return folder


def _results(local: Path) -> list[Path]:
    """What belongs to a finished model, `model.json` last; not the checkpoints, nor hidden files."""
    files = [path for path in local.iterdir() if path.is_file() and not path.name.startswith(".") and path.suffix != ".pt"]
    return sorted(files, key=lambda path: (path.name == LAST_NAME, path.name))


def _is_uploaded(local: Path, folder: RemotePath) -> bool:
    try:
        return (folder / LAST_NAME).read_bytes() == (local / LAST_NAME).read_bytes()
    except FileNotFoundError:
        return False
