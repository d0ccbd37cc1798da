"""How is a store built, on a disk or on an object store?  This is the small interface that both share and that `omezarr` uses.

A *build* is a half-written store.  It has a head (the fingerprint of what makes the store, and its layout), one holder at a
time, finished shards, and a last step that makes the store visible.  `local_build` and `object_build` implement it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from tomostream.fingerprint import Fingerprint
from tomostream.geometry import Triple
from tomostream.remote.places import Place, RemotePath
from tomostream.store.build_records import Note
from tomostream.store.local_build import LocalBuild, local_layout, put_file
from tomostream.store.object_build import ObjectBuild, object_layout, put_object
from tomostream.store.specification import StoreLayout


@runtime_checkable  # the tests check annotations as they run
class Build(Protocol):
    """A half-written store, held by this process."""

    @property
    def partial(self) -> Place:
        """What `write_shard` needs, in any process, to write one of its shards."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of what makes the store."""

    @property
    def done(self) -> set[Triple]:
        """Level-0 shards that are finished, with the coarser levels above them."""

    def mark_done(self, index: Triple) -> None:
        """Record that a shard is finished; thread-safe."""

    @property
    def notes(self) -> list[Note]:
        """Values that this process and earlier ones keep until the store is complete."""

    def add_note(self, values: Note) -> None:
        """Keep JSON values with the half-written store; adding them twice is harmless."""

    def publish(self, group: Mapping[str, object]) -> None:
        """Make the store visible under its name, with the metadata of its group."""

    def forget(self) -> None:
        """Drop all finished shards: what they were made from was not what the fingerprint names."""

    def close(self) -> None:
        """Release the build, so that another process can hold it."""


def start_build(path: Place, fingerprint: Fingerprint, layout: StoreLayout, *, overwrite: bool) -> Build:
    """Start a store at `path`, or resume the half-written one with the same fingerprint; see `StoreWriter.create_or_resume`."""
    if isinstance(path, RemotePath):
        return ObjectBuild(path, fingerprint, layout, overwrite=overwrite)
    return LocalBuild(path, fingerprint, layout, overwrite=overwrite)


def read_layout(partial: Place) -> StoreLayout | None:
    """Return the layout of a half-written store; None if it no longer exists."""
    return object_layout(partial) if isinstance(partial, RemotePath) else local_layout(partial)


def put_shard(partial: Place, number: int, index: Triple, layout: StoreLayout, block: np.ndarray) -> None:
    """Write the shard of one of the layout's `arrays`; it is either complete or absent."""
    if isinstance(partial, RemotePath):
        put_object(partial, number, index, layout, block)
    else:
        put_file(partial, number, index, layout, block)
