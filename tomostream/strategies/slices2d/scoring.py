"""Score a block with a slice detector: detect boxes slice by slice, paint them as peaks of logits.

1. Extend each slice of the block by the neighbourhood of painting and the reach of the network.
2. Compute the outputs of its cells with the network, batch-norm folded; the last layer is always float32.
3. Paint the boxes (`painting`), and keep the part of the block.

Slices are independent, so a block needs no halo along z.  Each slice goes through the network alone, so the memory does not depend on the depth.  At
the faces of the volume the network's zero padding applies, in blocks as in the whole volume.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32

from tomostream.errors import InputError
from tomostream.geometry import Box, Triple, triple
from tomostream.learn.deployment import KERNEL_BYTES, LIVE_MAPS, deploy
from tomostream.learn.device_memory import device_memory
from tomostream.learn.precision import exact_inference, resolve_device
from tomostream.strategies.slices2d.detector import CENTRE_X, CENTRE_Y, SliceDetector, confidence_logits
from tomostream.strategies.slices2d.painting import painted, window_cells

_LIVE_PAINTINGS = 5  # maps of logits that are alive while a slice is painted


class SliceScorer:
    """A `BlockScorer` that scores boxes with a `SliceDetector`.

    Parameters
    ----------
    network
        Trained network; not modified.
    radius
        Radius of each species, in voxels of the level that is read.
    device
        `cpu`, `cuda`, or `auto` (a GPU if there is one).
    precision
        `float32` or `bf16`.
    threads
        Number of torch threads in this process; None leaves it unchanged.

    Raises
    ------
    InputError
        If the precision is unknown, or there is not one positive radius per species.
    """

    def __init__(self, network: SliceDetector, *, radius: Sequence[float], device: str, precision: str, threads: int | None) -> None:
        if len(radius) != network.species or not min(radius) > 0:
            raise InputError(f"a slice detector needs a radius above zero for each of its {network.species} species, found {list(radius)}")
        if threads is not None:
            torch.set_num_threads(threads)
        self._ready = deploy(network, device=resolve_device(device), precision=precision)
        self._radius = tuple(radius)
        self._stride, self._reach, self._window = network.stride, network.reach, window_cells(radius, network.stride)
        self._weights_bytes = 3 * 4 * network.parameters_count

    @property
    def species(self) -> int:
        """Number of outputs."""
        return len(self._radius)

    def read_box(self, needed: Box, shape: Triple) -> Box:
        """Return the voxels that the logits of `needed` depend on: the same slices, extended along y and x; see `BlockScorer.read_box`."""
        halo = self._window * self._stride + self._reach
        extended = triple([shape[0], *(-(-n // self._stride) * self._stride for n in shape[1:])])
        wide = needed.aligned(self._stride).expanded((0, halo, halo)).aligned(self._stride).clipped(Box.whole(extended))
        return Box((needed.start[0], *wide.start[1:]), (needed.stop[0], *wide.stop[1:]))

    def block_bytes(self, needed: Box, shape: Triple) -> int:
        """Return the projected peak of scoring `needed`, in bytes: the image, the logits and one slice in the network, without libraries."""
        read = self.read_box(needed, shape)
        pixels = math.prod(read.shape[1:])
        slice_bytes = pixels * (LIVE_MAPS * self._ready.voxel_bytes + _LIVE_PAINTINGS * 4 * self.species)
        return 4 * read.size + 4 * self.species * needed.size + slice_bytes + self._weights_bytes + KERNEL_BYTES

    def logits(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """Return the logits of `needed`; see `BlockScorer.logits`."""
        cells = self._cells(needed, read)
        kept = needed.relative_to((needed.start[0], *(read.start[i] + cells[i - 1].start * self._stride for i in (1, 2)))).slices[1:]
        result = np.empty((self.species, *needed.shape), dtype=np.float32)
        ready = self._ready
        what = f"a slice of {image.shape[1:]} voxels (y, x)"
        with device_memory(ready.device, what, "lower --block-size or use --device cpu"), exact_inference(ready.device):
            for z, plane in enumerate(image):
                slab = torch.from_numpy(np.ascontiguousarray(plane))[None, None, None].to(device=ready.device, dtype=ready.type)
                numbers = ready.head(ready.network.features(slab).float())[..., *cells]
                centre = torch.sigmoid(numbers[0, [CENTRE_Y, CENTRE_X], 0])
                peaks = painted(confidence_logits(numbers)[0, :, 0], centre, radius=self._radius, stride=self._stride)
                result[:, z] = peaks[:, *kept].cpu().numpy()
        return result

    def _cells(self, needed: Box, read: Box) -> tuple[slice, slice]:
        """Return the cells whose outputs don't depend on where the read box ends; only their boxes are painted."""
        ranges = []
        for axis in (1, 2):
            first = (needed.start[axis] - read.start[axis]) // self._stride - self._window
            last = -(-(needed.stop[axis] - read.start[axis]) // self._stride) + self._window
            ranges.append(slice(max(0, first), min(last, read.shape[axis] // self._stride)))
        return ranges[0], ranges[1]
