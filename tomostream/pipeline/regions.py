"""The region of a run: picks, counts and the evaluation are restricted to it.

Scores are computed everywhere, so that a change of the region needs no new inference.
"""

from __future__ import annotations

import numpy as np

from tomostream.formats.registry import Conversion
from tomostream.particles import Particles
from tomostream.stages.shared.region_of_interest import Restriction, restriction_to
from tomostream.stages.shared.resolved_run import Head, ResolvedRun
from tomostream.tomogram import open_tomogram


def check_region(run: ResolvedRun) -> None:
    """Check that the region fits each tomogram whose head could be read.

    Raises
    ------
    InputError
        If the box leaves a volume, or a mask is missing or not on the tomogram's grid.
    """
    if run.region.is_everywhere:
        return
    for name, one in run.tomograms.items():
        if isinstance(one.head, Head):
            restriction_to(run.region.of(name), one.head.shape, one.head.spacing, name)


def restriction_in(run: ResolvedRun, name: str) -> Restriction:
    """Return the region of a tomogram whose store exists.

    Raises
    ------
    InputError
        As `check_region`.
    """
    tomogram = open_tomogram(run.tomograms[name].store, voxel_size=run.voxel_size)
    return restriction_to(run.region.of(name), tomogram.shape, tomogram.spacing, name)


def inside(run: ResolvedRun, particles: Particles, conversion: Conversion) -> Particles:
    """Select the particles inside the region; those of tomograms that are not in the run are kept.

    Raises
    ------
    InputError
        As `check_region`, or if their unit can't be converted.
    """
    if run.region.is_everywhere:
        return particles
    is_inside = np.ones(len(particles), dtype=bool)
    names = particles.tomogram.astype(str)
    for name in particles.tomograms():
        if name in run.tomograms:
            tomogram = open_tomogram(run.tomograms[name].store, voxel_size=run.voxel_size)
            here = names == name
            voxels = conversion.to_unit(particles.select(here), "voxel", "region")
            is_inside[here] = restriction_in(run, name).holds(voxels.position_zyx, tomogram.shape)
    return particles.select(is_inside)
