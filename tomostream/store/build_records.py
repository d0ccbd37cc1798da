"""What a half-written store records of itself, as JSON: in its ledger on a disk, in its head and notes on an object store."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from tomostream.fingerprint import Fingerprint
from tomostream.geometry import Triple

Note = dict[str, Any]
"""Values that the writer of a store keeps until it is complete; each writer has its own keys."""


class LayoutRecord(TypedDict):
    """A layout: shape, chunk and shard of each level, the type of the voxels, and the codec's name, level and whether it has a checksum."""

    levels: list[list[list[int]]]
    dtype: str
    codec: list[Any]


class BuildHead(TypedDict):
    """What makes the store, and its layout; on an object store also whether older objects are still being cleared."""

    fingerprint: Fingerprint
    layout: LayoutRecord
    clearing: NotRequired[bool]


class HolderRecord(TypedDict, total=False):
    """The process that opened a ledger for writing, and the boot of its machine."""

    pid: int
    host: str
    running_since: str


class LedgerLine(TypedDict, total=False):
    """A line of a ledger: it has the keys of one of the kinds that `ledger` lists."""

    fingerprint: Fingerprint
    layout: LayoutRecord
    holder: HolderRecord
    note: Note
    shard: Triple
    lost: Triple
