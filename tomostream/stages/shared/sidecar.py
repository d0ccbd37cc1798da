"""Has a table that is cheap to make again been made from exactly this?  A hidden JSON file beside it says so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tomostream.remote.atomic_files import write_text_atomically
from tomostream.remote.hashing import file_sha256
from tomostream.remote.places import Place

if TYPE_CHECKING:
    pass


def _sidecar(result: Place) -> Place:
    return result.with_name(f".{result.name}.made-by.json")


def is_made_by(result: Place, fingerprint: dict[str, Any]) -> bool:
    """Whether `result` was made from exactly this, and is as it was then."""
    try:
        recorded: object = json.loads(_sidecar(result).read_text())
    except (OSError, ValueError):
        return False
    return result.is_file() and recorded == {"fingerprint": fingerprint, "sha256": file_sha256(result)}


def record_made_by(result: Place, fingerprint: dict[str, Any]) -> None:
    """Remember what made `result`."""
    write_text_atomically(_sidecar(result), json.dumps({"fingerprint": fingerprint, "sha256": file_sha256(result)}, indent=1))
