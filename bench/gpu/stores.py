"""Make the tomogram and the models of the GPU benchmark: a made-up store, written in seconds, and models with random weights.

The tomogram is noise with dark blobs: one tile of 256 voxels, rolled and turned differently for each shard, so that a volume of
500 x 1000 x 1000 takes seconds to make.  A model's batch statistics fit the tomogram, so that its scores vary; its matched filter looks for
the blobs.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tomostream import defaults
from tomostream.geometry import Triple
from tomostream.store.omezarr import StoreSpec, StoreWriter
from tomostream.strategies.unet.fusion import MatchedSettings
from tomostream.strategies.unet.model import UNetSettings, save_model
from tomostream.tomogram import Tomogram, open_tomogram
from tomostream.version import VERSION

SPACING = 13.48
RADIUS_VOX = 10.0  # of the blobs, level 0: a ribosome at this spacing
BLOB_VOXELS = 120_000  # voxels per blob: as crowded as a cell


def tile(edge: int, seed: int = 0) -> np.ndarray:
    """Return a periodic cube of noise with blobs, float32."""
    rng = np.random.default_rng(seed)
    volume = rng.standard_normal((edge, edge, edge), dtype=np.float32)
    at = np.arange(edge, dtype=np.float32)
    for centre in rng.uniform(0, edge, (max(1, edge**3 // BLOB_VOXELS), 3)):
        away = [(at - c + edge / 2) % edge - edge / 2 for c in centre]  # the tile is a torus
        z, y, x = (np.exp(-(d**2) / (2 * (RADIUS_VOX / 2) ** 2)) for d in away)
        near = [np.flatnonzero(part > 1e-3) for part in (z, y, x)]
        volume[np.ix_(*near)] -= 2.0 * z[near[0]][:, None, None] * y[near[1]][:, None] * x[near[2]]
    return volume


def tomogram(folder: Path, shape: Triple, dtype: str) -> Tomogram:
    """Open the store of this shape and type, with levels 0 and 1; make it if it does not exist."""
    path = folder / f"{dtype}-{'x'.join(map(str, shape))}.ome.zarr"
    if path.exists():
        return open_tomogram(path)
    spec = StoreSpec(path.name.split(".")[0], shape, np.dtype(dtype), SPACING, None, None, "none", 2, {"kind": "tomogram"})
    values = tile(min(defaults.SHARD_VOX, 2 * max(shape)))
    if dtype == "int8":
        values = np.clip(np.rint(32 * values), -127, 127).astype(np.int8)
    with StoreWriter.create_or_resume(path, spec, fingerprint={"made": "for a benchmark"}, overwrite=False) as writer:
        for number, index in enumerate(writer.pending()):
            core = writer.shards.core(index)
            rolled = np.roll(values.transpose(np.roll((0, 1, 2), number % 3)), (17 * number, 31 * number), axis=(0, 1))
            writer.write(index, np.ascontiguousarray(rolled[tuple(slice(0, n) for n in core.shape)]))
            writer.mark_done(index)
        writer.finish()
    return open_tomogram(path)


def model(folder: Path, channels: tuple[int, ...], *, level: int, is_fused: bool) -> Path:
    """Return the model folder; make it if it does not exist."""
    import torch

    from tomostream.learn.recalibration import recalibrated
    from tomostream.strategies.unet.network import ResidualUNet

    path = folder / f"model-{'-'.join(map(str, channels))}-level{level}{'-fused' if is_fused else ''}"
    if (path / "model.json").exists():
        return path
    image = torch.from_numpy(tile(40))[None, None]
    network = recalibrated(ResidualUNet(channels, 1, seed=0), [torch.cat([image, image.flip(2)])], device=torch.device("cpu"))
    with torch.no_grad():
        network.head.weight.mul_(30)  # undoes the small initial weights, so that scores vary
    radius = RADIUS_VOX / 2**level
    matched, profiles = None, ()
    if is_fused:
        support = defaults.SUPPORT * radius
        matched = MatchedSettings(
            support_vox=(support,), floor=defaults.MATCHED_FLOOR, weight=(8.0,), intercept=(-3.0,), smooth_vox=defaults.MATCHED_SMOOTH * radius
        )  # fmt: skip
        profiles = (-np.exp(-(np.arange(math.floor(support) + 1, dtype=np.float64) ** 2) / (2 * (radius / 2) ** 2)),)
    settings = UNetSettings(
        channels=channels,
        species=("blob",),
        radius_ang=(RADIUS_VOX * SPACING,),
        level=level,
        spacing=SPACING,
        clip_sigma=defaults.CLIP_SIGMA,
        label_shape="sphere",
        objective={"name": "none"},
        precision="float32",
        trained_on=(),
        version=VERSION,
        matched=matched,
        batch_statistics="tomogram",
    )
    save_model(path, network, settings, profiles=profiles)
    return path
