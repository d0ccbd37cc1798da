"""Plan the blocks of a U-Net without a filter: minimise redundant computation within the memory budget.  Pure arithmetic, no I/O.

1. Candidate cores have edges that are multiples of the chunk, up to a limit.  Each is also a shard: one block, one task, one writer.
2. The number of voxels computed is a product over the axes of sums over the blocks along an axis, so all combinations can be compared at once.
   Of those that fit the memory, the fewest voxels win, then the fewest blocks, then the smallest block.
3. If not even one chunk fits, cores smaller than a chunk are tried, in shards of one chunk.
4. A block size given by the user is the core; shards have the default size (or the core's, if that is larger), and blocks divide each shard.
"""

import math
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES
from tomostream.geometry import Box, Triple, triple
from tomostream.inference.plan import MARGIN_BYTES, READ_BYTES_PER_VOXEL, READ_VOXELS, PlanRequest, PredictionPlan, cores_along
from tomostream.strategies.unet.cost import NetworkCost, network_cost

SMALLEST_CORE_VOX = 16  # of the level, along y and x: a smaller core saves hardly any memory, and its halo costs many times the core


@runtime_checkable  # the tests check every annotation
class PlannedNetwork(Protocol):
    """The properties of a network that planning needs."""

    @property
    def stride(self) -> int:
        """Total stride, voxels."""

    @property
    def influence_radius(self) -> int:
        """Largest distance at which an input voxel can change an output voxel."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the levels, finest first."""

    @property
    def species(self) -> int:
        """Number of outputs."""


def plan_prediction(request: PlanRequest, network: PlannedNetwork, *, precision: str) -> PredictionPlan:
    """Choose shards and blocks.

    Parameters
    ----------
    request
        The volume, the level that the network reads, and the memory budget.
    network
        Stride, influence radius, channels and number of species.
    precision
        `float32` or `bf16`.

    Raises
    ------
    BudgetError
        If the requested block, or every possible block, exceeds the memory budget.
    """
    frame = request.frame(stride=network.stride, radius=network.influence_radius, species=network.species)
    cost = network_cost(network.channels, species=network.species, precision=precision)
    seen = f"halo {frame.radius}, {precision}"
    if request.block_size is not None:
        return request.with_given_block(request.block_size, frame, lambda shard, core: _sized(frame, shard, core, cost), f", {seen}")
    widest, step = min(frame.chunk[1:]), network.stride * 2**request.level
    least_edge = min(widest, -(-SMALLEST_CORE_VOX // network.stride) * step)
    for edges in ((), tuple(range(least_edge, widest + 1, step))):  # whole chunks first; parts of a chunk if none fits
        best = least_redundant(frame, cost, memory=request.memory, max_edge=request.longest, within_chunk=edges)
        if best is not None:
            return best
    core = (frame.chunk[0], least_edge, least_edge)
    raise request.refused(
        _sized(frame, frame.chunk, core, cost).block_bytes,
        f" (core {','.join(map(str, core))}, {seen}, channels {', '.join(map(str, network.channels))}, {network.species} species)",
        ", or use a smaller network",
    )


def least_redundant(
    frame: PredictionPlan, cost: NetworkCost, *, memory: int, max_edge: int, within_chunk: tuple[int, ...] = ()
) -> PredictionPlan | None:
    """Return the plan that computes the fewest voxels within the memory budget; None if no candidate fits.

    Parameters
    ----------
    frame
        A plan whose shard and core are still to be chosen.
    cost
        Memory model of the network.
    memory
        Budget of one process, in bytes.
    max_edge
        Largest edge of a shard, in voxels.
    within_chunk
        Candidate edges of blocks along y and x, at most a chunk's; shards are then one chunk wide.  Empty: blocks are shards of whole chunks.
        Along z a block always spans its shard, because depth costs no memory.
    """
    edges, longest, owned, totals, counts = [], [], [], [], []
    for axis in range(3):
        n, chunk = frame.volume[axis], frame.chunk[axis]
        wide = [chunk * (i + 1) for i in range(max(1, min(-(-n // chunk), max_edge // chunk)))]
        candidates = [(chunk, edge) for edge in within_chunk] if within_chunk and axis > 0 else [(edge, edge) for edge in wide]
        lengths = [_read_lengths(frame, axis, shard, core) for shard, core in candidates]
        edges.append(candidates)
        longest.append(np.array([max(each) for each in lengths], dtype=np.float64))
        owned.append(np.array([min(shard, n) for shard, _ in candidates], dtype=np.float64))
        totals.append(np.array([sum(each) for each in lengths], dtype=np.float64))
        counts.append(np.array([len(each) for each in lengths], dtype=np.float64))
    needed: np.ndarray = _process_bytes(frame, cost, _spread(longest), _product(owned))
    total, count = _product(totals), _product(counts)
    fits = needed <= memory
    if not fits.any():
        return None
    first = np.lexsort((needed[fits], count[fits], total[fits]))[0]
    chosen = np.argwhere(fits)[first]
    shard, core = (triple([edges[axis][chosen[axis]][part] for axis in range(3)]) for part in (0, 1))
    return _sized(frame, shard, core, cost)


def _spread(values: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reshape one array per axis so that they broadcast to all triples."""
    return values[0][:, None, None], values[1][None, :, None], values[2][None, None, :]


def _product(values: list[np.ndarray]) -> np.ndarray:
    """Return the outer product of one array per axis."""
    z, y, x = _spread(values)
    product: np.ndarray = z * y * x
    return product


def _read_lengths(frame: PredictionPlan, axis: int, shard: int, core: int) -> list[int]:
    """Return the edge along `axis` of each block's read box."""
    lengths = []
    for start, stop in cores_along(frame.volume[axis], shard, core):
        edge_start, edge_stop = [0, 0, 0], [1, 1, 1]
        edge_start[axis], edge_stop[axis] = start, stop
        core_box = Box(triple(edge_start), triple(edge_stop))
        lengths.append(frame.block(core_box, core_box).read.shape[axis])
    return lengths


def _process_bytes(frame: PredictionPlan, cost: NetworkCost, read: tuple[Any, Any, Any], shard_voxels: Any) -> Any:
    """Return the projected peak memory, in bytes, for blocks that read `read` voxels (z, y, x) and shards of `shard_voxels` voxels.

    The arguments are numbers or arrays of candidates.  The peak is the largest of three: while a block is read, its voxels and copies of the piece
    being read; while it is computed, its voxels, the network, and its logits if they are interpolated; while the shard is stored, one species as
    stored.  The shard's scores are held throughout.
    """
    image = 4 * read[0] * read[1] * read[2]
    logits = image * frame.species if frame.level > 0 else 0
    scores = 4 * frame.species * shard_voxels
    reading = scores + image + READ_BYTES_PER_VOXEL * np.minimum(image / 4, READ_VOXELS)
    computing = scores + image + logits + cost.block_bytes(*read)
    storing = scores + 4 * shard_voxels
    return LIBRARIES_BYTES + TORCH_BYTES + MARGIN_BYTES + np.maximum(np.maximum(reading, computing), storing)


def _sized(frame: PredictionPlan, shard: Triple, core: Triple, cost: NetworkCost) -> PredictionPlan:
    """Return the frame with this shard and core, and its projected bytes."""
    a, b, c = (max(_read_lengths(frame, axis, shard[axis], core[axis])) for axis in range(3))
    voxels = math.prod(min(s, n) for s, n in zip(shard, frame.volume, strict=True))
    return replace(frame, shard=shard, core=core, block_bytes=math.ceil(_process_bytes(frame, cost, (a, b, c), voxels)))
