"""Run the tests marked `gpu` in a process of their own; their printed lines are part of the result."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.gpu.log import Log

REPOSITORY = Path(__file__).parents[2]


def run(log: Log) -> None:
    left = max(20.0, log.deadline - time.monotonic() - 15)
    files = sorted((str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "tests" / "gpu").glob("test_*.py")), reverse=True)
    command = [sys.executable, "-m", "pytest", *files, "-m", "gpu", "-v", "-rA", "--tb=short", "-p", "no:cacheprovider"]
    # the libraries may have other versions than in our CI, so warnings are not failures here
    command += ["-W", "default", "--durations=0", "--durations-min=1", "--basetemp", str(log.scratch / "pytest")]
    if importlib.util.find_spec("pytest_timeout") is not None:
        command += [f"--timeout={90 if log.device == 'cuda' else 300}"]
    search = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"TOMOSTREAM_GPU_TESTS": log.device, "PYTHONPATH": search}
    path = log.out / "tests.txt"
    with path.open("w") as file:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            process.wait(left)
        except subprocess.TimeoutExpired:
            log("tests", "stopped", note=f"after {left:.0f} s")
            process.send_signal(signal.SIGINT)  # makes pytest print the results so far
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
    text = path.read_text()
    reasons = dict(re.findall(r"^(?:FAILED|ERROR) (\S+) - (.*)$", text, re.MULTILINE))
    for name, outcome in re.findall(r"^(tests/\S+) (PASSED|FAILED|ERROR|SKIPPED)", text, re.MULTILINE):
        if outcome == "PASSED":
            print("   ", name, outcome)
        else:
            log(name, outcome, note=reasons.get(name, "")[:300])
    for line in re.findall(
        r"^.*(?:largest difference|same bytes|reserved at the peak|bf16 against|losses|F1|unfinished when|does not fit).*$",
        text,
        re.MULTILINE,
    ):
        print("   ", line.strip()[:230])
    last = text.strip().splitlines()[-1:] or ["no output"]
    log("tests", last[0].strip("= "))
