"""Can a power loss leave a broken file under its final name?  Let each command lose power at a file-system call, and run it again.

    python -m bench.power [--losses 200 | --every] [--seconds S] [--seed 0] [--only COMMAND ...] [--models forgetful journal] [-o REPORT.json]

1. Run every command once undisturbed, and count its file-system calls.
2. Each trial draws a command, a model of the disk and a call (tests/support/power_loss.py).  After the loss, a `forgetful` disk has only
   the names and contents that were synchronised.  A `journal` has the names of a random earlier moment, and any content in files that were
   not synchronised.
3. Every file that then has its final name must be an old or the new version.  The same command, after a reboot, must exit with 0 and leave,
   byte for byte, the files of the undisturbed run.

To repeat a failure: `--only COMMAND --models MODEL --call N --seed S`.  Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.ground import COMMANDS, LOGS, Ground, Outcome, differing, forked, load_libraries, tree
from bench.kills import EVENTS

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
    if code:
        return f"run again, it ended with {code}: {ground.log.read_text()[-900:]}"
    wrong = differing({name: data for name, data in tree(after).items() if not name.endswith("ledger.jsonl")}, new)
    return f"other files than undisturbed: {', '.join(wrong[:5])}" if wrong else None


def is_final(name: str) -> bool:
    """Whether a file has its final name, by which it is read."""
    parts = Path(name).parts
    return not (
        name.endswith((*LOGS, *GROWING)) or any(part.startswith(".") or ".partial" in part or ".replaced" in part for part in parts)
    )


def lose_at_random(
    folder: Path, *, seed: int, losses: int, seconds: float, names: list[str], models: list[str], call: int | None, every: bool
) -> Outcome:
    """Make trials until there are `losses` of them, or the time is over."""
    load_libraries()
    outcome, power = Outcome(seed), Power(folder)
    ground = Ground(folder, outcome, before=power.watch, count=lambda: power.count)
    draw = random.Random(seed)
    deadline = time.monotonic() + seconds

    def drawn() -> Iterator[tuple[str, str, int]]:
        for number in range(sys.maxsize if every else losses):
            if every and number == len(names):
                return
            command = names[number % len(names)]
            power.lost_at = 0
            ground.prepare(command)
            most = outcome.calls[command]
            if every:
                yield from ((command, model, at) for at in range(1, most + 1) for model in models)
            else:
                yield command, draw.choice(models), call or draw.randint(1, most)

    for command, model, at in drawn():
        if time.monotonic() > deadline:
            break
        power.model, power.lost_at = model, at
        power.seed = draw.randrange(2**30)
        power.names_at = random.Random(power.seed).randint(0, at)
        problem = lose_once(ground, power, command)
        outcome.trials[f"{command}, {model}"] += 1
        if problem is not None:
            outcome.failures.append({"command": command, "model": model, "call": at, "names": power.names_at, "problem": problem})
            print(f"{command}, {model}, lost at call {at}, names of {power.names_at}: {problem}\n", file=sys.stderr, flush=True)
    return outcome


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", type=int, default=200)
    parser.add_argument("--every", action="store_true", help="every call, on every model, in turn")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop then")
    parser.add_argument("--seed", type=int, default=0)
    writers = [name for name in COMMANDS if name not in READ_ONLY]
    parser.add_argument("--only", nargs="+", choices=writers, default=writers, metavar="COMMAND")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--call", type=int, help="the call before which power is lost (default: drawn)")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="tomostream-power-") as name:
        outcome = lose_at_random(
            Path(name).resolve(), seed=given.seed, losses=given.losses, seconds=given.seconds, names=given.only, models=given.models,
            call=given.call, every=given.every,
        )  # fmt: skip
    print(json.dumps(outcome.to_json(), indent=1))
    if given.output:
        given.output.write_text(json.dumps(outcome.to_json(), indent=1) + "\n")
    sys.exit(1 if outcome.failures else 0)


if __name__ == "__main__":
    main()
