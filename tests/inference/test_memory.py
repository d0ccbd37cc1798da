import subprocess
import sys

import pytest
from peak_memory import PEAK

pytestmark = pytest.mark.slow

_SCORE_TWO_BLOCKS = """
import numpy as np
import zarr
from tomostream.geometry import Box
from tomostream.inference.plan import PlanRequest
from tomostream.strategies.unet.planning import plan_prediction
from tomostream.inference.region_scoring import encode_scores, score_region
from tomostream.strategies.unet.scorer import StreamedNetwork, UNetScorer
from tomostream.strategies.unet.network import ResidualUNet

channels, precision, level, memory = {channels}, "{precision}", {level}, {memory}
network = ResidualUNet(channels, 1, seed=0)
volume = {volume}
request = PlanRequest(volume=volume, level=level, memory=memory, block_size=None, name="a volume")
plan = plan_prediction(request, network, precision=precision)
scorer = UNetScorer(StreamedNetwork(network, device="cpu", precision=precision, threads=1))
cores = [plan.shards.core((0, 0, 0)), plan.shards.core((0, 0, plan.shards.counts[2] - 1))]
for core in cores:
    scores = score_region(lambda box: np.ones(box.shape, dtype=np.float32), plan, core, scorer, as_logits=False, note=print)
    encode_scores(scores[0], "float32")
print(len(plan.shards), plan.block_bytes, {peak})
"""


@pytest.mark.memory
@pytest.mark.parametrize(
    ("channels", "level", "volume"),
    [((8, 16, 32), 0, (64, 900, 900)), ((8, 16, 32), 1, (80, 1500, 1500))],
)
def test_peak_of_planned_blocks_stays_below_the_projection_within_1_gb(channels, level, volume):
    script = _SCORE_TWO_BLOCKS.format(peak=PEAK, channels=channels, precision="float32", level=level, volume=volume, memory=10**9)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    shards, projected, peak = map(int, result.stdout.split())
    assert shards > 1  # so the budget did bind
    assert peak <= projected <= 10**9
    assert peak >= 0.5 * projected  # not hopelessly careful
