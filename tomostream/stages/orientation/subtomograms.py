"""Cubes around places of tomograms, read one by one at a coarse level and brought to one scale.

1. Of each tomogram some places of the background are read: some radii away from its particles, so at the same depth.  Their mean and standard deviation
   scale its voxels.
2. Voxels are clipped at some standard deviations (gold, hot voxels); what lies outside of the volume, or is no number, is the mean.

Limits: where particles leave no room between them, background is taken among them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tomostream.errors import InputError
from tomostream.geometry import Box, triple
from tomostream.tomogram import Tomogram

_SCALING_PLACES = 24  # of each tomogram, read for its scale
_CLIP = 5.0  # standard deviations
_NEAR, _FAR = 2.0, 6.0  # radii from a particle at which background is taken
_TRIES = 50
_LEAST_INSIDE = 0.5  # of a cube: with less, nothing is known of a particle


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A voxel of a tomogram: its name, and z y x at the level that is read."""

    tomogram: str
    voxel: np.ndarray  # int (3,)


@dataclass(slots=True, eq=False)
class Subtomograms:
    """Reads cubes.

    Parameters
    ----------
    tomograms
        By name, at the level that is read.
    edge
        Of the cubes, voxels, odd.
    radius
        Of the particle, voxels of the level.
    particles
        Centres by tomogram (n, 3), z y x in voxels of the level: the background keeps away from them.
    rng
        Of the background's places.
    """

    tomograms: dict[str, Tomogram]
    edge: int
    radius: float
    particles: dict[str, np.ndarray]
    rng: np.random.Generator
    _scales: dict[str, tuple[float, float]] = field(default_factory=dict)

    def cubes(self, places: Sequence[Place], offsets: np.ndarray) -> np.ndarray:
        """Read cubes at whole-voxel offsets (n, 3) from places; float32 (n, edge, edge, edge)."""
        result = np.empty((len(places), self.edge, self.edge, self.edge), np.float32)
        for out, place, offset in zip(result, places, np.rint(offsets).astype(int), strict=True):
            mean, deviation = self._scale(place.tomogram)
            cube = (self._raw(place.tomogram, place.voxel + offset) - mean) / deviation
            out[...] = np.clip(np.where(np.isfinite(cube), cube, 0.0), -_CLIP, _CLIP)
        return result

    def is_seen(self, place: Place) -> bool:
        """Whether enough of the cube lies in the volume."""
        shape, half = self.tomograms[place.tomogram].shape, self.edge // 2
        sides = [min(int(v) + half + 1, n) - max(int(v) - half, 0) for v, n in zip(place.voxel, shape, strict=True)]
        return min(sides) > 0 and math.prod(sides) >= _LEAST_INSIDE * self.edge**3

    def background(self, names: Sequence[str]) -> list[Place]:
        """Choose one place of the background in each of these tomograms."""
        return [self._away(name) for name in names]

    def _scale(self, name: str) -> tuple[float, float]:
        if name not in self._scales:
            cubes = [self._raw(name, self._away(name).voxel) for _ in range(_SCALING_PLACES)]
            voxels = np.concatenate([cube[np.isfinite(cube)] for cube in cubes])
            deviation = float(voxels.std()) if voxels.size else 0.0
            if not deviation > 0:
                raise InputError(
                    f"tomogram '{name}' has no contrast around its particles; check that {self.tomograms[name].path} is a tomogram"
                )
            self._scales[name] = (float(voxels.mean()), deviation)
        return self._scales[name]

    def _away(self, name: str) -> Place:
        """Draw a place some radii off a particle, and off all others if possible; else the farthest of those drawn."""
        known, limits = self.particles[name], np.asarray(self.tomograms[name].shape) - 1.0
        best, best_distance = np.rint(limits / 2), -1.0
        for _ in range(_TRIES):
            direction = self.rng.normal(size=3)
            start = known[self.rng.integers(len(known))]
            place = np.rint(start + direction / np.linalg.norm(direction) * self.radius * self.rng.uniform(_NEAR, _FAR))
            if (place < 0).any() or (place > limits).any():
                continue
            distance = float(np.sqrt(((known - place) ** 2).sum(axis=1).min()))
            if distance > best_distance:
                best, best_distance = place, distance
            if distance >= _NEAR * self.radius:
                break
        return Place(name, best.astype(int))

    def _raw(self, name: str, centre: np.ndarray) -> np.ndarray:
        """Read a cube; NaN outside of the volume."""
        tomogram, half = self.tomograms[name], self.edge // 2
        start = triple([int(c) - half for c in centre])
        box = Box(start, triple([a + self.edge for a in start]))
        cube = np.full(box.shape, np.nan, dtype=np.float32)
        inside = box.clipped(Box.whole(tomogram.shape))
        if not inside.is_empty:
            cube[inside.relative_to(box.start).slices] = tomogram.read(inside)
        return cube
