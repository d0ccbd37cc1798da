"""Normalised cross-correlation by FFT, block by block: the best over a set of kernels.

For a kernel k with zero mean and unit norm in a ball of n voxels, and the standardised volume f,

    c(x) = sum_j k(j) f(x + j) / sqrt(n (var(x) + floor^2)),      var: variance of f in the ball around x

lies in [-1, 1].  The floor, in standard deviations of the volume, keeps empty places, whose variance is small, from winning by chance; at
0 it is the classic local normalisation, and when it is large a plain matched filter.  Logits are slope (c - offset): monotone.

1. The window of a block is what it needs and the ball's radius more; beyond the volume's faces f is 0, its mean.
2. One FFT of the window, one of its square, two back for mean and variance, and one for each kernel.  The transform is circular, with the window's
   size: only places that wrapping does not reach are kept.  A kernel is small, so its transform is taken axis by axis, over the lines that
   are not zero; where there is one kernel, once for all pieces.
3. The transforms depend on the box alone: one block grid gives the same bits always; other grids differ by rounding.

References
----------
Roseman 2003, "Particle finding in electron micrographs using a fast local correlation algorithm", Ultramicroscopy 94.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float32

from tomostream.geometry import BlockGrid, Box, Triple, triple

# arrays of a window's size that live at the peak: densities, spectra of both, product, result, and scratch of the transform; kept spectra
_LIVE_WINDOWS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The kernels of one output.

    Parameters
    ----------
    kernels
        Float32 cubes (z y x) of edge 2 half + 1, of zero mean and unit norm in the ball; may be made as they are asked for, each time anew.
    half
        Of the kernels, voxels.
    radius
        Of the ball, voxels; at most `half`.
    offset, slope
        Of the logits.
    """

    kernels: Iterable[np.ndarray]
    half: int
    radius: float
    offset: float
    slope: float


class CorrelationScorer:
    """Scores boxes by their correlation with kernels.

    Parameters
    ----------
    targets
        One an output.
    floor
        Added to the local variance, squared; standard deviations of the volume.
    threads
        Of the transforms; the bits don't depend on them.
    piece
        Largest edge of what is transformed at a time, voxels, without the halo; None: what is asked for, at once.  Pieces bound the memory,
        but kernels that are made as they are asked for are made for each.
    """

    def __init__(self, targets: Sequence[Target], *, floor: float, threads: int | None, piece: int | None = None) -> None:
        self.species = len(targets)
        self._targets, self._piece = list(targets), piece
        self._floor = floor
        self._threads = threads or 1
        self._half = max(target.half for target in targets)

    def read_box(self, needed: Box, shape: Triple) -> Box:
        """Return the box and the largest kernel's half more, inside the volume."""
        return needed.expanded(self._half).clipped(Box.whole(shape))

    def block_bytes(self, needed: Box, shape: Triple) -> int:
        """Projected peak of `logits`, bytes."""
        edges = self._piece_edges(needed.shape)
        window = math.prod(_transform_shape(edges, self._half))
        return 4 * (self.read_box(needed, shape).size + _LIVE_WINDOWS * window + 2 * math.prod(edges) + self.species * needed.size)

    def logits(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """Logits of `needed`; see `inference.protocol`."""
        result = self.correlations(image, read, needed, shape)
        for number, target in enumerate(self._targets):
            result[number] -= np.float32(target.offset)
            result[number] *= np.float32(target.slope)
        return result

    def correlations(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """Return the correlations themselves, in [-1, 1] but for rounding: the best over each output's kernels."""
        result = np.empty((self.species, *needed.shape), dtype=np.float32)
        edges = self._piece_edges(needed.shape)
        pieces = [piece.shifted(needed.start) for piece in BlockGrid(needed.shape, edges).cores()]
        for values, target in zip(result, self._targets, strict=True):
            size = _transform_shape(edges, target.half)
            ball = ball_of(target.half, target.radius)
            count = int(np.count_nonzero(ball))
            weights = np.conj(small_spectrum(ball.astype(np.float32) / np.float32(count), size, self._threads))
            kernels = list(target.kernels) if isinstance(target.kernels, Sequence) else []
            # those of many kernels would not fit
            kept = [small_spectrum(kernels[0], size, self._threads)] if len(kernels) == 1 else None
            for piece in pieces:
                spectra = kept if kept is not None else (small_spectrum(kernel, size, self._threads) for kernel in target.kernels)
                self._correlate(image, read, piece, target, (count, weights, spectra), size, values[piece.relative_to(needed.start).slices])
        return result

    def _piece_edges(self, shape: Triple) -> Triple:
        """Choose pieces of nearly equal edges, so that one size of transform serves all."""
        return triple([n if self._piece is None else -(-n // max(1, -(-n // self._piece))) for n in shape])

    def _correlate(
        self,
        image: np.ndarray,
        read: Box,
        needed: Box,
        target: Target,
        spectra: tuple[
            int, np.ndarray, Iterable[np.ndarray]
        ],  # voxels of the ball, conjugate transform of its mean, the kernels' transforms
        size: Triple,
        best: np.ndarray,
    ) -> None:
        count, weights, kernels = spectra
        window_box = needed.expanded(target.half)
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
        # an exactly constant place has no likeness to anything, whatever the floor
        np.maximum(variance, np.finfo(np.float32).tiny, out=variance)
        scale = 1 / np.sqrt(variance * np.float32(count))
        del mean, variance

        best.fill(-np.inf)
        for kernel in kernels:
            product = np.conj(kernel)
            product *= spectrum
            np.maximum(best, self._backward(product, size)[kept], out=best)
        best *= scale

    def _forward(self, window: np.ndarray) -> np.ndarray:
        return np.asarray(scipy.fft.rfftn(window, workers=self._threads))

    def _backward(self, spectrum: np.ndarray, size: Triple) -> np.ndarray:
        return np.asarray(scipy.fft.irfftn(spectrum, s=size, overwrite_x=True, workers=self._threads))


def ball_of(half: int, radius: float) -> np.ndarray:
    """Return the voxels of a cube of edge 2 half + 1 whose centres are within `radius` of its middle: bool (z y x)."""
    squared = np.arange(-half, half + 1, dtype=np.float64) ** 2
    is_in: np.ndarray = squared[:, None, None] + squared[None, :, None] + squared[None, None, :] <= radius**2
    return is_in


def normalised_kernel(values: Float32[np.ndarray, "n n n"], radius: float) -> Float32[np.ndarray, "n n n"]:
    """Zero outside the ball, zero mean and unit norm inside; a constant gives zeros.

    Parameters
    ----------
    values
        A cube of odd edge.
    radius
        Of the ball, voxels.
    """
    ball = ball_of(values.shape[0] // 2, radius)
    kernel = np.where(ball, values - values[ball].mean(dtype=np.float64), 0.0)
    norm = float(np.sqrt((kernel**2).sum()))
    return (kernel / norm if norm > 0 else kernel).astype(np.float32)


def small_spectrum(kernel: Float32[np.ndarray, "n m k"], size: Triple, threads: int) -> Complex64[np.ndarray, "z y x"]:
    """Return the real FFT of a small array padded to `size` with zeros; lines that are all zero are not transformed."""
    lines = scipy.fft.rfft(kernel, n=size[2], axis=2, workers=threads)
    planes = scipy.fft.fft(lines, n=size[1], axis=1, workers=threads)
    return np.asarray(scipy.fft.fft(planes, n=size[0], axis=0, workers=threads))


def _transform_shape(edges: Triple, half: int) -> Triple:
    return triple([int(scipy.fft.next_fast_len(n + 2 * half, real=True)) for n in edges])
