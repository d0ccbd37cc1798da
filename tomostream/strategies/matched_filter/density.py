"""Turn a known density into kernels: low-pass, resample, rotate, remove the missing wedge, invert.

1. Read the density (MRC with its own voxel size, particle bright), low-pass it to `low_pass` or to what the tomogram's voxels can hold, and take its
   centre of mass as the centre of the particle.
2. Resample it to half the tomogram's voxel spacing; rotated copies are interpolated from this.
3. Make a kernel: interpolate at the rotated positions of a cube of the tomogram's voxels; set the frequencies that no tilt measured to zero; negate,
   because particles are dark; normalise to zero mean and unit norm in the ball (`correlation.normalised_kernel`).

Convention of the wedge: the beam is along z, and the tilt axis along y or x.  The projection at tilt t measures the frequencies with
atan2(kz, kx) = t (kz, ky if the axis is x).  Frequencies between the first and the last tilt are kept, and the others are set to zero.

Limits: the contrast transfer function is ignored.

References
----------
Frangakis et al. 2002, "Identification of macromolecular complexes in cryoelectron tomograms of phantom cells", PNAS 99.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.fft
from jaxtyping import Bool, Float32
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tomostream.errors import InputError
from tomostream.geometry import Box
from tomostream.store.mrc import read_header
from tomostream.store.mrc_voxels import MrcReader
from tomostream.strategies.matched_filter.correlation import normalised_kernel

FINER = 2  # voxels of the resampled density per voxel of the tomogram, along an edge
_SOFT = 0.1  # half-width of the low-pass filter's soft edge, as a fraction of the cut-off
_CENTRED_ABOVE = 0.1  # fraction of the maximum above which voxels count for the centre of mass
LARGEST_VOXELS = 512**3  # most voxels of a density


@dataclass(frozen=True, slots=True)
class Wedge:
    """The measured frequencies of a tilt series, from the first and last tilt in degrees and the tilt axis.

    Raises
    ------
    InputError
        If an angle or the axis is not allowed.
    """

    first_deg: float
    last_deg: float
    axis: str = "y"

    def __post_init__(self) -> None:
        if not -90 <= self.first_deg < self.last_deg <= 90:
            raise InputError(
                f"template.tilt_range must be two angles from -90 to 90 degrees, the smaller first, found [{self.first_deg:g}, {self.last_deg:g}]"
            )
        if self.axis not in ("x", "y"):
            raise InputError(f"template.tilt_axis must be x or y, found '{self.axis}'")

    def measured(self, edge: int) -> Bool[np.ndarray, "n n h"]:
        """Return which frequencies of the real FFT of a cube of this (odd) edge were measured; the zero frequency always counts."""
        z = scipy.fft.fftfreq(edge)[:, None, None]
        y = scipy.fft.fftfreq(edge)[None, :, None]
        x = scipy.fft.rfftfreq(edge)[None, None, :]
        return self.sees(z, y, x)

    def sees(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return which of these frequencies (arrays that broadcast, any unit) were measured; the zero frequency always counts."""
        across = x if self.axis == "y" else y
        z, across = np.broadcast_arrays(z + 0 * y + 0 * x, across)
        # frequencies of a real volume come in pairs k, -k: map each to the half-space in which the component across the axis is positive
        angle = np.degrees(np.arctan2(np.where(across < 0, -z, z), np.abs(across)))
        is_in: np.ndarray = (angle >= self.first_deg) & (angle <= self.last_deg)
        if self.last_deg == 90 or self.first_deg == -90:
            is_in |= (across == 0) & (z != 0)
        is_in |= (z == 0) & (across == 0)
        return is_in


