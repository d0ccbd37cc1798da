"""Does anything go wrong in a long time of random commands with faults?  Run the machine of tests/support/soak_machine.py until the time is over.

    python -m bench.soak [--seconds 3600] [--seed 0] [--folder DIR]

The undisturbed results are made first.  Prints the seeds and what was done; the first failure ends it, with the steps that lead there.  To repeat one: `--seed` of the run that failed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from bench.ground import REPOSITORY, load_libraries

sys.path.insert(0, str(REPOSITORY / "tests" / "support"))
STEPS = 12  # commands on one data set


def soak(folder: Path, seconds: float, seed: int) -> dict[str, object]:
    """Run the machine with one seed after the other; return what was done.

    Raises
    ------
    AssertionError
        If anything was not as it should be.
    """
    from hypothesis import HealthCheck, Phase, settings
    from hypothesis import seed as seeded
    from hypothesis.stateful import run_state_machine_as_test
    from soak_machine import Soak

    load_libraries()
    Soak.prepare(folder)
    start = time.monotonic()
    Soak.until = start + seconds
    chosen = settings(
        max_examples=5,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=(Phase.generate,),  # a failure is told as it came: to make it smaller takes longer than to look at it
        suppress_health_check=list(HealthCheck),
    )
    draw, seeds = random.Random(seed), []
    while time.monotonic() < Soak.until:
        seeds.append(draw.randrange(2**31))
        print(f"seed {seed}, run {len(seeds)}: {seeds[-1]}; so far {dict(Soak.told)}", file=sys.stderr, flush=True)
        run_state_machine_as_test(seeded(seeds[-1])(Soak), settings=chosen)
    return {"seed": seed, "runs": len(seeds), "seconds": round(time.monotonic() - start), "done": dict(Soak.told)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="tomostream-soak-") as folder:
        print(json.dumps(soak(Path(folder), given.seconds, given.seed), indent=1))


if __name__ == "__main__":
    main()
