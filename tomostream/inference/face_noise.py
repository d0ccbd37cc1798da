"""Measure how much noisier a tomogram is near its faces than inside, line by line.

Near the faces that are parallel to the tilt axis a reconstruction has less data the further it is from the middle slice: the tilted images end there.
What is missing shows as streaks of low spatial frequency, in a wedge that widens towards the first and last slices; blobs in it look like
particles.  Along the tilt axis the wedge does not change, so the spread along lines of that direction measures it.

1. Smooth the standardised volume by a Gaussian, since the voxel noise hides the streaks.  Near a face fewer voxels are averaged, so the smoothed
   volume is divided by what the Gaussian leaves there of white noise.
2. For all lines along y near the faces at the ends of x, and all lines along x near the faces at the ends of y, compute the spread: the median
   distance from the median.  The reference is the median spread of lines inside the volume, of both directions.
3. A line whose spread is more than `FACE_NOISE` times the reference has the gain spread / (`FACE_NOISE` times reference), any other line 1.

`quiet_faces` divides scores by the gain.  The gains depend on the voxels alone, not on blocks or workers.

Limits: lines shorter than `_LEAST_PARTS` independent parts can't be measured and have the gain 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from tomostream import defaults
from tomostream.geometry import Box, Triple, triple

Gains = dict[str, np.ndarray]  # by name: float32 (2, z, d) for the faces at the beginning and the end of an axis; d counts from the face
FACE_GAINS = ALONG_Y, ALONG_X = "faces.along_y", "faces.along_x"
PROJECTED_BYTES = 80_000_000  # peak of `face_gains`
_SLAB_BYTES = 16_000_000  # of the voxels read at once
_LINES = 6  # places inside where the reference is measured, per direction
_LEAST_PARTS = 16  # independent parts of a line, below which its spread is left to chance
_TOLD = 1.5  # gain from which a user is told; single lines reach 1.2 by chance
_PART = 3.5  # edge of an independent part, standard deviations of the Gaussian: 2 sqrt(pi)
_TRUNCATE = 3.0  # of the Gaussian, standard deviations


@dataclass(frozen=True, slots=True)
class FaceNoise:
    """How a model quiets the faces; tuples have one value per species."""

    smooth_vox: float  # standard deviation of the Gaussian, voxels of the model's level
    reach_vox: int  # voxels from a face up to which scores are divided
    background: tuple[float, ...]  # logit towards which they are divided: the median of the training tomograms

    def __post_init__(self) -> None:
        if not (0 < self.smooth_vox < math.inf and self.reach_vox >= 1):
            raise ValueError(f"smooth_vox must be above 0 and reach_vox at least 1, found {self.smooth_vox} and {self.reach_vox}")

    @classmethod
    def of_radii(cls, radii_vox: Sequence[float], background: Sequence[float]) -> FaceNoise:
        """Return the settings for particles of these radii, in voxels of the level; the smallest decides."""
        least = min(radii_vox)
        return cls(defaults.FACE_SMOOTH * least, math.ceil(defaults.FACE_REACH * least), tuple(background))


def face_gains(read: Callable[[Box], np.ndarray], shape: Triple, noise: FaceNoise) -> Gains:
    """Measure the gains of a tomogram.

    Parameters
    ----------
    read
        Reads a box of the standardised volume at the model's level, float32.
    shape
        Of the volume at that level.
    noise
        The model's settings.

    Returns
    -------
    dict
        `ALONG_Y`: (2, z, d), gains at the distance d from the faces at the beginning and the end of x.  `ALONG_X`: the same for y.
    """
    _, height, width = shape
    lines = {ALONG_Y: (height, width), ALONG_X: (width, height)}  # length of the lines, number of places beside each other
    spreads: dict[str, list[np.ndarray]] = {}
    inside: list[np.ndarray] = []
    for name, (length, places) in lines.items():
        if length < _LEAST_PARTS * _PART * noise.smooth_vox or places < 4 * noise.reach_vox:
            continue
        near, far = range(noise.reach_vox), range(places - noise.reach_vox, places)
        spreads[name] = [_spread(read, shape, name, part, noise.smooth_vox) for part in (near, far)]
        inner = np.linspace(2 * noise.reach_vox, places - 1 - 2 * noise.reach_vox, _LINES).round().astype(int)
        inside += [_spread(read, shape, name, range(place, place + 1), noise.smooth_vox).ravel() for place in inner]
    if not spreads:
        return {}
    within = np.concatenate(inside)
    within = within[np.isfinite(within)]
    least = defaults.FACE_NOISE * float(np.median(within)) if len(within) else 0.0
    if least == 0:  # nothing but constant or missing lines inside
        return {}
    return {name: _gains(near, far[:, ::-1], least) for name, (near, far) in spreads.items()}


def told(statistics: Mapping[str, np.ndarray]) -> str | None:
    """Return what a user should know of a tomogram's gains, which are among these statistics; None if no line is very noisy."""
    most = max((float(statistics[name].max()) for name in FACE_GAINS if name in statistics), default=1.0)
    if most < _TOLD:
        return None
    return f"streaks near the faces, up to {defaults.FACE_NOISE * most:.1f} times as strong as the noise inside; scores in them are lowered"


