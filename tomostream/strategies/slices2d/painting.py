"""Paint boxes into a score map: each is a peak at its centre, and a pixel keeps the highest.

A cell with the confidence logit l and its box's centre at m gives the pixel p the logit l - a |p - m|^2, and the pixel's logit is the maximum over the
cells of its neighbourhood.  So the map has a local maximum at each centre, to within a pixel, with the box's confidence; weak boxes
near strong ones vanish under their flanks; and a smooth map survives interpolation to a finer grid.  a is 4 / r^2: at the particle's
radius r a peak has lost 4 logits.  The neighbourhood reaches at least 1.5 r: what is left out lies 9 logits below its peak.

Every term depends on distances inside cells only, not on where the cells lie: blocks give the whole slice's map.

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

_LOSS_AT_RADIUS = 4.0  # logits that a peak has lost at one radius
_RADII = 1.5  # the neighbourhood, in radii


def window_cells(radius: Sequence[float], stride: int) -> int:
    """Cells to each side whose boxes a pixel looks at.

    Parameters
    ----------
    radius
        Of each species, pixels.
    stride
        Edge of a cell, pixels.
    """
    return math.ceil(_RADII * max(radius) / stride)


def painted(
    confidence: Float32[torch.Tensor, "s v u"], centre: Float32[torch.Tensor, "2 v u"], *, radius: Sequence[float], stride: int
) -> Float32[torch.Tensor, "s y x"]:
    """Paint the boxes of one slice.

    Parameters
    ----------
    confidence
        Logit of each cell's box, of each species.
    centre
        y and x of the box in its cell, 0 to 1.
    radius
        Of each species, pixels.
    stride
        Edge of a cell, pixels: the map is `stride` times the grid.
    """
    species, height, width = confidence.shape
    window = window_cells(radius, stride)
    around = F.pad(confidence, (window,) * 4, value=-math.inf)
    # pixels lie at whole numbers, so a cell begins half a pixel before its first one
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
