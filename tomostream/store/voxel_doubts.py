"""Do a few voxels already show that something is wrong with a volume, before hours are spent on it?

1. Empty sections: three rows of each section are read; if they are all NaN, or all one value, the section is empty
   there.  Masks, cut-off reconstructions and failed binning leave such slabs.
2. Contrast: most software writes matter dark.  A few sections are averaged over cubes of 4 voxels; if their
   distribution is skewed to the bright side, the contrast was probably inverted.
3. Shape: a volume that is thinnest along y or x lies on its side (an IMOD reconstruction before it is rotated); few huge sections are a
   tilt series.

Limits: only rows are read, so a small hole is missed; pure noise has no skewness, so its contrast can't be judged.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tomostream.geometry import Box, Triple, triple

MOST_BYTES = 64 * 10**6  # read from one volume
_PARTS = (0.25, 0.5, 0.75)  # fractions of a section's height at which rows are read
_PLACES, _BIN = 8, 4
SAMPLED_SECTIONS = _PLACES * _BIN  # read by `contrast_doubts`
_LEAN = 0.2  # skewness from which the contrast counts as inverted; simulated and real tomograms have -0.25 to -0.8
_LEAST_SAMPLES = 4000
TELLING_VOXELS = _LEAST_SAMPLES * _BIN**3  # needed to judge the contrast
_THINNER = 0.6  # fraction of the next thinnest axis
_LEAST_EDGE = 64  # least length of the longest axis of a tomogram
_CAMERA_EDGE, _MOST_TILTS = 2000, 150
Read = Callable[[Box], np.ndarray]


def shape_doubts(shape: Triple) -> list[str]:
    """Return why a shape (z, y, x) looks wrong for a tomogram."""
    z, y, x = shape
    found = []
    if max(shape) >= _LEAST_EDGE and min(y, x) < _THINNER * min(z, max(y, x)):
        thin = "y" if y < x else "x"
        found.append(
            f"it is thinnest along {thin} (z {z}, y {y}, x {x} voxels), but tomograms are thinnest along z: it may lie on its side, as IMOD's reconstructions do before "
            "they are rotated; rotate it (IMOD: trimvol -rx), or clicks and picks will have swapped axes"
        )
    if z <= _MOST_TILTS and min(y, x) >= _CAMERA_EDGE:
        found.append(f"{z} sections of {y} x {x} voxels: is this a tilt series, not a tomogram?")
    return found


def section_doubts(read: Read, shape: Triple) -> list[str]:
    """Return which sections look empty; read three rows of each."""
    depth, height, width = shape
    is_nan, is_flat = np.zeros(depth, bool), np.zeros(depth, bool)
    for z in range(depth):
        rows = np.stack([read(Box((z, y, 0), (z + 1, y + 1, width)))[0, 0] for y in {int(height * part) for part in _PARTS}])
        is_nan[z], is_flat[z] = _emptiness(rows)
    return _told(is_nan, is_flat)


def voxel_doubts(voxels: np.ndarray) -> list[str]:
    """Return the doubts about a whole small volume: empty sections, and the contrast."""
    empty = [_emptiness(section) for section in voxels]
    is_nan, is_flat = (np.array(column, bool) for column in zip(*empty, strict=True))
    return [*_told(is_nan, is_flat), *_contrast([voxels])]


def contrast_doubts(read: Read, shape: Triple) -> list[str]:
    """Return whether the contrast looks inverted; read a few sections in the middle."""
    depth, height, width = shape
    starts = np.unique(np.linspace(0.3 * depth, max(0.3 * depth, 0.7 * depth - _BIN), _PLACES).astype(int))
    return _contrast([read(Box((int(z), 0, 0), triple((min(depth, int(z) + _BIN), height, width)))) for z in starts])


def _emptiness(rows: np.ndarray) -> tuple[bool, bool]:
    """Whether there is no finite voxel, or only one value."""
    if rows.dtype.kind == "f" and not np.isfinite(rows).any():
        return True, False
    return False, rows.size > 1 and bool((rows == rows.flat[0]).all())


def _told(is_nan: np.ndarray, is_flat: np.ndarray) -> list[str]:
    found = []
    for which, what in ((is_nan, "have no finite voxel"), (is_flat, "have one value only")):
        if which.any():
            at = np.flatnonzero(which)
            found.append(
                f"{len(at)} of {len(which)} sections (z {at[0]}{f' to {at[-1]}' if len(at) > 1 else ''}) look empty: they {what}; statistics, and picks near "
                "them, are unreliable: cut these sections off, or exclude them with --box"
            )
    return found


def _contrast(pieces: list[np.ndarray]) -> list[str]:
    values = np.concatenate([_averaged(piece).ravel() for piece in pieces])
    values = values[np.isfinite(values)]
    if values.size < _LEAST_SAMPLES or values.std() == 0 or (values.min() >= 0 and values.max() <= 1):  # the last: probabilities
        return []
    centred = (values - values.mean()) / values.std()
    lean = float(np.mean(centred**3))
    if lean < _LEAN:
        return []
    return [
        f"bright voxels stand out instead of dark ones (skewness {lean:.2f}; most tomograms have -0.8 to -0.2): the contrast may be "
        "inverted; models trained on dark particles don't find bright ones: multiply the volume by -1"
    ]


def _averaged(piece: np.ndarray) -> np.ndarray:
    depth, height, width = (max(1, n // _BIN) * min(n, _BIN) for n in piece.shape)
    bins = [min(n, _BIN) for n in piece.shape]
    cut = piece[:depth, :height, :width].astype(np.float64)
    shape = (depth // bins[0], bins[0], height // bins[1], bins[1], width // bins[2], bins[2])
    averaged: np.ndarray = cut.reshape(shape).mean(axis=(1, 3, 5))
    return averaged
