"""What do the particles look like?  Analytic densities: sums of isotropic Gaussians about their centre of mass.

The recorded centre of a particle is the centre of mass of its density, exactly: the parts are shifted so that it is the origin.

- `ribosome`: two unequal subunits with a cleft and some lobes, about 270 angstrom across: large, without symmetry;
- `proteasome`: a barrel of four stacked rings, 150 x 115 angstrom;
- `decoy`: one lobed ball, half the ribosome's diameter, and denser.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomostream.geometry import Box, Triple, triple

_REACH = 3.0  # standard deviations at which a Gaussian is cut off


@dataclass(frozen=True, slots=True, eq=False)
class Density:
    """A particle's density.

    Parameters
    ----------
    offsets
        float64 (n, 3): centres of the Gaussians z y x from the centre of mass, angstrom.
    widths
        float64 (n,): their standard deviations, angstrom.
    weights
        float64 (n,): their peak densities.
    """

    offsets: np.ndarray
    widths: np.ndarray
    weights: np.ndarray

    @classmethod
    def about_its_centre(cls, offsets: np.ndarray, widths: np.ndarray, weights: np.ndarray) -> Density:
        """Shift the parts so that their centre of mass is the origin."""
        mass = weights * widths**3
        return cls(offsets - (mass[:, None] * offsets).sum(axis=0) / mass.sum(), widths, weights)

    @property
    def radius(self) -> float:
        """Distance from the centre that holds all parts to one standard deviation, angstrom."""
        return float((np.linalg.norm(self.offsets, axis=1) + self.widths).max())

    def rotated(self, rotation: np.ndarray) -> Density:
        """Turn by a rotation matrix (3, 3)."""
        return Density(self.offsets @ rotation.T, self.widths, self.weights)


def ribosome() -> Density:
    """The main species: two subunits, lobes around a ring to break every symmetry."""
    rng = np.random.default_rng(80)
    large = rng.normal(size=(9, 3))
    large = 62.0 * large / np.linalg.norm(large, axis=1, keepdims=True)
    small = np.array([[105.0, -25.0, 0.0], [98.0, 25.0, 14.0], [82.0, 5.0, -42.0]])
    offsets = np.concatenate([np.zeros((1, 3)), large, small])
    widths = np.array([44.0, *[30.0] * 9, 27.0, 30.0, 23.0])
    weights = np.array([0.8, *[0.55] * 9, 0.8, 0.8, 0.7])
    return Density.about_its_centre(offsets, widths, weights)


def proteasome() -> Density:
    """The second species: four rings of seven."""
    angles = 2 * np.pi * np.arange(7) / 7
    rings = [np.stack([np.full(7, z), 42.0 * np.cos(angles), 42.0 * np.sin(angles)], axis=1) for z in (-56.0, -19.0, 19.0, 56.0)]
    offsets = np.concatenate(rings)
    return Density.about_its_centre(offsets, np.full(28, 15.0), np.full(28, 1.0))


def decoy() -> Density:
    """What is not wanted: a ball of half the diameter."""
    offsets = np.array([[0.0, 0.0, 0.0], [34.0, 6.0, 0.0], [-10.0, 30.0, 12.0], [-8.0, -18.0, 26.0]])
    return Density.about_its_centre(offsets, np.array([33.0, 22.0, 22.0, 20.0]), np.array([1.3, 1.0, 1.0, 0.9]))


DENSITIES = {"ribosome": ribosome, "proteasome": proteasome, "decoy": decoy}


def add_particle(volume: np.ndarray, density: Density, centre_vox: np.ndarray, spacing: float) -> None:
    """Add a density to a float32 volume (z, y, x); its centre may lie between voxels."""
    shape = triple(volume.shape)
    for offset, width, weight in zip(density.offsets / spacing, density.widths / spacing, density.weights, strict=True):
        centre = centre_vox + offset
        box = _window(centre, _REACH * width, shape)
        if box.is_empty:
            continue
        z, y, x = (
            np.exp(-((np.arange(a, b) - c) ** 2) / (2 * width**2)) for a, b, c in zip(box.start, box.stop, centre, strict=True)
        )
        volume[box.slices] += (weight * z[:, None, None] * y[:, None] * x).astype(np.float32)


def add_membrane(volume: np.ndarray, centre_vox: np.ndarray, radius_vox: float, thickness_vox: float, weight: float) -> None:
    """Add a spherical shell, two leaflets that look like one at this resolution."""
    z, y, x = (np.arange(n, dtype=np.float32) - np.float32(c) for n, c in zip(volume.shape, centre_vox, strict=True))
    distance = np.sqrt((z**2)[:, None, None] + (y**2)[:, None] + x**2) - np.float32(radius_vox)
    volume += np.float32(weight) * np.exp(-(distance**2) / np.float32(2 * thickness_vox**2))


def _window(centre: np.ndarray, reach: float, shape: Triple) -> Box:
    start, stop = np.floor(centre - reach).astype(int).tolist(), np.ceil(centre + reach).astype(int).tolist()
    return Box(triple(start), triple([b + 1 for b in stop])).clipped(Box.whole(shape))
