"""Paint boxes into a score map: each box is a peak at its centre, and each pixel keeps the highest value.

A cell with the confidence logit l and the centre of its box at m contributes l - a |p - m|^2 at pixel p, and the logit of a pixel is the maximum over
the cells in its neighbourhood.  So the map has a local maximum at each centre, to within a pixel, with the confidence of the box; weak boxes near
strong ones vanish under their flanks; and the map is smooth enough to be interpolated to a finer grid.  a is 4 / r^2, so that at the particle's
radius r a peak is 4 logits lower.  The neighbourhood extends to at least 1.5 r, where a contribution is 9 logits below its peak.

Every term depends only on distances within and between cells, not on their position, so a block gives the same map as the whole slice.

References
----------
The upper envelope of parabolas is a max-plus convolution: Felzenszwalb, Huttenlocher 2012, "Distance transforms of sampled functions".
"""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float32
from torch.nn import functional as F

_LOSS_AT_RADIUS = 4.0  # logits by which a peak is lower at one radius
_RADII = 1.5  # extent of the neighbourhood, radii


def window_cells(radius: Sequence[float], stride: int) -> int:
    """Return the number of cells on each side whose boxes contribute to a pixel.

    Parameters
    ----------
    radius
        Radius of each species, in pixels.
    stride
        Edge of a cell, in pixels.
    """
    return math.ceil(_RADII * max(radius) / stride)


def painted(
    confidence: Float32[torch.Tensor, "s v u"], centre: Float32[torch.Tensor, "2 v u"], *, radius: Sequence[float], stride: int
) -> Float32[torch.Tensor, "s y x"]:
    """Paint the boxes of one slice.

    Parameters
    ----------
    confidence
        Logits of the cells' boxes, for each species.
    centre
        y and x of each box in its cell, 0 to 1.
    radius
        Radius of each species, in pixels.
    stride
        Edge of a cell, in pixels; the map has `stride` pixels per cell along each axis.
    """
    species, height, width = confidence.shape
    window = window_cells(radius, stride)
    around = F.pad(confidence, (window,) * 4, value=-math.inf)
    # the centre of a pixel has integer coordinates, so a cell begins half a pixel before its first pixel
    place = F.pad(centre * stride - 0.5, (window,) * 4)
    steepness = torch.tensor([_LOSS_AT_RADIUS / r**2 for r in radius], device=confidence.device)[:, None, None, None, None]
    pixel = torch.arange(stride, device=confidence.device, dtype=torch.float32)
    result = torch.full((species, height, width, stride, stride), -math.inf, device=confidence.device)
    for dv, du in itertools.product(range(2 * window + 1), repeat=2):
        rows, columns = slice(dv, dv + height), slice(du, du + width)
        y = (pixel - (place[0, rows, columns, None] + (dv - window) * stride)) ** 2
        x = (pixel - (place[1, rows, columns, None] + (du - window) * stride)) ** 2
        flank = (y[..., :, None] + x[..., None, :]) * steepness
        torch.maximum(result, torch.sub(around[:, rows, columns, None, None], flank, out=flank), out=result)
    return result.permute(0, 1, 3, 2, 4).reshape(species, height * stride, width * stride)
