"""Paste copies of clicked particles into uniform crops, so that a network sees the same few particles in many surroundings.

1. A particle is copied from a crop of the same batch that is drawn around its click, turned as that crop is, if its whole ball lies in the crop.
2. In the ball the copy replaces what was there; over the next `_RIM` voxels the one passes into the other.
3. Its densities are multiplied by a random factor (`defaults.PASTED_CONTRAST`): contrast varies within and between tomograms, mostly downwards.
4. It goes to a random place at which its ball lies in the crop, unless a label is there already, and is labelled there.

A pasted label's voxels weigh as much as those that it is copied from, not as much as the uniform crop's, which weigh ten times as much where
labels are few: otherwise means over labelled voxels would be means over copies.

References
----------
Ghiasi et al. 2021, "Simple copy-paste is a strong data augmentation method for instance segmentation".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.geometry import Box, triple
from tomostream.stream.augment import oriented

_RIM = 2.0  # voxels


@dataclass(frozen=True, slots=True)
class Pasting:
    """How many copies are pasted.

    Parameters
    ----------
    share
        Probability that a uniform crop gets a copy, 0 to 1.
    radius
        Of the particles of each species, voxels.
    """

    share: float
    radius: Sequence[float]

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"the share of the uniform crops that get a copy of a particle must lie between 0 and 1, found {self.share}")
        if any(not radius > 0 for radius in self.radius):
            raise InputError(f"the radii of pasted particles must be above 0, found {list(self.radius)}")


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """A particle in a cube of an odd number of voxels, whose middle voxel holds its centre.

    Parameters
    ----------
    image
        Densities.
    share
        What the copy replaces: 1 in the ball, falling to 0 beyond it.
    label
        Voxels of its label.
    weight
        Weights of the voxels.
    species
        Index of its species.
    reach
        Voxels from the middle to the end of the ball.
    """

    image: Float32[np.ndarray, "e e e"]
    share: Float32[np.ndarray, "e e e"]
    label: Bool[np.ndarray, "e e e"]
    weight: Float32[np.ndarray, "e e e"]
    species: int
    reach: int


def copied(
    image: Float32[np.ndarray, "z y x"],
    label: Bool[np.ndarray, "z y x"],
    weight: Float32[np.ndarray, "z y x"],
    centre: Float64[np.ndarray, " 3"],
    *,
    radius: float,
    species: int,
    orientation: int,
) -> Copy | None:
    """Copy a particle from a crop; None if its ball is not whole there.

    Parameters
    ----------
    image
        Densities of the crop, not turned.
    label
        The label of this particle alone, in the same crop.
    weight
        Weights of the crop's voxels.
    centre
        Position z y x in voxels of the crop.
    radius
        Of the particle, voxels.
    species
        Its index.
    orientation
        How the copy is turned (`augment`).
    """
    if (centre - radius < 0).any() or (centre + radius > np.array(image.shape) - 1).any():
        return None
    middle = np.floor(centre + 0.5).astype(int)
    half = math.ceil(radius + _RIM)
    box = Box(triple((middle - half).tolist()), triple((middle + half + 1).tolist()))
    inside = box.clipped(Box.whole(triple(image.shape)))
    place = inside.relative_to(box.start).slices
    cubes = [np.zeros((2 * half + 1,) * 3, dtype=kind) for kind in (np.float32, np.float32, np.bool_, np.float32)]
    for cube, whole in zip((cubes[0], cubes[2], cubes[3]), (image, label, weight), strict=True):
        cube[place] = whole[inside.slices]
    z, y, x = np.ix_(
        *(np.arange(a, b, dtype=np.float32) - np.float32(c) for a, b, c in zip(inside.start, inside.stop, centre, strict=True))
    )
    cubes[1][place] = np.clip((np.float32(radius + _RIM) - np.sqrt(z**2 + y**2 + x**2)) / np.float32(_RIM), 0, 1)
    turned = [np.ascontiguousarray(oriented(cube, orientation)) for cube in cubes]
    return Copy(turned[0], turned[1], turned[2], turned[3], species, math.ceil(radius))


def paste(
    copy: Copy,
    image: Float32[np.ndarray, "z y x"],
    positive: Bool[np.ndarray, "s z y x"],
    weight: Float32[np.ndarray, "z y x"],
    rng: np.random.Generator,
) -> Box | None:
    """Paste a copy into a crop at a random place, and label it there.

    Parameters
    ----------
    image, positive, weight
        Densities, labels and weights of the crop; all are changed.
    rng
        Draws the place and the contrast.

    Returns
    -------
    Box or None
        The voxels that changed; None if the copy is larger than the crop, or would touch a label.
    """
    low, high = defaults.PASTED_CONTRAST
    contrast = np.float32(rng.uniform(low, high))
    edges = triple(image.shape)
    if min(edges) < 2 * copy.reach + 1:
        return None
    middle = [int(rng.integers(copy.reach, edge - copy.reach)) for edge in edges]
    half = copy.image.shape[0] // 2
    box = Box(triple([m - half for m in middle]), triple([m + half + 1 for m in middle]))
    seen = box.clipped(Box.whole(edges))
    part, here = seen.relative_to(box.start).slices, seen.slices
    share, label = copy.share[part], copy.label[part]
    if (positive[(slice(None), *here)] & (share > 0)).any():
        return None
    image[here] += share * (contrast * copy.image[part] - image[here])
    positive[(copy.species, *here)] |= label
    weight[here][label] = copy.weight[part][label]
    return seen


def centres_of(points: Sequence[Sequence[np.ndarray]]) -> list[tuple[int, Float64[np.ndarray, " 3"]]]:
    """Return the species and position of each point, in the order in which `plan.make_design` numbers them."""
    return [(s, position) for of_tomogram in points for s, positions in enumerate(of_tomogram) for position in positions]
