"""Find centre, orientation and shift of single subtomograms, given the average.

1. `centred`: subtomograms are moved to where they fit their radial mean best.
2. `Poser`: of a coarse set of orientations the most probable one, with shifts along the axes, twice; then small turns and shifts about the best, ever smaller.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Complex64, Float64

from tomostream.orienting.alignment import Aligned, limited, log_probability, rotation_matrices, shifts_by
from tomostream.orienting.averages import views
from tomostream.orienting.lattice import Lattice

COARSE_DEG = 15.0
_FINER = ((7.5, 0.5), (4.0, 0.5), (2.0, 0.25))  # turns in degrees and shifts in voxels, about the best so far
_ROUNDS = 2  # with the coarse orientations
_CENTRINGS = 4


def centred(
    spectra: Complex64[np.ndarray, "n p"], lattice: Lattice, limit: float, profile: np.ndarray | None = None
) -> tuple[Float64[np.ndarray, "n 3"], np.ndarray]:
    """Return whole-voxel offsets at which subtomograms fit their radial mean best, and its frequencies.

    Parameters
    ----------
    spectra, lattice
        The subtomograms.
    limit
        Largest offset, voxels.
    profile
        The mean's frequencies, if it is known; else that of the subtomograms, by repetition.
    """
    reach = int(limit)
    along = np.arange(-reach, reach + 1, dtype=np.float64)
    shifts = np.stack(np.meshgrid(along, along, along, indexing="ij"), axis=-1).reshape(-1, 3)
    shifts = shifts[np.argsort((shifts**2).sum(axis=1), kind="stable")]  # of equal fits the nearest
    shifts = shifts[(shifts**2).sum(axis=1) <= limit**2]
    phases = lattice.phases(shifts)
    offsets = np.zeros((len(spectra), 3))
    for _ in range(_CENTRINGS if profile is None else 1):
        mean = lattice.shell_means((spectra * lattice.phases(offsets)).mean(axis=0).real)[lattice.shell] if profile is None else profile
        fits = ((spectra * mean.astype(np.float32)) @ phases.T).real
        offsets = shifts[fits.argmax(axis=1)]
    return offsets, mean


@dataclass(frozen=True, slots=True, eq=False)
class Poser:
    """Poses subtomograms by an average.

    Parameters
    ----------
    aligned
        The average and the noise.
    lattice
        The frequencies of the subtomograms.
    limit
        Largest shift, voxels.
    """

    aligned: Aligned
    lattice: Lattice
    limit: float
    _rotations: np.ndarray = field(init=False)
    _seen: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        """Make the views of the average once."""
        object.__setattr__(self, "_rotations", rotation_matrices(COARSE_DEG))
        object.__setattr__(self, "_seen", views(self.aligned.average, self.lattice, self._rotations))

    def pose(self, spectrum: Complex64[np.ndarray, " p"]) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, " 3"]]:
        """Return the rotation (on z y x, from the tomogram's frame to the average's) and the offset of the particle from the cube's middle, voxels z y x."""
        rotation, offset = self._rotations[0], np.zeros(3)
        for _ in range(_ROUNDS):
            rotation, offset = self._best(spectrum, self._rotations, self._seen, offset, 1.0)
        for degrees, step in _FINER:
            near = _turns(degrees) @ rotation
            rotation, offset = self._best(spectrum, near, views(self.aligned.average, self.lattice, near), offset, step)
        return rotation, offset

    def _best(
        self, spectrum: np.ndarray, rotations: np.ndarray, seen: np.ndarray, offset: np.ndarray, step: float
    ) -> tuple[np.ndarray, np.ndarray]:
        offsets = limited(offset + shifts_by(step), self.limit)
        log = log_probability(spectrum * self.lattice.phases(offsets), seen, self.aligned.noise, self.lattice)
        shift, number = np.unravel_index(int(log.argmax()), log.shape)
        return rotations[number], offsets[shift]


def _turns(degrees: float) -> Float64[np.ndarray, "27 3 3"]:
    """Return no turn, and turns about 26 axes."""
    from scipy.spatial.transform import Rotation  # noqa: PLC0415  (slow to import)

    steps = np.stack(np.meshgrid(*[np.array([0.0, -1.0, 1.0])] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(Rotation.from_rotvec(np.radians(degrees) * steps).as_matrix(), dtype=np.float64)
