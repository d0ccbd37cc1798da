"""Normalised cross-correlation by FFT, block by block; the result is the maximum over a set of kernels.

For a kernel k with zero mean and unit norm in a ball of n voxels, and the standardised volume f,

    c(x) = sum_j k(j) f(x + j) / sqrt(n (var(x) + floor^2)),      var: variance of f in the ball around x

lies in [-1, 1].  The floor, in standard deviations of the volume, keeps empty places, whose variance is small, from scoring high by chance.  A floor
of 0 gives the classic local normalisation, a large floor a plain matched filter.  Logits are slope (c - offset).

1. The window of a block is the box that is needed, widened by the kernel's half-width; beyond the faces of the volume f is 0, its mean.
2. Transform the window and its square; transform back once each for mean and variance, and once for each kernel.  The transforms are circular with
   the window's size, so only places that wrapping does not reach are kept.  A kernel is small, so it is transformed axis by axis, without the lines
   that are all zero; a single kernel is transformed once for all pieces, and outputs of one ball share the transforms of the volume.
3. The transforms depend only on the box.  So the same block grid always gives the same bits; different grids agree to rounding.

References
----------
Roseman 2003, "Particle finding in electron micrographs using a fast local correlation algorithm", Ultramicroscopy 94.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float32

from tomostream.geometry import BlockGrid, Box, Triple, triple

# arrays of the window's size alive at the peak: densities, two spectra, product, result, scratch memory of the transform, kept spectra
_LIVE_WINDOWS = 10
_MIXED_AT_ONCE = 4096  # voxels whose correlations are mixed at once: small enough for the cache


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The kernels of one output.

    Parameters
    ----------
    kernels
        Float32 cubes (z y x) of edge 2 half + 1, with zero mean and unit norm in the ball.  An iterable that is not a sequence may make them anew in
        each iteration.
    half
        Half-width of the kernels, in voxels.
    radius
        Radius of the ball, in voxels; less than `half` + 1.
    offset, slope
        Logits are slope (c - offset).
    mixing
        Float32 (n, k): the correlation is the largest of n weighted sums of the correlations with the k kernels (`tensorial`).  None: it is the
        largest of those.
    """

    kernels: Iterable[np.ndarray]
    half: int
    radius: float
    offset: float
    slope: float
    mixing: Float32[np.ndarray, "n k"] | None = None


