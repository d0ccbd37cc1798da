"""The command line of the pretraining; see the package."""

import argparse
from pathlib import Path

import torch

from bench.pretraining.simulating import Sizes
from bench.pretraining.training import Settings, train


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pretraining", description=__doc__)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="folder: checkpoint, metrics.jsonl, backbone.safetensors, backbone.json"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=4.0, help="of training, all runs in this folder together (default 4)")
    parser.add_argument("--steps", type=int, help="end after so many steps, whatever the time")
    parser.add_argument("--stop-after", type=float, help="leave after so many seconds, with a checkpoint")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--channels", default="24,48,96", help="of the levels, finest first (default 24,48,96)")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--groups", type=int, default=8, help="groups that are simulated at a time (default 8)")
    parser.add_argument("--groups-a-step", type=int, default=2, help="of them that a step learns from (default 2)")
    parser.add_argument("--volumes", type=int, default=4, help="volumes of a tomogram (default 4)")
    parser.add_argument("--edge", type=int, default=64, help="of a volume, voxels; a multiple of 4 (default 64)")
    parser.add_argument("--places", type=int, default=128, help="particles of a volume, at most (default 128)")
    parser.add_argument("--crowd", type=int, default=2500, help="small proteins of a volume, at most (default 2500)")
    parser.add_argument("--pictures", action="store_true", help="write slices of one batch, OUTPUT/slices.png, and end")
    given = parser.parse_args()
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if given.device == "auto" else given.device)
    sizes = Sizes(groups=given.groups, volumes=given.volumes, edge=given.edge, places=given.places, crowd=given.crowd)
    if given.pictures:
        from bench.pretraining.pictures import show

        given.output.mkdir(parents=True, exist_ok=True)
        show(sizes, given.seed, given.output / "slices.png", device)
        return
    channels = tuple(int(c) for c in given.channels.split(","))
    settings = Settings(channels, given.seed, given.learning_rate, given.groups_a_step, sizes)
    train(given.output, settings, minutes=given.minutes, steps=given.steps, device=device, stop_after=given.stop_after)


if __name__ == "__main__":
    main()
