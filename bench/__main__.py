"""Run all benchmarks in turn, each in a process of its own; write their figures as a table and as JSON.

    python -m bench --quick                      # under a minute; the figures say little
    python -m bench --full -o FOLDER             # half an hour on two idle cores, 25 GB of disk
    python -m bench --full -o FOLDER --only pick # parts, at other times: FOLDER keeps a JSON file for each question,
    python -m bench --table FOLDER               # and the table is of all that are there

FOLDER/table.md has the table and the machine, FOLDER/QUESTION.json the times of every round.  Each script can be run alone (README.md).
`--quick` leaves out the scripts that start many processes (processes, memory), unless `--only` names them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.timing import Finding, check_options, make_folder, read_json, table_of

SCRIPTS = {
    "convert": "converting",
    "stats": "moments",
    "labels": "labelling",
    "checksums": "checksums",
    "crops": "crops",
    "predict": "predicting",
    "pick": "picking_speed",
    "processes": "processes",
    "memory": "memory_curve",
}
NOT_QUICK = ("processes", "memory")


def run(question: str, given: argparse.Namespace, out: Path) -> bool:
    """Run one script; return whether it succeeded."""
    size = "--full" if given.full else "--quick"
    command = [sys.executable, "-m", f"bench.{SCRIPTS[question]}", size, "-o", str(out / f"{question}.json")]
    command += ["--folder", str(given.folder)] if given.folder else []
    command += ["--rounds", str(given.rounds)] if given.rounds else []
    print(f"{question} ...", file=sys.stderr, flush=True)
    (out / f"{question}.json").unlink(missing_ok=True)  # if this run fails, the table must not show the figures of an earlier one
    root = Path(__file__).resolve().parent.parent
    paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": paths}).returncode == 0


def report(out: Path) -> str:
    """Return the table of all figures in a folder."""
    findings: list[Finding] = []
    machines: list[str] = []
    sizes: set[str] = set()
    for question in SCRIPTS:
        path = out / f"{question}.json"
        if not path.exists():
            continue
        size, machine, found = read_json(path)
        findings += found
        sizes.add(size)
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        line = f"{machine['processor']}, {machine['cores']} cores; {machine['system']}, Python {machine['python']}, {versions}; commit {machine['commit']}"
        machines.append(f"- {question} ({size}), {machine['when']}, load {machine['load']:.1f} at its end: {line}")
    return "\n".join([table_of(findings, is_judged=sizes == {"full"}), "", *machines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--quick", action="store_true", help="small sizes")
    what.add_argument("--full", action="store_true", help="the sizes that the targets are for")
    what.add_argument("--table", type=Path, metavar="FOLDER", help="only print the table of a folder")
    parser.add_argument("--only", nargs="+", choices=list(SCRIPTS), help="only these questions")
    parser.add_argument("--folder", type=Path, help="where volumes are made (default: the system's temporary folder)")
    parser.add_argument("--rounds", type=int, help="how often competitors take turns (default 1 of --quick, 3 of --full)")
    parser.add_argument("-o", "--output", type=Path, help="folder for table and JSON (default: none are kept)")
    given = parser.parse_args()
    if given.table:
        if not any((given.table / f"{question}.json").is_file() for question in SCRIPTS):
            parser.error(f"--table: {given.table} has no results; make some with -o {given.table}")
        try:
            print(report(given.table))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            parser.error(f"--table: {given.table} holds a file that no benchmark wrote ({error})")
        return 0
    check_options(parser, given)
    with tempfile.TemporaryDirectory() as temporary:
        out = given.output or Path(temporary)
        make_folder(parser, "--output", out)
        questions = given.only or [name for name in SCRIPTS if given.full or name not in NOT_QUICK]
        failed = [question for question in questions if not run(question, given, out)]
        table = report(out)
        (out / "table.md").write_text(table)
        print(table)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
