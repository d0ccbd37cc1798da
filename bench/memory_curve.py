"""Does memory stay flat while the volume grows?  The peaks of `bench.memory` as findings, for ever larger volumes in 1 GB of memory.

    python -m bench.memory_curve --quick | --full

`--full` takes 1, 2, 4 and 8 GB at pyramid level 2; for 16 GB, which needs 50 GB of disk: `python -m bench.memory --full --level 2 --volumes 4GB 16GB`.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from bench.memory import FULL, MOST_GROWTH, QUICK, measure_case, with_growth
from bench.timing import Finding, Size, run_script

LEVEL = 2  # level 0 takes much longer, and no more memory


def measure(size: Size) -> list[Finding]:
    cases = [replace(case, level=LEVEL) for case in FULL if case.name != "fine"] if size.is_full else QUICK
    measured = []
    for case in cases:
        measured += measure_case(case, size.folder / case.name, lambda text: print(f"  {text}", file=sys.stderr, flush=True))
    found = []
    for one in with_growth(measured):
        what, note = (
            f"{one.stage}, {one.volume}: peak / budget of {one.budget / 1e6:.0f} MB",
            f"{one.peak / 1e6:.0f} MB, {one.seconds:.0f} s",
        )
        found.append(Finding("memory", what, one.peak / one.budget, 1.0, is_least=False, note=note))
        if one.growth is not None:
            found.append(
                Finding("memory", f"{one.stage}: peak for {one.volume} / for a quarter of it", one.growth, MOST_GROWTH, is_least=False)
            )
    return found


if __name__ == "__main__":
    run_script(measure, __doc__)
