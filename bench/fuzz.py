"""Does hostile input give a traceback or a hang?  Files of ours and of others with values, bytes and pieces changed, read as the package reads them.

    python -m bench.fuzz [--cases 100000] [--seconds S] [--seed 0] [--only READER ...] [-o REPORT.json]

The cases of a reader follow from the seed; a failure is printed with the number of its case, and `--only READER --case N` repeats it.
Every kind of failure that is found becomes a test in tests/test_fuzz.py.
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


def main() -> None:
    """The command line."""
    from fuzzing import readers

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000, help="of all readers together")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="READER")
    parser.add_argument("--case", type=int)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    tried: Counter[str] = Counter()
    failures: list[dict[str, object]] = []
    kinds: set[str] = set()
    deadline = time.monotonic() + given.seconds
    with tempfile.TemporaryDirectory(prefix="tomostream-fuzz-") as folder:
        found = readers(Path(folder))
        names = given.only or list(found)
        number = 0
        while sum(tried.values()) < given.cases and time.monotonic() < deadline:
            for name in names:
                case = given.case if given.case is not None else number
                problem = found[name].try_one(random.Random(f"{given.seed} {name} {case}"))
                tried[name] += 1
                if problem is not None:
                    failures.append({"reader": name, "case": case, "problem": problem})
                    kind = f"{name}: {problem.partition(' on b')[0][:160]}"
                    if kind not in kinds:
                        kinds.add(kind)
                        print(f"{name}, case {case}: {problem[:1800]}\n", file=sys.stderr, flush=True)
            if given.case is not None:
                break
            number += 1
    told = {"seed": given.seed, "cases": dict(tried), "failures": failures[:200], "failed": len(failures)}
    print(json.dumps({**told, "failures": len(failures)}, indent=1))
    if given.output:
        given.output.write_text(json.dumps(told, indent=1) + "\n")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
