"""What does the metadata of an OME-Zarr image (0.4 or 0.5) say about its axes, voxel spacing and levels?

1. Version 0.5 keeps the metadata under the attribute `ome`, 0.4 beside the other attributes; the first multiscale image is used.
2. The last three axes must be z y x; the caller removes axes before them (time, channel).
3. Voxel spacing = scale of the dataset x scale of the whole image, converted to angstrom.

Limits: rotations and affine transformations are refused by the formats themselves; translations are not needed, because positions
count from the volume's corner.

References
----------
OME-NGFF 0.4 and 0.5: https://ngff.openmicroscopy.org/0.4/, https://ngff.openmicroscopy.org/0.5/
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from tomostream.errors import InputError
from tomostream.store.spacing import AGREES, spacing_doubt

_ANGSTROM = {"angstrom": 1.0, "ångström": 1.0, "nanometer": 10.0, "micrometer": 10_000.0}
_ANISOTROPY = 0.01  # relative difference of the axes' spacings above which voxels aren't cubes


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """What is known about an image without opening its arrays.

    Parameters
    ----------
    paths
        Paths of the level arrays below the group, finest first.
    spacings
        Voxel spacing of each level, (z, y, x) in angstrom; bare numbers if the axes have no unit.
    has_unit
        Whether every axis has a unit; without one the voxel spacing is unknown.
    leading
        Number of axes before z y x.
    warnings
        Assumptions that had to be made.
    """

    paths: tuple[str, ...]
    spacings: tuple[tuple[float, float, float], ...]
    leading: int
    has_unit: bool
    warnings: tuple[str, ...]

    @property
    def spacing(self) -> float:
        """Edge of a level-0 voxel, angstrom; the mean over the axes if they differ slightly."""
        z, y, x = self.spacings[0]
        return z if z == y == x else (z + y + x) / 3

    def finer(self, level: int) -> ImageMetadata:
        """Return the same with the spacings of levels 2^level times finer."""
        spacings = tuple((z / 2**level, y / 2**level, x / 2**level) for z, y, x in self.spacings)
        return replace(self, spacings=spacings)


def read_image_metadata(attributes: Mapping[str, Any], where: str) -> ImageMetadata:
    """Interpret a group's attributes.

    Parameters
    ----------
    attributes
        Of the Zarr group.
    where
        The store's path, for messages.

    Raises
    ------
    InputError
        If they don't describe an image with cubic voxels and axes z y x.
    """
    try:
        image = _image(attributes)
        axes = [axis if isinstance(axis, dict) else {"name": str(axis)} for axis in image.get("axes", ())]
        paths = tuple(str(dataset["path"]) for dataset in image["datasets"])
        whole = _scale(image.get("coordinateTransformations"), len(axes))
        scales = [[a * b for a, b in zip(_scale(_with_scale(d), len(axes)), whole, strict=True)] for d in image["datasets"]]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{where} has no usable OME-Zarr metadata ({type(error).__name__}: {error}): an image needs 'multiscales' with axes and, for "
            "each dataset, a path and a scale (OME-Zarr 0.4 or 0.5); give the image's own folder, or convert the MRC file with `tomostream convert`"
        ) from None
    if outside := [
        path for path in paths if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or set(path) & set("\\:\0")
    ]:
        raise InputError(f"{where} names a level at {outside[0]!r}, outside of itself; its metadata are wrong, or hostile")
    names = [str(axis.get("name", "")).lower() for axis in axes]
    if names[-3:] != ["z", "y", "x"] or not paths:
        raise InputError(
            f"{where} has the axes ({', '.join(names)}); a tomogram needs z, y, x, at most with time or channel of length 1 before them"
        )
    factors, has_unit = _to_angstrom(axes[-3:], where)
    spacings: list[tuple[float, float, float]] = []
    for scale in scales:
        z, y, x = (s * f for s, f in zip(scale[-3:], factors, strict=True))
        spacings.append((z, y, x))
    finest = spacings[0]
    if not all(0 < s < math.inf for s in finest):
        raise InputError(
            f"{where} has voxel spacings of {finest} angstrom (z, y, x); they must be above zero and finite: correct its scale"
        )
    if max(finest) / min(finest) - 1 > _ANISOTROPY:
        raise InputError(
            f"{where} has voxels of {finest[0]:g} x {finest[1]:g} x {finest[2]:g} angstrom (z, y, x); they may differ by "
            f"{100 * _ANISOTROPY:g} % at most: resample the tomogram to cubic voxels"
        )
    metadata = ImageMetadata(paths, tuple(spacings), len(axes) - 3, has_unit, ())
    doubt = spacing_doubt(metadata.spacing) if has_unit else no_unit(metadata.spacing)
    return replace(metadata, warnings=() if doubt is None else (doubt,))


def no_unit(scale: float) -> str:
    """Explain that the voxel spacing of an image without a unit is unknown."""
    return (
        f"the axes have no unit (their scale is {scale:g}), so the voxel spacing is not known; give it with --voxel-size ANGSTROM (in a "
        "configuration: voxel_size), or write the unit into the metadata"
    )


def known_spacing(metadata: ImageMetadata, voxel_size: float | None, path: str) -> float | None:
    """Return the voxel spacing, angstrom: the image's, else the one that the caller says; None where there is neither.

    Raises
    ------
    InputError
        If the two differ.
    """
    if not metadata.has_unit:
        return voxel_size
    if voxel_size is not None and abs(voxel_size / metadata.spacing - 1) > AGREES:
        raise InputError(
            f"{path} says that its voxels are {metadata.spacing:g} angstrom, --voxel-size (in a configuration: voxel_size) says {voxel_size:g}; "
            "leave that out, or mend the store's metadata"
        )
    return metadata.spacing


def doubts(metadata: ImageMetadata, voxel_size: float | None) -> tuple[str, ...]:
    """Return what has to be assumed about an image whose voxel spacing the caller may say."""
    if metadata.has_unit or voxel_size is None:
        return metadata.warnings
    doubt = spacing_doubt(voxel_size)
    return () if doubt is None else (doubt,)


def _image(attributes: Mapping[str, Any]) -> dict[str, Any]:
    source = attributes.get("ome", attributes)
    image: dict[str, Any] = source["multiscales"][0]
    return image


def _with_scale(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a dataset's transformations; without a scale among them the voxel spacing would be a guess."""
    transformations: list[dict[str, Any]] = dataset["coordinateTransformations"]
    if not any(transformation["type"] == "scale" for transformation in transformations):
        raise KeyError("scale")
    return transformations


def _scale(transformations: Any, axes: int) -> list[float]:
    """Return the product of the scales in a list of transformations; no list means 1."""
    result = [1.0] * axes
    for transformation in transformations or ():
        if transformation["type"] == "scale":
            result = [a * float(b) for a, b in zip(result, transformation["scale"], strict=True)]
    return result


def _to_angstrom(axes: list[dict[str, Any]], where: str) -> tuple[list[float], bool]:
    units = [None if axis.get("unit") is None else str(axis["unit"]) for axis in axes]
    unknown = [unit for unit in units if unit is not None and unit not in _ANGSTROM]
    if unknown:
        raise InputError(
            f"{where} measures its axes in '{unknown[0]}'; known are angstrom, nanometer and micrometer: correct the unit in its metadata"
        )
    if None in units:
        return [1.0] * len(units), False
    return [_ANGSTROM[str(unit)] for unit in units], True
