"""How much does chunked inference compute in vain?  Redundancy of the planned blocks, for budgets, networks and volumes.

Redundancy is the number of voxels that the network computes in all blocks over those of the volume: 1 is no waste.
Run: `python bench/predict_plan.py`; pure arithmetic, a few seconds.
"""

from tomostream.errors import BudgetError
from tomostream.inference.plan import plan_prediction
from tomostream.learn.resunet import ResidualUNet
from tomostream.units import format_bytes

BUDGETS_GB = (1, 2, 4, 8, 16)
CHANNELS = ((8, 16, 32), (16, 32, 64), (32, 64, 128))
VOLUMES = ((112, 1024, 1024), (500, 1000, 1000))


def main() -> None:
    print("| volume | channels | precision | budget | shard = core | blocks | redundancy | projected peak |")
    print("|---|---|---|---|---|---|---|---|")
    for volume in VOLUMES:
        for channels in CHANNELS:
            for precision in ("float32", "bf16"):
                for budget in BUDGETS_GB:
                    row = f"| {' x '.join(map(str, volume))} | {'/'.join(map(str, channels))} | {precision} | {budget} GB |"
                    try:
                        plan = plan_prediction(
                            volume,
                            level=0,
                            network=ResidualUNet(channels, 1, seed=0),
                            channels=channels,
                            precision=precision,
                            species=1,
                            memory=budget * 10**9,
                            block_size=None,
                            name="a volume",
                        )
                    except BudgetError as error:
                        print(f"{row} {error} | | | |")
                        continue
                    shard = " x ".join(map(str, plan.shard))
                    print(f"{row} {shard} | {len(plan.shards)} | {plan.redundancy:.2f} | {format_bytes(plan.block_bytes)} |")


if __name__ == "__main__":
    main()
