"""Compare real runs of `predict` with one and two local workers with the model's forecast.

A random tomogram in 16 shards is scored by one worker with one thread (`bench.processes`).  The seconds per shard, and the client's
processor time, are the costs of the model, which forecasts the seconds per shard with two workers; then two are run.  On a busy machine
both take longer, so the runs are in turn, and their ratio counts.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench.processes import make, seconds
from bench.scale.model import Costs, Site, simulate

SHARDS, EDGE, CHANNELS = 16, 1024, (8, 16, 32)


def check(rounds: int) -> None:
    """Print the real and the forecast seconds per shard."""
    print("| round | one worker | two workers | forecast of two | real / forecast |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, EDGE, CHANNELS)
        for number in range(rounds):
            before = time.process_time()
            one = seconds(folder, 1)
            client = (time.process_time() - before) / SHARDS
            two = seconds(folder, 2)
            costs = Costs(
                score_second=one, shard_read=0, shard_written=0, prepare=0, examine=0, note=client, finish=0, pick=0, pass_on=0.005, start=0
            )  # fmt: skip
            site = replace(Site(workers=1, storage=1e12, link=1e12), workers=2)
            found = simulate(costs, site, tomograms=1, shards=SHARDS)
            forecast = (found.seconds - found.first_shard) / SHARDS
            print(f"| {number + 1} | {one:.2f} s | {two:.2f} s | {forecast:.2f} s | {two / forecast:.2f} |", flush=True)
            print(f"client: {1000 * client:.0f} ms of its processor a shard, start and end of the run included", flush=True)
