"""Densities of the simulated particles: sums of isotropic 3-D Gaussians, here called beads.

A body is filled with beads on a cubic lattice whose spacing is twice their sigma, so that the sum is nearly flat inside and falls off
softly at the surface.  Isotropic beads keep their shape under every rotation and project to isotropic 2-D Gaussians, so tilt images are
exact (`tilt_series`).

1. `ribosome`: an ellipsoidal large subunit and an elongated, curved small one beside it, with a cleft between; about 260 A long.
2. `proteasome`: a barrel of four rings, 190 A long and 170 A wide, hollow along its axis.
3. `decoy`: compact, dense bodies of half the ribosome's size, a granule and a rod.
4. `gold`: a very dense sphere of 100 A.  `vesicle`: a closed membrane of a given radius.

The origin of every body is its centre of mass, so a particle's position in the truth is the centre of mass of its density.

Limits: shapes and contrasts resemble the complexes of these names, but are not models of them.  There is no structure finer than the beads
(sigma 20 A), which suits voxels above about 10 A.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

_SPACING_ANG = 40.0  # of the lattice of beads
_SIGMA_ANG = 20.0  # half the spacing: ripple 2 exp(-2 pi^2 / 4), about 1 %
_RNA = 1.5  # density of RNA relative to protein, both above that of ice
_GOLD = 10.0  # phase contrast of gold relative to protein, both above that of ice, limited to what a weak-phase image can show
_MEMBRANE_SPACING_ANG = 30.0
_MEMBRANE_SIGMA_ANG = 16.0
_MEMBRANE_THICKNESS_ANG = 40.0


@dataclass(frozen=True, slots=True, eq=False)
class Beads:
    """n isotropic Gaussians.

    Parameters
    ----------
    position_zyx
        Their centres, in angstrom or voxels.
    sigma
        Their standard deviations, in the same unit.
    mass
        Their integrals: density above that of ice (protein is 1), times volume.
    """

    position_zyx: Float64[np.ndarray, "n 3"]
    sigma: Float64[np.ndarray, " n"]
    mass: Float64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.mass)

    @classmethod
    def join(cls, parts: list["Beads"]) -> "Beads":
        """Join several sets of beads, in order."""
        return cls(
            np.concatenate([np.empty((0, 3)), *(part.position_zyx for part in parts)]),
            np.concatenate([np.empty(0), *(part.sigma for part in parts)]),
            np.concatenate([np.empty(0), *(part.mass for part in parts)]),
        )

    def centred(self) -> "Beads":
        """Return the beads shifted so that the centre of mass is the origin."""
        centre = (self.mass[:, None] * self.position_zyx).sum(axis=0) / self.mass.sum()
        return Beads(self.position_zyx - centre, self.sigma, self.mass)

    def placed(self, rotation: Float64[np.ndarray, "3 3"], centre_zyx: Float64[np.ndarray, " 3"]) -> "Beads":
        """Return the beads rotated about the origin, then shifted by `centre_zyx`."""
        return Beads(self.position_zyx @ rotation.T + centre_zyx, self.sigma, self.mass)

    def in_voxels(self, spacing: float) -> "Beads":
        """Convert beads from angstrom, counted from a volume's outer corner, to voxels, counted from the first voxel's centre."""
        return Beads(self.position_zyx / spacing - 0.5, self.sigma / spacing, self.mass / spacing**3)


@dataclass(frozen=True, slots=True, eq=False)
class Species:
    """One kind of particle, in angstrom, centre of mass at the origin.

    Parameters
    ----------
    name
        Its name in the truth.
    bodies
        Its shapes; each particle has one of them.
    contact_ang
        Contact radius: two particles touch if the distance of their centres is the sum of their contact radii.  It is a little smaller than
        the largest extent, so that bodies that are not round can lie close together.
    """

    name: str
    bodies: tuple[Beads, ...]
    contact_ang: float

    @property
    def extent_ang(self) -> float:
        """The largest distance of a bead's centre from the origin."""
        return max(float(np.linalg.norm(body.position_zyx, axis=1).max()) for body in self.bodies)


