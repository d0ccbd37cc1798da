"""Fuzzing that is guided by coverage (atheris): inputs that reach new branches of a reader are kept, and changed further.

    pip install atheris          (Linux; its licence is Apache 2.0.  It is no dependency: nothing else needs it)
    python -m bench.fuzz_guided READER --seconds 300 [--seed 16] [--corpus FOLDER] [--folder DIR]

READER is the name of one reader of tests/support/fuzzing.py (or the beginning of one; `--list` prints them).  The corpus begins with the file as it is written, and
with changed ones of `bench.fuzz`.  The exit code is 1 if a case ended in a traceback or a hang: its content is printed, and becomes a test.  All cases of a
process share their files, so one process a reader.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "support"))
PACKAGES = ("tomostream",)
SEEDS = 200


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", nargs="?", default="")
    parser.add_argument("--list", action="store_true", help="print the names of the readers")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--corpus", type=Path, help="kept there (default: forgotten)")
    parser.add_argument("--folder", type=Path, help="for the files; a disk in memory is fastest")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    import atheris  # type: ignore[import-not-found]  # not among the dependencies

    with atheris.instrument_imports(include=list(PACKAGES)):
        from fuzzing import limit_memory, readers

        import tomostream.config.loading
        import tomostream.formats.registry
        import tomostream.store.preflight
        import tomostream.strategies.loading
        import tomostream.tomogram  # noqa: F401  (all are imported here so that their branches are counted)

        folder = tempfile.mkdtemp(dir=given.folder, prefix="tomostream-guided-")  # libFuzzer ends the process itself, so this stays
        found = readers(Path(folder))
        names = [name for name in found if name.startswith(given.reader)]
        if given.reader and names:
            found[names[0]].try_content(found[names[0]].original)  # what is imported by the first use
    if given.list or not given.reader or not names:
        print("\n".join(found))
        return
    reader = found[names[0]]
    corpus = given.corpus or Path(folder) / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "as-written").write_bytes(reader.original)
    for number in range(SEEDS):
        content = reader.mutated(reader.original, random.Random(f"{given.seed} {reader.name} {number}"))
        if len(content) < 2**16:
            (corpus / f"changed-{number}").write_bytes(content)
    limit_memory(6)
    count, start = 0, time.monotonic()

    def one(content: bytes) -> None:
        nonlocal count
        count += 1
        problem = reader.try_content(content)
        if problem is not None:
            sys.stderr.write(f"{reader.name}, after {count} cases: {problem}\n")
            sys.stderr.flush()
            os._exit(1)
        if time.monotonic() - start > given.seconds:
            print(
                f"{reader.name}: seed {given.seed}, {count} cases, {len(list(corpus.iterdir()))} inputs in the corpus, no failure",
                flush=True,
            )
            os._exit(0)

    atheris.Setup([sys.argv[0], f"-seed={given.seed}", "-max_len=65536", "-rss_limit_mb=6000", "-timeout=300", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
