"""Has this been made from the same input with the same settings?  Fingerprints of sources, and sidecar records of cheap results.

A store's fingerprint holds what made it.  A table that is cheap to make again (picks) has a hidden JSON file beside it instead.

Limits: other software's stores are told apart by the number, sizes and dates of their files, by URL only by their metadata.  Secrets of a
URL are no part of a fingerprint: the next run's signature is another.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from tomostream.errors import ExistsError
from tomostream.redaction import redacted
from tomostream.remote.places import Place

if TYPE_CHECKING:
    from tomostream.tomogram import Tomogram


def tomogram_fingerprint(tomogram: Tomogram) -> dict[str, Any]:
    """What identifies a tomogram's data: its own record of what made it, else its path and what its files are."""
    made_by = tomogram.attributes.get("fingerprint")
    if made_by is not None:
        return {"name": tomogram.name, "made_by": made_by}
    return {
        "name": tomogram.name,
        "path": os.path.abspath(tomogram.path) if "://" not in tomogram.path else redacted(tomogram.path),
        "shape": list(tomogram.shape),
        "dtype": str(tomogram.dtype),
        "files": _files(tomogram.path),
    }


def _files(path: str) -> dict[str, int]:
    """Number, bytes and newest time stamp (ns) of a local store's files; nothing for a URL."""
    found = {"number": 0, "bytes": 0, "newest": 0}
    for folder, _, names in os.walk(path):
        for name in names:
            status = os.stat(os.path.join(folder, name))
            found["number"] += 1
            found["bytes"] += status.st_size
            found["newest"] = max(found["newest"], status.st_mtime_ns)
    return found if found["number"] else {}


def refuse_other_kind(store: Place, kind: str | None) -> None:
    """Refuse to replace a store by one of another kind, whatever is asked: the output may be the input by mistake.

    Parameters
    ----------
    store
        Where a store is to be made.
    kind
        Of the new one: `labels`, `scores`; None: a tomogram.

    Raises
    ------
    ExistsError
        If there is a store of tomostream of another kind.
    """
    try:
        found = json.loads((store / "zarr.json").read_bytes())["attributes"]["tomostream"].get("kind")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return  # nothing of ours: `StoreWriter` never replaces that
    if found != kind:
        names = {"labels": "a label mask", "scores": "a score map", None: "a tomogram"}
        raise ExistsError(
            f"{store} is {names.get(found, found)}, which {names.get(kind, kind)} never replaces, not even with --overwrite; choose another output"
        )