class CorrelationScorer:
    """A `BlockScorer` that scores boxes by their correlation with kernels.

    Parameters
    ----------
    targets
        One per output.
    floor
        Its square is added to the local variance; in standard deviations of the volume.
    threads
        Number of threads of the transforms; the result does not depend on it.  None: 1.
    piece
        Largest edge of a piece that is transformed at once, in voxels without the halo; None: the whole box.  Pieces bound the memory, but kernels
        that are made during iteration are made again for each piece.
    """

    def __init__(self, targets: Sequence[Target], *, floor: float, threads: int | None, piece: int | None = None) -> None:
        self.species = len(targets)
        self._targets, self._piece = list(targets), piece
        self._floor = floor
        self._threads = threads or 1
        self._half = max(target.half for target in targets)
        self._groups = balls_of(targets)

    def read_box(self, needed: Box, shape: Triple) -> Box:
        """Return the box, widened by the half-width of the largest kernel and clipped to the volume."""
        return needed.expanded(self._half).clipped(Box.whole(shape))

    def block_bytes(self, needed: Box, shape: Triple) -> int:
        """Return the projected peak of `logits`, in bytes."""
        edges = self._piece_edges(needed.shape)
        window = math.prod(transform_shape(edges, self._half))
        live = _LIVE_WINDOWS + max(map(len, self._groups)) - 1
        mixed = max((_mixed_bytes(target, math.prod(edges)) for target in self._targets), default=0)
        return mixed + 4 * (self.read_box(needed, shape).size + live * window + 2 * math.prod(edges) + self.species * needed.size)

    def logits(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """Return the logits of `needed`; see `BlockScorer.logits`."""
        result = self.correlations(image, read, needed, shape)
        for number, target in enumerate(self._targets):
            result[number] -= np.float32(target.offset)
            result[number] *= np.float32(target.slope)
        return result

    def correlations(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """Return the correlations, in [-1, 1] up to rounding: for each output the maximum over its kernels."""
        result = np.empty((self.species, *needed.shape), dtype=np.float32)
        edges = self._piece_edges(needed.shape)
        pieces = [piece.shifted(needed.start) for piece in BlockGrid(needed.shape, edges).cores()]
        for group in self._groups:
            half, radius = self._targets[group[0]].half, self._targets[group[0]].radius
            size = transform_shape(edges, half)
            ball = ball_of(half, radius)
            count = int(np.count_nonzero(ball))
            weights = np.conj(small_spectrum(ball.astype(np.float32) / np.float32(count), size, self._threads))
            # a single kernel's spectrum is kept for all pieces; those of many kernels would take too much memory
            kept = [self._kept(self._targets[number], size) for number in group]
            for piece in pieces:
                spectrum, scale = self._transformed(image, read, piece, half, (count, weights), size)
                for number, own in zip(group, kept, strict=True):
                    spectra = own if own is not None else self._spectra(self._targets[number], size)
                    best = result[number][piece.relative_to(needed.start).slices]
                    self._correlate(spectrum, scale, spectra, size, best, self._targets[number].mixing)
        return result

    def _piece_edges(self, shape: Triple) -> Triple:
        return piece_edges(shape, self._piece)

    def _kept(self, target: Target, size: Triple) -> list[np.ndarray] | None:
        is_single = isinstance(target.kernels, Sequence) and len(target.kernels) == 1
        return list(self._spectra(target, size)) if is_single else None

    def _spectra(self, target: Target, size: Triple) -> Iterator[np.ndarray]:
        return (small_spectrum(kernel, size, self._threads) for kernel in target.kernels)

    def _transformed(
        self,
        image: np.ndarray,
        read: Box,
        needed: Box,
        half: int,
        ball: tuple[int, np.ndarray],  # its voxels, and the conjugate transform of its mean
        size: Triple,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the transform of the window of one piece, and what correlations there are multiplied by."""
        count, weights = ball
        window_box = needed.expanded(half)
        window = np.zeros(size, dtype=np.float32)
        inside = window_box.clipped(read)
        window[inside.relative_to(window_box.start).slices] = image[inside.relative_to(read.start).slices]
        kept = tuple(slice(0, n) for n in needed.shape)
        spectrum = self._forward(window)
        mean = self._backward(spectrum * weights, size)[kept]
        np.square(window, out=window)
        squares = self._forward(window)
        squares *= weights
        variance = self._backward(squares, size)[kept]
        del window, squares
        variance -= mean * mean
        np.maximum(variance, 0, out=variance)
        variance += np.float32(self._floor**2)
        # keeps an exactly constant place from dividing by zero if the floor is 0; its correlation becomes 0
        np.maximum(variance, np.finfo(np.float32).tiny, out=variance)
        return spectrum, 1 / np.sqrt(variance * np.float32(count))

    def _correlate(
        self,
        spectrum: np.ndarray,
        scale: np.ndarray,
        kernels: Iterable[np.ndarray],
        size: Triple,
        best: np.ndarray,
        mixing: np.ndarray | None,
    ) -> None:
        """Correlate one piece with the kernels of a target, given their transforms, and write the maximum over the kernels, or their sums, to `best`."""
        kept = tuple(slice(0, n) for n in best.shape)
        found = (self._backward(np.multiply(product := np.conj(kernel), spectrum, out=product), size)[kept] for kernel in kernels)
        if mixing is None:
            best.fill(-np.inf)
            for one in found:
                np.maximum(best, one, out=best)
        else:
            parts = np.empty((mixing.shape[1], best.size), dtype=np.float32)
            for part, one in zip(parts, found, strict=True):
                part[:] = one.ravel()
            best[:] = _largest_sums(mixing, parts).reshape(best.shape)
        best *= scale

    def _forward(self, window: np.ndarray) -> np.ndarray:
        return np.asarray(scipy.fft.rfftn(window, workers=self._threads))

    def _backward(self, spectrum: np.ndarray, size: Triple) -> np.ndarray:
        return np.asarray(scipy.fft.irfftn(spectrum, s=size, overwrite_x=True, workers=self._threads))


def _mixed_bytes(target: Target, voxels: int) -> int:
    """Return what mixing the correlations of a piece takes, in bytes."""
    if target.mixing is None:
        return 0
    orientations, kernels = target.mixing.shape
    return 4 * int(voxels * (kernels + 1) + orientations * min(voxels, _MIXED_AT_ONCE))


def _largest_sums(mixing: Float32[np.ndarray, "n k"], parts: Float32[np.ndarray, "k v"]) -> Float32[np.ndarray, " v"]:
    """Return the largest element of each column of `mixing @ parts`."""
    result = np.empty(parts.shape[1], dtype=np.float32)
    for first in range(0, parts.shape[1], _MIXED_AT_ONCE):
        some = slice(first, first + _MIXED_AT_ONCE)
        np.max(mixing @ parts[:, some], axis=0, out=result[some])
    return result


def balls_of(targets: Sequence[Target]) -> list[list[int]]:
    """Group the numbers of targets by their ball: the transforms of the volume, its local mean and variance are the same for all of a group."""
    groups: dict[tuple[int, float], list[int]] = {}
    for number, target in enumerate(targets):
        groups.setdefault((target.half, target.radius), []).append(number)
    return list(groups.values())


def ball_of(half: int, radius: float) -> np.ndarray:
    """Return the mask of a ball, bool (z y x): the voxels of a cube of edge 2 half + 1 whose centres are within `radius` of its middle."""
    squared = np.arange(-half, half + 1, dtype=np.float64) ** 2
    is_in: np.ndarray = squared[:, None, None] + squared[None, :, None] + squared[None, None, :] <= radius**2
    return is_in


def normalised_kernel(values: Float32[np.ndarray, "n n n"], radius: float) -> Float32[np.ndarray, "n n n"]:
    """Return a kernel with zero mean and unit norm in a ball, and zero outside; constant values give zeros.

    Parameters
    ----------
    values
        A cube of odd edge.
    radius
        Radius of the ball, in voxels.
    """
    ball = ball_of(values.shape[0] // 2, radius)
    kernel = np.where(ball, values - values[ball].mean(dtype=np.float64), 0.0)
    norm = float(np.sqrt((kernel**2).sum()))
    return (kernel / norm if norm > 0 else kernel).astype(np.float32)


def small_spectrum(kernel: Float32[np.ndarray, "n m k"], size: Triple, threads: int) -> Complex64[np.ndarray, "z y x"]:
    """Return the real FFT of a small array that is padded with zeros to `size`, without transforming lines that are all zero."""
    lines = scipy.fft.rfft(kernel, n=size[2], axis=2, workers=threads)
    planes = scipy.fft.fft(lines, n=size[1], axis=1, workers=threads)
    return np.asarray(scipy.fft.fft(planes, n=size[0], axis=0, workers=threads))


def piece_edges(shape: Triple, most: int | None) -> Triple:
    """Return the edges of pieces, at most `most` voxels each; pieces are as equal as possible, so that one transform size serves all."""
    return triple([n if most is None else -(-n // max(1, -(-n // most))) for n in shape])


def transform_shape(edges: Triple, half: int) -> Triple:
    """Return the edges of a piece's window, with at least `half` voxels around it on each side, rounded up to sizes with a fast transform."""
    return triple([int(scipy.fft.next_fast_len(n + 2 * half, real=True)) for n in edges])
