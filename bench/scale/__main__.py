"""What limits a run of 20,000 tomograms of 4 GB on 10, 100 and 1000 workers, and which change helps?

    python -m bench.scale                    # the table of docs/scale.md
    python -m bench.scale --check            # real runs of `predict` on 1 and 2 local workers beside the model's forecast (some minutes)

The check measures costs with one worker, forecasts two workers from them, and runs two.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from bench.scale.model import Costs, Outcome, Site, bounds, simulate

TOMOGRAMS = 20_000
SHARDS = 8  # of 500 x 500 x 500 voxels: 1000 x 1000 x 1000 in float32 are 4 GB
# docs/performance.md: 22 Mvox/s on two cores (default model, level 1); a worker has four. The client's costs: `--check`, and its section on tiny tomograms
COSTS = Costs(
    score_second=125e6 / 44e6,
    shard_read=4 * 125e6 / 8 * 1.25,
    shard_written=4 * 125e6,
    prepare=10.0,
    examine=0.015,
    note=0.0015,
    finish=0.02,
    pick=25.0,
    pass_on=0.005,
    start=15.0,
)
CANDIDATES = 0.12  # share of a shard's scores that is written with `keep: candidates`, temporary and final
REDUCE = 130.0  # seconds that a worker needs to find the candidates of a tomogram
SITE = Site(workers=10, storage=10e9, link=1e9, mean_to_kill=24 * 3600.0)
CHANGES: dict[str, dict[str, bool]] = {
    "the client picks all (before)": {"picks_on_workers": False},
    "workers pick the rest (now)": {},
    "and shards are sent while others are prepared": {"is_overlapped": True},
}


def hours(seconds: float) -> str:
    """Return seconds as text for a table."""
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:.1f} d"


def told(outcome: Outcome, site: Site) -> str:
    """Return how busy each part was, as text."""
    servers = {"workers": site.workers, "storage": max(1, round(site.storage / site.link))}
    return ", ".join(f"{part} {100 * outcome.share(part, servers.get(part, 1)):.0f} %" for part in outcome.busy if part != "picking")


def forecast(tomograms: int) -> None:
    """Print the table, scaled to 20,000 tomograms if fewer are simulated."""
    times = TOMOGRAMS / tomograms
    print("| workers | change | time | first shard | busy | least possible |\n|---|---|---|---|---|---|")
    for workers in (10, 100, 1000):
        cases: list[tuple[str, Costs, Site, dict[str, bool]]] = [
            (name, COSTS, replace(SITE, workers=workers), change) for name, change in CHANGES.items()
        ]
        lean = replace(COSTS, shard_written=CANDIDATES * COSTS.shard_written, pick=COSTS.pick + REDUCE)
        cases.append(("now, with `keep: candidates`", lean, cases[0][2], {}))
        for name, costs, site, change in cases:
            found = simulate(costs, site, tomograms=tomograms, shards=SHARDS, **change)
            limit, seconds = max(bounds(costs, site, tomograms=TOMOGRAMS, shards=SHARDS), key=lambda pair: pair[1])
            print(
                f"| {workers} | {name} | {hours(times * found.seconds)} | {hours(times * found.first_shard)} | {told(found, site)} | {limit} {hours(seconds)} |",
                flush=True,
            )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="real runs beside the forecast")
    parser.add_argument("--tomograms", type=int, default=TOMOGRAMS, help="so many are simulated; times are scaled")
    parser.add_argument("--rounds", type=int, default=1, help="of the check")
    given = parser.parse_args()
    if given.check:
        from bench.scale.check import check

        check(given.rounds)
    else:
        forecast(given.tomograms)


if __name__ == "__main__":
    main()
