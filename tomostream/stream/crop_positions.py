"""Where a crop may begin, and the probability that it holds a voxel; exact, by counting integers, one axis at a time.

A crop's corner along an axis of D voxels is drawn as an integer k, uniform over [low, high], and clipped into [0, D - c] for a crop of
edge c.  For uniform crops k runs c // 2 voxels beyond both ends.  Otherwise the first voxel would be in c times fewer crops than an inner
one; so an inner voxel is at most 2 times likelier than one on a face.  For crops around a point k runs over all corners for which the
point's ball lies inside the crop.

Voxel v is in the crop if v - c < clip(k) <= v.  The clip only moves k towards the allowed range, so this is an interval of k, and its
integers are counted: there is no lower bound if v - c < 0, and no upper one if v >= D - c.

Axes are independent, so a crop holds a voxel with the product of the three probabilities.
"""

import numpy as np
from jaxtyping import Float64, Int64

_BEYOND = np.int64(2**60)  # larger than any voxel index


def uniform_range(size: int, crop: int) -> tuple[int, int]:
    """Return the smallest and the largest corner that a uniform crop may draw, before the clip.

    Parameters
    ----------
    size, crop
        Edges of the volume and of the crop, voxels; `crop <= size`.
    """
    beyond = crop // 2
    return -beyond, size - crop + beyond


def ball_range(
    centre: Float64[np.ndarray, "n 3"],
    radius: Float64[np.ndarray, " n"],
    *,
    shape: tuple[int, int, int],
    crop: tuple[int, int, int],
) -> tuple[Int64[np.ndarray, "n 3"], Int64[np.ndarray, "n 3"]]:
    """Return the least and largest corners of the crops that hold each point's ball, as far as the volume allows.

    Parameters
    ----------
    centre
        Positions z y x in voxels, not rounded.
    radius
        Of the balls, voxels.  Where a ball is wider than the crop, the crop only has to hold the voxel nearest to the centre.
    shape, crop
        Edges of the volume and of the crop, voxels; `crop <= shape`.

    Returns
    -------
    tuple
        `low <= high`, both within [0, shape - crop].
    """
    edge = np.asarray(crop, dtype=np.int64)
    reach = radius[:, None]
    low = np.ceil(centre + reach).astype(np.int64) - edge + 1
    high = np.floor(centre - reach).astype(np.int64)
    nearest = np.floor(centre + 0.5).astype(np.int64)
    is_wide = low > high
    low, high = np.where(is_wide, nearest - edge + 1, low), np.where(is_wide, nearest, high)
    last = np.asarray(shape, dtype=np.int64) - edge
    return np.clip(low, 0, last), np.clip(high, 0, last)


def coverage(
    low: Int64[np.ndarray, " n"],
    high: Int64[np.ndarray, " n"],
    voxel: Int64[np.ndarray, " m"],
    *,
    size: int,
    crop: int,
) -> Float64[np.ndarray, "n m"]:
    """Return the probability that a crop holds each voxel, along one axis, for n distributions of the corner.

    Parameters
    ----------
    low, high
        The corner is uniform over these integers, both included, and then clipped into [0, size - crop].
    voxel
        Indices, within [0, size).
    size, crop
        Edges of the volume and of the crop, voxels.

    Examples
    --------
    >>> one = np.array([0])
    >>> coverage(one, one + 2, np.arange(5), size=5, crop=3)
    array([[0.33333333, 0.66666667, 1.        , 0.66666667, 0.33333333]])
    """
    first = np.where(voxel < crop, -_BEYOND, voxel - crop + 1)
    final = np.where(voxel >= size - crop, _BEYOND, voxel)
    count = np.minimum(high[:, None], final) - np.maximum(low[:, None], first) + 1
    probability: np.ndarray = np.maximum(count, 0) / (high - low + 1)[:, None]
    return probability
