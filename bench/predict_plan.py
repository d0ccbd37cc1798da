"""How much does inference in blocks compute twice?  Redundancy of the planned blocks, for several budgets, networks and volumes.

Redundancy is the number of voxels that the network computes in all blocks, over those of the volume; 1 means none is computed twice.
Run: `python -m bench.predict_plan`; pure arithmetic, a few seconds.
"""

from __future__ import annotations

import numpy as np

from tomostream import defaults
from tomostream.errors import BudgetError
from tomostream.geometry import Triple
from tomostream.inference.block_search import plan_scorer
from tomostream.inference.plan import PlanRequest, PredictionPlan
from tomostream.strategies.unet.fusion import FusedScorer, MatchedSettings
from tomostream.strategies.unet.lookalikes import LookAlikes
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.planning import plan_prediction
from tomostream.strategies.unet.scorer import StreamedNetwork
from tomostream.units import format_bytes

BUDGETS_GB = (1, 2, 4, 8, 16)
CHANNELS = ((8, 16, 32), (16, 32, 64), (32, 64, 128))
VOLUMES = ((112, 1024, 1024), (500, 1000, 1000))
RADIUS = 5.0  # of the particle, voxels of level 1


def plan_network(volume: Triple, channels: tuple[int, ...], precision: str, memory: int, *, level: int = 0) -> PredictionPlan:
    """Plan the blocks of a U-Net."""
    network = ResidualUNet(channels, 1, seed=0)
    request = PlanRequest(volume=volume, level=level, memory=memory, block_size=None, name="a volume")
    return plan_prediction(request, network, precision=precision)


def default_scorer(threads: int | None = None, *, tells: bool = False) -> FusedScorer:
    """Return a scorer of the default model, untrained: network and matched filter at level 1; with what tells look-alikes, where it `tells`."""
    network = StreamedNetwork(ResidualUNet(defaults.CHANNELS, 1, seed=0), device="cpu", precision="float32", threads=threads)
    matched = MatchedSettings(
        support_vox=(defaults.SUPPORT * RADIUS,), floor=defaults.MATCHED_FLOOR, weight=(20.0,), intercept=(0.0,), smooth_vox=defaults.MATCHED_SMOOTH * RADIUS
    )  # fmt: skip
    profile = np.cos(np.linspace(0, np.pi, 1 + int(defaults.SUPPORT * RADIUS)))
    return FusedScorer(network, matched, (profile,), LookAlikes.planned(matched.support_vox) if tells else None, threads=threads)


def plan_default(volume: Triple, memory: int) -> PredictionPlan:
    """Plan the blocks of the default model."""
    return plan_scorer(PlanRequest(volume=volume, level=1, memory=memory, block_size=None, name="a volume"), default_scorer())


def main() -> None:
    print("| volume | channels | precision | budget | shard = core | blocks | redundancy | projected peak |")
    print("|---|---|---|---|---|---|---|---|")
    for volume in VOLUMES:
        for channels in CHANNELS:
            for precision in ("float32", "bf16"):
                for budget in BUDGETS_GB:
                    row = f"| {' x '.join(map(str, volume))} | {'/'.join(map(str, channels))} | {precision} | {budget} GB |"
                    try:
                        plan = plan_network(volume, channels, precision, budget * 10**9)
                    except BudgetError as error:
                        print(f"{row} {error} | | | |")
                        continue
                    shard = " x ".join(map(str, plan.shard))
                    print(f"{row} {shard} | {len(plan.shards)} | {plan.redundancy:.2f} | {format_bytes(plan.block_bytes)} |")


if __name__ == "__main__":
    main()
