"""A plan for a scorer that is a black box: the least reading that fits."""

import itertools
import math

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES
from tomostream.errors import BudgetError
from tomostream.geometry import Box, triple
from tomostream.inference.block_search import plan_scorer
from tomostream.inference.plan import MARGIN_BYTES, PlanRequest

CHUNK = 16
PROCESS = LIBRARIES_BYTES + TORCH_BYTES + MARGIN_BYTES  # what is taken besides blocks


class Halo:
    """Reads so many voxels around what is needed; a read voxel takes 4000 bytes."""

    species = 1

    def __init__(self, halo):
        self.halo = halo

    def read_box(self, needed, shape):
        return needed.expanded(self.halo).clipped(Box.whole(shape))

    def block_bytes(self, needed, shape):
        return 4000 * self.read_box(needed, shape).size

    def logits(self, image, read, needed, shape):
        return np.zeros((1, *needed.shape), np.float32)


def plan_of(volume, halo, memory):
    request = PlanRequest(volume=volume, level=0, memory=memory, block_size=None, name="t", chunk=triple(CHUNK), max_edge=64)
    return plan_scorer(request, Halo(halo))


@pytest.mark.slow
@examples(40)
@given(st.tuples(*[st.integers(1, 90)] * 3), st.integers(0, 12), st.floats(0.0, 1.0))
def test_chosen_blocks_read_least_of_all_that_fit_by_brute_force(volume, halo, tightness):
    scorer = Halo(halo)
    rows = []
    for shard in itertools.product(*(range(CHUNK, min(64, -(-n // CHUNK) * CHUNK) + 1, CHUNK) for n in volume)):
        cores = [
            Box(start, tuple(min(a + s, n) for a, s, n in zip(start, shard, volume, strict=True)))
            for start in itertools.product(*(range(0, n, s) for n, s in zip(volume, shard, strict=True)))
        ]
        reads = [scorer.read_box(core, volume).size for core in cores]
        own = 4 * math.prod(min(s, n) for s, n in zip(shard, volume, strict=True))
        rows.append((own + max(own, 4000 * max(reads)), sum(reads)))
    least, most = min(row[0] for row in rows), max(row[0] for row in rows)
    memory = math.ceil(least + tightness * (most - least)) + 1
    found = plan_of(volume, halo, memory + PROCESS)
    read = sum(scorer.read_box(block.needed, volume).size for block in found.blocks(Box.whole(volume)))
    assert found.block_bytes <= memory + PROCESS
    assert read == min(total for need, total in rows if need <= memory)


def test_what_does_not_fit_even_in_small_cores_is_refused():
    with pytest.raises(BudgetError, match="at least"):
        plan_of((64, 64, 64), 8, PROCESS + 10**6)
