"""Score a block with the U-Net on a processor or a GPU; the same block always gives the same bits.

1. Batch-norm is folded in float32.  Weights and feature maps are then float32 or bf16, channels last, which is faster on processors; the last
   layer is always float32.
2. On a processor the block streams through the network slab by slab (`streaming.py`), which takes little memory at any depth.  On a GPU it goes
   through in a few large tiles (`whole_block.py`).
3. To be reproducible, kernels are not chosen by benchmarks, and neither TF32 nor atomic sums are used.

Limits: the bits depend on the number of threads, the instruction set of the processor, and the versions of the libraries (`environment`).
"""

import ctypes
import sys
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from tomostream.errors import InputError
from tomostream.geometry import Box, Triple, triple
from tomostream.inference.plan import PlanRequest
from tomostream.inference.region_scoring import score_volume
from tomostream.learn.deployment import deploy
from tomostream.learn.device_memory import device_budget, device_memory, exact_turn, limit_device_memory
from tomostream.learn.precision import exact_kernels, resolve_device
from tomostream.strategies.unet.cost import SLAB_BYTES, network_cost
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.planning import plan_prediction
from tomostream.strategies.unet.streaming import slab_planes, stream_logits
from tomostream.strategies.unet.whole_block import WholeBlocks, largest_tile

_REMEDY = "lower --block-size or use --device cpu"
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


class StreamedNetwork:
    """A U-Net on its device, ready to compute the logits of blocks.

    Parameters
    ----------
    network
        A `ResidualUNet`, with batch-norm folded or not; not modified.
    device
        `cpu`, `cuda`, or `auto` (a GPU if there is one).
    precision
        `float32` or `bf16`.
    threads
        Number of torch threads in this process; None leaves it unchanged.
    gpu_memory
        Limit on the GPU memory of this process, in bytes; None: plan for four fifths of the card.

    Raises
    ------
    InputError
        If the device or precision is unknown or unavailable, or the network is not a `ResidualUNet`.
    DeviceMemoryError
        If the weights don't fit into the GPU's memory.
    """

    def __init__(self, network: nn.Module, *, device: str, precision: str, threads: int | None, gpu_memory: int | None = None) -> None:
        if not isinstance(network, ResidualUNet):
            raise InputError(f"the U-Net scorer needs a ResidualUNet, found {type(network).__name__}")
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = resolve_device(device)
        limit_device_memory(self.device, gpu_memory)
        self.precision = precision
        self.species = network.species
        self.stride = network.stride
        self.influence_radius = network.influence_radius
        with device_memory(self.device, "the network", "raise --gpu-memory or use --device cpu"):
            there = deploy(network, device=self.device, precision=precision)
        self._network, self._head, self._type = there.network, there.head, there.type
        self.cost = network_cost(network.channels, species=network.species, precision=precision)
        self.memory = device_budget(self.device, gpu_memory)
        self._whole = self._whole_blocks()
        self._voxel_bytes = self._type.itemsize * network.channels[0]

    def logits(self, block: Float32[np.ndarray, "z y x"], keep: Box | None = None) -> Float32[np.ndarray, "s Z Y X"]:
        """Return the logits of a block.

        Parameters
        ----------
        block
            Standardised densities; the edges are multiples of the stride.
        keep
            The part of the block whose logits are wanted; None: all of it.

        Raises
        ------
        InputError
            If an edge is not a multiple of the stride.
        DeviceMemoryError
            If the GPU's memory is too small for the block.
        """
        wanted = Box.whole((block.shape[0], block.shape[1], block.shape[2])) if keep is None else keep
        if self.device.type != "cpu":
            return self._at_once(block, wanted)
        result = np.empty((self.species, *wanted.shape), dtype=np.float32)
        for first, planes in self.planes(block, wanted):
            result[:, first : first + planes.shape[1]] = planes
        return result

    def planes(self, block: Float32[np.ndarray, "z y x"], keep: Box) -> Iterator[tuple[int, Float32[np.ndarray, "s Z Y X"]]]:
        """Yield the logits of `keep` in pieces, as pairs of the index of the first plane in `keep` and some planes."""
        if self.device.type != "cpu":
            yield 0, self._at_once(block, keep)
            return
        self._check(block)
        yield from self._planes(block, keep)
        _return_free_memory()

    def _at_once(self, block: np.ndarray, keep: Box) -> Float32[np.ndarray, "s Z Y X"]:
        self._check(block)
        with device_memory(self.device, f"a block of {block.shape} voxels (z, y, x)", _REMEDY), exact_turn(self.device):
            return self._whole.logits(block, keep)

    def _check(self, block: np.ndarray) -> None:
        if any(edge % self.stride for edge in block.shape) or 0 in block.shape:
            raise InputError(f"a block's edges must be multiples of the network's stride {self.stride}, found {block.shape} (z, y, x)")

    def device_logits(self, block: Float32[torch.Tensor, "z y x"], keep: Box) -> Float32[torch.Tensor, "s Z Y X"]:
        """Return, on the device, the logits of a part of a block that lies on the device.  Call it inside an `exact_turn`."""
        return self._whole.device_logits(block, keep)

    def _whole_blocks(self) -> WholeBlocks:
        memory = self.memory * 3 // 4  # the rest is for images and logits that are copied at the same time
        most = largest_tile(memory, self._network.channels, species=self.species, itemsize=self._type.itemsize)
        return WholeBlocks(self._network, self._head, radius=self.influence_radius, most_voxels=most)

    def _planes(self, block: np.ndarray, keep: Box) -> Iterator[tuple[int, np.ndarray]]:
        """Stream a block through the network; see `planes`."""
        depth, height, width = block.shape
        step = slab_planes(height * width * self._voxel_bytes, self.stride, SLAB_BYTES)
        z = 0
        with torch.inference_mode(), exact_kernels():
            for logits in stream_logits(self._network, self._slabs(block, step), self._head):
                part = Box((z, 0, 0), (z + logits.shape[2], height, width)).clipped(keep)
                z += logits.shape[2]
                if not part.is_empty:
                    inside = (0, slice(None), *part.relative_to((z - logits.shape[2], 0, 0)).slices)
                    yield part.start[0] - keep.start[0], logits[inside].cpu().numpy()
                if z >= keep.stop[0]:
                    return  # all later planes are halo
        if z != depth:
            raise RuntimeError(f"the network gave {z} of {depth} planes")

    def _slabs(self, block: np.ndarray, step: int) -> Iterator[torch.Tensor]:
        for first in range(0, block.shape[0], step):
            slab = torch.from_numpy(block[first : first + step])[None, None]
            yield slab.to(device=self.device, dtype=self._type, memory_format=torch.channels_last_3d)


