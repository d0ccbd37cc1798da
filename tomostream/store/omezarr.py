"""How is an OME-Zarr 0.5 store written shard by shard, so that a kill loses only the shards in flight?

1. `StoreWriter.create_or_resume` starts a store, or resumes a half-written one with the same fingerprint; it is held by one
   process at a time.
2. `write_shard` writes one level-0 shard and the shards of the coarser levels above it, coarsest first; it needs only the path or URL of
   the half-written store, so any process on any machine can call it.  Every shard is either complete or absent.
3. `mark_done` records the shard; only the one writer calls it.
4. `finish` writes the group's metadata; only they make it a Zarr group.

`local_build` and `object_build` implement these steps on a disk and on an object store.

A writer's memory besides the block: about one byte a voxel (the coarser levels, averaged in float32; float64 types: two), and two chunks;
on an object store two parts of an upload besides (`budget.REMOTE_BYTES`).

Limits: one writer for each store; a shard may be written twice, with the same content.
"""

from collections.abc import Callable, Mapping
from types import TracebackType

import numpy as np
from jaxtyping import Shaped

from tomostream.errors import TomostreamError
from tomostream.fingerprint import Fingerprint, plain
from tomostream.geometry import BlockGrid, Triple
from tomostream.remote.places import Place
from tomostream.store.build_records import Note
from tomostream.store.existing_output import StoreState, adopted, refuse_existing, store_state
from tomostream.store.pyramid import mean_pooled, rounded_to
from tomostream.store.specification import StoreLayout, StoreSpec, group_metadata
from tomostream.store.store_build import Build, put_shard, read_layout, start_build

Look = Callable[[int, np.ndarray], object]

__all__ = ["StoreSpec", "StoreState", "StoreWriter", "store_state", "write_shard"]


def write_shard(
    partial: Place,
    index: Triple,
    block: Shaped[np.ndarray, "z y x"],
    *,
    look: Look | None = None,
    seams: Shaped[np.ndarray, " n"] | None = None,
) -> None:
    """Write a level-0 shard, the shards of the coarser levels above it, and its seams, into a half-written store.

    Parameters
    ----------
    partial
        `StoreWriter.partial`.
    index
        The shard's (z, y, x) index.
    block
        The voxels of the shard's core, with exactly its shape and the store's type.
    look
        Called with each level and its block, before that is written.
    seams
        The values beside the shard, where the store has any (`StoreSpec.seams`).

    Raises
    ------
    TomostreamError
        If the block or the seams do not fit, or can't be written.
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
    if layout.seams is not None:
        if seams is None or seams.shape != layout.seams.chunk[2:]:
            raise TomostreamError(
                f"shard {index} of {partial} takes {layout.seams.chunk[2]} values of seams, found {0 if seams is None else seams.size}"
            )
        put_shard(partial, len(layout.levels), index, layout, seams[None, None])
    blocks = [block]
    while len(blocks) < len(layout.levels):
        blocks.append(rounded_to(mean_pooled(blocks[-1]), layout.dtype))
    for level in reversed(range(len(blocks))):
        if look is not None:
            look(level, blocks[-1])
        put_shard(partial, level, index, layout, blocks.pop())


class StoreWriter:
    """The one writer of a half-written store; a context manager, made by `create_or_resume`.  Finished shards are kept if it is left early.

    Attributes
    ----------
    path, partial
        The store's final path, and the path that `write_shard` needs while the store is half-written.
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
        """Start a store, or resume the half-written one with the same fingerprint.

        Parameters
        ----------
        path
            Where the finished store will be; by convention `NAME.ome.zarr`.
        spec
            What it holds.
        fingerprint
            JSON values that identify the source and the settings.
        overwrite
            Whether to replace a store with other settings; a finished one is replaced when the new one is complete.

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

    def write(
        self, index: Triple, block: Shaped[np.ndarray, "z y x"], *, look: Look | None = None, seams: Shaped[np.ndarray, " n"] | None = None
    ) -> None:
        """Write a shard at all levels; see `write_shard`."""
        write_shard(self.partial, index, block, look=look, seams=seams)

    def mark_done(self, index: Triple) -> None:
        """Record that a shard is written; a resumed run will not ask for it again.  Thread-safe."""
        self._build.mark_done(index)

    @property
    def notes(self) -> list[Note]:
        """The values that this process and earlier ones gave to `add_note`."""
        return self._build.notes

    def add_note(self, values: Note) -> None:
        """Keep JSON values with the half-written store, for the process that finishes it; adding them twice is harmless.  Thread-safe."""
        self._build.add_note(values)

    def finish(self, attributes: Mapping[str, object] | None = None) -> Place:
        """Write the group's metadata and publish the store under its name.

        Parameters
        ----------
        attributes
            More JSON values for the attribute `tomostream`.

        Raises
        ------
        TomostreamError
            If shards are missing, or the store can't be written.
        """
        missing = self.pending()
        if missing:
            raise TomostreamError(
                f"{self.partial} can't be finished: {len(missing)} of {len(self.shards)} shards are not written, the first is {missing[0]}"
            )
        ours = {**self._spec.attributes, **(attributes or {}), "fingerprint": self._build.fingerprint, "complete": True}
        self._build.publish(group_metadata(self._spec, self.layout, ours))
        return self.path

    def forget(self) -> None:
        """Drop all finished shards, because what they were made from changed: a later run must not take them."""
        self._build.forget()

    def close(self) -> None:
        """Release the lock.  An unfinished store stays for a later run."""
        self._build.close()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()
