"""Is there an orientation to find?  Two halves of the subtomograms, aligned apart, must find the same shape, and spheres must not.

1. Align each half from nothing.  Take the radial mean off both averages; turn and shift one until they correlate best.
2. Noise alone correlates too: the best of thousands of orientations is chosen, the wedge has a direction, and what many subtomograms share grows.  So the
   same is done with spheres: what the subtomograms are on the mean, made symmetric, put upon places of the background.
3. The agreement is (c - s) / (1 - s), with c the correlation of the halves, and s the mean of the spheres'.  It must be `LEAST`, and c must be above all
   of the spheres' by twice their standard deviation.

Limits: particles that all stand alike in the tomogram are found no orientation for: their mean is what the spheres are made of.

References
----------
Scheres and Chen 2012, "Prevention of overfitting in cryo-EM structure determination", Nature Methods 9:853.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float32, Float64

from tomostream.orienting.alignment import Aligned, as_real, rotation_matrices
from tomostream.orienting.averages import views
from tomostream.orienting.lattice import Lattice, radial_mean

SPHERES = 4  # averages of spheres; each pair of them is compared
LEAST = 0.4  # agreement
_BEYOND = 2.0  # standard deviations of the spheres' correlations
_STEP_DEG = 15.0
_SHIFTS = np.arange(-2.0, 3.0)  # voxels, along each axis


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the halves say.

    Parameters
    ----------
    halves
        Correlation of the two half averages, less their radial means.
    spheres
        The same of spheres, for each pair of them.
    """

    halves: float
    spheres: tuple[float, ...]

    @property
    def agreement(self) -> float:
        """How far the halves agree beyond spheres: 0 as they, 1 completely."""
        by_chance = float(np.mean(self.spheres))
        return (self.halves - by_chance) / (1 - by_chance)

    @property
    def is_enough(self) -> bool:
        """Whether there is an orientation to find."""
        beyond = max(self.spheres) + _BEYOND * float(np.std(self.spheres))
        return self.agreement >= LEAST and self.halves > beyond


def evidence_of(halves: list[Aligned], spheres: list[Aligned], cut_off: int) -> Evidence:
    """Compare two half averages, and the averages of spheres."""
    among = tuple(correlation(one.average, other.average, cut_off) for one, other in combinations(spheres, 2))
    return Evidence(correlation(halves[0].average, halves[1].average, cut_off), among)


def correlation(one: Float64[np.ndarray, "e e e"], other: Float64[np.ndarray, "e e e"], cut_off: int) -> float:
    """Return the best correlation of two averages less their radial means, over orientations and shifts; 0 where one has nothing else."""
    lattice = Lattice.within(one.shape[0], cut_off, None)
    first = views(one - radial_mean(one), lattice, np.eye(3)[None])
    turned = views(other - radial_mean(other), lattice, rotation_matrices(_STEP_DEG))
    shifts = np.stack(np.meshgrid(_SHIFTS, _SHIFTS, _SHIFTS, indexing="ij"), axis=-1).reshape(-1, 3)
    products = as_real(first * lattice.phases(shifts)) @ as_real(turned).T
    norms = np.linalg.norm(first) * np.linalg.norm(turned, axis=1)
    return float((products / np.maximum(norms, 1e-30)).max())


def as_spheres(cubes: Float32[np.ndarray, "n e e e"], background: Float32[np.ndarray, "m e e e"]) -> Float32[np.ndarray, "m e e e"]:
    """Return what spheres of the cubes' mean would look like at the places of the background.

    The mean of particles in all orientations is a sphere, seen through the wedge; its reflections in the three axes look alike and are averaged, so that less
    is left of the single particles.
    """
    mean = cubes.mean(axis=0, dtype=np.float64)
    for axis in range(3):
        mean = (mean + np.flip(mean, axis)) / 2
    result: np.ndarray = (mean + background - background.mean()).astype(np.float32)
    return result
