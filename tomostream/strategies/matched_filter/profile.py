"""Compute the mean radial profile of the clicked particles, and the kernel of a profile.

1. Cut a subtomogram around each click by trilinear interpolation at the unrounded position; voxels outside of the volume are 0, the mean.
2. Average the subtomograms over clicks and rotations: the profile is the mean at each distance from the centre.
3. Clicks are off by a few voxels, which blurs the profile.  So move each click to where its subtomogram correlates best with the kernel of the
   profile, at most `SHIFT` radii from the position that was clicked, and average again; three times.

Limits: a radial profile has no angular information.  Species of similar size have similar profiles, unless `discriminant` separates them.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32, Float64

from tomostream.geometry import Box, triple
from tomostream.strategies.matched_filter.correlation import normalised_kernel

SHIFT = 0.35  # largest distance that a click is moved, in radii
ROUNDS = 3  # how often the clicks are moved

Reader = Callable[[Box], np.ndarray]  # standardised voxels of any box, zero beyond the volume


def radial_profile(cube: Float32[np.ndarray, "n n n"]) -> Float64[np.ndarray, " r"]:
    """Return the mean at the distances 0, 1, 2 .. voxels from the middle of a cube; each voxel is shared linearly by the two nearest distances."""
    half = cube.shape[0] // 2
    distance = distances_from_middle(half)
    low = np.floor(distance).astype(np.int64)
    upper = distance - low
    length = int(low.max()) + 2
    shares = np.bincount(low.ravel(), (1 - upper).ravel(), length) + np.bincount(low.ravel() + 1, upper.ravel(), length)
    sums = np.bincount(low.ravel(), ((1 - upper) * cube).ravel(), length) + np.bincount(low.ravel() + 1, (upper * cube).ravel(), length)
    # distances beyond the faces occur in the corners only, and some of them have no voxel
    profile: np.ndarray = sums[: half + 1] / shares[: half + 1]
    return profile


def kernel_of(profile: Float64[np.ndarray, " r"], radius: float) -> Float32[np.ndarray, "n n n"]:
    """Return the kernel of a profile inside a ball of `radius` voxels; see `correlation.normalised_kernel`."""
    half = int(np.floor(radius))
    values = np.interp(distances_from_middle(half), np.arange(len(profile)), profile).astype(np.float32)
    return normalised_kernel(values, radius)


def click_profiles(
    readers: Sequence[Reader], points: Sequence[Float64[np.ndarray, "_n 3"]], *, radius: float, support: float
) -> Float64[np.ndarray, "n r"]:
    """Return the radial profiles of the clicked particles after recentring, one per row.

    Parameters
    ----------
    readers
        Functions that read boxes, one per tomogram.
    points
        Clicks of each tomogram, z y x in voxels.
    radius
        Radius of the particle, in voxels.
    support
        Radius of the ball that is correlated to recentre clicks, in voxels.
    """
    half = int(np.floor(support))
    reach = max(1, round(SHIFT * radius))
    clicks = [(read, point) for read, some in zip(readers, points, strict=True) for point in some]
    at = [point for _, point in clicks]
    wide = [subtomogram(read, point, half + 1 + reach) for read, point in clicks]
    profile = radial_profile(_mean([_inner(cube, half + 1) for cube in wide]))
    for _ in range(ROUNDS):
        kernel = kernel_of(profile, support)
        at = [
            point + best_shift(_inner(cube, half + reach), kernel, limit=SHIFT * radius)
            for (_, point), cube in zip(clicks, wide, strict=True)
        ]
        profiles = np.array([radial_profile(subtomogram(read, point, half + 1)) for (read, _), point in zip(clicks, at, strict=True)])
        profile = profiles.mean(axis=0)
    return profiles


def subtomogram(read: Reader, centre: Float64[np.ndarray, " 3"], half: int) -> Float32[np.ndarray, "n n n"]:
    """Return the cube of edge 2 half + 1 around an unrounded position (z y x), by trilinear interpolation."""
    first = np.floor(centre).astype(np.int64)
    start = triple([int(c) - half for c in first])
    box = Box(start, triple([a + 2 * half + 2 for a in start]))
    cube = read(box)
    for axis, share in enumerate(centre - first):
        moved = np.moveaxis(cube, axis, 0)
        cube = np.moveaxis(moved[:-1] + np.float32(share) * (moved[1:] - moved[:-1]), 0, axis)
    return np.ascontiguousarray(cube, dtype=np.float32)


def best_shift(cube: Float32[np.ndarray, "n n n"], kernel: Float32[np.ndarray, "m m m"], *, limit: float) -> Float64[np.ndarray, " 3"]:
    """Return the shift from the middle of a cube at which it correlates best with a kernel.

    The best voxel is refined to a fraction of a voxel by a parabola along each axis.

    Parameters
    ----------
    cube
        A cube whose edge exceeds the kernel's by twice the distance to search.
    kernel
        The kernel.
    limit
        Largest distance of the best voxel, in voxels.

    Returns
    -------
    np.ndarray
        Shift z y x, in voxels.
    """
    from scipy import signal

    reach = (cube.shape[0] - kernel.shape[0]) // 2
    scores = signal.correlate(cube, kernel, mode="valid", method="fft")
    scores = np.where(distances_from_middle(reach) <= limit, scores, -np.inf)
    best = np.unravel_index(int(np.argmax(scores)), scores.shape)
    shift: np.ndarray = np.array(best, dtype=np.float64) - reach
    for axis in range(3):
        if not 0 < best[axis] < 2 * reach:
            continue
        before, after = (float(scores[tuple(int(b) + step * (a == axis) for a, b in enumerate(best))]) for step in (-1, 1))
        bend = before - 2 * float(scores[best]) + after
        if np.isfinite(bend) and bend < 0:
            shift[axis] += 0.5 * (before - after) / bend
    return shift


def _mean(cubes: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(np.mean(cubes, axis=0, dtype=np.float64), dtype=np.float32)


def _inner(cube: np.ndarray, half: int) -> np.ndarray:
    cut = cube.shape[0] // 2 - half
    inner: np.ndarray = cube[cut : cube.shape[0] - cut, cut : cube.shape[1] - cut, cut : cube.shape[2] - cut]
    return inner


def distances_from_middle(half: int) -> Float64[np.ndarray, "z y x"]:
    """Return the distance of each voxel of a cube of edge 2 half + 1 from its middle, in voxels."""
    squared = np.arange(-half, half + 1, dtype=np.float64) ** 2
    distances: np.ndarray = np.sqrt(squared[:, None, None] + squared[None, :, None] + squared[None, None, :])
    return distances
