"""Plan the crops of an epoch, and the weight of each of their voxels.  Pure arithmetic on shapes and points; no I/O.

Part of the crops are uniform over the volumes, the others are drawn around labelled points: with ten clicks, hardly a uniform crop would
hold one.  For means over such crops to estimate means over the volume, every voxel is weighted by one over its expected number of
inclusions (the Horvitz-Thompson estimator).  That number is known exactly, because the distribution of each crop is:

    lambda(v) = n_uniform * P(tomogram) * P(a uniform crop holds v)  +  n_labelled * sum over points i of q_i * P(a crop around i holds v)
    weight(v) = n_crops * (voxels of a crop) / (voxels of all tomograms) / lambda(v)

1. Tomograms get uniform crops in proportion to their voxels.  Each species gets the same share of the labelled crops, and each of its
   points the same share of those (with pooled points a rare species would be left to chance).  So
   q_i = 1 / (species with points * points of the species).
   Crops around rejected places, of which there may be none, are labelled crops too: they take a given share of these, divided in the same
   way, and the clicks' points the rest.
2. Corners are independent per axis: `crop_positions` says how they are drawn, and the probability that a voxel is covered.
3. Tomograms and points are drawn systematically: one random number, then equal steps through the cumulative shares.  Each gets its
   expected number of crops to within one; the expectation, and so lambda, is that of independent draws.

The mean weight over all voxels of all crops of an epoch is 1 in expectation, and so is the sum of weight * g over the epoch proportional to
the sum of g over the volumes, for any g, as long as there are uniform crops.  Without them some voxels are never seen.

References
----------
Horvitz and Thompson (1952), "A generalization of sampling without replacement from a finite universe", JASA 47, 663-685.
Madow and Madow (1944), "On the theory of systematic sampling, I", Annals of Mathematical Statistics 15, 1-24.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from tomostream.errors import InputError
from tomostream.geometry import Box, Triple, triple
from tomostream.stream.crop_positions import ball_range, coverage, uniform_range

_SLAB_VOX = 2**15  # voxels that are weighted at a time
UNIFORM = -1  # the `point` of a crop that is not drawn around one


@dataclass(frozen=True, slots=True)
class Crop:
    """One crop: index of its tomogram, its corner z y x (voxels), its orientation, and the index of its labelled point or `UNIFORM`."""

    tomogram: int
    start: Triple
    orientation: int
    point: int

    @property
    def is_labelled(self) -> bool:
        """Whether the crop was drawn around a labelled point; the others are uniform."""
        return self.point != UNIFORM


@dataclass(frozen=True, slots=True, eq=False)
class Rejected:
    """Places that are known to be no particles.

    Parameters
    ----------
    points
        Per tomogram and species: float64 (n, 3) positions z y x in voxels.
    radius
        Of the ball around a place that counts as no particle, per species, voxels.
    share
        Of the labelled crops, those that are drawn around these places, 0 to 1.
    """

    points: Sequence[Sequence[np.ndarray]]
    radius: Sequence[float]
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """The distribution of crops, the same in every epoch; inclusion weights depend on it alone.

    Parameters
    ----------
    shapes
        Of the tomograms (z, y, x), voxels of the level that is read.
    crop
        Edges of all crops, voxels.
    n_uniform, n_labelled
        Number of crops in an epoch, of all ranks and workers together.
    orientations
        Drawn from with equal probability.
    point_tomogram, point_share
        Of each labelled point: its tomogram, and its share of the labelled crops.
    point_low, point_high
        Of each labelled point: least and largest corner of the crops around it.
    """

    shapes: tuple[Triple, ...]
    crop: Triple
    n_uniform: int
    n_labelled: int
    orientations: tuple[int, ...]
    point_tomogram: Int64[np.ndarray, " n"]
    point_share: Float64[np.ndarray, " n"]
    point_low: Int64[np.ndarray, "n 3"]
    point_high: Int64[np.ndarray, "n 3"]

    @property
    def tomogram_share(self) -> Float64[np.ndarray, " t"]:
        """Each tomogram's share of the uniform crops: its share of the voxels."""
        voxels = np.array([math.prod(shape) for shape in self.shapes], dtype=np.float64)
        share: np.ndarray = voxels / voxels.sum()
        return share

    def box(self, crop: Crop) -> Box:
        """Return the voxels of a crop."""
        return Box(crop.start, triple([a + c for a, c in zip(crop.start, self.crop, strict=True)]))

    def reach(self, point: int) -> Box:
        """Return the voxels that crops around a labelled point can hold."""
        return Box(triple(self.point_low[point].tolist()), triple((self.point_high[point] + self.crop).tolist()))


