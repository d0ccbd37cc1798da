"""Normalised cross-correlation on a GPU: the formula of `correlation`, in larger pieces.

Limits: results agree with those of the CPU to the rounding of the Fourier transforms.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32

from tomostream.geometry import BlockGrid, Box, Triple, triple
from tomostream.strategies.matched_filter.correlation import Target, ball_of, balls_of, piece_edges, transform_shape

_PIECES = (384, 256, 192, 128, 96, 64, 32)  # candidate edges of a piece, voxels
_LIVE_WINDOWS = 14  # arrays of the window's size at the peak, including scratch memory of the transforms
_SHARE = 8  # the arrays of a window may take one part in this many of the device's memory


class DeviceCorrelation:
    """Adds the logits of a matched filter on a GPU.

    Parameters
    ----------
    targets
        One per output.
    floor
        See `CorrelationScorer`.
    memory
        Memory of the device that may be used, in bytes.
    """

    def __init__(self, targets: Sequence[Target], *, floor: float, memory: int) -> None:
        self._targets, self._floor = list(targets), floor
        half = max(target.half for target in targets)

        def fits(edge: int) -> bool:
            return 4 * _LIVE_WINDOWS * math.prod(transform_shape(triple(edge), half)) <= memory // _SHARE

        self._piece = next((edge for edge in _PIECES if fits(edge)), _PIECES[-1])

    def add_to(self, result: Float32[torch.Tensor, "s Z Y X"], image: Float32[torch.Tensor, "z y x"], read: Box, needed: Box) -> None:
        """Add the logits of `needed` to `result`, in place.

        Parameters
        ----------
        result
            Logits of `needed` on the device, one map per output.
        image, read
            Standardised densities on the device, and their box.  The box must contain `CorrelationScorer.read_box` of `needed`, and must not extend
            beyond the volume.
        needed
            The box whose logits are wanted.
        """
        edges = piece_edges(needed.shape, self._piece)
        for group in balls_of(self._targets):
            half, radius = self._targets[group[0]].half, self._targets[group[0]].radius
            size = transform_shape(edges, half)
            ball = ball_of(half, radius)
            count = int(np.count_nonzero(ball))
            weights = _spectrum(ball.astype(np.float32) / np.float32(count), size, image.device).conj()
            for part in BlockGrid(needed.shape, edges).cores():
                spectrum, scale = self._transformed(image, read, part.shifted(needed.start), half, (count, weights), size)
                for number in group:
                    target = self._targets[number]
                    found = _correlation(spectrum, scale, target, size)
                    result[number][part.slices] += (found - target.offset) * target.slope

    def _transformed(
        self, image: torch.Tensor, read: Box, needed: Box, half: int, ball: tuple[int, torch.Tensor], size: Triple
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the transform of the window of one piece, and what correlations there are multiplied by."""
        count, weights = ball
        around = needed.expanded(half)
        inside = around.clipped(read)
        window = torch.zeros(size, dtype=torch.float32, device=image.device)
        window[inside.relative_to(around.start).slices] = image[inside.relative_to(read.start).slices]
        kept = tuple(slice(0, n) for n in needed.shape)
        spectrum = torch.fft.rfftn(window)
        mean = torch.fft.irfftn(spectrum * weights, s=size)[kept].clone()
        squares = torch.fft.rfftn(window.square_()).mul_(weights)
        del window
        variance = torch.fft.irfftn(squares, s=size)[kept].clone()
        del squares
        variance.sub_(mean.square_()).clamp_(min=0).add_(self._floor**2)
        del mean
        # keeps an exactly constant place from dividing by zero if the floor is 0; its correlation becomes 0
        return spectrum, variance.clamp_(min=float(np.finfo(np.float32).tiny)).mul_(count).rsqrt_()


def _correlation(spectrum: torch.Tensor, scale: torch.Tensor, target: Target, size: Triple) -> torch.Tensor:
    """Return the maximum over a target's kernels of the correlations in one piece."""
    kept = tuple(slice(0, n) for n in scale.shape)
    best = None
    for kernel in target.kernels:
        product = _spectrum(kernel, size, spectrum.device).conj() * spectrum
        found = torch.fft.irfftn(product, s=size)[kept]
        best = found.clone() if best is None else torch.maximum(best, found)
    if best is None:
        raise ValueError("a target must have at least one kernel")
    result: torch.Tensor = best.mul_(scale)
    return result


def _spectrum(kernel: np.ndarray, size: Triple, device: torch.device) -> torch.Tensor:
    spectrum: torch.Tensor = torch.fft.rfftn(torch.from_numpy(np.ascontiguousarray(kernel, dtype=np.float32)).to(device), s=size)
    return spectrum
