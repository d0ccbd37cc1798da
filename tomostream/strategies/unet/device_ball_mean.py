"""Average logits over a ball around each voxel on a GPU: `picking.smoothing` in float32, for logits without missing values.

The order of each sum depends only on the ball, so a block has the same bits as the whole volume.
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
    """Average over the ball of `radius` voxels around each voxel of a box; parameters as in `smoothing.ball_mean`.

    1. For w = 0, 1, ...: compute in place the sum over a run of 2 w + 1 voxels along x, from the sum for w - 1.
    2. Each row (dz, dy) of the ball is such a run.  Shift it and add it to the total.
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
