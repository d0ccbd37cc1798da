"""Was this made from the same input with the same settings?  Fingerprints of sources, and sidecar records of cheap results.

A store's fingerprint holds what made it.  A table that is cheap to make again (picks) has a hidden JSON file beside it instead.

Fingerprints hold content and settings, no times and no local paths: a project that was copied elsewhere, or is used from another folder, is
the same (`store.identity`).

Limits: stores of other software at a URL are distinguished only by their metadata.  Secrets in a URL are not part of a fingerprint: the next
run's signature is another.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tomostream.errors import ExistsError
from tomostream.fingerprint import Fingerprint
from tomostream.redaction import redacted
from tomostream.remote.places import Place
from tomostream.store.existing_output import own_attributes
from tomostream.store.identity import folder_identity
from tomostream.store.zarr_opening import is_url

if TYPE_CHECKING:
    from tomostream.tomogram import Tomogram


def tomogram_fingerprint(tomogram: Tomogram) -> Fingerprint:
    """What identifies a tomogram's data: its own record of what made it, else the content of its files (of a URL: the URL)."""
    made_by = tomogram.attributes.get("fingerprint")
    if made_by is not None:
        return {"name": tomogram.name, "made_by": made_by}
    facts = {"name": tomogram.name, "shape": list(tomogram.shape), "dtype": str(tomogram.dtype)}
    if is_url(tomogram.path):
        return facts | {"path": redacted(tomogram.path), "files": {}}
    return facts | {"content": folder_identity(Path(tomogram.path))}


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
    ours = own_attributes(store)
    if not ours:
        return  # nothing of ours: `StoreWriter` never replaces that
    found = ours.get("kind")
    if found != kind:
        names = {"labels": "a label mask", "scores": "a score map", None: "a tomogram"}
        raise ExistsError(
            f"{store} is {names.get(found, 'of another kind') if isinstance(found, str | None) else 'damaged'}, which {names.get(kind, kind)} never replaces, not even with --overwrite; choose another output"
        )