def _return_free_memory() -> None:
    """Return free memory of the heap to the system.

    Slabs of varying shapes leave holes that fit no later slab, so without this the heap grows from block to block.  One call per block costs no
    noticeable time.  Without glibc there is no such call, and this does nothing.
    """
    if _trim is not None:
        _trim(0)


class UNetScorer:
    """A `StreamingScorer` for the network alone.

    Parameters
    ----------
    network
        The network on its device.
    """

    def __init__(self, network: StreamedNetwork) -> None:
        self.species = network.species
        self._network = network

    def read_box(self, needed: Box, shape: Triple) -> Box:
        """Return the voxels that the logits of `needed` depend on, aligned to the stride; see `BlockScorer.read_box`."""
        return network_box(self._network, needed, shape, self._network.influence_radius)

    def block_bytes(self, needed: Box, shape: Triple) -> int:
        """Return the projected peak, in bytes: the image, the streaming network and the logits."""
        read = self.read_box(needed, shape)
        return 4 * read.size + 4 * self.species * needed.size + int(self._network.cost.block_bytes(*read.shape))

    def logits(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """Return the logits of `needed`; see `BlockScorer.logits`."""
        return self._network.logits(image, needed.relative_to(read.start))

    def planes(
        self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple
    ) -> Iterator[tuple[int, Float32[np.ndarray, "s Z Y X"]]]:
        """Yield the logits of `needed` in pieces; see `StreamingScorer.planes`."""
        return self._network.planes(image, needed.relative_to(read.start))


def network_box(network: StreamedNetwork, box: Box, shape: Triple, reach: int) -> Box:
    """Return the box with `reach` voxels around it, aligned to the network's stride and clipped to the volume extended to a multiple of it."""
    extended = Box.whole(triple([-(-n // network.stride) * network.stride for n in shape]))
    return box.expanded(reach).aligned(network.stride).clipped(extended)


def score_array(
    volume: Float32[np.ndarray, "z y x"], network: nn.Module, *, precision: str, memory: int, device: str
) -> Float32[np.ndarray, "s z y x"]:
    """Return the scores of a standardised volume on its own grid, as `predict` would compute them.

    Parameters
    ----------
    volume
        Standardised densities, at the level that the network reads.
    network
        A `ResidualUNet`, with batch-norm folded or not; not modified.
    precision, device
        See `StreamedNetwork`.
    memory
        Memory budget of the blocks, in bytes.

    Raises
    ------
    BudgetError
        If no block fits the memory.
    """
    scorer = UNetScorer(StreamedNetwork(network, device=device, precision=precision, threads=None))
    if not isinstance(network, ResidualUNet):
        raise TypeError("the U-Net scorer needs a ResidualUNet")
    longest = 2 * max(volume.shape)
    request = PlanRequest(volume=triple(volume.shape), level=0, memory=memory, block_size=None, name="the array", max_edge=longest)
    return score_volume(volume, plan_prediction(request, network, precision=precision), scorer, as_logits=False)
