"""What does a store hold, and which metadata describe it?  Pure: no input or output.

The group carries OME-NGFF 0.5 metadata: axes z y x in angstrom, and for level k of voxel spacing vs the scale vs 2^k and the
translation vs (2^k - 1) / 2, because a coarse voxel's centre lies between the centres of the voxels that it averages.

References
----------
Moore et al. (2023), OME-Zarr: a cloud-optimized bioimaging file format, Histochem Cell Biol 160:223.
OME-NGFF 0.5: https://ngff.openmicroscopy.org/0.5/
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from yaozarrs import v05
from zarr.storage import MemoryStore

from tomostream.errors import InputError
from tomostream.geometry import Triple, triple
from tomostream.store.build_records import LayoutRecord
from tomostream.store.pyramid import LevelLayout, plan_levels, seam_layout
from tomostream.store.records import FORMAT, SEAMS
from tomostream.store.seals import metadata_text, sealed_group
from tomostream.store.shard_file import Codec
from tomostream.store.zarr_loop import start_loop

_DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """What a store holds.

    Parameters
    ----------
    name
        The image's name.
    shape
        Of the first stored level, voxels (z y x).
    dtype
        Of every level.
    spacing
        Edge of a voxel of the first stored level, angstrom.
    chunk, shard
        Wanted edges at level 0, voxels, or None: chosen; see `pyramid.plan_levels`.
    codec
        `none`, `zstd`, `zstd:LEVEL` or `lz4-bitshuffle`.
    levels
        Number of levels with level 0; None: automatic.
    attributes
        JSON values for the group's attribute `tomostream`.
    corner
        Position of the first voxel's centre, angstrom; above 0 where the finest levels of the pyramid are not stored.
    seams
        Values that are kept with each shard of the first level, in an array beside the levels (`coarse_grid`); 0: none.
    """

    name: str
    shape: Triple
    dtype: np.dtype[Any]
    spacing: float
    chunk: Triple | None
    shard: Triple | None
    codec: str
    levels: int | None
    attributes: Mapping[str, object] = field(default_factory=dict)
    corner: float = 0.0
    seams: int = 0


@dataclass(frozen=True, slots=True)
class StoreLayout:
    """What a writer of shards must know: the levels, finest first, the type of the voxels, and the codec; and the array of seams, if any."""

    levels: tuple[LevelLayout, ...]
    dtype: np.dtype[Any]
    codec: Codec
    seams: LevelLayout | None = None

    @property
    def arrays(self) -> tuple[tuple[str, LevelLayout], ...]:
        """All arrays of the store, by their paths: the levels, then the seams."""
        levels = tuple((str(number), level) for number, level in enumerate(self.levels))
        return levels if self.seams is None else (*levels, (SEAMS, self.seams))

    @classmethod
    def plan(cls, spec: StoreSpec) -> StoreLayout:
        """Lay out a store.

        Raises
        ------
        InputError
            If the specification is impossible.
        """
        dtype = np.dtype(spec.dtype).newbyteorder("=")
        if dtype.name not in _DTYPES:
            raise InputError(f"store '{spec.name}': voxels of type {dtype} can't be stored; allowed are {', '.join(_DTYPES)}")
        if not 0 < spec.spacing < float("inf"):
            raise InputError(f"store '{spec.name}': the voxel spacing is {spec.spacing} angstrom; it must be above zero and finite")
        levels = plan_levels(spec.shape, chunk=spec.chunk, shard=spec.shard, levels=spec.levels)
        seams = seam_layout(levels[0].shards.counts, spec.seams) if spec.seams else None
        return cls(levels, dtype, Codec.parse(spec.codec), seams)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all chunks, before they are compressed."""
        return sum(layout.stored_voxels for _, layout in self.arrays) * self.dtype.itemsize

    def to_json(self) -> LayoutRecord:
        """Return plain values for JSON."""
        levels = [[list(level.shape), list(level.chunk), list(level.shard)] for level in self.levels]
        record: LayoutRecord = {
            "levels": levels,
            "dtype": self.dtype.name,
            "codec": [self.codec.name, self.codec.level, self.codec.has_checksum],
        }
        if self.seams is not None:
            record["seams"] = self.seams.chunk[2]
        return record

    @classmethod
    def from_json(cls, values: LayoutRecord) -> StoreLayout:
        """Read what `to_json` wrote.

        Raises
        ------
        InputError
            If the record is damaged.
        """
        try:
            levels = tuple(LevelLayout(*(triple(edges) for edges in level)) for level in values["levels"])
            seams = seam_layout(levels[0].shards.counts, values["seams"]) if "seams" in values else None
            return cls(levels, np.dtype(values["dtype"]), Codec(*values["codec"]), seams)
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"the record of a half-written store is damaged ({error}); start again with --overwrite") from None

    def array_metadata(self, number: int) -> dict[str, object]:
        """Return the `zarr.json` of one of the `arrays`."""
        start_loop()
        _, layout = self.arrays[number]
        array = zarr.create_array(
            MemoryStore(),
            shape=layout.shape,
            chunks=layout.chunk,
            shards=layout.shard,
            dtype=self.dtype,
            compressors=self.codec.zarr_codecs(self.dtype) or None,
            filters=None,
            fill_value=0,
            dimension_names=("z", "y", "x"),
        )
        return dict(array.metadata.to_dict())


def group_metadata(spec: StoreSpec, layout: StoreLayout, ours: Mapping[str, object]) -> dict[str, Any]:
    """Return the `zarr.json` of the group; `ours` becomes its attribute `tomostream`, with the hashes of the arrays' metadata, sealed."""
    levels = len(layout.levels)
    hashes = [hashlib.sha256(metadata_text(layout.array_metadata(number)).encode()).hexdigest() for number in range(len(layout.arrays))]
    recorded = {"format": FORMAT, **ours, "levels_sha256": hashes[:levels]}
    if layout.seams is not None:
        recorded["seams_sha256"] = hashes[-1]
    datasets = [
        v05.Dataset(
            path=str(level),
            coordinateTransformations=[
                v05.ScaleTransformation(scale=[spec.spacing * 2**level] * 3),
                v05.TranslationTransformation(translation=[spec.corner + spec.spacing * (2**level - 1) / 2] * 3),
            ],
        )
        for level in range(levels)
    ]
    multiscale = v05.Multiscale(
        name=spec.name, axes=[v05.SpaceAxis(name=name, unit="angstrom") for name in "zyx"], datasets=datasets, type="mean"
    )
    image = v05.Image(version="0.5", multiscales=[multiscale])
    ome = image.model_dump(mode="json", exclude_none=True)
    return sealed_group(
        {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": {"ome": ome, "tomostream": recorded},
        }
    )
