"""Is this epoch's network better than the last one's?  The loss on labelled subtomograms, and how early picking finds the clicks.

With a handful of validation clicks among hundreds of particles, a pick that hits no click need not be wrong.  So beside F1 at the expected
count the *criterion* is the mean recall of the clicks over the first n picks, n = 1 .. 2N (N the expected number in the region): it
rewards ranking true particles early, and moves smoothly where recall at one count jumps.

1. Regions: the whole validation tomograms if they are small, else boxes around the clicks, up to a number of voxels.
2. Each epoch: score the regions with the network in evaluation mode, pick, match with the clicks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomostream import defaults
from tomostream.config import Configuration
from tomostream.evaluation import first_matches
from tomostream.geometry import Box, Triple, triple
from tomostream.picking.blocks import pick_array
from tomostream.tomogram import Tomogram

if TYPE_CHECKING:
    from torch import nn

    from tomostream.learn.batch import Batch
    from tomostream.learn.objectives import Objective
    from tomostream.stages.training import Labelled


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a validation tomogram, with the clicks inside (per species, voxels from its corner) and the picks expected there."""

    volume: np.ndarray  # float32 (z, y, x), normalised
    clicks: list[np.ndarray]
    expected: list[int]
