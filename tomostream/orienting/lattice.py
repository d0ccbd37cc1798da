"""What of a subtomogram is compared: the frequencies of a ball that the tilt series measured, up to a cut-off.

1. A subtomogram is a cube of odd edge n; its middle voxel is the particle's centre.  It is multiplied by a ball with a soft edge, after the mean in the
   ball was taken off.
2. Of its Fourier transform those lattice points count that lie within the cut-off (cycles per edge) and in the measured range of tilts; of each pair k, -k
   one.  A shift of the particle multiplies them by phases.

Frequencies are in cycles per edge of the cube, in the order z y x.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float32, Float64, Int64

from tomostream.strategies.matched_filter.density import Wedge

_SOFT = 1 / 3  # width of the ball's soft edge, of its radius


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """The frequencies that count.

    Parameters
    ----------
    edge
        Of the cubes, voxels, odd.
    cut_off
        The largest frequency, cycles per edge.
    points
        The frequencies.
    shell
        Their lengths, rounded.
    """

    edge: int
    cut_off: int
    points: Float64[np.ndarray, "p 3"]
    shell: Int64[np.ndarray, " p"]

    @classmethod
    def within(cls, edge: int, cut_off: int, wedge: Wedge | None) -> "Lattice":
        """Return the frequencies within a cut-off; all of them if there is no wedge."""
        along = np.arange(-cut_off, cut_off + 1)
        z, y, x = (axis.ravel() for axis in np.meshgrid(along, along, along, indexing="ij"))
        is_one_of_pair = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
        keep = is_one_of_pair & (z**2 + y**2 + x**2 <= cut_off**2)
        if wedge is not None:
            keep &= wedge.sees(z, y, x)
        points = np.stack([z, y, x], axis=1)[keep].astype(np.float64)
        return cls(edge, cut_off, points, np.rint(np.linalg.norm(points, axis=1)).astype(np.int64))

    def shell_means(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of one value per frequency (p,) over each shell, float64 (cut_off + 1,); 1 where a shell has none."""
        counts = np.bincount(self.shell, minlength=self.cut_off + 1)
        sums = np.bincount(self.shell, values, self.cut_off + 1)
        means: np.ndarray = np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)
        return means

    def phases(self, offsets: Float64[np.ndarray, "n 3"]) -> Complex64[np.ndarray, "n p"]:
        """Return what moves a particle that lies at an offset (voxels z y x) from the middle of its cube into the middle."""
        result: np.ndarray = np.exp(2j * np.pi / self.edge * (offsets @ self.points.T)).astype(np.complex64)
        return result


def soft_ball(edge: int, radius: float) -> Float32[np.ndarray, "e e e"]:
    """Return 1 inside of a ball in the middle of a cube, 0 outside, and a raised cosine between."""
    distance = distances(edge)
    ball: np.ndarray = (0.5 * (1 + np.cos(np.pi * np.clip((distance - radius) / (_SOFT * radius), 0, 1)))).astype(np.float32)
    return ball


def distances(edge: int) -> Float64[np.ndarray, "e e e"]:
    """Return the distance of each voxel of a cube from its middle voxel."""
    squared = (np.arange(edge, dtype=np.float64) - edge // 2) ** 2
    result: np.ndarray = np.sqrt(squared[:, None, None] + squared[None, :, None] + squared[None, None, :])
    return result


def spectra(cubes: Float32[np.ndarray, "n e e e"], ball: Float32[np.ndarray, "e e e"], lattice: Lattice) -> Complex64[np.ndarray, "n p"]:
    """Return the frequencies of cubes inside of the ball."""
    at = tuple((lattice.points.astype(int) % lattice.edge).T)
    result = np.empty((len(cubes), len(lattice.points)), np.complex64)
    for out, cube in zip(result, cubes, strict=True):
        inside = (cube - (cube * ball).sum() / ball.sum()) * ball
        out[:] = scipy.fft.fftn(scipy.fft.ifftshift(inside))[at]
    return result


def radial_mean(volume: np.ndarray) -> np.ndarray:
    """Return a cube whose voxels are the means of the given one over shells about its middle."""
    shell = np.rint(distances(volume.shape[0])).astype(int).ravel()
    means = np.bincount(shell, volume.ravel()) / np.maximum(np.bincount(shell), 1)
    result: np.ndarray = means[shell].reshape(volume.shape)
    return result
