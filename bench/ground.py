"""What the trials of kills, faults and power losses share: a made-up data set, the commands, and their undisturbed results."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "support"))

LOGS = ("log.jsonl", "report.html", "checkpoint.pt", ".lock", "resolved.yaml")  # may contain times or paths, so are not compared
CONFIGURED = ["--threads", "1"]
HUNG = 999

COMMANDS: dict[str, list[str]] = {
    "convert": ["convert", "t1.mrc", "t2.mrc", "-o", "out", "--shard", "32", "--chunk", "16"],
    "convert gz": ["convert", "packed.mrc.gz", "-o", "out", "--shard", "32", "--chunk", "16", "--codec", "zstd"],
    "stats": ["stats", "base/tomograms/t1.ome.zarr", "-o", "out"],
    "labels": ["labels", "base/tomograms/t1.ome.zarr", "--points", "train.csv", "--radius", "4vox", "-o", "out/labels.ome.zarr"],
    "train": ["train", "train.yaml", "-o", "out/model"],
    "train anew": ["train", "anew.yaml", "-o", "base/model", "--overwrite"],  # a whole model is replaced
    "train several": ["train", "several.yaml", "-o", "out/several"],
    "train one of several anew": ["train", "fewer.yaml", "-o", "pair", "--overwrite"],
    "predict several": ["predict", "base/tomograms/t1.ome.zarr", "--model", "pair", "-o", "out", "--block-size", "32", "--device", "cpu", *CONFIGURED],
    "predict": ["predict", "base/tomograms/t1.ome.zarr", "--model", "base/model", "-o", "out", "--block-size", "32", "--device", "cpu", *CONFIGURED],
    "pick": ["pick", "base/scores/t1.ome.zarr", "base/scores/t2.ome.zarr", "--radius", "4vox", "--count", "9", "-o", "out"],
    "suggest": ["suggest", "base", "-o", "out/next.csv"],
    "evaluate": ["evaluate", "--picks", "base/picks", "--truth", "truth.csv", "--tolerance", "4vox", "--voxel-size", "10", "--curve", "out/curve.csv"],
    "export": ["export", "base/picks", "-o", "out/picks.star", "--format", "star-relion5", "--tomograms", "base/tomograms"],
    "export parquet": ["export", "base/picks", "-o", "out/picks.parquet", "--format", "parquet"],
    "export napari": ["export", "base/picks/t1.csv", "-o", "out/picks.csv", "--format", "napari", "--tomograms", "base/tomograms"],
    "import": ["import", "truth.csv", "--format", "csv", "--voxel-size", "10", "-o", "out/truth.csv"],
    "init": ["init", "base/tomograms", "-o", "out/first.yaml", "--project", "out/first"],
    "inspect": ["inspect", "t1.mrc", "base/tomograms/t1.ome.zarr"],
    "status": ["status", "base"],
    "report": ["report", "base", "-o", "out/report.html"],
    "run": ["run", "run.yaml"],
    "check": ["check", "damaged", "t1.mrc", "--repair"],
}  # fmt: skip


@dataclass
class Outcome:
    """The results of the trials."""

    seed: int
    trials: Counter[str] = field(default_factory=Counter)
    calls: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, object]] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """Return plain values for the report."""
        return {"seed": self.seed, "trials": dict(self.trials), "calls": self.calls, "failures": self.failures}


def quiet_main(arguments: list[str], log: Path) -> int:
    """Run the command line in this process, with its output in a log file; return the exit code."""
    from tomostream.cli.main import main

    gc.freeze()  # what the process that forked left to its collector says nothing of the command
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1), os.dup2(handle, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)  # pytest replaces them
    sys.argv = ["tomostream", *arguments]
    try:
        main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    finally:
        sys.stdout.flush(), sys.stderr.flush()
    return 0


def forked(
    arguments: list[str],
    folder: Path,
    log: Path,
    *,
    before: Callable[[], None] = lambda: None,
    told: Callable[[], object] = lambda: "",
    limit: float = 240.0,  # less than a test may take, so that the command that hung is named
) -> tuple[int, str]:
    """Run a command in `folder`, in a forked process that has the libraries loaded.

    Parameters
    ----------
    before
        Called in the child before the command.
    told
        Called in the child after the command.

    Returns
    -------
    tuple
        The exit code (-9: killed; `HUNG`: it took longer than `limit` seconds), and the result of `told`.
    """
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        code = 1
        try:
            before()
            code = quiet_main(arguments, log)
        finally:
            os.write(sending, str(told()).encode())
            os._exit(code)
    os.close(sending)
    deadline = time.monotonic() + limit
    while (found := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(receiving)
            return HUNG, ""
        time.sleep(0.005)
    answer = os.read(receiving, 10_000).decode()
    os.close(receiving)
    return os.waitstatus_to_exitcode(found[1]), answer


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file except logs, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(LOGS)
    }


def differing(found: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """Return the names of the files that differ."""
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def found_it_there(command: str, code: int, said: str) -> bool:
    """Whether `init`, which never replaces a file unasked, did nothing because its configuration is there: a run that was ended had written it."""
    return command == "init" and code == 2 and "first.yaml exists; give --overwrite" in said


def load_libraries() -> None:
    """Import what the commands need, so that forked processes have it loaded."""
    import torch

    import tomostream.cli.program
    import tomostream.pipeline.execution
    import tomostream.pipeline.report_page
    import tomostream.stages.prediction.stage  # noqa: F401  (for the children)

    torch.set_num_threads(1)


class Ground:
    """The data set and the undisturbed results.

    Parameters
    ----------
    counting
        Functions called before and after a command whose calls are counted; the second returns the count.
    """

    def __init__(
        self, folder: Path, outcome: Outcome, *, before: Callable[[], None] = lambda: None, count: Callable[[], object] = lambda: 0
    ) -> None:
        import gzip

        import yaml
        from small_project import make_project

        self.folder, self.outcome = folder, outcome
        self._before, self._count = before, count
        self.fresh = folder / "fresh"
        self.log = folder / "log.txt"
        configuration = yaml.safe_load(make_project(self.fresh).read_text())
        configuration |= {
            "tomograms": ["t*.mrc"], "labels": {"train": ["train.csv"], "validate": ["validate.csv"]}, "truth": "truth.csv",
            "train": {"steps": 9, "steps_per_epoch": 3, "crop": 16, "batch": 2, "precision": "float32"},
        }  # fmt: skip
        for name, project in (("run", "out/project"), ("base", "base"), ("train", "base")):
            (self.fresh / f"{name}.yaml").write_text(yaml.safe_dump(configuration | {"project": project}))
        (self.fresh / "anew.yaml").write_text(
            yaml.safe_dump(configuration | {"project": "base", "train": configuration["train"] | {"seed": 5}})
        )
        self._write_several(configuration)
        (self.fresh / "packed.mrc.gz").write_bytes(gzip.compress((self.fresh / "t1.mrc").read_bytes(), 1, mtime=0))
        self._must(["run", "base.yaml"], self.fresh)
        self._must(["train", "pair.yaml", "-o", "pair"], self.fresh)
        shutil.copytree(self.fresh / "base" / "tomograms", self.fresh / "damaged")
        shard = self.fresh / "damaged" / "t1.ome.zarr" / "0" / "c" / "0" / "0" / "0"
        shard.write_bytes(shard.read_bytes()[:-3])
        self.expected: dict[str, dict[str, bytes]] = {}

    def _write_several(self, configuration: dict[str, Any]) -> None:
        """Write the clicks and configurations of two species, which share the particles of the one."""
        import yaml

        first, *rows = (self.fresh / "truth.csv").read_text().splitlines()
        rows = [row for row in rows if row.startswith("t1,")]
        rows = [row.replace("ribosome", "fas") if number % 2 else row for number, row in enumerate(rows)]
        species = [configuration["species"][0] | {"name": name, "expected": 12} for name in ("ribosome", "fas")]
        configuration = configuration | {"project": "base", "species": species}
        for name, kept, changes in (
            ("pair", rows, {"objective": {"name": "average"}, "train": {}}),
            ("fewer", rows[:-1], {"objective": {"name": "average"}, "train": {}}),
            ("several", rows, {}),
        ):
            (self.fresh / f"{name}.csv").write_text("\n".join([first, *kept]) + "\n")
            values = configuration | changes | {"labels": {"train": [f"{name}.csv"]}}
            (self.fresh / f"{name}.yaml").write_text(yaml.safe_dump(values))

    def prepare(self, command: str) -> None:
        """Run a command undisturbed, unless this was done before."""
        if command not in self.expected:
            trial = self.copy()
            self.outcome.calls[command] = int(self._must(COMMANDS[command], trial, before=self._before, told=self._count) or 0)
            self.expected[command] = tree(trial)
            shutil.rmtree(trial)

    def copy(self) -> Path:
        """Return a fresh copy of the data set's folder, and empty the log."""
        trial = self.folder / "trial"
        shutil.rmtree(trial, ignore_errors=True)
        shutil.copytree(self.fresh, trial)
        (trial / "out").mkdir()
        self.log.write_text("")
        return trial

    def rerun(self, command: str, trial: Path, *, after_signal: bool = False) -> str | None:
        """Run a command again, undisturbed; return what went wrong, or None.  `after_signal`: a signal had ended it before."""
        told = len(self.log.read_text())
        code, _ = forked(COMMANDS[command], trial, self.log)
        said = self.log.read_text()[told:]
        if code and not (after_signal and found_it_there(command, code, said)):
            return f"run again, it ended with {code}: {said[-700:]}"
        wrong = differing(tree(trial), self.expected[command])
        return f"other files than undisturbed: {', '.join(wrong[:5])}" if wrong else None

    def _must(self, arguments: list[str], folder: Path, **asked: Callable[[], object]) -> str:
        self.log.write_text("")
        code, told = forked(arguments, folder, self.log, **asked)
        if code:
            raise SystemExit(f"{arguments}: ended with {code}: {self.log.read_text()[-2000:]}")
        return told
