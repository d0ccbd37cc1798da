"""Can a power loss leave a broken file under its final name?  Let each command lose power at a file-system call, and run it again.

    python -m bench.power [--losses 200 | --every] [--seconds S] [--seed 0] [--only COMMAND ...] [--models forgetful journal] [-o REPORT.json]

1. Run every command once undisturbed, and count its file-system calls.
2. Each trial draws a command, a model of the disk and a call (tests/support/power_loss.py).  After the loss, a `forgetful` disk has only
   the names and contents that were synchronised.  A `journal` has the names of a random earlier moment, and any content in files that were
   not synchronised.
3. Every file that then has its final name must be an old or the new version.  The same command, after a reboot, must exit with 0 and leave,
   byte for byte, the files of the undisturbed run.  `init` may also say that the configuration exists, if it is whole.

To repeat a failure: `--only COMMAND --models MODEL --call N --seed S`.  Needs Linux.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.ground import COMMANDS, LOGS, Ground, Outcome, differing, forked, found_it_there, load_libraries, tree
from bench.kills import EVENTS
from bench.trials import Asked, asked_by, leave, parser_of

MODELS = ("forgetful", "journal")
LOST = 77
READ_ONLY = ("inspect", "status")
GROWING = ("zarr.json", "metrics.csv", "training.json", "ledger.jsonl", ".stats.json")  # have several valid versions during a command


class Power:
    """Simulate a power loss before a file-system call of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model, self.lost_at, self.names_at, self.count, self.seed = "journal", 0, 0, 0, 0
        self._is_busy = False

    def watch(self) -> None:
        """Start counting."""
        from power_loss import ForgetfulDisk, JournalDisk

        trial = self.folder / "trial"
        if not self.lost_at:
            self._disk: Any = None
        elif self.model == "forgetful":
            self._disk = ForgetfulDisk(trial)
        else:
            self._disk = JournalDisk(trial, random.Random(self.seed))
        real = os.fsync

        def fsync(descriptor: int) -> None:
            real(descriptor)
            if self._disk is not None:
                self._is_busy = True
                (self._disk.fsync if self.model == "journal" else self._disk._fsync)(descriptor)
                self._is_busy = False
            self._seen("fsync", ())

        os.fsync = fsync
        sys.addaudithook(self._seen)

    def _seen(self, event: str, _: object) -> None:
        if self._is_busy or event not in (*EVENTS, "fsync"):
            return
        self.count += 1
        if self._disk is None:
            return
        self._is_busy = True
        if self.model == "journal" and self.count == self.names_at:
            self._disk.keep_names()
        if self.count == self.lost_at:
            self._disk.after_loss(self.folder / "after")
            os._exit(LOST)
        self._is_busy = False


def another_boot() -> None:
    """Make this process believe that the machine was rebooted."""
    from tomostream.store import ledger

    ledger._boot = lambda: "another start of the machine"


def lose_once(ground: Ground, power: Power, command: str) -> str | None:
    """Make one trial; return what went wrong, or None."""
    trial, after = ground.copy(), ground.folder / "after"
    shutil.rmtree(after, ignore_errors=True)
    code, _ = forked(COMMANDS[command], trial, ground.log, before=power.watch)
    if code == 0:  # it made fewer calls than the undisturbed run
        return None
    if code != LOST:
        return f"it ended with {code} before the loss: {ground.log.read_text()[-900:]}"
    old, new, found = tree(ground.fresh), ground.expected[command], tree(after)
    wrong = [name for name, content in found.items() if is_final(name) and content not in (old.get(name), new.get(name))]
    if wrong:
        return f"neither old nor new: {', '.join(wrong[:5])}"
    ground.log.write_text("")
    code, _ = forked(COMMANDS[command], after, ground.log, before=another_boot)
    said = ground.log.read_text()
    if code and not found_it_there(command, code, said):
        return f"run again, it ended with {code}: {said[-900:]}"
    wrong = differing({name: data for name, data in tree(after).items() if not name.endswith("ledger.jsonl")}, new)
    return f"other files than undisturbed: {', '.join(wrong[:5])}" if wrong else None


def is_final(name: str) -> bool:
    """Whether a file has its final name, by which it is read."""
    parts = Path(name).parts
    return not (
        name.endswith((*LOGS, *GROWING)) or any(part.startswith(".") or ".partial" in part or ".replaced" in part for part in parts)
    )


def make_trials(folder: Path, asked: Asked) -> Outcome:
    """Make the trials in a folder."""
    load_libraries()
    outcome, power = Outcome(asked.seed), Power(folder)
    ground = Ground(folder, outcome, before=power.watch, count=lambda: power.count)
    draw = random.Random(asked.seed)

    def calls(command: str, _: str) -> int:
        power.lost_at = 0
        ground.prepare(command)
        return outcome.calls[command]

    def trial(command: str, model: str, at: int) -> str | None:
        power.model, power.lost_at = model, at
        power.seed = draw.randrange(2**30)
        power.names_at = random.Random(power.seed).randint(0, at)
        problem = lose_once(ground, power, command)
        return None if problem is None else f"names of call {power.names_at}: {problem}"

    return asked.make(outcome, draw, calls, trial)


def main() -> None:
    """The command line."""
    parser = parser_of(__doc__, number="--losses", trials=200, kinds=MODELS, kinds_option="--models", left_out=READ_ONLY)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="tomostream-power-") as name:
        outcome = make_trials(Path(name).resolve(), asked_by(given))
    leave(outcome, given.output)


if __name__ == "__main__":
    main()
