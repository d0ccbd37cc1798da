"""What a half-written store records of itself, as JSON: in its ledger on a disk, in its head and notes on an object store."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict, cast

from tomostream.fingerprint import Fingerprint
from tomostream.geometry import Triple
from tomostream.store.typed_json import check_format

Note = dict[str, Any]
"""Values that the writer of a store keeps until it is complete; each writer has its own keys."""


class LayoutRecord(TypedDict):
    """A layout: shape, chunk and shard of each level, the type of the voxels, the codec's name, level and whether it has a checksum, and the seams."""

    levels: list[list[list[int]]]
    dtype: str
    codec: list[Any]
    seams: NotRequired[int]


FORMAT = 1


class BuildHead(TypedDict):
    """What makes the store, and its layout; on an object store also whether older objects are still being cleared.

    `format` counts for all files of the half-written store; version 0.1 did not write it.
    """

    format: NotRequired[int]
    fingerprint: Fingerprint
    layout: LayoutRecord
    clearing: NotRequired[bool]


def new_head(fingerprint: Fingerprint, layout: LayoutRecord) -> BuildHead:
    """Return the head of a store that is begun now."""
    return {"format": FORMAT, "fingerprint": fingerprint, "layout": layout}


def checked_head(found: dict[str, Any], where: object) -> BuildHead:
    """Check the head that a half-written store has.

    Raises
    ------
    InputError
        If a later version of tomostream wrote it.
    """
    check_format(found, FORMAT, where)
    return cast(BuildHead, found)


def is_same_build(one: BuildHead | None, other: BuildHead) -> bool:
    """Whether there is a complete head that means the same as another; `format` may be absent."""
    return (
        one is not None and not one.get("clearing") and (one["fingerprint"], one.get("layout")) == (other["fingerprint"], other["layout"])
    )


class HolderRecord(TypedDict, total=False):
    """The process that opened a ledger for writing, and the boot of its machine."""

    pid: int
    host: str
    running_since: str


class LedgerLine(TypedDict, total=False):
    """A line of a ledger: it has the keys of one of the kinds that `ledger` lists."""

    format: int
    fingerprint: Fingerprint
    layout: LayoutRecord
    holder: HolderRecord
    note: Note
    shard: Triple
    lost: Triple