def ribosome() -> Species:
    """Make the main species: asymmetric, with two subunits, about 260 A long."""
    large = _ellipsoid((0.0, 0.0, 0.0), (95.0, 105.0, 95.0), density=_RNA)
    head = _ellipsoid((125.0, 60.0, 0.0), (50.0, 50.0, 60.0), density=_RNA)
    body = _ellipsoid((130.0, -40.0, 10.0), (45.0, 75.0, 60.0), density=_RNA)
    return Species("ribosome", (Beads.join([large, head, body]).centred(),), contact_ang=115.0)


def proteasome() -> Species:
    """Make the second species: a hollow barrel of four rings of ten beads."""
    angle = np.arange(10) * (2 * np.pi / 10)
    rings = [np.stack([np.full(10, z), 62.0 * np.sin(angle), 62.0 * np.cos(angle)], axis=1) for z in (-66.0, -22.0, 22.0, 66.0)]
    position = np.concatenate(rings)
    # each bead has the mass of its part of a wall 40 A thick
    barrel = _equal_beads(position, sigma=_SIGMA_ANG, mass=39.0 * 44.0 * 40.0 * 1.3)
    return Species("proteasome", (barrel.centred(),), contact_ang=85.0)


def decoy() -> Species:
    """Make decoys, half as large as a ribosome and denser: a granule and a rod.

    They are so dense that a filter which sees the mass alone takes them for ribosomes; their size and sharp edges are different.
    """
    granule = _ellipsoid((0.0, 0.0, 0.0), (60.0, 60.0, 60.0), density=4.5)
    rod = _ellipsoid((0.0, 0.0, 0.0), (40.0, 40.0, 120.0), density=2.5)
    return Species("decoy", (granule.centred(), rod.centred()), contact_ang=70.0)


def gold() -> Species:
    """Make a fiducial bead of 100 A, one Gaussian with the second moment of a solid sphere."""
    radius = 50.0
    bead = _equal_beads(np.zeros((1, 3)), sigma=radius / np.sqrt(5.0), mass=_GOLD * 4 / 3 * np.pi * radius**3)
    return Species("gold", (bead,), contact_ang=60.0)


def small_protein(sigma_ang: float) -> Beads:
    """Make one of the many small molecules of a cell: a single bead, whose peak has the average density of protein at that scale."""
    return _equal_beads(np.zeros((1, 3)), sigma=sigma_ang, mass=(2 * np.pi) ** 1.5 * sigma_ang**3)


def vesicle(radius_ang: float) -> Beads:
    """Make a spherical membrane of beads at nearly equal distances (a Fibonacci lattice), each with the mass of its patch.

    References
    ----------
    Gonzalez (2010), "Measurement of areas on a sphere using Fibonacci and latitude-longitude lattices", Mathematical Geosciences 42.
    """
    area = 4 * np.pi * radius_ang**2
    n = int(np.ceil(area / _MEMBRANE_SPACING_ANG**2))
    index = np.arange(n) + 0.5
    z = 1 - 2 * index / n
    longitude = np.pi * (1 + np.sqrt(5.0)) * index
    across = np.sqrt(1 - z**2)
    position = radius_ang * np.stack([z, across * np.sin(longitude), across * np.cos(longitude)], axis=1)
    return _equal_beads(position, sigma=_MEMBRANE_SIGMA_ANG, mass=area / n * _MEMBRANE_THICKNESS_ANG)


def _ellipsoid(centre_zyx: tuple[float, float, float], semi_axes_zyx: tuple[float, float, float], *, density: float) -> Beads:
    """Fill an ellipsoid with beads on a cubic lattice that contains its centre; lengths in angstrom."""
    ranges = [np.arange(-int(a // _SPACING_ANG), int(a // _SPACING_ANG) + 1) * _SPACING_ANG for a in semi_axes_zyx]
    lattice = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    inside = ((lattice / np.array(semi_axes_zyx)) ** 2).sum(axis=1) <= 1
    position = lattice[inside] + np.array(centre_zyx)
    # the mass must be the ellipsoid's own, whatever the number of lattice points inside
    volume = 4 / 3 * np.pi * float(np.prod(semi_axes_zyx))
    return _equal_beads(position, sigma=_SIGMA_ANG, mass=density * volume / len(position))


def _equal_beads(position: Float64[np.ndarray, "n 3"], *, sigma: float, mass: float) -> Beads:
    return Beads(position, np.full(len(position), sigma), np.full(len(position), mass))
