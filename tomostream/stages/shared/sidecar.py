"""Was a cheap table made from exactly this input?  A hidden JSON file beside it records that."""

from __future__ import annotations

import json

from tomostream.fingerprint import Fingerprint, plain
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.hashing import file_sha256
from tomostream.remote.places import Place
from tomostream.store.identity import is_same_identity
from tomostream.store.seals import sealed
from tomostream.store.typed_json import json_object


def _sidecar(result: Place) -> Place:
    return result.with_name(f".{result.name}.made-by.json")


def is_made_by(result: Place, fingerprint: Fingerprint) -> bool:
    """Whether `result` was made from exactly this, and is as it was then."""
    try:
        recorded = json_object(_sidecar(result).read_bytes())
    except OSError:
        return False
    if recorded is None or not is_same_identity(recorded.get("fingerprint"), plain(fingerprint)):
        return False
    return result.is_file() and recorded.get("sha256") == file_sha256(result)


def record_made_by(result: Place, fingerprint: Fingerprint) -> None:
    """Record what made `result`."""
    write_atomically(_sidecar(result), json.dumps(sealed({"fingerprint": fingerprint, "sha256": file_sha256(result)}), indent=1))
