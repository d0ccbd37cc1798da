"""Recompute batch-norm statistics for one tomogram (adaptive batch normalisation).

Training normalises every feature by the current batch; inference uses one fixed mean and variance per feature.  Those of the training
tomograms do not fit a tomogram of other defocus, thickness or noise, however well its voxels are standardised (docs/measurements.md has
figures).  So each tomogram gets the statistics of its own features; the weights stay the same.

1. Crops: the cells of a grid of crops that spans the volume, or `Sampling.count` of them, drawn evenly and always the same.
2. Batches of crops pass the network in training mode, each normalised by its own statistics; a feature's statistics are the means over the batches
   (`learn.recalibration`).

The statistics depend on the volume's voxels alone, not on blocks, shards or workers.  So the scores are those of one network on the
whole volume.

Limits: a volume of fewer than `LEAST_VOX` voxels is too small for statistics and keeps those of training.  In a volume that is mostly
empty, the empty part decides the statistics.

References
----------
Li, Wang, Shi, Hou, Liu 2018, "Adaptive batch normalization for practical domain adaptation", Pattern Recognition 80, 109-117.
"""

import copy
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from tomostream import defaults
from tomostream.geometry import Box, Triple, triple
from tomostream.inference.region_scoring import Reader, read_extended
from tomostream.learn.device_memory import device_memory
from tomostream.learn.precision import exact_kernels
from tomostream.learn.recalibration import recalibrated

LEAST_VOX = 8000  # smallest volume whose statistics are computed ...
_LEAST_CELLS = 8  # ... and smallest coarsest feature map, voxels
_FIXED_BYTES = 20_000_000
_LIVE_MAPS = 9  # feature maps of the finest level in memory at the peak, copies of the kernels included
N = TypeVar("N", bound=nn.Module)
Statistics = dict[str, np.ndarray]  # batch-norm's buffers by name, float32 (channels,)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which crops a tomogram's statistics come from.

    Parameters
    ----------
    crop
        Edges, voxels of the network's level; multiples of the stride.
    stride
        The network's total stride along each axis.
    count
        Crops, at most.
    batch
        Crops that are normalised together.
    """

    crop: Triple
    stride: Triple
    count: int = defaults.STATISTICS_CROPS
    batch: int = defaults.BATCH

    def boxes(self, shape: Triple) -> list[Box]:
        """Return the crops of a volume.  Along an axis shorter than a crop they may reach beyond the volume, to a multiple of the stride.

        Parameters
        ----------
        shape
            Voxels of the network's level.

        Returns
        -------
        list
            Empty for a volume that is too small.
        """
        if math.prod(shape) < max(LEAST_VOX, _LEAST_CELLS * math.prod(self.stride)):
            return []
        edges = triple([min(edge, -(-n // step) * step) for edge, n, step in zip(self.crop, shape, self.stride, strict=True)])
        starts = [
            np.linspace(0, max(0, n - edge), -(-n // edge)).round().astype(int).tolist() for n, edge in zip(shape, edges, strict=True)
        ]
        cells = list(itertools.product(*starts))
        # in random order, so that each batch mixes parts of the volume
        drawn = np.random.default_rng(0).permutation(len(cells))[: self.count]
        return [Box(triple(cells[i]), triple([a + e for a, e in zip(cells[i], edges, strict=True)])) for i in drawn]

    def projected_bytes(self, channels: tuple[int, ...]) -> int:
        """Memory to compute the statistics of a network with these channels (finest level first), bytes; libraries come on top."""
        return _FIXED_BYTES + _LIVE_MAPS * 4 * self.batch * math.prod(self.crop) * max(channels[0], channels[-1] // 8)

    def images(self, read: Reader, shape: Triple) -> Iterator[Float32[torch.Tensor, "n 1 z y x"]]:
        """Read the crops, batch by batch.

        Parameters
        ----------
        read
            Reads boxes of the volume, standardised.
        shape
            Of the volume, voxels of the network's level.
        """
        boxes = self.boxes(shape)
        batches = -(-len(boxes) // self.batch)
        for number in range(batches):  # of sizes as equal as possible, because each batch counts the same
            crops = [read_extended(read, box, shape) for box in boxes[number::batches]]
            yield torch.from_numpy(np.stack(crops)[:, None])


def adapted(network: N, images: Iterable[Float32[torch.Tensor, "_ 1 z y x"]], *, device: torch.device) -> N:
    """Copy a network in evaluation mode, with batch-norm statistics computed from images.

    Parameters
    ----------
    network
        Trained, batch-norm not folded; it is left as it is.
    images
        Batches of crops of one tomogram.  If there are none, the copy keeps the network's statistics.
    device
        Where they are computed, and where the copy lies.
    """
    rest = iter(images)
    first = next(rest, None)
    if first is None:
        return copy.deepcopy(network).to(device).eval()
    # in float32 during training too, so that a tomogram's statistics are the same in validation and prediction
    short = device_memory(device, f"a batch of {tuple(first.shape)} for a tomogram's batch statistics", "use --device cpu")
    with short, torch.autocast(device.type, enabled=False), exact_kernels():
        return recalibrated(network, itertools.chain([first], rest), device=device)


def statistics_of(network: nn.Module) -> Statistics:
    """Return a network's batch-norm statistics."""
    return {name: value.detach().cpu().numpy() for name, value in network.named_buffers() if value.ndim > 0}


def with_statistics(network: N, statistics: Statistics) -> N:
    """Copy a network, with these batch-norm statistics.

    Parameters
    ----------
    statistics
        Result of `statistics_of` for a network of the same shape.
    """
    result = copy.deepcopy(network)
    result.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in statistics.items()}, strict=False)
    return result
