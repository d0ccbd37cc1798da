"""Does any command that is killed lose or change something?  Each is killed (SIGKILL) at file-system calls drawn at random, and run again.

    python -m bench.kills [--kills 300] [--seconds S] [--seed 0] [--only COMMAND ...] [--folder DIR] [-o REPORT.json]

1. A made-up data set; every command once undisturbed, counting its file-system calls (opens, renames, removals, folders made and removed, truncations, locks).
2. Each trial draws a command and one of its calls, forks a process that kills itself just before that call, and then runs the same command
   again, once, to its end.
3. That must exit with 0 and leave, byte for byte, the files of the undisturbed run: no more (nothing temporary), no less.

The seed and every failure's command and call are in the report, so that a failure can be repeated: `--only COMMAND --call N`.
Linux.  Processes are forked from one that has the libraries loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "support"))

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree", "fcntl.flock")
LOGS = ("log.jsonl", "report.html", "checkpoint.pt", ".lock", "resolved.yaml")  # may hold times, or paths
CONFIGURED = ["--threads", "1"]

COMMANDS: dict[str, list[str]] = {
    "convert": ["convert", "t1.mrc", "t2.mrc", "-o", "out", "--shard", "32", "--chunk", "16"],
    "stats": ["stats", "base/tomograms/t1.ome.zarr", "-o", "out"],
    "labels": ["labels", "base/tomograms/t1.ome.zarr", "--points", "train.csv", "--radius", "4vox", "-o", "out/labels.ome.zarr"],
    "train": ["train", "train.yaml", "-o", "out/model"],
    "predict": ["predict", "base/tomograms/t1.ome.zarr", "--model", "base/model", "-o", "out", "--block-size", "32", "--device", "cpu", *CONFIGURED],
    "pick": ["pick", "base/scores/t1.ome.zarr", "base/scores/t2.ome.zarr", "--radius", "4vox", "--count", "9", "-o", "out"],
    "evaluate": ["evaluate", "--picks", "base/picks", "--truth", "truth.csv", "--tolerance", "4vox", "--voxel-size", "10", "--curve", "out/curve.csv"],
    "export": ["export", "base/picks", "-o", "out/picks.star", "--format", "star-relion5", "--tomograms", "base/tomograms"],
    "import": ["import", "truth.csv", "--format", "csv", "--voxel-size", "10", "-o", "out/truth.csv"],
    "report": ["report", "base", "-o", "out/report.html"],
    "run": ["run", "run.yaml"],
    "check": ["check", "damaged", "t1.mrc", "--repair"],
}  # fmt: skip


@dataclass
class Outcome:
    """What came of the trials."""

    seed: int
    trials: Counter[str] = field(default_factory=Counter)
    calls: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, object]] = field(default_factory=list)


def quiet_main(arguments: list[str], log: Path) -> int:
    """The command line, in this process."""
    from tomostream.cli.main import main

    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1), os.dup2(handle, 2)
    sys.argv = ["tomostream", *arguments]
    try:
        main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


def forked(arguments: list[str], folder: Path, log: Path, *, kill_at: int | None = None, limit: float = 120.0) -> tuple[int, int]:
    """Run a command in `folder`; its exit code (-9: killed, 999: hung), and how many file-system calls it made."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        count = 0

        def hook(event: str, _: object) -> None:
            nonlocal count
            if event in EVENTS:
                count += 1
                if count == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            sys.addaudithook(hook)
            code = quiet_main(arguments, log)
        finally:
            os.write(sending, str(count).encode())
            os._exit(code)
    os.close(sending)
    deadline = time.monotonic() + limit
    while (found := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(receiving)
            return 999, 0
        time.sleep(0.005)
    told = os.read(receiving, 64).decode()
    os.close(receiving)
    return os.waitstatus_to_exitcode(found[1]), int(told or 0)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file by its relative path, but logs."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(LOGS)
    }


