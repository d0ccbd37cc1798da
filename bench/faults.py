"""What does a command do when the disk or the memory fails, or when a user interrupts it?

    python -m bench.faults [--faults 300 | --every] [--seconds S] [--seed 0] [--only COMMAND ...] [--kinds KIND ...] [-o REPORT.json]

1. Run every command once undisturbed, under a preloaded library (tests/support/faulty_disk.c, built here by `cc`) that counts its calls
   on files below the folder of the data set, whatever library makes them.
2. Each trial draws a command, a kind and a call:
   - `full`: this and all later calls that change something fail with ENOSPC (a write takes half of its bytes first);
   - `broken`: this one call that changes something fails with EIO;
   - `unreadable`: this one call that reads fails with EIO;
   - `interrupt`, `terminate`: a signal comes before this call;
   - `memory`: the process may take only a few MB (0 to 63) more than at its start.
3. The command must exit with 0, 2 or 3 (after a signal: 130 or 143, or 0 near its end), with exactly one message if it is not 0, and no
   traceback or internal fault.  If it is 0, its results must be the undisturbed ones.  Run again undisturbed, it must exit with 0 and leave,
   byte for byte, the files of an undisturbed run.  After a signal `init` may also say that the configuration exists, if it is whole.

To repeat a failure: `--only COMMAND --kinds KIND --call N`.  Needs Linux and a C compiler.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.ground import COMMANDS, REPOSITORY, Ground, Outcome, differing, forked, load_libraries, tree
from bench.trials import Asked, asked_by, leave, parser_of

SOURCE = REPOSITORY / "tests" / "support" / "faulty_disk.c"
CHANGES, READS = 1, 2


@dataclass(frozen=True)
class Kind:
    """A kind of failure: which calls fail, with which error, once or from then on; or which signal comes."""

    calls: int = CHANGES
    error: int = 0
    stays: bool = False
    signal: int = 0


KINDS = {
    "full": Kind(error=errno.ENOSPC, stays=True), "broken": Kind(error=errno.EIO), "unreadable": Kind(READS, errno.EIO),
    "interrupt": Kind(CHANGES | READS, signal=signal.SIGINT), "terminate": Kind(CHANGES | READS, signal=signal.SIGTERM), "memory": Kind(),
}  # fmt: skip
MOST_MEGABYTES = 64
LATER_TIDIED = (".tmp", ".decompressed", "ledger.jsonl")  # these may stay until the next run if their removal failed
LIBRARY_VARIABLE = "LD_PRELOAD"


def build_library(folder: Path) -> Path:
    """Compile the preloaded library."""
    library = folder / "faulty_disk.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl", "-lpthread"], check=True)
    return library


class FaultyDisk:
    """The preloaded library, in this process."""

    def __init__(self, folder: Path) -> None:
        self._library = ctypes.CDLL(None)
        self._library.faulty_disk_count.restype = ctypes.c_long
        self._library.faulty_disk_call.restype = ctypes.c_char_p
        self.folder, self.kind, self.call = folder, "full", 0

    def arm(self) -> None:
        """Start to count and fail calls, in this process."""
        kind = KINDS[self.kind]
        if self.kind == "memory":
            if self.call:
                limit_memory_to(self.call - 1)
            return
        self._library.faulty_disk_arm(
            os.fsencode(self.folder), kind.calls, ctypes.c_long(self.call), kind.error, int(kind.stays), int(kind.signal)
        )

    def count(self) -> int:
        """Return the number of calls so far."""
        return MOST_MEGABYTES if self.kind == "memory" else int(self._library.faulty_disk_count())

    def failed(self) -> str:
        """Return the first call that failed."""
        told: bytes = self._library.faulty_disk_call()
        return os.fsdecode(told)


def limit_memory_to(megabytes: int) -> None:
    """Limit this process to `megabytes` more memory than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + megabytes * 2**20,) * 2)


def problem_of(code: int, said: str, kind: str, command: str) -> str | None:
    """Return what is wrong with the exit code and messages of a command; None if nothing is."""
    number = KINDS[kind].signal
    allowed = (0, 128 + number) if number else (0, 2, 3)
    if code not in allowed:
        return f"it ended with {code}"
    if "Traceback" in said or "internal fault" in said or "Error ignored" in said:
        return "it printed a traceback"
    messages = said.count("tomostream: error: ")
    # a line of a second signal handler, or of `check` on standard output, does not count as a second message
    if code and messages != 1 and not (command == "check" and code == 2):
        return f"{messages} messages"
    return None


def fail_once(ground: Ground, disk: FaultyDisk, command: str) -> str | None:
    """Make one trial; return what went wrong, or None."""
    trial = ground.copy()
    code, call = forked(COMMANDS[command], trial, ground.log, before=disk.arm, told=disk.failed)
    said = ground.log.read_text()
    problem = problem_of(code, said, disk.kind, command)
    left_out = command == "init" and "is left out" in said  # `init` wrote a configuration without the file that failed, and said so
    if problem is None and code == 0 and not left_out:
        wrong = [name for name in differing(tree(trial), ground.expected[command]) if not name.endswith(LATER_TIDIED)]
        problem = f"it ended with 0 and left other files: {', '.join(wrong[:5])}" if wrong else None
    if problem is None and not (code == 0 and left_out):
        problem = ground.rerun(command, trial, after_signal=bool(KINDS[disk.kind].signal))
    return None if problem is None else f"{call}: {problem}: {said[-1500:]}"


def make_trials(folder: Path, asked: Asked) -> Outcome:
    """Make the trials in a folder."""
    load_libraries()
    outcome, disk = Outcome(asked.seed), FaultyDisk(folder / "trial")
    ground = Ground(folder, Outcome(asked.seed), before=disk.arm, count=disk.count)

    def calls(command: str, kind: str) -> int:
        key = f"{command}, {'memory' if kind == 'memory' else KINDS[kind].calls}"
        if key not in outcome.calls:
            disk.kind, disk.call = kind, 0
            ground.expected.pop(command, None)
            ground.prepare(command)
            outcome.calls[key] = ground.outcome.calls[command]
        return outcome.calls[key]

    def trial(command: str, kind: str, at: int) -> str | None:
        disk.kind, disk.call = kind, at
        return fail_once(ground, disk, command)

    return asked.make(outcome, random.Random(asked.seed), calls, trial)


def main() -> None:
    """The command line."""
    given = parser_of(__doc__, number="--faults", trials=300, kinds=list(KINDS)).parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="tomostream-faults-") as name:
        folder = Path(name).resolve()
        if "faulty_disk" not in os.environ.get(LIBRARY_VARIABLE, ""):  # libraries are preloaded only when a program starts
            environment = os.environ | {LIBRARY_VARIABLE: str(build_library(folder))}
            sys.exit(subprocess.run([sys.executable, "-m", "bench.faults", *sys.argv[1:]], env=environment, check=False).returncode)
        outcome = make_trials(folder, asked_by(given))
    leave(outcome, given.output)


if __name__ == "__main__":
    main()
