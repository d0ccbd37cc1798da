"""Compare the speed of contestants, interleaved in one process (A B A B), by the ratio of their times in each round.

The speed of a machine drifts, and others may use it, so times measured minutes apart can't be compared; the ratio of two neighbouring ones
can.

1. Contestants run in turn, round by round.  A contestant is timed as a whole, or returns the seconds that count, if it must prepare
   something first.
2. A figure is the median over the rounds of the ratio of two contestants, with the smallest and the largest ratio.
3. A `Finding` is a figure with its target.  `run_script` writes a script's findings as JSON and as a table.

    python -m bench.SCRIPT --quick | --full [--folder DIR] [--rounds N] [-o FILE.json]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PACKAGES = ("tomostream", "numpy", "scipy", "torch", "zarr", "dask", "monai", "scikit-image", "tensorstore")
Contestants = Mapping[str, Callable[[], object]]
Times = dict[str, list[float]]  # seconds of each contestant, one per round


@dataclass(frozen=True, slots=True)
class Size:
    """Size of a benchmark, and where it may write."""

    is_full: bool
    folder: Path
    rounds: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure.

    Parameters
    ----------
    question
        The script.
    what
        What is measured, with its sizes.
    value
        The figure; a ratio unless `unit` says otherwise.
    target
        Bound that the figure should meet; None: the figure is only reported.
    is_least
        Whether the target is a lower bound; else an upper one.
    low, high
        Smallest and largest figure of the rounds.
    times
        Seconds of the contestants, one per round.
    note
        Further remarks for the reader.
    """

    question: str
    what: str
    value: float
    target: float | None = None
    is_least: bool = True
    unit: str = "x"
    low: float | None = None
    high: float | None = None
    times: Times = field(default_factory=dict)
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        if self.target is None:
            return None
        return self.value >= self.target if self.is_least else self.value <= self.target


def interleaved(contestants: Contestants, rounds: int) -> Times:
    """Run all contestants, round by round.

    Parameters
    ----------
    contestants
        By name; each is timed, unless it returns its seconds as a float.
    rounds
        Number of rounds.
    """
    times: Times = {name: [] for name in contestants}
    for number in range(rounds):
        for name, work in contestants.items():
            start = time.perf_counter()
            told = work()
            elapsed = time.perf_counter() - start
            times[name].append(told if isinstance(told, float) else elapsed)
            print(f"  round {number + 1}: {name} {times[name][-1]:.4g} s", file=sys.stderr, flush=True)
    return times


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compared(
    question: str,
    what: str,
    times: Times,
    numerator: str | Iterable[str],
    denominator: str | Iterable[str],
    *,
    target: float | None = None,
    is_least: bool = True,
    factor: float = 1.0,
    note: str = "",
) -> Finding:
    """Return the ratio of the times of two contestants, or of sums of several: the median over the rounds, times `factor`."""
    above, below = (
        ([numerator] if isinstance(numerator, str) else list(numerator)),
        ([denominator] if isinstance(denominator, str) else list(denominator)),
    )
    ratios = [factor * sum(times[name][i] for name in above) / sum(times[name][i] for name in below) for i in range(len(times[above[0]]))]
    used = {name: times[name] for name in (*above, *below)}
    return Finding(question, what, statistics.median(ratios), target, is_least, "x", min(ratios), max(ratios), used, note)


def high_water_bytes() -> int:
    """Return the largest resident memory of this process so far, in bytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def machine() -> dict[str, Any]:
    """Return the machine, library versions and commit with which figures are measured."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "missing"
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or None
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    here = {
        "system": platform.platform(),
        "processor": processor,
        "cores": os.cpu_count(),
        "load": load,
        "python": platform.python_version(),
    }
    return {**here, "versions": versions, "commit": commit, "when": time.strftime("%Y-%m-%d %H:%M")}


def table_of(findings: Iterable[Finding], *, is_judged: bool) -> str:
    """Return the figures as Markdown; those of small sizes are not compared with the targets."""
    rows = ["| question | what | target | figure | spread | met |", "|---|---|---|---|---|---|"]
    for one in findings:
        target = "" if one.target is None else f"{'>=' if one.is_least else '<='} {one.target:g}"
        spread = "" if one.low is None or one.high is None else f"{one.low:.3g} to {one.high:.3g}"
        met = {None: "", True: "yes", False: "**no**"}[one.is_met if is_judged else None]
        what = f"{one.what} ({one.note})" if one.note else one.what
        rows.append(f"| {one.question} | {what} | {target} | {one.value:.3g} {one.unit} | {spread} | {met} |")
    return "\n".join(rows)


def write_json(path: Path, findings: Iterable[Finding], size: str) -> None:
    """Write the figures, with the machine that they come from."""
    values = [asdict(one) | {"is_met": one.is_met} for one in findings]
    path.write_text(json.dumps({"size": size, "machine": machine(), "findings": values}, indent=1) + "\n")


def read_json(path: Path) -> tuple[str, dict[str, Any], list[Finding]]:
    """Return the size, machine and figures that `write_json` wrote."""
    content = json.loads(path.read_text())
    findings = [Finding(**{name: value for name, value in one.items() if name != "is_met"}) for one in content["findings"]]
    return content["size"], content["machine"], findings


def check_options(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Check rounds and folders before anything is measured."""
    if given.rounds is not None and given.rounds < 1:
        parser.error(f"--rounds must be at least 1, found {given.rounds}")
    if given.folder is not None:
        make_folder(parser, "--folder", given.folder)


def make_folder(parser: argparse.ArgumentParser, option: str, folder: Path) -> None:
    """Make the folder that an option names, if it does not exist."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"{option}: {folder} can't be made: {error.strerror}")


def run_script(measure: Callable[[Size], list[Finding]], description: str | None) -> None:
    """Run one script from the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--quick", action="store_true", help="a small size: seconds; the figures say little")
    size.add_argument("--full", action="store_true", help="the size that the targets are for: minutes")
    parser.add_argument("--folder", type=Path, help="where volumes are made (default: the system's temporary folder)")
    parser.add_argument("--rounds", type=int, help="how often competitors take turns (default 1 of --quick, 3 of --full)")
    parser.add_argument("-o", "--output", type=Path, help="JSON file for the figures")
    given = parser.parse_args()
    check_options(parser, given)
    if given.output:
        make_folder(parser, "--output", given.output.parent)
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="tomostream-bench-") as folder:
        findings = measure(Size(given.full, Path(folder), given.rounds or (3 if given.full else 1)))
    print(table_of(findings, is_judged=given.full))
    if given.output:
        write_json(given.output, findings, "full" if given.full else "quick")
