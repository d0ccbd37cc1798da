"""Was a cheap table made from exactly this input?  A hidden JSON file beside it records that."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict

from tomostream.errors import InputError
from tomostream.fingerprint import Fingerprint, plain
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.hashing import file_sha256
from tomostream.remote.places import Place
from tomostream.store.identity import is_same_identity
from tomostream.store.seals import is_broken, sealed
from tomostream.store.typed_json import check_format, check_json, json_object, parse_json

FORMAT = 1
_START, _END = ".", ".made-by.json"


class MadeBy(BaseModel):
    """The record beside a table: what made it, its hash, and the seal of the record; that of version 0.1 has no `format` and no seal."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: int = FORMAT
    fingerprint: Fingerprint
    sha256: str
    seal: str | None = None


def record_of(result: Place) -> Place:
    """Return where the record of a table is."""
    return result.with_name(f"{_START}{result.name}{_END}")


def recorded_name(file: str) -> str | None:
    """Return the name of the table that a record of this name belongs to; None for another file."""
    return file.removeprefix(_START).removesuffix(_END) if file.startswith(_START) and file.endswith(_END) else None


def parse_record(data: bytes, record: Place) -> MadeBy:
    """Parse a record.

    Raises
    ------
    InputError
        If it is damaged, or a later version of tomostream wrote it.
    """
    found: dict[str, object] = parse_json(data, dict[str, object], record)
    check_format(found, FORMAT, record)
    checked: MadeBy = check_json(found, MadeBy, record)
    if is_broken(found):
        raise InputError(f"{record} is damaged: its seal is broken, it was changed since it was written")
    return checked


def is_made_by(result: Place, fingerprint: Fingerprint) -> bool:
    """Whether `result` was made from exactly this, and is as it was then."""
    recorded = made_by(result)
    return recorded is not None and is_same_identity(recorded, plain(fingerprint))


def made_by(result: Place) -> Fingerprint | None:
    """Return the fingerprint of what made `result`; None if there is no whole record, or the result was changed since.

    Raises
    ------
    InputError
        If a later version of tomostream wrote the record.
    """
    try:
        recorded = json_object(record_of(result).read_bytes())
    except OSError:
        return None
    if (
        recorded is None
        or not isinstance(recorded.get("fingerprint"), dict)
        or not isinstance(recorded.get("sha256"), str)
        or not result.is_file()
    ):
        return None
    check_format(recorded, FORMAT, record_of(result))
    record: MadeBy = check_json(recorded, MadeBy, record_of(result))
    return record.fingerprint if record.sha256 == file_sha256(result) else None


def record_made_by(result: Place, fingerprint: Fingerprint) -> None:
    """Record what made `result`."""
    record = MadeBy(fingerprint=fingerprint, sha256=file_sha256(result))
    write_atomically(record_of(result), json.dumps(sealed(record.model_dump(exclude={"seal"})), indent=1))
