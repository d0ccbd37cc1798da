import itertools
import math
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES
from tomostream.errors import BudgetError
from tomostream.geometry import Box, triple
from tomostream.inference.plan import PlanRequest, PredictionPlan
from tomostream.strategies.unet.cost import NetworkCost, network_cost
from tomostream.strategies.unet.planning import _sized, least_redundant, plan_prediction

pytestmark = pytest.mark.slow


@dataclass
class Network:
    stride: int = 4
    influence_radius: int = 5
    channels: tuple[int, ...] = (8, 16, 32)
    species: int = 1


def make_plan(volume, *, memory=2 * 10**9, block_size=None, chunk=16, network=None):
    request = PlanRequest(volume=volume, level=0, memory=memory, block_size=block_size, name="tomo_012", chunk=triple(chunk))
    return plan_prediction(request, network or Network(), precision="float32")


def frame_of(volume, *, level=0, stride=4, radius=5, chunk=16):
    edges = (chunk, chunk, chunk)
    return PredictionPlan(
        volume=volume, level=level, stride=stride, radius=radius, chunk=edges, shard=edges, core=edges, species=1, block_bytes=0
    )


volumes = st.tuples(*[st.integers(1, 60)] * 3)


@examples(60)
@given(volumes, st.tuples(*[st.integers(7, 40)] * 3), st.integers(0, 2), st.sampled_from([1, 2, 4, 8]), st.integers(0, 9))
def test_cores_tile_the_volume_once_and_every_block_reads_its_halo_on_the_stride(volume, block, level, stride, radius):
    plan = replace(frame_of(volume, level=level, stride=stride, radius=radius), shard=(32, 16, 48), core=block)
    seen = np.zeros(volume, dtype=int)
    whole = Box.whole(plan.extended_shape)
    for b in plan.blocks(Box.whole(volume)):
        seen[b.core.slices] += 1
        assert b.shard.contains(b.core)
        assert whole.contains(b.read)
        assert all(edge % stride == 0 for edge in (*b.read.start, *b.read.stop))
        # each side either has the whole radius, or is the face of the extended volume
        for axis in range(3):
            assert b.needed.start[axis] - b.read.start[axis] >= radius or b.read.start[axis] == 0
            assert b.read.stop[axis] - b.needed.stop[axis] >= radius or b.read.stop[axis] == plan.extended_shape[axis]
    assert (seen == 1).all()