class RotatedKernels:
    """The kernels of a density in many orientations, made one by one during iteration.

    Parameters
    ----------
    density
        Cube of odd edge, centred on its middle voxel, with `FINER` voxels per voxel of the tomogram.
    rotations
        The orientations to search.
    half
        Half-width of the kernels, in voxels: their edge is 2 half + 1.
    radius
        Radius of the ball, in voxels.
    wedge
        The measured frequencies.
    """

    def __init__(self, density: Float32[np.ndarray, "n n n"], rotations: Rotation, *, half: int, radius: float, wedge: Wedge) -> None:
        self._density = density
        self._matrices = rotations.as_matrix()
        self._half = half
        self._radius = radius
        # odd, so that only the zero frequency is its own mirror image; twice the kernel's edge, so that nothing wraps around
        edge = next(n for n in range(2 * (2 * half + 1) + 1, 10**6, 2) if scipy.fft.next_fast_len(n, real=True) == n)
        self._measured = wedge.measured(edge)
        along = np.arange(-half, half + 1, dtype=np.float64) * FINER
        self._grid = np.stack(np.meshgrid(along, along, along, indexing="ij")).reshape(3, -1)

    def __len__(self) -> int:
        return len(self._matrices)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.kernel(number) for number in range(len(self)))

    def to_tomogram(self, numbers: np.ndarray) -> np.ndarray:
        """Return the matrices (n, 3, 3) of orientations; they act on (x, y, z) and take the density's axes to the tomogram's."""
        # `kernel` maps positions in the tomogram to positions in the density, in z y x
        result: np.ndarray = np.swapaxes(self._matrices[numbers], 1, 2)[:, ::-1, ::-1]
        return result

    def kernel(self, number: int) -> Float32[np.ndarray, "n n n"]:
        """Return the kernel of one orientation."""
        places = self._matrices[number] @ self._grid + self._density.shape[0] // 2
        edge = 2 * self._half + 1
        turned = ndimage.map_coordinates(self._density, places, order=1, mode="constant").reshape(edge, edge, edge)
        whole = self._measured.shape[0]
        spectrum = scipy.fft.rfftn(turned.astype(np.float32), s=(whole,) * 3)
        seen = scipy.fft.irfftn(spectrum * self._measured, s=(whole,) * 3)[:edge, :edge, :edge]
        return normalised_kernel(-np.asarray(seen, dtype=np.float32), self._radius)


def prepare_density(path: Path, *, spacing: float, half: int, low_pass: float | None) -> Float32[np.ndarray, "n n n"]:
    """Read a density and resample it to `FINER` voxels per voxel of the tomogram, centred on its middle voxel.

    Parameters
    ----------
    path
        MRC file with the voxel size in its header, particle bright.
    spacing
        Voxel spacing of the tomogram at the level that is read, in angstrom.
    half
        Half-width of the kernels that will be made from it, in voxels of the tomogram.
    low_pass
        Finest detail to keep, in angstrom.  Detail finer than two voxels of the tomogram is always removed.

    Raises
    ------
    InputError
        If the file is not an MRC volume, has no voxel size, is too large, or has no contrast.
    """
    header = read_header(path)
    if header.spacing is None:
        raise InputError(f"template.density {path} has no voxel size in its header; write one (mrcfile: voxel_size)")
    if math.prod(header.shape) > LARGEST_VOXELS:
        raise InputError(
            f"template.density {path} has {header.shape} voxels (z, y, x); crop it to the particle (at most {LARGEST_VOXELS} voxels)"
        )
    with MrcReader(header) as reader:
        density = reader.read(Box.whole(header.shape)).astype(np.float32)
    if not np.isfinite(density).all() or np.ptp(density) == 0:
        raise InputError(f"template.density {path} has no contrast, or values that are not finite")
    density = _low_passed(density, header.spacing, max(low_pass or 0.0, 2 * spacing))
    bright = np.where(density > _CENTRED_ABOVE * density.max(), density, 0)
    centre = ndimage.center_of_mass(bright)
    along = np.arange(-(FINER * half + 1), FINER * half + 2, dtype=np.float64) * (spacing / FINER / header.spacing)
    places = np.stack(np.meshgrid(*(along + middle for middle in centre), indexing="ij"))
    return np.asarray(ndimage.map_coordinates(density, places, order=1, mode="constant"), dtype=np.float32)


def _low_passed(density: np.ndarray, spacing: float, finest: float) -> np.ndarray:
    """Remove frequencies above 1 / `finest`, with a raised-cosine edge; `spacing` and `finest` in angstrom."""
    shape = tuple(int(scipy.fft.next_fast_len(n + 16, real=True)) for n in density.shape)
    axes = [scipy.fft.fftfreq(n, spacing) for n in shape[:2]] + [scipy.fft.rfftfreq(shape[2], spacing)]
    frequency = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None, :] ** 2)
    ramp = np.clip((1 + _SOFT - frequency * finest) / (2 * _SOFT), 0, 1)
    spectrum = scipy.fft.rfftn(density, s=shape) * (0.5 * (1 - np.cos(np.pi * ramp))).astype(np.float32)
    kept = tuple(slice(0, n) for n in density.shape)
    return np.asarray(scipy.fft.irfftn(spectrum, s=shape)[kept], dtype=np.float32)
