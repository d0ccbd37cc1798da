"""Can hostile input cause a traceback or a hang?  Change values, bytes and pieces of files, our own and others', and read them.

    python -m bench.fuzz [--cases 1000] [--seconds S] [--first 0] [--seed 0] [--only READER ...] [-o REPORT.json]

The seed decides the cases of a reader; `--first` goes on after those of an earlier run.  All run in one process, a reader after the other, each for at most
S seconds of the processor's time.  A failure is printed with the number of its case, and `--only READER --case N` repeats it.  A case
may take 10 s and 6 GB.  Each kind of failure that is found becomes a test in tests/test_fuzz.py.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "support"))


def _write(output: Path, seed: int, tried: Counter[str], failures: list[dict[str, object]]) -> None:
    told = {"seed": seed, "cases": dict(tried), "failed": len(failures), "failures": failures[:200]}
    output.write_text(json.dumps(told, indent=1) + "\n")


def main() -> None:
    """The command line."""
    from fuzzing import limit_memory, read_zarr_in_this_thread, readers

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="of each reader")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of processor time, for each reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="READER", help="those whose names begin so")
    parser.add_argument("--folder", type=Path, help="for the files; a disk in memory is fastest")
    parser.add_argument("--case", type=int)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    limit_memory(6)
    tried: Counter[str] = Counter()
    failures: list[dict[str, object]] = []
    kinds: set[str] = set()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="tomostream-fuzz-") as folder:
        found = readers(Path(folder))
        read_zarr_in_this_thread()
        names = [name for name in found if given.only is None or name.startswith(tuple(given.only))]
        for name in names:
            numbers = range(given.first, given.first + given.cases) if given.case is None else (given.case,)
            start = time.process_time()
            for case in numbers:
                problem = found[name].try_one(random.Random(f"{given.seed} {name} {case}"))
                tried[name] += 1
                if problem is not None:
                    failures.append({"reader": name, "case": case, "problem": problem})
                    kind = f"{name}: {problem.partition('on b')[0][:600]}"
                    if kind not in kinds:
                        kinds.add(kind)
                        print(f"{name}, case {case}: {problem[:1800]}\n", file=sys.stderr, flush=True)
                if time.process_time() - start > given.seconds:
                    break
            if given.output:
                _write(given.output, given.seed, tried, failures)
    print(json.dumps({"seed": given.seed, "cases": dict(tried), "failed": len(failures)}, indent=1))
    if given.output:
        _write(given.output, given.seed, tried, failures)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