def fitted_crop(crop: Triple, shapes: Sequence[Triple], stride: int) -> Triple:
    """Return the crop that fits all volumes: on an axis shorter than the crop, the largest multiple of the stride.

    Parameters
    ----------
    crop
        Wanted edges, voxels.
    shapes
        Of the volumes.
    stride
        The network's total stride: crops must be multiples of it.

    Raises
    ------
    InputError
        If an edge is not a positive multiple of the stride, or a volume is shorter than the stride.
    """
    if min(crop) < stride or any(edge % stride for edge in crop):
        raise InputError(
            f"crop {crop} (z, y, x; voxels) must be positive multiples of the network's stride, {stride}; for example {triple(_rounded(crop, stride))}"
        )
    edges = []
    for axis, edge in zip(range(3), crop, strict=True):
        shortest = min(shape[axis] for shape in shapes)
        if shortest < stride:
            raise InputError(
                f"a tomogram has {shortest} voxels along {'zyx'[axis]}, but the network needs at least its stride, {stride}; read a finer pyramid level, or use fewer network levels"
            )
        edges.append(min(edge, shortest // stride * stride))
    return triple(edges)


def _rounded(crop: Triple, stride: int) -> list[int]:
    return [max(1, round(edge / stride)) * stride for edge in crop]


def make_design(
    *,
    shapes: Sequence[Triple],
    points: Sequence[Sequence[np.ndarray]],
    radius: Sequence[float],
    crop: Triple,
    n_uniform: int,
    n_labelled: int,
    orientations: tuple[int, ...],
    rejected: Rejected | None = None,
) -> Design:
    """Compute the distribution of crops.

    Parameters
    ----------
    shapes
        Of the tomograms, voxels.
    points
        Per tomogram and species: float64 (n, 3) positions z y x in voxels.
    radius
        Of each species' labels, voxels.
    crop
        Edges; no longer than any shape (see `fitted_crop`).
    n_uniform, n_labelled
        Number of crops in an epoch.
    orientations
        To draw from.
    rejected
        Places of which crops are drawn too.

    Raises
    ------
    InputError
        If labelled crops are wanted but there is no point, or a point lies farther than its radius outside of its tomogram.
    """
    if n_labelled and not any(len(positions) for of_tomogram in points for positions in of_tomogram):
        raise InputError(
            "there is no labelled point, but part of the crops is to be drawn around labels; give points, or set the labelled fraction to 0"
        )
    groups = [(points, radius, 1.0 if rejected is None else 1.0 - rejected.share)]
    if rejected is not None:
        groups.append((rejected.points, rejected.radius, rejected.share))
    around = [part for group in groups for part in _around(*group, shapes, crop)]
    return Design(
        shapes=tuple(shapes),
        crop=crop,
        n_uniform=n_uniform,
        n_labelled=n_labelled,
        orientations=orientations,
        point_tomogram=np.concatenate([np.empty(0, np.int64), *(part[0] for part in around)]),
        point_share=np.concatenate([np.empty(0), *(part[1] for part in around)]),
        point_low=np.concatenate([np.empty((0, 3), np.int64), *(part[2] for part in around)]),
        point_high=np.concatenate([np.empty((0, 3), np.int64), *(part[3] for part in around)]),
    )


def _around(
    points: Sequence[Sequence[np.ndarray]], radius: Sequence[float], whole: float, shapes: Sequence[Triple], crop: Triple
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield, per tomogram and species, the points' tomogram, share, and least and largest corner; the shares add up to `whole`."""
    counts = [sum(len(of_tomogram[s]) for of_tomogram in points) for s in range(len(radius))]
    n_species = sum(count > 0 for count in counts)
    for t, (shape, of_tomogram) in enumerate(zip(shapes, points, strict=True)):
        for reach, count, positions in zip(radius, counts, of_tomogram, strict=True):
            _check_inside(positions, reach, shape, t)
            n = len(positions)
            low, high = ball_range(positions, np.full(n, float(reach)), shape=shape, crop=crop)
            yield np.full(n, t, dtype=np.int64), np.full(n, whole / (n_species * count) if count else 0.0), low, high


def _check_inside(positions: np.ndarray, radius: float, shape: Triple, tomogram: int) -> None:
    is_outside = ~((positions >= -radius) & (positions <= np.array(shape) - 1 + radius)).all(axis=1)
    if is_outside.any():
        worst = tuple(positions[np.flatnonzero(is_outside)[0]].tolist())
        raise InputError(
            f"{int(is_outside.sum())} of {len(positions)} points lie outside of tomogram {tomogram} (shape {shape}, z y x) by more than their radius, {radius:g} voxels; "
            f"the first is {worst}; check the order of the axes, the unit and the pyramid level"
        )


def draw_epoch(design: Design, *, seed: int, epoch: int) -> tuple[tuple[Crop, ...], tuple[Crop, ...]]:
    """Draw an epoch's crops.

    Parameters
    ----------
    design
        The crops' distribution.
    seed, epoch
        Not negative; equal ones give equal crops.

    Returns
    -------
    tuple
        The labelled crops and the uniform crops, each ordered by point or tomogram.
    """
    rng = np.random.default_rng([seed, epoch, 0])
    points = _systematic(design.point_share, design.n_labelled, rng)
    around = _crops(design, design.point_tomogram[points], design.point_low[points], design.point_high[points], points, rng)
    return around, draw_uniform(design, design.n_uniform, rng)


def draw_uniform(design: Design, n: int, rng: np.random.Generator) -> tuple[Crop, ...]:
    """Draw n uniform crops, ordered by tomogram."""
    tomograms = _systematic(design.tomogram_share, n, rng)
    ranges = np.array([[uniform_range(d, c) for d, c in zip(shape, design.crop, strict=True)] for shape in design.shapes], dtype=np.int64)
    return _crops(design, tomograms, ranges[tomograms, :, 0], ranges[tomograms, :, 1], np.full(n, UNIFORM), rng)


def _systematic(share: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n indices by systematic sampling: index i appears n * share[i] times on average, and always to within one."""
    steps = (np.arange(n) + rng.random()) / max(n, 1)
    # rounding may leave the last cumulative share below 1
    return np.minimum(np.searchsorted(np.cumsum(share), steps, side="right"), len(share) - 1).astype(np.int64)


def _crops(
    design: Design, tomogram: np.ndarray, low: np.ndarray, high: np.ndarray, point: np.ndarray, rng: np.random.Generator
) -> tuple[Crop, ...]:
    last = np.array(design.shapes, dtype=np.int64)[tomogram] - np.array(design.crop)
    start = np.clip(rng.integers(low, high, endpoint=True), 0, last)
    orientation = rng.choice(np.array(design.orientations), size=len(tomogram))
    rows = zip(tomogram.tolist(), start.tolist(), orientation.tolist(), point.tolist(), strict=True)
    return tuple(Crop(t, triple(s), o, p) for t, s, o, p in rows)


def inclusion_weights(design: Design, crop: Crop) -> Float32[np.ndarray, "z y x"]:
    """Return the weights of a crop's voxels: one over their expected number of inclusions, scaled to a mean of 1 over an epoch's crops.

    Parameters
    ----------
    design
        The crops' distribution.
    crop
        Any crop; its orientation is not applied.  Voxels that no crop of the design can hold get 0.

    References
    ----------
    Horvitz and Thompson (1952), see the module.
    """
    box, shape = design.box(crop), design.shapes[crop.tomogram]
    voxels = [np.arange(a, b) for a, b in zip(box.start, box.stop, strict=True)]
    z, y, x = (_uniform_coverage(v, size, edge) for v, size, edge in zip(voxels, shape, design.crop, strict=True))
    z *= design.n_uniform * design.tomogram_share[crop.tomogram]
    is_near = (
        (design.point_tomogram == crop.tomogram)
        & (design.point_low < box.stop).all(axis=1)
        & (design.point_high + design.crop > box.start).all(axis=1)
    )
    near = np.flatnonzero(is_near)
    low, high = design.point_low[near], design.point_high[near]
    around = [coverage(low[:, i], high[:, i], voxels[i], size=shape[i], crop=design.crop[i]) for i in range(3)]
    around[0] *= design.n_labelled * design.point_share[near][:, None]
    # the sum over the uniform term and all near points of outer products z * (y * x), as one matrix product
    along_z = np.concatenate([z[None], around[0]])
    along_y, along_x = np.concatenate([y[None], around[1]]), np.concatenate([x[None], around[2]])
    planes = (along_y[:, :, None] * along_x[:, None, :]).reshape(len(along_z), -1)
    total = sum(math.prod(s) for s in design.shapes)
    constant = (design.n_uniform + design.n_labelled) * math.prod(design.crop) / total
    weights = np.empty((box.shape[0], planes.shape[1]), dtype=np.float32)
    step = max(1, _SLAB_VOX // planes.shape[1])  # slabs that fit the cache: larger temporaries cost more than the arithmetic
    for first in range(0, box.shape[0], step):
        intensity = along_z[:, first : first + step].T @ planes
        with np.errstate(divide="ignore"):
            slab = np.divide(constant, intensity)
        slab[intensity <= 0] = 0.0
        weights[first : first + step] = slab
    return weights.reshape(box.shape)


def _uniform_coverage(voxel: np.ndarray, size: int, crop: int) -> np.ndarray:
    low, high = (np.array([k]) for k in uniform_range(size, crop))
    covered: np.ndarray = coverage(low, high, voxel, size=size, crop=crop)[0]
    return covered