class Ground:
    """The data set, and the undisturbed results."""

    def __init__(self, folder: Path, outcome: Outcome) -> None:
        import yaml
        from small_project import make_project

        self.folder, self.outcome = folder, outcome
        self.fresh = folder / "fresh"
        configuration = yaml.safe_load(make_project(self.fresh).read_text())
        configuration |= {
            "tomograms": ["t*.mrc"], "labels": {"train": ["train.csv"], "validate": ["validate.csv"]}, "truth": "truth.csv",
            "train": {"steps": 9, "steps_per_epoch": 3, "crop": 16, "batch": 2, "precision": "float32"},
        }  # fmt: skip
        for name, project in (("run", "out/project"), ("base", "base"), ("train", "base")):
            (self.fresh / f"{name}.yaml").write_text(yaml.safe_dump(configuration | {"project": project}))
        self._must(["run", "base.yaml"], self.fresh)
        shutil.copytree(self.fresh / "base" / "tomograms", self.fresh / "damaged")
        shard = self.fresh / "damaged" / "t1.ome.zarr" / "0" / "c" / "0" / "0" / "0"
        shard.write_bytes(shard.read_bytes()[:-3])
        self.expected: dict[str, dict[str, bytes]] = {}

    def prepare(self, command: str) -> None:
        """Run a command undisturbed, unless that is done."""
        if command not in self.expected:
            trial = self.copy()
            self.outcome.calls[command] = self._must(COMMANDS[command], trial)
            self.expected[command] = tree(trial)
            shutil.rmtree(trial)

    def copy(self) -> Path:
        """A fresh folder."""
        trial = self.folder / "trial"
        shutil.rmtree(trial, ignore_errors=True)
        shutil.copytree(self.fresh, trial)
        (trial / "out").mkdir()
        return trial

    def trial(self, command: str, call: int) -> str | None:
        """Kill a command at a call, run it again; what is wrong then."""
        trial, log = self.copy(), self.folder / "log.txt"
        log.write_text("")
        code, _ = forked(COMMANDS[command], trial, log, kill_at=call)
        if code not in (-signal.SIGKILL, 0):  # 0: fewer calls than the undisturbed run
            return f"it ended with {code} before it was killed: {log.read_text()[-500:]}"
        code, _ = forked(COMMANDS[command], trial, log)
        if code:
            return f"run again, it ended with {code}: {log.read_text()[-500:]}"
        found, expected = tree(trial), self.expected[command]
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        return f"other files than undisturbed: {', '.join(wrong[:5])}" if wrong else None

    def _must(self, arguments: list[str], folder: Path) -> int:
        log = self.folder / "log.txt"
        code, calls = forked(arguments, folder, log)
        if code:
            raise SystemExit(f"{arguments}: ended with {code}: {log.read_text()[-2000:]}")
        return calls


def kill_at_random(
    folder: Path, *, seed: int, kills: int, seconds: float, only: list[str] | None = None, call: int | None = None
) -> Outcome:
    """Make trials until there are `kills`, or the time is over."""
    import torch

    import tomostream.cli.program
    import tomostream.pipeline.execution
    import tomostream.stages.prediction.stage  # noqa: F401  (for the children)

    torch.set_num_threads(1)
    outcome = Outcome(seed)
    ground = Ground(folder, outcome)
    draw = random.Random(seed)
    deadline = time.monotonic() + seconds
    names = only or list(COMMANDS)
    for number in range(kills):
        if time.monotonic() > deadline:
            break
        command = names[number % len(names)]
        ground.prepare(command)
        at = call or draw.randint(1, outcome.calls[command])
        problem = ground.trial(command, at)
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
    told = {"seed": outcome.seed, "kills": dict(outcome.trials), "calls": outcome.calls, "failures": outcome.failures}
    print(json.dumps(told, indent=1))
    if given.output:
        given.output.write_text(json.dumps(told, indent=1) + "\n")
    sys.exit(1 if outcome.failures else 0)


if __name__ == "__main__":
    main()
