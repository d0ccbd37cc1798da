"""Training crops of a slice detector: thin slabs on which every box is marked by its centre.

A particle gets a box on the slices within the label's radius h of its centre.  If h is the radius of the particle, these are all slices that show it;
if it is smaller, only those near its middle, where it is seen best.  The box has the full diameter of the particle on each slice, so that one size
serves all slices.  It is marked by the voxel nearest to its centre.

1. Slabs have a given edge along y and x, and about the height of a label along z.  A fraction of them (`train.labelled_fraction`) is drawn around
   labels, the others anywhere.
2. They are rotated within the plane of the slices, and flipped along all axes; z stays z.
3. Inclusion weights are streamed as for all crops, but the single-shot loss does not use them.

Reading, memory and order are those of `stream.dataset`.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from tomostream.geometry import Box, Triple
from tomostream.stream.dataset import SubtomogramDataset


class SlabDataset(SubtomogramDataset):
    """A dataset of slabs in which `positive` marks the centre of each box."""

    def marked(self, box: Box, points_zyx: np.ndarray, radius: float, volume: Triple) -> np.ndarray:
        """Mark the centres of boxes on the slices within `radius` of each point."""
        return centres_of_box(box, points_zyx, half_height=radius)


def centres_of_box(box: Box, points_zyx: Float64[np.ndarray, "n 3"], *, half_height: float) -> Bool[np.ndarray, "z y x"]:
    """Mark the voxel nearest to each point on every slice within `half_height` of it.

    Parameters
    ----------
    box
        The box whose voxels are returned.
    points_zyx
        Positions in voxels, not rounded.
    half_height
        Largest distance along z, in voxels, inclusive.
    """
    result = np.zeros(box.shape, dtype=np.bool_)
    z = np.arange(box.start[0], box.stop[0], dtype=np.float64)
    nearest = np.floor(points_zyx[:, 1:] + 0.5).astype(np.int64)
    low, high = np.array(box.start[1:]), np.array(box.stop[1:])
    for i in np.flatnonzero(((nearest >= low) & (nearest < high)).all(axis=1)):
        y, x = nearest[i] - low
        result[np.abs(z - points_zyx[i, 0]) <= half_height, y, x] = True
    return result


def slab_height(half_height: float, stride: int) -> int:
    """Return the edge of a slab along z, in voxels: the height of a label, rounded up to a multiple of the network's stride."""
    return -(-int(2 * half_height + 1) // stride) * stride


def slab_layout(shapes: Sequence[Triple], *, half_height: float, edge: int, stride: int, symmetry: str) -> tuple[Triple, str]:
    """Return the edges of slabs, and a symmetry that keeps slices in their plane, for a `SlabDataset`.

    Slabs are as high as a label, but no higher than the thinnest volume, and a multiple of the stride as all crops are.  A slab that happens to be a
    cube is only flipped, because the symmetries of a cube would turn it out of its plane.

    Parameters
    ----------
    shapes
        Shapes of the volumes, in voxels.
    half_height
        Half the height of the highest label, in voxels.
    edge
        Edge of a slab along y and x, in voxels.
    stride
        Total stride of the network, in voxels.
    symmetry
        The symmetry asked for: `cube` (rotations by 90 degrees and flips), `wedge` (flips only) or `none`.
    """
    height = slab_height(half_height, stride)
    z, y, x = (
        max(stride, min(wanted, min(s[axis] for s in shapes) // stride * stride)) for axis, wanted in enumerate((height, edge, edge))
    )
    return (z, edge, edge), "wedge" if symmetry == "cube" and z in (y, x) else symmetry
