"""Small stores for tests."""

from pathlib import Path

import numpy as np
import zarr

from tomostream.geometry import triple
from tomostream.store.omezarr import StoreSpec, StoreWriter


def spec_of(volume, *, chunk=(4, 4, 4), shard=(16, 16, 16), codec="none", levels=None, spacing=13.48, name="tomo", **attributes):
    return StoreSpec(name, triple(volume.shape), volume.dtype, spacing, chunk, shard, codec, levels, attributes)


def write_store(path, volume, *, fingerprint=None, overwrite=False, **settings):
    """A finished store of `volume`; `settings` as of `spec_of`."""
    spec = spec_of(volume, **settings)
    with StoreWriter.create_or_resume(Path(path), spec, fingerprint=fingerprint or {"made": "for a test"}, overwrite=overwrite) as writer:
        for index in writer.pending():
            writer.write(index, volume[writer.shards.core(index).slices])
            writer.mark_done(index)
        return writer.finish()


def write_foreign(path, levels, *, version="0.4", scale=10.0, unit="angstrom", axes="zyx", chunk=8, dtype=None, factors=None):
    """An OME-Zarr store as other software writes it, through zarr-python."""
    zarr_format = 2 if version == "0.4" else 3
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    scales = scale if isinstance(scale, tuple) else (scale,) * 3
    factors = factors or [2**k for k in range(len(levels))]
    datasets = []
    for k, volume in enumerate(levels):
        array = group.create_array(str(k), shape=volume.shape, chunks=(min(chunk, 8),) * volume.ndim, dtype=dtype or volume.dtype)
        array[...] = volume
        leading = [1.0] * (volume.ndim - 3)
        datasets.append(
            {"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": leading + [s * factors[k] for s in scales]}]}
        )
    kinds = {"t": "time", "c": "channel"}
    named = [{"name": a, "type": kinds.get(a, "space"), **({"unit": unit} if unit and a not in kinds else {})} for a in axes]
    image = {"multiscales": [{"version": version, "axes": named, "datasets": datasets}]}
    group.attrs.update(image if version == "0.4" else {"ome": {"version": "0.5", **image}})
    return path


def noise(*shape, dtype=np.float32, seed=0):
    return (np.random.default_rng(seed).normal(size=shape) * 30).astype(dtype)


def tree(folder):
    """Every file below a folder with its bytes."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(Path(folder).rglob("*")) if file.is_file()}