@examples(25)
@given(volumes, st.integers(0, 1), st.integers(0, 9), st.floats(0, 1))
def test_chosen_blocks_are_the_least_redundant_that_fit_by_brute_force(volume, level, radius, tightness):
    frame = frame_of(volume, level=level, radius=radius)
    cost = NetworkCost(fixed_bytes=0, plane_bytes=50_000, slab_voxel_bytes=25_000, stride=4)
    candidates = []
    for shard in itertools.product(*(range(16, -(-n // 16) * 16 + 1, 16) for n in volume)):
        plan = replace(frame, shard=shard, core=shard)
        reads = [b.read.shape for b in plan.blocks(Box.whole(volume))]
        sizes = [min(s, n) for s, n in zip(shard, volume, strict=True)]
        image = max(map(math.prod, reads)) * 4
        logits = image if level else 0
        network = max(cost.block_bytes(*shape) for shape in reads)
        scores = 4 * math.prod(sizes)
        needed = scores + max(image + logits + network, scores, image + 18 * max(map(math.prod, reads)))
        candidates.append((needed, sum(map(math.prod, reads)), len(reads)))
    needed = [c[0] for c in candidates]
    overhead = LIBRARIES_BYTES + TORCH_BYTES + 30_000_000
    memory = overhead + math.ceil(min(needed) + tightness * (max(needed) - min(needed)))
    best = min((total, count) for bytes_, total, count in candidates if bytes_ + overhead <= memory)
    found = least_redundant(frame, cost, memory=memory, max_edge=512)
    assert found is not None
    assert found.block_bytes <= memory
    assert (found.computed_voxels, len(found.shards)) == best
    assert found.redundancy == found.computed_voxels / math.prod(found.extended_shape)


def test_ample_memory_gives_one_block_without_redundancy():
    plan = make_plan((100, 90, 70), memory=10**10)
    assert len(plan.shards) == 1
    assert plan.redundancy == 1.0
    assert plan.shard == plan.core == (112, 96, 80)


def test_no_halo_at_the_faces_of_the_volume():
    plan = replace(frame_of((64, 64, 64)), shard=(32, 32, 32), core=(32, 32, 32))
    block = next(iter(plan.blocks(Box.whole((64, 64, 64)))))
    assert block.read == Box((0, 0, 0), (40, 40, 40))  # 32 + 5, up to a multiple of 4


def test_level_1_reads_the_neighbours_of_interpolation_and_the_radius():
    plan = replace(frame_of((64, 64, 64), level=1), shard=(16, 16, 16), core=(16, 16, 16))
    block = plan.block(Box.whole((64, 64, 64)), Box((16, 16, 16), (32, 32, 32)))
    # voxels 16 and 31 lie at 7.75 and 15.25 of level 1: 7 .. 16 are needed, 2 .. 21 with the radius
    assert block.needed == Box((7, 7, 7), (17, 17, 17))
    assert block.read == Box((0, 0, 0), (24, 24, 24))


def test_blocks_of_a_region_cover_it_once_and_nothing_else():
    plan = make_plan((60, 70, 80), block_size=(17, 30, 9))
    region = Box((3, 10, 20), (50, 33, 64))
    seen = np.zeros((60, 70, 80), dtype=int)
    for block in plan.blocks(region):
        seen[block.core.slices] += 1
    assert seen[region.slices].min() == seen[region.slices].max() == 1
    assert seen.sum() == region.size


def test_given_block_size_is_the_core_and_shards_hold_whole_chunks():
    plan = make_plan((500, 500, 500), block_size=(17, 100, 300), chunk=64)
    assert plan.core == (17, 100, 300)
    assert plan.shard == (256, 256, 320)


def test_smaller_memory_never_computes_less():
    totals = [make_plan((200, 300, 300), memory=int(gb * 10**9), network=Network(4, 24)).computed_voxels for gb in (0.8, 1, 2, 8)]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] > totals[-1]


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("less", [1, 5_000_000, 30_000_000])
def test_where_no_chunk_fits_parts_of_chunks_are_the_least_redundant_by_brute_force(level, less):
    frame = frame_of((140, 120, 100), level=level, radius=24, chunk=64)
    cost = network_cost((64, 128, 256), species=1, precision="float32")
    edges = (16, 32, 48, 64)
    possible = [_sized(frame, (z, 64, 64), (z, y, x), cost) for z, y, x in itertools.product((64, 128, 192), edges, edges)]
    memory = min(plan.block_bytes for plan in possible if plan.core == plan.shard) - less
    found = least_redundant(frame, cost, memory=memory, max_edge=512, within_chunk=edges)
    fitting = [plan for plan in possible if plan.block_bytes <= memory]
    if found is None:
        assert not fitting
    else:
        assert found in fitting
        assert found.computed_voxels == min(plan.computed_voxels for plan in fitting)
        assert min(found.core) < 64


def test_the_smallest_budget_computes_each_voxel_some_dozen_times_at_most():
    with pytest.raises(BudgetError) as refused:
        make_plan((56, 160, 160), memory=500 * 10**6, network=Network(4, 23), chunk=64)
    least = int(re.search(r"needs at least (\d+) MB", str(refused.value)).group(1))
    plan = make_plan((56, 160, 160), memory=(least + 1) * 10**6, network=Network(4, 23), chunk=64)
    assert plan.redundancy < 12


def test_refusal_names_the_bytes_the_budget_and_the_tomogram():
    with pytest.raises(BudgetError, match=r"tomo_012 needs at least 609 MB \(core 16,16,16, halo 5, .*budget is 500 MB"):
        make_plan((300, 300, 300), memory=500 * 10**6)
    with pytest.raises(BudgetError, match=r"tomo_012 needs .* per block \(core 300,300,300, halo 5.*budget is 700 MB.*--block-size"):
        make_plan((300, 300, 300), memory=700 * 10**6, block_size=(300, 300, 300))


def test_default_network_on_a_paper_sized_volume_at_2_gb_is_far_below_the_target_of_2_2():
    request = PlanRequest(volume=(112, 1024, 1024), level=0, memory=2 * 10**9, block_size=None, name="a volume")
    plan = plan_prediction(request, Network(4, 33), precision="float32")
    assert plan.redundancy < 1.3


def test_network_cost_does_not_depend_on_depth_beyond_a_slab_and_halves_in_bf16():
    float32 = network_cost((16, 32, 64), species=1, precision="float32")
    assert float32.block_bytes(64, 200, 200) == float32.block_bytes(640, 200, 200)
    assert network_cost((16, 32, 64), species=1, precision="bf16").plane_bytes * 2 == float32.plane_bytes
    assert float32.plane_bytes == 4 * (16 * 16 + 4 * 32 // 4)