def _gains(near: np.ndarray, far: np.ndarray, least: float) -> Float32[np.ndarray, "2 z d"]:
    gains = np.stack([near, far]) / np.float32(least)
    gains[~(gains > 1)] = 1  # missing voxels too
    return np.minimum(gains, np.finfo(np.float32).max).astype(np.float32)


def _spread(read: Callable[[Box], np.ndarray], shape: Triple, name: str, places: range, smooth: float) -> Float32[np.ndarray, "z d"]:
    """Return the spread along lines at some places beside each other, for all slices."""
    axis = 1 if name == ALONG_Y else 2  # along which the lines run
    left = [_noise_left(n, smooth) for n in shape]
    parts = []
    for box, core in _slabs(shape, 3 - axis, places, smooth):
        smoothed = ndimage.gaussian_filter(read(box), smooth, truncate=_TRUNCATE, mode="constant")[core.relative_to(box.start).slices]
        for number, (own, part) in enumerate(zip(left, core.slices, strict=True)):
            smoothed /= own[part].reshape([-1 if number == place else 1 for place in range(3)])
        middle = np.median(smoothed, axis=axis, keepdims=True)
        parts.append(np.median(np.abs(smoothed - middle), axis=axis))
    return np.concatenate(parts).astype(np.float32)


def _noise_left(n: int, smooth: float) -> Float32[np.ndarray, " n"]:
    """Return the deviation that the Gaussian leaves of white noise of deviation 1, along one axis, at each of `n` places."""
    reach = math.floor(_TRUNCATE * smooth + 0.5)  # as scipy
    kernel = ndimage.gaussian_filter1d(np.eye(1, 2 * reach + 1, reach)[0], smooth, truncate=_TRUNCATE, mode="constant")
    return np.sqrt(ndimage.convolve1d(np.ones(n), kernel**2, mode="constant")).astype(np.float32)


def _slabs(shape: Triple, beside: int, places: range, smooth: float) -> Iterator[tuple[Box, Box]]:
    """Yield slabs of the lines at these places: the box to read, which is wider by the reach of the Gaussian, and the box that is wanted."""
    halo = math.floor(_TRUNCATE * smooth + 0.5)  # as scipy
    start, stop = [0, 0, 0], list(shape)
    start[beside], stop[beside] = places.start, places.stop
    line_bytes = 4 * shape[3 - beside] * (len(places) + 2 * halo)
    planes = max(1, _SLAB_BYTES // line_bytes - 2 * halo)
    for first, last in itertools.pairwise([*range(0, shape[0], planes), shape[0]]):
        core = Box(triple([first, *start[1:]]), triple([last, *stop[1:]]))
        yield core.expanded(halo).clipped(Box.whole(shape)), core
