"""Only a part of the volume: a box and/or a mask or label volume on the tomogram's grid, MRC or OME-Zarr.

A label may count with a distance: then voxels so near to one of that label (Euclidean, centre to centre) count too.  Distances are worked out in the
box that is asked for and as much around it.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomostream.config.region import RegionOfTomogram
from tomostream.errors import InputError
from tomostream.fingerprint import Fingerprint
from tomostream.geometry import Box, Triple
from tomostream.mrc_volume import MrcVolume, open_mrc
from tomostream.project import is_mrc
from tomostream.remote.hashing import file_sha256
from tomostream.stages.shared.fingerprints import tomogram_fingerprint
from tomostream.store.spacing import AGREES
from tomostream.tomogram import Tomogram, open_tomogram
from tomostream.units import parse_box

Labels = tuple[tuple[int, float], ...]  # each label that counts, with its distance in voxels; empty: all but 0


@functools.lru_cache(maxsize=4)
def open_mask(path: str) -> Tomogram | MrcVolume:
    """Open a mask or label volume; only its head is read.

    Raises
    ------
    InputError
        If it is no OME-Zarr store, nor a plain local MRC file.
    """
    return open_mrc(Path(path)) if is_mrc(path) else open_tomogram(path)


def mask_fingerprint(path: str | None) -> Fingerprint | None:
    """What identifies a mask's voxels; None for none."""
    if path is None:
        return None
    mask = open_mask(path)
    if isinstance(mask, Tomogram):
        return tomogram_fingerprint(mask)
    return {"name": mask.name, "sha256": file_sha256(Path(path))}


def restriction_to(region: RegionOfTomogram, shape: Triple, spacing: float, name: str) -> Restriction:
    """The part of a tomogram of this shape and spacing (angstrom) that a configuration asks for.

    Raises
    ------
    InputError
        If it leaves the volume, holds nothing, or the mask is not on the tomogram's grid.
    """
    box: Box | None = None if region.box is None else parse_box(region.box, "region.box")
    if region.z is not None:
        slab = Box((region.z[0], 0, 0), (region.z[1], *shape[1:]))
        box = slab if box is None else box.clipped(slab)
    labels = tuple((label, distance.in_voxels(spacing)) for label, distance in (region.labels or {}).items())
    restriction = Restriction(box, region.mask, labels)
    try:
        restriction.check(shape, name, spacing=spacing)
    except InputError as error:
        raise InputError(str(error).replace("--", "region: ", 1)) from None
    if box is not None and box.is_empty:
        raise InputError(f"region: z and box have nothing in common in tomogram '{name}'")
    return restriction


def mask_in(path: str, box: Box, *, labels: Labels = ()) -> np.ndarray:
    """Return where the mask at `path` counts in a box: bool (z, y, x)."""
    mask = open_mask(path)
    reach = math.ceil(max((distance for _, distance in labels), default=0.0))
    read = box.expanded(reach).clipped(Box.whole(mask.shape))
    values = mask.read(read)
    if not labels:
        wanted: np.ndarray = values != 0
        return wanted
    inner = box.relative_to(read.start).slices
    wanted = np.zeros(box.shape, dtype=bool)
    for label, distance in labels:
        is_label = values == label
        if distance > 0 and is_label.any():
            from scipy import ndimage

            wanted |= ndimage.distance_transform_edt(~is_label)[inner] <= distance
        else:
            wanted |= is_label[inner]
    return wanted


@dataclass(frozen=True, slots=True)
class Restriction:
    """Where work is wanted: inside `box` and where `mask` counts; None means everywhere."""

    box: Box | None
    mask: str | None
    labels: Labels = ()

    def check(self, shape: Triple, name: str, *, spacing: float | None = None) -> None:
        """Refuse a box or mask that does not fit a volume of this shape, and spacing in angstrom if that is known.

        Raises
        ------
        InputError
            If the box leaves the volume, or the mask has another shape or spacing.
        """
        if self.box is not None and not Box.whole(shape).contains(self.box):
            raise InputError(f"--box {self.box} leaves tomogram '{name}', whose shape is z,y,x = {','.join(map(str, shape))} voxels")
        if self.mask is None:
            return
        mask = open_mask(self.mask)
        if mask.shape != shape:
            found = ",".join(map(str, mask.shape))
            raise InputError(
                f"--mask {self.mask} has shape z,y,x = {found}, tomogram '{name}' {','.join(map(str, shape))}; give a mask of the tomogram's shape"
            )
        if spacing is not None and mask.known_spacing is not None and abs(mask.known_spacing / spacing - 1) > AGREES:
            raise InputError(
                f"--mask {self.mask} has voxels of {mask.known_spacing:g} A, tomogram '{name}' of {spacing:g} A; they must be equal: "
                "bring the mask to the tomogram's grid, or mend its header"
            )

    def is_empty_in(self, box: Box) -> bool:
        """Whether nothing is wanted in this box (a mask is not read for it)."""
        return self.box is not None and self.box.clipped(box).is_empty

    def wanted(self, box: Box) -> np.ndarray | None:
        """Return where work is wanted in `box`: bool (z, y, x), or None for everywhere."""
        if self.box is None and self.mask is None:
            return None
        inside = np.zeros(box.shape, dtype=bool)
        part = box if self.box is None else self.box.clipped(box)
        inside[part.relative_to(box.start).slices] = True
        if self.mask is not None:
            inside &= mask_in(self.mask, box, labels=self.labels)
        return inside

    def apply(self, scores: np.ndarray, box: Box, *, missing: float = math.nan) -> None:
        """Make the scores (species, z, y, x) of `box` missing where none are wanted."""
        wanted = self.wanted(box)
        if wanted is not None:
            scores[:, ~wanted] = missing

    def holds(self, positions: np.ndarray, shape: Triple) -> np.ndarray:
        """Which positions (n, 3; voxels z y x) lie on a voxel that is wanted of a volume of this shape: bool (n,)."""
        nearest = np.clip(np.rint(positions).astype(np.int64), 0, np.asarray(shape) - 1)
        result = np.ones(len(nearest), dtype=bool)
        for number, voxel in enumerate(nearest.tolist()):
            one = Box((voxel[0], voxel[1], voxel[2]), (voxel[0] + 1, voxel[1] + 1, voxel[2] + 1))
            wanted = self.wanted(one)
            result[number] = True if wanted is None else bool(wanted[0, 0, 0])
        return result
