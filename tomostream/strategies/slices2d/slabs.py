"""Training crops of a slice detector: thin slabs on which every box is marked by its centre.

A particle of radius r gets a box on the slices that cut a sphere of the label's radius h around it (h = r: all slices that show it;
smaller: only those near its middle, where it shows best).  The box has the particle's full diameter on each of them, so that one size serves
all slices.  It is marked by one voxel: the one nearest to the centre.

1. Slabs have the wanted edge along y and x, and along z about the height of a label: half of them are drawn around labels (the slices that
   were clicked on), the others anywhere.
2. They are turned within the slice's plane, and flipped along all axes: z stays z.
3. Inclusion weights are streamed too, but the single-shot loss has no use for them.

Reading, memory and order are those of `stream.dataset`.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from tomostream.geometry import Box, Triple
from tomostream.stream.dataset import SubtomogramDataset


class SlabDataset(SubtomogramDataset):
    """Streams slabs; `positive` marks the centre of each box."""

    def marked(self, box: Box, points_zyx: np.ndarray, radius: float, volume: Triple) -> np.ndarray:
        """Mark the centres of boxes on the slices within `radius` of each point."""
        return centres_of_box(box, points_zyx, half_height=radius)


def centres_of_box(box: Box, points_zyx: Float64[np.ndarray, "n 3"], *, half_height: float) -> Bool[np.ndarray, "z y x"]:
    """Mark the voxel nearest to each point on every slice within `half_height` of it.

    Parameters
    ----------
    box
        The voxels that are wanted.
    points_zyx
        In voxels, not rounded.
    half_height
        Voxels, inclusive.
    """
    result = np.zeros(box.shape, dtype=np.bool_)
    z = np.arange(box.start[0], box.stop[0], dtype=np.float64)
    nearest = np.floor(points_zyx[:, 1:] + 0.5).astype(np.int64)
    low, high = np.array(box.start[1:]), np.array(box.stop[1:])
    for i in np.flatnonzero(((nearest >= low) & (nearest < high)).all(axis=1)):
        y, x = nearest[i] - low
        result[np.abs(z - points_zyx[i, 0]) <= half_height, y, x] = True
    return result


def slab_layout(shapes: Sequence[Triple], *, half_height: float, edge: int, stride: int, symmetry: str) -> tuple[Triple, str]:
    """Edges of slabs, and the symmetry that keeps them in their planes: what a `SlabDataset` is made with.

    Slabs are as high as a label (and no higher than the thinnest volume), in whole strides as all crops are.  One that happens to be a cube is
    only flipped: a cube would be turned out of its plane.

    Parameters
    ----------
    shapes
        Of the volumes, voxels.
    half_height
        Of the highest label, voxels.
    edge
        Of a slab along y and x, voxels.
    stride
        Of the network.
    symmetry
        `cube`, `wedge` or `none`: turned by 90 degrees and flipped, only flipped, or as it is.
    """
    height = -(-int(2 * half_height + 1) // stride) * stride
    z, y, x = (
        max(stride, min(wanted, min(s[axis] for s in shapes) // stride * stride)) for axis, wanted in enumerate((height, edge, edge))
    )
    return (z, edge, edge), "wedge" if symmetry == "cube" and z in (y, x) else symmetry
