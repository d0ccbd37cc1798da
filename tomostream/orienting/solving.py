"""From cubes at clicked particles to what poses any other: centre, halves, spheres, and one average of all.

1. Centre the subtomograms by their radial mean, and cut them again there.
2. Align two halves apart, and as many spheres; say what they give (`agreement`).
3. Where that is enough: go on from one half's average with all subtomograms, with finer orientations, then with more frequencies.

Only the first step and the spheres need a volume, through the functions that are given; cubes are float32 of one edge, of any sign and scale, without gaps.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Float64

from tomostream.orienting.agreement import SPHERES, Evidence, as_spheres, evidence_of
from tomostream.orienting.alignment import Aligned, Subtomograms, align, improved, rotation_matrices, started
from tomostream.orienting.lattice import Lattice, soft_ball, spectra
from tomostream.orienting.poses import COARSE_DEG, Poser, centred
from tomostream.strategies.matched_filter.density import Wedge

WIDER = 1.35  # half-edge of a cube, of the radius: the ball and its soft edge
CUT_OFF, FINE_CUT_OFF = 5, 7  # cycles per edge: details of 0.54 and 0.39 radii
LIMIT = 0.3  # largest shift, of the radius
_STEP_DEG = 20.0
_ROUNDS = 5  # of all subtomograms with each cut-off
_SHIFT_VOX = 0.5
_AT_ONCE_BYTES = 90_000_000  # frequencies that are turned or spread at once, measured

Cut = Callable[[Float64[np.ndarray, "n 3"]], Float32[np.ndarray, "n e e e"]]


def edge_for(radius: float) -> int:
    """Return the edge of the cubes for a radius, voxels."""
    return 2 * int(np.ceil(WIDER * radius)) + 1


def solving_bytes(count: int, radius: float) -> int:
    """Return the most bytes that `solve` and posing hold at once, for so many subtomograms."""
    edge = edge_for(radius)
    coarse, fine = (int(2 / 3 * np.pi * cut_off**3) for cut_off in (CUT_OFF, FINE_CUT_OFF))  # without a wedge
    rotations, all_poses = (int(8 * np.pi**2 / np.radians(step) ** 3) + 1 for step in (_STEP_DEG, COARSE_DEG))
    cubes = 3 * 4 * count * edge**3
    rounds = 7 * count * (3 * 8 * fine + 2 * 4 * rotations) + rotations * fine * 8 * 5
    posing = all_poses * fine * 8 * 3
    return cubes + max(rounds, posing, all_poses * coarse * 8 * 4) + _AT_ONCE_BYTES


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """What poses a particle.

    Parameters
    ----------
    evidence
        Whether there is an orientation.
    poser
        By the average of all.  None where there is no orientation.
    coarse
        The frequencies by which particles are centred.
    profile
        Their radial mean.
    ball
        What cubes are multiplied by.
    centre
        Where the subtomograms' places lie in the average on the mean, from its middle: voxels z y x, in the average's frame.
    """

    evidence: Evidence
    poser: Poser | None
    coarse: Lattice
    profile: np.ndarray
    ball: np.ndarray
    centre: np.ndarray

    def pose(self, cut: Cut) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, " 3"]]:
        """Return the rotation of a particle (on z y x, from the tomogram's frame to the average's), and where its centre lies, voxels z y x.

        Parameters
        ----------
        cut
            Of one particle: cubes at offsets from where it was found; the result is such an offset.
        """
        assert self.poser is not None  # callers look at the evidence first
        cube = cut(np.zeros((1, 3)))
        moved, _ = centred(spectra(cube, self.ball, self.coarse), self.coarse, self.poser.limit, self.profile)
        rotation, offset = self.poser.pose(spectra(cut(moved), self.ball, self.poser.lattice)[0])
        return rotation, moved[0] + offset + rotation.T @ self.centre


def solve(
    cut: Cut,
    background: Callable[[int], Float32[np.ndarray, "m e e e"]],
    count: int,
    *,
    radius: float,
    wedge: Wedge,
    seed: int,
    advance: Callable[[], None],
) -> Solution:
    """Find the average of subtomograms, and whether it has an orientation.

    Parameters
    ----------
    cut
        Cubes of the subtomograms, in whole voxels off their places.
    background
        Cubes of so many places of the background; others at each call.
    count
        Number of subtomograms.
    radius
        Of the particle, voxels.
    wedge
        The measured frequencies.
    seed
        Of the starts and halves.
    advance
        Called after each of `STEPS` steps.
    """
    rng = np.random.default_rng(seed)
    edge, limit = edge_for(radius), LIMIT * radius
    ball = soft_ball(edge, radius)
    coarse = Lattice.within(edge, CUT_OFF, wedge)
    moved, profile = centred(spectra(cut(np.zeros((count, 3))), ball, coarse), coarse, limit)
    cubes = cut(moved)
    every = Subtomograms(spectra(cubes, ball, coarse), coarse, ball, limit)
    order = rng.permutation(count)
    halves: list[Aligned] = []
    for first in range(2):
        halves.append(align(every.some(order[first::2]), rng))
        advance()
    spheres: list[Aligned] = []
    for number in range(SPHERES):
        made = as_spheres(cubes, background(len(order[number % 2 :: 2])))
        spheres.append(align(replace(every, spectra=spectra(made, ball, coarse)), rng))
        advance()
    evidence = evidence_of(halves, spheres, CUT_OFF)
    if not evidence.is_enough:
        return Solution(evidence, None, coarse, profile, ball, np.zeros(3))
    fine = Subtomograms(
        spectra(cubes, ball, Lattice.within(edge, FINE_CUT_OFF, wedge)), Lattice.within(edge, FINE_CUT_OFF, wedge), ball, limit
    )
    aligned = _of_all(every, fine, halves[0])
    advance()
    centre = -np.einsum("nij,nj->ni", aligned.rotations, moved + aligned.offsets).mean(axis=0)
    return Solution(evidence, Poser(aligned, fine.lattice, limit), coarse, profile, ball, centre)


STEPS = 2 + SPHERES + 1


def _of_all(coarse: Subtomograms, fine: Subtomograms, half: Aligned) -> Aligned:
    """Return all subtomograms aligned from the average of one half, at last with all frequencies."""
    rotations = rotation_matrices(_STEP_DEG)
    count = len(coarse.spectra)
    found = replace(half, rotations=np.tile(np.eye(3), (count, 1, 1)), offsets=np.zeros((count, 3)))
    for _ in range(_ROUNDS):
        found = improved(coarse, found, rotations, step=_SHIFT_VOX, sharpness=1.0)
    noise = started(fine, found.rotations).noise
    noise[: len(found.noise)] = found.noise
    found = replace(found, noise=noise)
    for _ in range(_ROUNDS):
        found = improved(fine, found, rotations, step=_SHIFT_VOX, sharpness=1.0)
    return found
