"""What is the mean logit around each voxel, on a GPU?  As `picking.smoothing`, in float32, for logits none of which is missing.

Every sum is taken in an order that depends on the ball alone, so blocks have the bits of the whole.
"""

import numpy as np
import torch
from jaxtyping import Float32
from torch.nn import functional as F

from tomostream.geometry import Box, Triple
from tomostream.picking.smoothing import half_widths, inside_counts


def device_ball_mean(
    values: Float32[torch.Tensor, "z y x"], *, at: Box, wanted: Box, shape: Triple, radius: float
) -> Float32[torch.Tensor, "a b c"]:
    """Average over the ball of `radius` voxels around each voxel of a box; parameters as of `smoothing.ball_mean`.

    1. Along x: the sum over a run of 2 w + 1 voxels, from w = 0 on, in place.
    2. Each row of the ball (dz, dy) is such a run: it is added, moved, to the total.
    """
    reach = int(radius)
    around = wanted.expanded(reach)
    before = [a - b for a, b in zip(at.start, around.start, strict=True)]
    after = [b - a for a, b in zip(at.stop, around.stop, strict=True)]
    padded = F.pad(values, (before[2], after[2], before[1], after[1], before[0], after[0]))
    nz, ny, nx = wanted.shape
    rows: dict[int, list[tuple[int, int]]] = {}
    for dz, plane in enumerate(half_widths(radius)):
        for dy, width in enumerate(plane):
            rows.setdefault(width, []).extend((z, y) for z in sorted({-dz, dz}) for y in sorted({-dy, dy}))
    run = padded[..., reach : reach + nx].clone()
    total = torch.zeros(wanted.shape, dtype=torch.float32, device=values.device)
    for width in range(reach + 1):
        if width:
            run += padded[..., reach - width : reach - width + nx]
            run += padded[..., reach + width : reach + width + nx]
        for dz, dy in rows.get(width, ()):
            total += run[reach + dz : reach + dz + nz, reach + dy : reach + dy + ny]
    count, places = inside_counts(wanted, shape, radius)
    counts = torch.from_numpy(count.astype(np.float32)).to(values.device)
    for axis, place in enumerate(places):
        counts = counts.index_select(axis, torch.from_numpy(place).to(values.device))
    return total.div_(counts)
