"""Peaks of scoring and of tracing, measured in processes of their own, stay below what was promised."""

import subprocess
import sys

import pytest
from peak_memory import PEAK

pytestmark = pytest.mark.slow

_SCORE = """
import numpy as np
from tomostream.geometry import Box
from tomostream.inference.region_scoring import encode_scores, score_region
from tomostream.inference.block_search import plan_scorer
from tomostream.inference.plan import PlanRequest
from tomostream.strategies.slices2d.detector import SliceDetector
from tomostream.strategies.slices2d.scoring import SliceScorer

scorer = SliceScorer(SliceDetector((16, 32, 64), 1, seed=0), radius=[5.0], device="cpu", precision="float32", threads=1)
plan = plan_scorer(PlanRequest(volume={volume}, level={level}, memory=10**9, block_size=None, name="a volume"), scorer)
for index in [(0, 0, 0), (0, 0, plan.shards.counts[2] - 1)]:
    core = plan.shards.core(index)
    scores = score_region(lambda box: np.ones(box.shape, dtype=np.float32), plan, core, scorer, as_logits=False, note=print)
    encode_scores(scores[0], "float32")
print(len(plan.shards), plan.block_bytes, {peak})
"""

_TRACE = """
import numpy as np
from tomostream.picking.how_many import Best
from tomostream.picking.protocol import Execution, PickRequest, Source
from tomostream.picking.traced import PICKER

noise = np.zeros((64, 512, 512), dtype=np.float32)
noise[:, ::4, ::4] = np.random.default_rng(0).random((128, 128), dtype=np.float32)
before = {peak}
shape = (64, 1024, 1024)

def read(box):
    result = np.empty(box.shape, dtype=np.float32)
    for i, z in enumerate(range(box.start[0], box.stop[0])):
        y, x = (np.arange(box.start[a], box.stop[a]) % 512 for a in (1, 2))
        result[i] = noise[z][y[:, None], x]
    return result

budget = 150_000_000 + {share}
picks = PICKER.pick(Source(read, shape), PickRequest(radius=10.0, how_many=Best(300)), Execution(memory=budget, libraries=150_000_000))
print(len(picks), {share}, {peak} - before)
"""


def figures(script: str) -> list[int]:
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return [int(word) for word in result.stdout.split()]


@pytest.mark.memory
def test_peak_of_scored_blocks_stays_below_the_projection_within_1_gb():
    shards, projected, peak = figures(_SCORE.format(peak=PEAK, level=1, volume=(60, 2400, 2400)))
    assert shards > 1  # so the budget did bind
    assert peak <= projected <= 10**9


@pytest.mark.memory
def test_peak_of_tracing_stays_within_the_budget_for_blocks_and_boxes():
    picks, share, more = figures(_TRACE.format(peak=PEAK, share=80_000_000))
    assert picks > 0
    assert more <= share, f"{more} above {share}"
