"""How is an OME-Zarr 0.5 store written shard by shard, so that a kill loses only the shards in flight?

1. `StoreWriter.create_or_resume` begins a store, or takes up a half-written one whose fingerprint is the same; it is held by one
   process at a time.
2. `write_shard` writes one level-0 shard and the shards of the coarser levels above it, coarsest first; it needs the path or URL of
   the half-written store only, so that any process on any machine can do it.  Every shard is there whole or not at all.
3. `mark_done` notes the shard; the one writer does this.
4. `finish` writes the group's metadata, which alone makes a Zarr group of it.

How each of these is done on a disk and on an object store: `builds`.

A writer's memory besides the block: about one byte a voxel (the coarser levels, averaged in float32; float64 types: two), and two chunks;
on an object store two parts of an upload besides (`budget.REMOTE_BYTES`).

Limits: one writer a store; the same shard may be written twice, by equal content.
"""

from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Shaped

from tomostream.errors import TomostreamError
from tomostream.fingerprint import Fingerprint, plain
from tomostream.geometry import BlockGrid, Triple
from tomostream.remote.places import Place
from tomostream.store.existing_output import StoreState, adopted, refuse_existing, store_state
from tomostream.store.pyramid import mean_pooled, rounded_to
from tomostream.store.specification import StoreLayout, StoreSpec, group_metadata
from tomostream.store.store_build import Build, put_shard, read_layout, start_build

__all__ = ["StoreSpec", "StoreState", "StoreWriter", "store_state", "write_shard"]


def write_shard(partial: Place, index: Triple, block: Shaped[np.ndarray, "z y x"]) -> None:
    """Write a level-0 shard and the shards of the coarser levels above it into a half-written store.

    Parameters
    ----------
    partial
        What `StoreWriter.partial` names.
    index
        The shard's (z, y, x) index.
    block
        The voxels of the shard's core: exactly its shape, and the store's type.

    Raises
    ------
    TomostreamError
        If the block does not fit, or the disk refuses it.
    """
    layout = read_layout(partial)
    if layout is None:
        raise TomostreamError(f"{partial} is not a store that is being written; it was finished, moved or removed by another process")
    shards = layout.levels[0].shards
    if not all(0 <= i < n for i, n in zip(index, shards.counts, strict=True)):
        raise TomostreamError(f"{partial} has no shard {index}: it has {shards.counts} shards")
    core = shards.core(index)
    if block.shape != core.shape or block.dtype.newbyteorder("=") != layout.dtype:
        raise TomostreamError(
            f"shard {index} of {partial} takes {layout.dtype} voxels of shape {core.shape}, found {block.dtype} of shape {tuple(block.shape)}"
        )
    blocks = [block]
    while len(blocks) < len(layout.levels):
        blocks.append(rounded_to(mean_pooled(blocks[-1]), layout.dtype))
    for level in reversed(range(len(blocks))):
        put_shard(partial, level, index, layout, blocks.pop())


class StoreWriter:
    """The one writer of a half-written store; made by `create_or_resume`, a context manager.  Leaving it early keeps what is done.

    Attributes
    ----------
    path, partial
        The store's final place, and what `write_shard` needs while it is half-written.
    layout
        Of all levels.
    """

    def __init__(self, path: Place, spec: StoreSpec, build: Build, layout: StoreLayout) -> None:
        self.path = path
        self.layout = layout
        self._spec = spec
        self._build = build

    @classmethod
    def create_or_resume(cls, path: Place, spec: StoreSpec, *, fingerprint: Fingerprint, overwrite: bool) -> "StoreWriter":
        """Start a store, or take up the half-written one with the same fingerprint.

        Parameters
        ----------
        path
            Where the finished store will be; by convention `NAME.ome.zarr`.
        spec
            What it holds.
        fingerprint
            JSON values that say from what, and with which settings, it is made.
        overwrite
            Whether a store of other settings may be replaced; a finished one is, when the new one is whole.

        Raises
        ------
        InputError
            If the specification is impossible, or the folder can't be written.
        ExistsError
            If there is something at `path`, or half-written with other settings, and `overwrite` is false; or at `path` is
            something that is not ours.
        BusyError
            If another process writes it.
        """
        layout = StoreLayout.plan(spec)
        fingerprint = plain(fingerprint) if overwrite else adopted(path, fingerprint)
        refuse_existing(path, fingerprint, overwrite=overwrite)
        return cls(path, spec, start_build(path, fingerprint, layout, overwrite=overwrite), layout)

    @property
    def partial(self) -> Place:
        """The half-written store."""
        return self._build.partial

    @property
    def shards(self) -> BlockGrid:
        """The level-0 shards."""
        return self.layout.levels[0].shards

    def pending(self) -> list[Triple]:
        """The indices of the level-0 shards that are not marked as done, z slowest."""
        return [index for index in self.shards.indices() if index not in self._build.done]

    def write(self, index: Triple, block: Shaped[np.ndarray, "z y x"]) -> None:
        """Write a shard at all levels; see `write_shard`."""
        write_shard(self.partial, index, block)

    def mark_done(self, index: Triple) -> None:
        """Note that a shard is written; a resumed run will not ask for it again.  Safe from several threads."""
        self._build.mark_done(index)

    @property
    def notes(self) -> list[dict[str, Any]]:
        """What this process and those before it gave to `add_note`."""
        return self._build.notes

    def add_note(self, values: dict[str, Any]) -> None:
        """Keep JSON values with the half-written store, for whoever finishes it; again is no harm.  Safe from several threads."""
        self._build.add_note(values)

    def finish(self, attributes: dict[str, Any] | None = None) -> Place:
        """Write the group's metadata and give the store its name.

        Parameters
        ----------
        attributes
            More JSON values for the attribute `tomostream`.

        Raises
        ------
        TomostreamError
            If shards are missing, or the disk refuses it.
        """
        missing = self.pending()
        if missing:
            raise TomostreamError(
                f"{self.partial} can't be finished: {len(missing)} of {len(self.shards)} shards are not written, the first is {missing[0]}"
            )
        ours = {**self._spec.attributes, **(attributes or {}), "fingerprint": self._build.fingerprint, "complete": True}
        self._build.publish(group_metadata(self._spec, self.layout, ours))
        return self.path

    def close(self) -> None:
        """Let go of the lock.  An unfinished store stays for a later run."""
        self._build.close()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()
