"""From an average to its views in all orientations, and back from subtomograms to an average.

1. An average is a cube.  It is transformed on a lattice of half steps, as if it were padded to twice its edge, so that the transform can be interpolated linearly.
2. `views`: a view is the transform at the lattice's frequencies, turned into the average's frame.
3. `average_of`: the reverse; values are spread over the eight neighbours of their turned frequency with the weights of the interpolation, and divided by the sum of
   weights plus the ratio of noise to signal (a Wiener filter), so that what few subtomograms measured stays small.

A rotation is a matrix on z y x that takes the tomogram's frame to the average's.

References
----------
Scheres 2012, "RELION: implementation of a Bayesian approach to cryo-EM structure determination", J Struct Biol 180:519.
"""

import numpy as np
from jaxtyping import Complex64, Float64
from scipy import ndimage

from tomostream.orienting.lattice import Lattice

_PAD = 2  # steps of the padded lattice per step of the lattice
_AT_ONCE = 400_000  # frequencies that are turned at once: 50 MB
_LEAST_SIGNAL = 0.02  # of a shell's power that counts as signal where noise explains all of it
_BELIEF = 2.0  # the signal's power is taken this many times larger: regularised too much, weak detail never grows
_FAINT = 1e-3  # of the largest weight: below, a frequency says nothing of a shell's power


def spectrum_of(volume: Float64[np.ndarray, "e e e"], cut_off: int) -> np.ndarray:
    """Return the padded transform around the zero frequency, complex (m, m, m); its middle is the zero frequency."""
    waves = _waves(volume.shape[0], cut_off)
    result: np.ndarray = np.einsum("az,by,cx,zyx->abc", waves, waves, waves, volume, optimize=True)
    return result


def views(volume: Float64[np.ndarray, "e e e"], lattice: Lattice, rotations: Float64[np.ndarray, "r 3 3"]) -> Complex64[np.ndarray, "r p"]:
    """Return the frequencies that a tomogram has of the average in each orientation."""
    spectrum, half = spectrum_of(volume, lattice.cut_off), _half(lattice.cut_off)
    real, imaginary = np.ascontiguousarray(spectrum.real), np.ascontiguousarray(spectrum.imag)
    result = np.empty((len(rotations), len(lattice.points)), np.complex64)
    for part in _parts(len(rotations), len(lattice.points)):
        at = np.einsum("rij,pj->irp", rotations[part], lattice.points) * _PAD + half
        result.real[part] = ndimage.map_coordinates(real, at, order=1)
        result.imag[part] = ndimage.map_coordinates(imaginary, at, order=1)
    return result


def average_of(
    values: Complex64[np.ndarray, "r p"], weights: np.ndarray, rotations: Float64[np.ndarray, "r 3 3"], lattice: Lattice, noise: np.ndarray
) -> Float64[np.ndarray, "e e e"]:
    """Return the average.

    Parameters
    ----------
    values
        Sums of the frequencies of subtomograms that have these orientations.
    weights
        Their numbers (r,).
    rotations
        The orientations.
    lattice
        The frequencies.
    noise
        Power of the noise in each shell, (cut_off + 1,).
    """
    sums, counts = _spread(values, weights, rotations, lattice)
    half = _half(lattice.cut_off)
    along = (np.arange(2 * half + 1) - half) / _PAD
    radius = np.sqrt(along[:, None, None] ** 2 + along[None, :, None] ** 2 + along[None, None, :] ** 2)
    shell = np.minimum(np.rint(radius).astype(int), lattice.cut_off)
    cells = _PAD**3
    raw = np.abs(sums / np.maximum(counts, _FAINT * counts.max() + 1e-9)) ** 2
    in_shell = np.bincount(shell.ravel(), counts.ravel(), lattice.cut_off + 1)
    power = np.bincount(shell.ravel(), (raw * counts).ravel(), lattice.cut_off + 1) / np.maximum(in_shell, 1e-9)
    covered = cells * in_shell / np.bincount(shell.ravel(), minlength=lattice.cut_off + 1)
    signal = _BELIEF * np.maximum(power - noise / np.maximum(covered, 1e-9), _LEAST_SIGNAL * power)
    ratio = noise / np.maximum(signal, 1e-30) / cells
    whole = np.where(radius <= lattice.cut_off + 0.5, sums / (counts + ratio[shell] + 1e-9), 0)
    waves = _waves(lattice.edge, lattice.cut_off).conj()
    volume: np.ndarray = np.einsum("az,by,cx,abc->zyx", waves, waves, waves, whole, optimize=True).real / (_PAD * lattice.edge) ** 3
    return np.ascontiguousarray(volume)


def _waves(edge: int, cut_off: int) -> np.ndarray:
    """Return exp(-2 pi i k d) of each half step k of the padded lattice and voxel d, counted from the middle: so few that sums are faster than an FFT."""
    half = _half(cut_off)
    result: np.ndarray = np.exp(-2j * np.pi / (_PAD * edge) * np.outer(np.arange(-half, half + 1), np.arange(edge) - edge // 2))
    return result


def _spread(values: np.ndarray, weights: np.ndarray, rotations: np.ndarray, lattice: Lattice) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums of values and of weights on the padded lattice."""
    half = _half(lattice.cut_off)
    size = 2 * half + 1
    real, imaginary, counts = np.zeros(size**3), np.zeros(size**3), np.zeros(size**3)
    for part in _parts(len(rotations), len(lattice.points)):
        # axis by axis, because these arrays are the largest
        low, shares = [], []
        for axis in range(3):
            at = (rotations[part, axis] @ lattice.points.T * _PAD + half).ravel()
            low.append(np.floor(at).astype(np.int64))
            shares.append((low[axis] + 1 - at, at - low[axis]))
        first = (low[0] * size + low[1]) * size + low[2]
        value = values[part].ravel()
        weight = np.repeat(weights[part], len(lattice.points))
        for z, y, x in np.ndindex(2, 2, 2):
            share = shares[0][z] * shares[1][y] * shares[2][x]
            index = first + ((z * size + y) * size + x)
            real += np.bincount(index, share * value.real, size**3)
            imaginary += np.bincount(index, share * value.imag, size**3)
            counts += np.bincount(index, share * weight, size**3)
    sums = (real + 1j * imaginary).reshape((size,) * 3)
    counts = counts.reshape((size,) * 3)
    # the other of each pair k, -k
    return sums + np.flip(sums).conj(), counts + np.flip(counts)


def _half(cut_off: int) -> int:
    return _PAD * (cut_off + 1)


def _parts(rotations: int, points: int) -> list[slice]:
    step = max(1, _AT_ONCE // points)
    return [slice(first, first + step) for first in range(0, rotations, step)]
