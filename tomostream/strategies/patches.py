"""Score a volume in fixed patches: each voxel is owned by one patch of a grid that depends only on the volume's shape.

This suits networks whose output at a voxel depends on the voxel's position in the patch, or on the whole patch (coordinate channels, instance
norm, attention).  The grid is anchored at the first voxel of the volume, not at the block being scored; a block reads every patch that owns one of
its voxels.  Along an axis, patches have `edge` voxels, of which `padding` on each side serve only as context:

      patch 0  [ owned by 0          |pad)
      patch 1            [pad|  owned by 1  |pad)
      last                          [pad| owned by the last )     <- moved back so that it ends with the volume

1. Patches begin at multiples of edge - 2 padding; the last is moved back to end with the volume.  A volume shorter than a patch has a single patch
   of its own length, rounded up to a multiple of the stride by repeating the last voxels.
2. There is no padding at the faces of the volume: like the crops in training, patches never extend beyond it.
3. Each patch goes through the network alone, so its result does not depend on the block being scored.

References
----------
The overlap-tile strategy: Ronneberger, Fischer, Brox 2015 (U-Net); patches of 72 voxels with a padding of 12: Liu et al. 2024, "DeepETPicker".
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from tomostream.errors import InputError
from tomostream.geometry import Box, Triple, triple
from tomostream.learn.deployment import KERNEL_BYTES, LIVE_MAPS, deploy
from tomostream.learn.device_memory import device_memory
from tomostream.learn.level_network import LevelNetwork
from tomostream.learn.precision import exact_inference, resolve_device


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch: the box that the network sees, and the part of it whose logits are used; in voxels of the level."""

    seen: Box  # may extend beyond the far ends of the volume, where the last voxels are repeated
    owned: Box


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """The patches of a volume.

    Parameters
    ----------
    shape
        Shape of the volume, in voxels.
    edge
        Edges of a patch, z y x; multiples of the stride.
    padding
        Voxels on each side of a patch that serve only as context; less than half an edge.
    stride
        Total stride of the network, in voxels.
    """

    shape: Triple
    edge: Triple
    padding: int
    stride: int

    def patches(self, box: Box) -> Iterator[Patch]:
        """Yield the patches that own a voxel of `box`, z slowest."""
        for z, y, x in itertools.product(*(self._along(axis, box) for axis in range(3))):
            yield Patch(Box((z[0], y[0], x[0]), (z[1], y[1], x[1])), Box((z[2], y[2], x[2]), (z[3], y[3], x[3])))

    def seen(self, box: Box) -> Box:
        """Return the box of all voxels that the patches of `box` see."""
        axes = [list(self._along(axis, box)) for axis in range(3)]
        return Box(triple([axis[0][0] for axis in axes]), triple([axis[-1][1] for axis in axes]))

    @property
    def patch_shape(self) -> Triple:
        """Edges of every patch; shorter than `edge` along an axis where the volume is shorter."""
        return triple([min(e, -(-n // self.stride) * self.stride) for e, n in zip(self.edge, self.shape, strict=True)])

    def _along(self, axis: int, box: Box) -> Iterator[tuple[int, int, int, int]]:
        """Yield (start seen, stop seen, start owned, stop owned) along an axis, for each patch that owns voxels of the box."""
        n, edge, step = self.shape[axis], self.patch_shape[axis], self.edge[axis] - 2 * self.padding
        last = max(0, -(-(n - edge) // step))  # number of the last patch
        for i in range(last + 1):
            seen = min(i * step, max(0, n - edge))
            owned = 0 if i == 0 else i * step + self.padding, n if i == last else (i + 1) * step + self.padding
            if owned[0] < box.stop[axis] and owned[1] > box.start[axis]:
                yield seen, seen + edge, *owned


class PatchScorer:
    """A `BlockScorer` that scores boxes with a network in fixed patches.

    Parameters
    ----------
    network
        Trained network; not modified.
    edge, padding
        Edges and padding of the patches, in voxels; see `PatchGrid`.
    device
        `cpu`, `cuda`, or `auto` (a GPU if there is one).
    precision
        `float32` or `bf16`.
    threads
        Number of torch threads in this process; None leaves it unchanged.

    Raises
    ------
    InputError
        If the precision is unknown, or the patches don't fit the network.
    """

    def __init__(self, network: LevelNetwork, *, edge: Triple, padding: int, device: str, precision: str, threads: int | None) -> None:
        if any(e % network.stride for e in edge) or min(edge) <= 2 * padding or padding < 0:
            raise InputError(
                f"a patch's edges must be multiples of the network's stride {network.stride} and longer than twice the padding, "
                f"found {edge} (z, y, x) and {padding}"
            )
        if threads is not None:
            torch.set_num_threads(threads)
        self._ready = deploy(network, device=resolve_device(device), precision=precision)
        self.species = network.species
        self._edge, self._padding, self._stride = edge, padding, network.stride
        self._weights_bytes = 2 * 4 * network.parameters_count

    def read_box(self, needed: Box, shape: Triple) -> Box:
        """Return the voxels that the logits of `needed` depend on, which are all that the patches see; see `BlockScorer.read_box`."""
        return self._grid(shape).seen(needed)

    def block_bytes(self, needed: Box, shape: Triple) -> int:
        """Return the projected peak of scoring `needed`, in bytes: the image, the logits and one patch in the network, without libraries."""
        patch = math.prod(self._grid(shape).patch_shape)
        image = 4 * self.read_box(needed, shape).size
        maps = LIVE_MAPS * self._ready.voxel_bytes * patch
        return image + 4 * self.species * (needed.size + patch) + maps + self._weights_bytes + KERNEL_BYTES

    def logits(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """Return the logits of `needed`; see `BlockScorer.logits`."""
        result = np.empty((self.species, *needed.shape), dtype=np.float32)
        for patch in self._grid(shape).patches(needed):
            part = patch.owned.clipped(needed)
            answer = self._forward(image[patch.seen.relative_to(read.start).slices])
            result[(slice(None), *part.relative_to(needed.start).slices)] = answer[
                (slice(None), *part.relative_to(patch.seen.start).slices)
            ]
        return result

    def _grid(self, shape: Triple) -> PatchGrid:
        return PatchGrid(shape, self._edge, self._padding, self._stride)

    def _forward(self, patch: np.ndarray) -> np.ndarray:
        ready = self._ready
        with device_memory(ready.device, f"a patch of {patch.shape} voxels (z, y, x)", "use --device cpu"), exact_inference(ready.device):
            block = torch.from_numpy(np.ascontiguousarray(patch))[None, None].to(device=ready.device, dtype=ready.type)
            logits: np.ndarray = ready.head(ready.network.features(block).float())[0].cpu().numpy()
        return logits
