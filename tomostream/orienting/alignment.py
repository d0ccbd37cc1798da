"""Align subtomograms to their own average, from nothing: expectation and maximisation over orientations.

1. Start: the average of the subtomograms in random orientations.
2. Expectation: the probability of each orientation and small shift of a subtomogram, from its squared distance to the average's view, in units of the noise.
3. Maximisation: the average of all subtomograms in all orientations by their probabilities; and the noise, from what is left.
4. Repeat; each subtomogram moves to its best shift.  Of several starts those go on whose noise is the lowest, and the lowest wins: it explains most.

Distances count less than their number of frequencies says, because a ball fills only a part of its cube.  `sharpness` scales them besides: where it is
too low, the average stays a sphere; where too high, it stays at its start.  Both are tried.

Limits: a symmetric particle gets one of its equal orientations.  The frame of the average is its own.

References
----------
Scheres 2012, J Struct Biol 180:519; Scheres et al. 2009, "Averaging of electron subtomograms and random conical tilt reconstructions through likelihood
optimization", Structure 17:1563.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Complex64, Float32, Float64

from tomostream.orienting.averages import average_of, views
from tomostream.orienting.lattice import Lattice
from tomostream.strategies.matched_filter.rotations import rotation_set

START_STEP_DEG = 30.0  # between orientations, while the average grows from nothing
FIRST_ROUNDS, LAST_ROUNDS = 6, 7  # of every start, and of the best
KEPT = 2  # starts
SHARPNESS = (1.0, 2.0)
_STARTED = 80  # subtomograms that are aligned in all starts of one sharpness together: fewer of them, more starts
_FEWEST_STARTS, _MOST_STARTS = 2, 6
_SMALL = 1e-3  # of the largest probability: smaller ones are left out
_LEAST_NOISE = 1e-3  # of that before: keeps distances finite


@dataclass(frozen=True, slots=True, eq=False)
class Subtomograms:
    """What is aligned.

    Parameters
    ----------
    spectra
        Frequencies of the subtomograms.
    lattice
        Which.
    ball
        What they were multiplied by.
    limit
        Largest shift, voxels.
    """

    spectra: Complex64[np.ndarray, "n p"]
    lattice: Lattice
    ball: Float32[np.ndarray, "e e e"]
    limit: float

    @property
    def share(self) -> float:
        """How many independent numbers there are for each frequency."""
        return float((self.ball.astype(np.float64) ** 2).mean())

    def some(self, which: np.ndarray) -> "Subtomograms":
        """Return those with these numbers."""
        return replace(self, spectra=self.spectra[which])


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """Subtomograms and their average, after some rounds.

    Parameters
    ----------
    average
        In the ball, of the sign of the tomogram.
    noise
        Power in each shell.
    rotations
        The best of each subtomogram: matrices on z y x, from the tomogram's frame to the average's.
    offsets
        Where the particle lies, from the middle of its cube, voxels z y x.
    """

    average: Float64[np.ndarray, "e e e"]
    noise: Float64[np.ndarray, " s"]
    rotations: Float64[np.ndarray, "n 3 3"]
    offsets: Float64[np.ndarray, "n 3"]

    def unexplained(self, lattice: Lattice) -> float:
        """How much noise is left, in log units per subtomogram; smaller is better, for the same subtomograms."""
        return float(np.log(self.noise)[lattice.shell].sum())


def align(subtomograms: Subtomograms, rng: np.random.Generator) -> Aligned:
    """Align subtomograms from nothing; the best of several starts."""
    rotations = rotation_matrices(START_STEP_DEG)
    starts = min(max(_STARTED // max(len(subtomograms.spectra), 1), _FEWEST_STARTS), _MOST_STARTS)
    growing: list[tuple[float, Aligned]] = []
    for _ in range(starts):
        first = started(subtomograms, rotations[rng.integers(len(rotations), size=len(subtomograms.spectra))])
        growing += [(sharpness, _grown(subtomograms, first, rotations, sharpness, FIRST_ROUNDS)) for sharpness in SHARPNESS]
    growing.sort(key=lambda one: one[1].unexplained(subtomograms.lattice))
    grown = [_grown(subtomograms, found, rotations, sharpness, LAST_ROUNDS) for sharpness, found in growing[:KEPT]]
    return min(grown, key=lambda one: one.unexplained(subtomograms.lattice))


def _grown(subtomograms: Subtomograms, found: Aligned, rotations: np.ndarray, sharpness: float, rounds: int) -> Aligned:
    for _ in range(rounds):
        found = improved(subtomograms, found, rotations, step=1.0, sharpness=sharpness)
    return found


def started(subtomograms: Subtomograms, rotations: Float64[np.ndarray, "n 3 3"]) -> Aligned:
    """Return the average of subtomograms that have these orientations; all that they are counts as noise."""
    noise = subtomograms.lattice.shell_means((np.abs(subtomograms.spectra) ** 2).mean(axis=0))
    weights = np.ones(len(rotations))
    average = average_of(subtomograms.spectra, weights, rotations, subtomograms.lattice, noise) * subtomograms.ball
    return Aligned(average, noise, rotations, np.zeros((len(rotations), 3)))


def improved(
    subtomograms: Subtomograms, before: Aligned, rotations: Float64[np.ndarray, "r 3 3"], *, step: float, sharpness: float
) -> Aligned:
    """Go one round further.

    Parameters
    ----------
    before
        The average, and where the subtomograms lie.
    rotations
        The orientations to consider.
    step
        Of the shifts to consider, voxels: none, and one along each axis.
    sharpness
        See the module.
    """
    lattice, count = subtomograms.lattice, len(subtomograms.spectra)
    seen = views(before.average, lattice, rotations)
    shifts = shifts_by(step)
    shifted = _shifted(subtomograms, before.offsets, shifts)
    log = log_probability(shifted, seen, before.noise, lattice) * np.float32(subtomograms.share * sharpness)
    log = log.reshape(count, len(shifts) * len(rotations))
    log -= log.max(axis=1, keepdims=True)
    best_shift, best_rotation = np.divmod(log.argmax(axis=1), len(rotations))
    probability = np.exp(log, out=log)
    probability[probability < _SMALL] = 0
    probability /= probability.sum(axis=1, keepdims=True)
    each = probability.reshape(-1, len(rotations))
    weights = each.sum(axis=0, dtype=np.float64)
    sums = (each.T @ as_real(shifted)).view(np.complex64)
    left = (
        (np.abs(subtomograms.spectra) ** 2).mean(axis=0)
        + (np.abs(seen) ** 2 * weights[:, None]).sum(axis=0) / count
        - 2 * (sums * seen.conj()).real.sum(axis=0) / count
    )
    noise = np.maximum(lattice.shell_means(left), _LEAST_NOISE * before.noise)
    used = weights > _SMALL
    average = average_of(sums[used], weights[used], rotations[used], lattice, noise) * subtomograms.ball
    offsets = limited(before.offsets + shifts[best_shift], subtomograms.limit)
    return Aligned(average, noise, rotations[best_rotation], offsets)


def log_probability(
    shifted: Complex64[np.ndarray, "m p"], seen: Complex64[np.ndarray, "r p"], noise: Float64[np.ndarray, " s"], lattice: Lattice
) -> Float32[np.ndarray, "m r"]:
    """Return, of each subtomogram and view, what depends on the view of minus their squared distance in units of the noise."""
    weighed = seen * (1 / noise[lattice.shell]).astype(np.float32)
    own = (seen.real * weighed.real + seen.imag * weighed.imag).sum(axis=1)
    result: np.ndarray = 2 * (as_real(shifted) @ as_real(weighed).T) - own
    return result


def as_real(values: Complex64[np.ndarray, "m p"]) -> Float32[np.ndarray, "m q"]:
    """Return real and imaginary parts in turns, so that a product of reals is that of complex numbers."""
    result: np.ndarray = np.ascontiguousarray(values).view(np.float32)
    return result


def shifts_by(step: float) -> Float64[np.ndarray, "7 3"]:
    """Return no shift, and one step along each axis, forth and back."""
    return np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)]) * step


def limited(offsets: Float64[np.ndarray, "n 3"], limit: float) -> Float64[np.ndarray, "n 3"]:
    """Return offsets that are no longer than the limit."""
    lengths = np.linalg.norm(offsets, axis=1, keepdims=True)
    result: np.ndarray = offsets * np.minimum(1, limit / np.maximum(lengths, 1e-9))
    return result


def rotation_matrices(step_deg: float) -> Float64[np.ndarray, "r 3 3"]:
    """Return evenly spread rotations."""
    return np.asarray(rotation_set(step_deg).as_matrix(), dtype=np.float64)


def _shifted(subtomograms: Subtomograms, offsets: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Return the spectra of all subtomograms with all shifts, complex (n * s, p)."""
    every = (offsets[:, None] + shifts).reshape(-1, 3)
    result: np.ndarray = np.repeat(subtomograms.spectra, len(shifts), axis=0) * subtomograms.lattice.phases(every)
    return result
