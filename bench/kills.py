"""Does a kill lose or change anything?  Kill each command (SIGKILL) at random file-system calls, and run it again.

    python -m bench.kills [--kills 300] [--seconds S] [--seed 0] [--only COMMAND ...] [--folder DIR] [-o REPORT.json]

1. Make up a data set; run every command once undisturbed, and count its file-system calls (opens, renames, removals, folders made and
   removed, truncations, locks).
2. Each trial draws a command and one of its calls, forks a process that kills itself just before that call, and then runs the same command
   again, once, undisturbed.
3. It must exit with 0 and leave, byte for byte, the files of the undisturbed run: no temporary files, and none missing.  `init` may also say
   that the configuration exists, if it is whole.

The report has the seed, and the command and call of every failure.  To repeat one: `--only COMMAND --call N`.  Needs Linux.  Processes are
forked from one that has the libraries loaded.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
from pathlib import Path

from bench.ground import COMMANDS, Ground, Outcome, forked, load_libraries
from bench.trials import Asked, asked_by, leave, parser_of

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
    return ground.rerun(command, trial, after_signal=True)


def make_trials(folder: Path, asked: Asked) -> Outcome:
    """Make the trials in a folder."""
    load_libraries()
    outcome, watched = Outcome(asked.seed), Calls()
    ground = Ground(folder, outcome, before=watched.watch, count=lambda: watched.count)

    def calls(command: str, _: str) -> int:
        watched.kill_at = 0
        ground.prepare(command)
        return outcome.calls[command]

    return asked.make(outcome, random.Random(asked.seed), calls, lambda command, _, at: kill_once(ground, watched, command, at))


def main() -> None:
    """The command line."""
    given = parser_of(__doc__, number="--kills", trials=300, kinds=("killed",)).parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="tomostream-kills-") as folder:
        outcome = make_trials(Path(folder), asked_by(given))
    leave(outcome, given.output)


if __name__ == "__main__":
    main()
