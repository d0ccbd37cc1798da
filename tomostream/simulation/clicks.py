"""Simulate clicks on a few of the particles, each a little off its centre."""

import numpy as np

from tomostream.errors import InputError
from tomostream.particles import Particles


def simulate_clicks(truth: Particles, *, species: str, count: int, jitter_vox: float, seed: int) -> Particles:
    """Choose particles of one species at random, and shift each by a normal deviate along each axis.

    Parameters
    ----------
    truth
        All particles, in voxels.
    species
        The species to click.
    count
        Number of clicks, at least 1.
    jitter_vox
        Standard deviation of the shift along each axis, voxels.
    seed
        Of the choice and of the shifts.

    Returns
    -------
    Particles
        In voxels; scores are NaN.

    Raises
    ------
    InputError
        If there are fewer particles than clicks, or the truth is not in voxels.
    """
    if truth.unit != "voxel":
        raise InputError(f"clicks are simulated in voxels, and this truth is in {truth.unit}; convert it with Particles.in_unit first")
    there = truth.of(species=species)
    if not 1 <= count <= len(there):
        raise InputError(f"clicks: {count} of the species '{species}' asked for, and the truth has {len(there)}; ask for 1 to {len(there)}")
    rng = np.random.default_rng(seed)
    chosen = there.select(rng.choice(len(there), size=count, replace=False))
    jitter = rng.normal(scale=jitter_vox, size=(count, 3))
    return Particles.build(chosen.position_zyx + jitter, unit="voxel", tomogram=chosen.tomogram.tolist(), species=species)
