"""What a model is, or was to be, trained from: `training.json` in its folder, written before the training begins.

So a stopped training resumes, a finished one is not repeated, and what other settings made is not taken for it.  The file has the keys of
the fingerprint itself, and `format`; that of version 0.1 has no `format`.
"""

from __future__ import annotations

import json
from pathlib import Path

from tomostream.fingerprint import Fingerprint
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.places import Place
from tomostream.store.identity import is_same_identity
from tomostream.store.typed_json import check_format, json_object, refuse_oversized
from tomostream.strategies.model_folder import RECORD_NAME, is_folder_name

FORMAT = 1


def read_training_record(folder: Place) -> Fingerprint | None:
    """Return the fingerprint that a model folder records; None if the record is damaged.

    Raises
    ------
    FileNotFoundError
        If there is none.
    InputError
        If a later version of tomostream wrote it.
    """
    refuse_oversized(folder / RECORD_NAME)
    record = json_object((folder / RECORD_NAME).read_bytes())
    if record is None:
        return None
    check_format(record, FORMAT, folder / RECORD_NAME)
    models = record.get("models", {})
    if not isinstance(models, dict) or not all(is_folder_name(name) and isinstance(one, dict) for name, one in models.items()):
        return None
    return {key: value for key, value in record.items() if key != "format"}


def write_training_record(folder: Path, fingerprint: Fingerprint) -> None:
    """Record what the model of a folder is trained from.

    Raises
    ------
    InputError
        If it can't be written.
    """
    write_atomically(folder / RECORD_NAME, json.dumps({"format": FORMAT, **fingerprint}, indent=1))


def adopted_training(folder: Place, fingerprint: Fingerprint) -> Fingerprint:
    """Return what a folder records, if that means the same as a fingerprint; else the fingerprint.

    Raises
    ------
    InputError
        If a later version of tomostream wrote the record.
    """
    try:
        recorded = read_training_record(folder)
    except OSError:
        return fingerprint
    return recorded if recorded is not None and is_same_identity(recorded, fingerprint) else fingerprint
