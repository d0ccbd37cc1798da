"""Is everything right on this GPU?  The tests marked `gpu`, in a process of their own; what they print is part of the result."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from bench.gpu.log import Log

REPOSITORY = Path(__file__).parents[2]


def run(log: Log) -> None:
    left = max(20.0, log.deadline - time.monotonic() - 5)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/gpu",
        "-m",
        "gpu",
        "-rA",
        "-p",
        "no:cacheprovider",
        "--durations=0",
        "--durations-min=1",
    ]
    # the libraries are other versions than ours are tested with: a warning is no failure here
    command += ["-W", "default", f"--timeout={90 if log.device == 'cuda' else 300}", "--basetemp", str(log.scratch / "pytest")]
    environment = os.environ | {
        "TOMOSTREAM_GPU_TESTS": log.device,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
    }
    path = log.out / "tests.txt"
    with path.open("w") as file:
        try:
            subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False, timeout=left)
        except subprocess.TimeoutExpired:
            log("tests", "stopped", note=f"after {left:.0f} s")
    text = path.read_text()
    for outcome, name in re.findall(r"^(PASSED|FAILED|ERROR|SKIPPED) (.*)$", text, re.MULTILINE):
        if outcome != "PASSED":
            log(name[:150], outcome)
    for line in re.findall(
        r"^.*(?:largest difference|same bytes|reserved at the peak|bf16 against|losses|F1|unfinished when|does not fit).*$",
        text,
        re.MULTILINE,
    ):
        print("   ", line.strip()[:230])
    last = text.strip().splitlines()[-1:] or ["no output"]
    log("tests", last[0].strip("= "))
