"""Was a cheap table made from exactly this input?  A hidden JSON file beside it records that."""

from __future__ import annotations

import json
from typing import TypedDict, cast

from tomostream.fingerprint import Fingerprint, plain
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.hashing import file_sha256
from tomostream.remote.places import Place
from tomostream.store.identity import is_same_identity
from tomostream.store.seals import sealed
from tomostream.store.typed_json import json_object


class MadeBy(TypedDict):
    """The record beside a table: what made it, and its hash."""

    fingerprint: Fingerprint
    sha256: str


def _sidecar(result: Place) -> Place:
    return result.with_name(f".{result.name}.made-by.json")


def is_made_by(result: Place, fingerprint: Fingerprint) -> bool:
    """Whether `result` was made from exactly this, and is as it was then."""
    recorded = made_by(result)
    return recorded is not None and is_same_identity(recorded, plain(fingerprint))


def made_by(result: Place) -> Fingerprint | None:
    """The fingerprint of what made `result`; None if there is no record, or the result was changed since."""
    try:
        recorded = json_object(_sidecar(result).read_bytes())
    except OSError:
        return None
    if recorded is None or not isinstance(recorded.get("fingerprint"), dict) or "sha256" not in recorded or not result.is_file():
        return None
    record = cast(MadeBy, recorded)
    return record["fingerprint"] if record["sha256"] == file_sha256(result) else None


def record_made_by(result: Place, fingerprint: Fingerprint) -> None:
    """Record what made `result`."""
    record = MadeBy(fingerprint=fingerprint, sha256=file_sha256(result))
    write_atomically(_sidecar(result), json.dumps(sealed(record), indent=1))
