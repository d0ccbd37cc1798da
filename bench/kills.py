"""Does a kill lose or change anything?  Kill each command (SIGKILL) at random file-system calls, and run it again.

    python -m bench.kills [--kills 300] [--seconds S] [--seed 0] [--only COMMAND ...] [--folder DIR] [-o REPORT.json]

1. Make up a data set; run every command once undisturbed, and count its file-system calls (opens, renames, removals, folders made and
   removed, truncations, locks).
2. Each trial draws a command and one of its calls, forks a process that kills itself just before that call, and then runs the same command
   again, once, undisturbed.
3. It must exit with 0 and leave, byte for byte, the files of the undisturbed run: no temporary files, and none missing.

The report has the seed, and the command and call of every failure.  To repeat one: `--only COMMAND --call N`.  Needs Linux.  Processes are
forked from one that has the libraries loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from bench.ground import COMMANDS, Ground, Outcome, forked, load_libraries

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree", "fcntl.flock")


class Calls:
    """Count the file-system calls of this process, and kill it before one of them."""

    def __init__(self) -> None:
        self.count, self.kill_at = 0, 0

    def watch(self) -> None:
        """Start counting."""
        sys.addaudithook(self._seen)

    def _seen(self, event: str, _: object) -> None:
        if event in EVENTS:
            self.count += 1
            if self.count == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def kill_once(ground: Ground, calls: Calls, command: str, call: int) -> str | None:
    """Kill a command at a call and run it again; return what went wrong, or None."""
    trial = ground.copy()
    calls.kill_at = call
    code, _ = forked(COMMANDS[command], trial, ground.log, before=calls.watch)
    if code not in (-signal.SIGKILL, 0):  # 0: it made fewer calls than the undisturbed run
        return f"it ended with {code} before it was killed: {ground.log.read_text()[-500:]}"
    return ground.rerun(command, trial)


def kill_at_random(
    folder: Path, *, seed: int, kills: int, seconds: float, only: list[str] | None = None, call: int | None = None
) -> Outcome:
    """Make trials until there are `kills` of them, or the time is over."""
    load_libraries()
    outcome, calls = Outcome(seed), Calls()
    ground = Ground(folder, outcome, before=calls.watch, count=lambda: calls.count)
    draw = random.Random(seed)
    deadline = time.monotonic() + seconds
    names = only or list(COMMANDS)
    for number in range(kills):
        if time.monotonic() > deadline:
            break
        command = names[number % len(names)]
        calls.kill_at = 0
        ground.prepare(command)
        at = call or draw.randint(1, outcome.calls[command])
        problem = kill_once(ground, calls, command, at)
        outcome.trials[command] += 1
        if problem is not None:
            outcome.failures.append({"command": command, "call": at, "problem": problem})
            print(f"{command}, killed at call {at} of {outcome.calls[command]}: {problem}", file=sys.stderr, flush=True)
    return outcome


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop then")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=COMMANDS)
    parser.add_argument("--call", type=int, help="the call to be killed at (default: drawn)")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="tomostream-kills-") as folder:
        outcome = kill_at_random(Path(folder), seed=given.seed, kills=given.kills, seconds=given.seconds, only=given.only, call=given.call)
    told = outcome.to_json()
    print(json.dumps(told, indent=1))
    if given.output:
        given.output.write_text(json.dumps(told, indent=1) + "\n")
    sys.exit(1 if outcome.failures else 0)


if __name__ == "__main__":
    main()
