"""Run all measurements and tests that need a GPU, by one command, on a machine that is available for minutes only.

    python -m bench.gpu -o FOLDER --minutes 8
    python -m bench.gpu -o FOLDER --only predict,train
    python -m bench.gpu -o FOLDER --device cpu --small      # to try the command without a GPU: the figures mean nothing

1. Each section is a process of its own with a time limit, the most important first, so that a failure, hang or crash does not affect the others.
2. Results are printed as they come, and appended to FOLDER/results.jsonl; FOLDER/log.txt has all output, FOLDER/tests.txt that of the tests,
   FOLDER/profile.txt and FOLDER/trace-*.json.gz the profiles.
3. Stores are made in a temporary folder, in memory (/dev/shm) if there is room; 12 GB at most.

It uses no network, and does not change the card's settings.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

# name: module, share of the minutes at most
SECTIONS = {
    "facts": ("facts", 0.08),
    "predict": ("predicting", 0.36),
    "tests": ("checks", 0.40),
    "monai": ("rivals", 0.14),
    "profile": ("profiling", 0.12),
    "network": ("network", 0.20),
    "train": ("training", 0.14),
    "rest": ("rest", 0.08),
    "pick": ("picking", 0.12),
}
SHM, SHM_BYTES = Path("/dev/shm"), 20_000_000_000


def scratch_parent() -> Path | None:
    """Return a folder in memory if there is room; else None, for the system's temporary folder."""
    try:
        return SHM if shutil.disk_usage(SHM).free > SHM_BYTES and os.access(SHM, os.W_OK) else None
    except OSError:
        return None


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--minutes", type=float, default=8.0, help="of all sections together")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between; default all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="sizes of seconds on a processor")
    parser.add_argument("--folder", type=Path, help="where stores are made")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    unknown = set(given.only.split(",")) - set(SECTIONS)
    if unknown:
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    return given


def one_section(given: argparse.Namespace) -> None:
    """Run one section in this process."""
    from bench.gpu.log import Log

    log = Log(given.section, given.output, given.folder, given.device, given.small, time.monotonic() + given.seconds)
    module = importlib.import_module(f"bench.gpu.{SECTIONS[given.section][0]}")
    log.attempt(f"section {given.section}", lambda: module.run(log))
    log("seconds", round(given.seconds - (log.deadline - time.monotonic()), 1), "s")


def run_section(name: str, given: argparse.Namespace, folder: Path, seconds: float, log: Path) -> str:
    """Run a section in a process of its own with a time limit; return how it ended."""
    command = [
        sys.executable,
        "-m",
        "bench.gpu",
        "--section",
        name,
        "-o",
        str(given.output),
        "--folder",
        str(folder),
        "--device",
        given.device,
    ]
    command += ["--seconds", str(seconds)] + (["--small"] if given.small else [])
    root = Path(__file__).parents[2]
    environment = os.environ | {
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
    }
    process = subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )

    def end() -> None:
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(seconds + 5, end)  # in case a section hangs; normally it keeps its deadline by itself
    timer.start()
    with log.open("a") as file:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            file.write(line)
            file.flush()
    code = process.wait()
    timer.cancel()
    return "done" if code == 0 else f"ended with {code}"


def main() -> None:
    given = parsed()
    given.output = given.output.resolve()
    given.output.mkdir(parents=True, exist_ok=True)
    if given.section:
        one_section(given)
        return
    log = given.output / "log.txt"
    end = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory(dir=given.folder or scratch_parent(), prefix="tomostream-gpu-") as folder:
        for name in [section for section in SECTIONS if section in given.only.split(",")]:
            seconds = min(60 * given.minutes * SECTIONS[name][1], end - time.monotonic() - 6)
            if seconds < 10:
                print(f"== {name}: left out, no time is left", flush=True)
                continue
            print(f"== {name} ({seconds:.0f} s at most)", flush=True)
            start = time.monotonic()
            outcome = run_section(name, given, Path(folder), seconds, log)
            print(f"== {name}: {outcome}, {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
