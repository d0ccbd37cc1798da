"""A soak: random commands over one data set, some of them killed, ended by a signal or without space, in folders that move, beside clocks that jump.

After every step each file with its final name is that of an undisturbed run, and `check` finds each bit that was flipped.  At the end every command
that was tried is run again, and leaves the files of an undisturbed run.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from bench.ground import COMMANDS, Ground, Outcome, differing, forked, tree
from bench.kills import EVENTS
from bench.power import is_final

NAMES = (
    "convert", "convert gz", "stats", "labels", "predict", "predict several", "pick", "suggest", "evaluate", "export", "export parquet", "import", "train several",
    "report",
)  # fmt: skip
FAULTS = ("none", "none", "kill", "interrupt", "terminate", "small files", "clock")
CHECKED = {"convert", "labels", "predict", "pick", "train several"}  # `check` knows the bytes of what these make
LEAST, MOST = 20_000, 120_000  # bytes that a file may have where there is no space; what a command says takes less


def arguments_of(name: str) -> list[str]:
    """Return a command of the trials, with an output folder of its own."""
    own = name.replace(" ", "-")
    given = ["train", "pair.yaml", "-o", "out/several"] if name == "train several" else COMMANDS[name]
    return [f"out/{own}{one[3:]}" if one == "out" or one.startswith("out/") else one for one in given]


class Disturbed:
    """What goes wrong in a process: at the n-th file-system call, or all along."""

    def __init__(self) -> None:
        self.calls = 0

    def watch(self, fault: str, at: int) -> None:
        """Start, in the process that is disturbed."""
        number = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM}.get(fault)
        if fault == "small files":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (LEAST + at * (MOST - LEAST) // 400, resource.RLIM_INFINITY))
        elif fault == "clock":
            draw, real = random.Random(at), time.time
            time.time = lambda: real() + draw.choice((0.0, -86400.0, 3e8))
        elif number is not None:

            def seen(event: str, _: object) -> None:
                is_begun = number == signal.SIGKILL or callable(signal.getsignal(signal.SIGTERM))  # the command has its own handlers
                if event in EVENTS and is_begun:
                    self.calls += 1
                    if self.calls == at:
                        os.kill(os.getpid(), number)

            sys.addaudithook(seen)


class Soak(RuleBasedStateMachine):
    """The machine; `ground`, `expected` and `told` are shared by all of its runs."""

    ground: Ground
    expected: dict[str, dict[str, bytes]]  # files below out, by command
    told: Counter[str]
    until = float("inf")

    @classmethod
    def prepare(cls, folder: Path) -> None:
        """Make the data set, and run every command undisturbed."""
        cls.ground, cls.expected, cls.told = Ground(folder, Outcome(0)), {}, Counter()
        for name in NAMES:
            trial = cls.ground.copy()
            (trial / "out" / name.replace(" ", "-")).mkdir()
            code, _ = forked(arguments_of(name), trial, cls.ground.log)
            assert code == 0, cls.ground.log.read_text()
            cls.expected[name] = tree(trial / "out" / name.replace(" ", "-"))

    @initialize()
    def begin(self) -> None:
        """A fresh data set."""
        self.trial = self.ground.copy()
        self.tried: set[str] = set()
        self.moves = 0

    def _out(self, name: str) -> Path:
        found: Path = self.trial / "out" / name.replace(" ", "-")
        found.mkdir(exist_ok=True)
        return found

    def _is_late(self) -> bool:
        return time.monotonic() > self.until

    @rule(name=st.sampled_from(NAMES), fault=st.sampled_from(FAULTS), at=st.integers(1, 400))
    def do(self, name: str, fault: str, at: int) -> None:
        """Run a command, disturbed or not."""
        if self._is_late():
            return
        out, disturbed = self._out(name), Disturbed()
        self.ground.log.write_text("")
        code, _ = forked(arguments_of(name), self.trial, self.ground.log, before=lambda: disturbed.watch(fault, at))
        said = self.ground.log.read_text()
        self.tried.add(name)
        self.told[f"{fault}, {'ended well' if code == 0 else 'ended otherwise'}"] += 1
        allowed = {"kill": (0, -9), "interrupt": (0, 130), "terminate": (0, 143), "small files": (0, 2, 3)}.get(fault, (0,))
        assert code in allowed, f"{name}, {fault} at {at}: {code}: {said[-900:]}"
        assert "Traceback" not in said, said[-2000:]
        assert "internal fault" not in said, said[-2000:]
        if fault == "small files" and code:
            assert os.strerror(errno.EFBIG) in said or "disk" in said or "can't be" in said, said[-900:]
        found = tree(out)
        if code == 0:
            assert differing(found, self.expected[name]) == [], f"{name}, {fault} at {at}"
        wrong = [file for file, content in found.items() if is_final(file) and content != self.expected[name].get(file)]
        assert wrong == [], f"{name}, {fault} at {at}: {wrong}"

    @precondition(lambda self: bool(self.tried & CHECKED))
    @rule(where=st.integers(0, 10**6), bit=st.integers(0, 7), data=st.data())
    def flip(self, where: int, bit: int, data: st.DataObject) -> None:
        """Flip a bit of a finished store, model or table; `check` finds it; then the byte is put back."""
        names = sorted(name for name in self.tried & CHECKED if tree(self._out(name)).keys() >= self.expected[name].keys())
        if self._is_late() or not names:
            return
        name = data.draw(st.sampled_from(names))
        files = sorted(
            file
            for file, content in self.expected[name].items()
            if content and is_final(file) and not file.endswith(("metrics.csv", "resolved.yaml", "training.json"))
        )
        path = self._out(name) / files[where % len(files)]
        content = bytearray(path.read_bytes())
        content[where % len(content)] ^= 1 << bit
        whole = path.read_bytes()
        path.write_bytes(content)
        self.ground.log.write_text("")
        code, _ = forked(["check", str(self._out(name).relative_to(self.trial))], self.trial, self.ground.log)
        path.write_bytes(whole)
        self.told["flips found"] += 1
        said = self.ground.log.read_text()
        assert code == 2, f"bit {bit} of byte {where % len(content)} of {path} was not found: {said[-500:]}"
        assert "Traceback" not in said, said[-2000:]

    @precondition(lambda self: len(self.tried) > 3 * self.moves)
    @rule()
    def move(self) -> None:
        """Copy all of it elsewhere, and go on there."""
        if self._is_late():
            return
        self.moves += 1
        elsewhere = self.ground.folder / f"moved{self.moves % 2}"
        shutil.rmtree(elsewhere, ignore_errors=True)
        shutil.copytree(self.trial, elsewhere)
        shutil.rmtree(self.trial)
        self.trial = elsewhere
        self.told["moves"] += 1

    def teardown(self) -> None:
        """Run every command that was tried, undisturbed."""
        for name in sorted(getattr(self, "tried", ())):
            self.ground.log.write_text("")
            code, _ = forked(arguments_of(name), self.trial, self.ground.log)
            assert code == 0, f"{name}, at the end: {self.ground.log.read_text()[-900:]}"
            assert differing(tree(self._out(name)), self.expected[name]) == [], f"{name}, at the end"
            self.told["whole at the end"] += 1
