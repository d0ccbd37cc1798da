"""Do kills change the result?  Run predict and pick while a worker, job, client or scheduler is killed at random moments.

    python bench/chaos.py [--runs 50] [--kills 2] [--ways scheduler local slurm] [--folder DIR] [--seed 0] [-o REPORT]

1. Make up a volume and an untrained network (its weights don't matter here); predict and pick once undisturbed, in this process.
2. Each run predicts through a scheduler of its own, on two local worker processes, or as two SLURM jobs, and picks.  Meanwhile a worker, the
   scheduler or the client is killed (SIGKILL), a job cancelled (scancel): some time after the last start, or after some shards more.
   A command that fails is repeated at once, until it succeeds.
3. Every file must have the bytes of the undisturbed run.  Every computation of a shard that begins is counted, and no shard may be computed
   more often than kills + 1 times.

A client is forked from a process that has loaded the libraries, because loading them would take most of the time.
Finished runs are kept in DIR, and the same command continues after them.  The figures go to REPORT.json and REPORT.md.  Only processes and
jobs that this script started are killed: processes are recognised by a mark in their environment, jobs by their comment.

Needs Linux.  Shards are counted by an import hook that `PYTHONPATH` brings into every process (`_counting/sitecustomize.py`, written here).
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import hashlib
import json
import os
import random
import runpy
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import distributed  # noqa: F401  (for the clients: they are forked)
import numpy as np

from tomostream.stages.prediction import stage as predicting  # noqa: F401  (as above)
from tomostream.store.omezarr import StoreSpec, StoreWriter
from tomostream.strategies.unet.model import UNetSettings, save_model
from tomostream.strategies.unet.network import ResidualUNet

SHAPE, SHARD = (16, 768, 768), (16, 256, 256)  # many shards of little work
SHARDS = 9
PREDICT = ["--block-size", ",".join(map(str, SHARD)), "--threads", "1", "--device", "cpu"]
KINDS = {"scheduler": ("scheduler", "worker", "client"), "local": ("worker", "client"), "slurm": ("job", "client", "worker")}
HANGS, HUNG = 300.0, 999  # seconds after which a command counts as hung, and the exit code used for it
MARK = "CHAOS_MARK"  # environment variable that says which run a process belongs to
COUNTING = '''"""Notes every shard whose computation begins: the partial store and the shard's index."""
import functools
import importlib.util
import os
import sys

NAME = "tomostream.stages.prediction.shard_task"


class Finder:
    def find_spec(self, name, path, target=None):
        if name != NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            score = module.predict_shard

            @functools.wraps(score)
            def noted(task):
                handle = os.open(os.environ["CHAOS_COUNTS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.write(handle, f"{task.stores[0][1]} {task.index}\\n".encode())
                os.close(handle)
                return score(task)

            module.predict_shard = noted

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
'''


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one run."""

    number: int
    way: str
    kills: tuple[str, ...]
    commands: int  # given: two where nothing ended before its time
    computed: int  # shards, those again included
    most_computed: int  # of any shard
    is_same: bool
    seconds: float
    fault: str  # what was not as it should be; empty if nothing

    @property
    def is_good(self) -> bool:
        """Same bytes, and no shard too often."""
        return self.is_same and not self.fault and self.most_computed <= len(self.kills) + 1


def prepare(folder: Path) -> None:
    """Make the volume, the model and the import hook."""
    volume = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    spec = StoreSpec("v", volume.shape, volume.dtype, 10.0, (16, 64, 64), SHARD, "none", 1, {})
    with StoreWriter.create_or_resume(folder / "v.ome.zarr", spec, fingerprint={"made": "for chaos"}, overwrite=False) as writer:
        for index in writer.pending():
            writer.write(index, volume[writer.shards.core(index).slices])
            writer.mark_done(index)
        writer.finish()
    settings = UNetSettings(
        channels=(4, 8), species=("ribosome",), radius_ang=(50.0,), level=0, spacing=10.0, clip_sigma=3.0, label_shape="sphere",
        objective={"name": "nnpu"}, precision="float32", trained_on=(), version="0", batch_statistics="tomogram",
    )  # fmt: skip
    save_model(folder / "model", ResidualUNet((4, 8), 1, seed=0), settings)
    (folder / "_counting").mkdir()
    (folder / "_counting" / "sitecustomize.py").write_text(COUNTING)


def environment(folder: Path, mark: str) -> dict[str, str]:
    """Return the environment of a process of ours; its children inherit it."""
    paths = [str(folder / "_counting"), *filter(None, [os.environ.get("PYTHONPATH")])]
    ours = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths), "CHAOS_COUNTS": str(folder / "counts"), MARK: f"{folder}:{mark}"}
    return os.environ | ours | {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}


def where(folder: Path, way: str, name: str) -> list[str]:
    """Return the options that say where tasks run."""
    return {
        "none": [],
        "scheduler": ["--scheduler", str(folder / "scheduler.json")],
        "local": ["--cluster", "local", "--workers", "2"],
        "slurm": ["--cluster", "slurm", "--workers", "2"]
        + [part for option in (f"options=--comment={folder}:{name}", "interface=lo", "walltime=00:10:00", f"log_folder={folder}/logs")
           for part in ("--cluster-option", option)],
    }[way]  # fmt: skip


def commands(folder: Path, way: str, name: str) -> list[list[str]]:
    """Return the commands: predict, which is distributed, and pick, which runs here unless there is a scheduler anyway."""
    predict = ["predict", "v.ome.zarr", "--model", "model", "-o", f"{name}/scores", *PREDICT, *where(folder, way, name)]
    pick = ["pick", f"{name}/scores", "--radius", "50A", "--count", "200", "-o", f"{name}/picks"]
    return [predict, [*pick, *(where(folder, way, name) if way == "scheduler" else [])]]


def digests(out: Path) -> dict[str, str]:
    """Return the digest of every file of a result, except those that name folders."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and "made-by" not in path.name)
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def processes(folder: Path, mark: str, *, is_worker: bool) -> list[int]:
    """Return the living processes with a mark; with `is_worker`, only those that Dask spawned as workers."""
    wanted = f"{MARK}={folder}:{mark}\0".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line, variables = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes() + b"\0"
        except OSError:
            continue
        if wanted in variables and (b"spawn_main" in line or not is_worker):
            found.append(int(entry.name))
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Service:
    """A scheduler and two workers, restarted when the scheduler dies, as a computing centre would keep them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "scheduler.json"
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._workers: subprocess.Popen[bytes] | None = None

    def ensure(self) -> None:
        """Start the service if it is not running."""
        if self._scheduler is not None and self._scheduler.poll() is None:
            self.ensure_workers()
            return
        self.close()
        self._file.unlink(missing_ok=True)
        dask = [sys.executable, "-m", "dask"]
        common = ["--scheduler-file", str(self._file), "--host", "127.0.0.1", "--no-dashboard"]
        with (self._folder / "service.log").open("ab") as log:
            options = {"cwd": self._folder, "env": environment(self._folder, "service"), "stdout": log, "stderr": log}
            self._scheduler = subprocess.Popen([*dask, "scheduler", "--port", "0", *common], **options)
            while not (self._file.exists() and self._file.read_text().strip().endswith("}")):
                time.sleep(0.05)
            worker = [*dask, "worker", "--nworkers", "2", "--nthreads", "1", "--memory-limit", "0", *common]
            self._workers = subprocess.Popen(worker, **options)

    def ensure_workers(self) -> None:
        """Restart the workers if their nanny gave up, as Dask's does when a worker is killed while it starts."""
        if (
            self._scheduler is not None
            and self._scheduler.poll() is None
            and self._workers is not None
            and self._workers.poll() is not None
        ):
            with (self._folder / "service.log").open("ab") as log:
                options = {"cwd": self._folder, "env": environment(self._folder, "service"), "stdout": log, "stderr": log}
                self._workers = subprocess.Popen(self._workers.args, **options)

    def kill_scheduler(self) -> bool:
        """Kill the scheduler if it is running; return whether it was."""
        if self._scheduler is None or self._scheduler.poll() is not None:
            return False
        self._scheduler.kill()
        self._scheduler.wait()
        return True

    def close(self) -> None:
        """End scheduler and workers."""
        kill(processes(self._folder, "service", is_worker=False))
        if self._scheduler is not None:
            self._scheduler.wait()


class Client:
    """A `tomostream` command in a process of its own."""

    def __init__(self, command: list[str], folder: Path, mark: str, log: Path) -> None:
        self.returncode: int | None = None
        self._pid = os.fork()
        if self._pid == 0:
            code = 1
            try:
                code = _run_forked(command, folder, mark, log)
            finally:
                os._exit(code)

    def poll(self) -> int | None:
        """Return the exit code, or None while the command runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        os.kill(self._pid, signal.SIGKILL)  # it was not waited for yet, so the pid can't belong to another process


def _run_forked(command: list[str], folder: Path, mark: str, log: Path) -> int:
    """Run the command line in the forked child, as `python -m tomostream` would."""
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.chdir(folder)
    os.environ.update(environment(folder, mark))
    sys.argv = ["tomostream", *command]
    code = 0
    try:
        runpy.run_module("tomostream", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    atexit._run_exitfuncs()
    return code


def jobs_of(folder: Path, name: str) -> list[str]:
    """Return the running SLURM jobs of a run."""
    asked = subprocess.run(["squeue", "-h", "-o", "%i|%k", "-t", "R"], capture_output=True, text=True, check=True)
    return [line.split("|", 1)[0] for line in asked.stdout.splitlines() if line.split("|", 1)[1] == f"{folder}:{name}"]


@dataclass(frozen=True, slots=True)
class Run:
    """One disturbed run."""

    folder: Path
    number: int
    way: str
    kinds: tuple[str, ...]  # what to kill, in turn
    dice: random.Random
    service: Service

    @property
    def name(self) -> str:
        """Name of the run: its folder, the mark of its processes and the comment of its jobs."""
        return f"run{self.number}"

    def computed(self) -> list[str]:
        """Return the shards of this run whose computation has begun, once for each time."""
        counts = self.folder / "counts"
        return [line for line in counts.read_text().splitlines() if f"/{self.name}/" in f"/{line}"] if counts.exists() else []

    def strike(self, kind: str, client: Client) -> bool:
        """Kill a process or job of a kind; return whether there was one."""
        if kind == "client":
            client.kill()
            return True
        if kind == "scheduler":
            return self.service.kill_scheduler()
        if kind == "job":
            jobs = jobs_of(self.folder, self.name)
            if jobs:
                subprocess.run(["scancel", self.dice.choice(jobs)], check=True)
            return bool(jobs)
        workers = processes(self.folder, "service" if self.way == "scheduler" else self.name, is_worker=True)
        if workers:
            kill([self.dice.choice(workers)])
        return bool(workers)

    def moment(self) -> Iterator[bool]:
        """Yield whether it is time to kill: after a random number of seconds, or of shards."""
        deadline, shards = time.monotonic() + self.dice.uniform(0.2, 6.0), None
        if self.dice.random() < 0.7:
            shards = len(self.computed()) + self.dice.randrange(SHARDS // 2)
            pause = self.dice.uniform(0.0, 1.0)
        while True:
            if shards is not None and len(self.computed()) >= shards:
                deadline, shards = time.monotonic() + pause, None
            yield shards is None and time.monotonic() >= deadline

    def go(self, expected: dict[str, str]) -> Outcome:
        """Predict and pick through all kills."""
        started, given, fault = time.perf_counter(), 0, ""
        struck: list[str] = []
        for command in commands(self.folder, self.way, self.name):
            while not fault:
                given += 1
                code, told = self._attempt(command, struck)
                if "Traceback" in told:
                    fault = f"a traceback: {told[-1500:]}"
                if code == 0:
                    break
                if code == HUNG:
                    fault = told[-1500:]
                if given > len(self.kinds) + 4:
                    fault = fault or f"exit code {code} again and again: {told[-1500:]}"
        self._sweep()
        counts = Counter(self.computed())
        most = max(counts.values(), default=0)
        is_same = digests(self.folder / self.name) == expected
        return Outcome(
            self.number, self.way, tuple(struck), given, counts.total(), most, is_same, time.perf_counter() - started, fault,
        )  # fmt: skip

    def _attempt(self, command: list[str], struck: list[str]) -> tuple[int, str]:
        if self.way == "scheduler":
            self.service.ensure()
        log = self.folder / f"{self.name}.log"
        client = Client(command, self.folder, self.name, log)
        moment, deadline = self.moment(), time.monotonic() + HANGS
        while client.poll() is None:
            if self.way == "scheduler":
                self.service.ensure_workers()
            if time.monotonic() > deadline:
                client.kill()
                return HUNG, f"it hung: {log.read_text(errors='replace')}"
            if len(struck) < len(self.kinds) and next(moment):
                kind = self.kinds[len(struck)]
                if client.poll() is None and self.strike(kind, client):
                    struck.append(kind)
                    moment = self.moment()
            time.sleep(0.1)
        return client.returncode or 0, log.read_text(errors="replace")

    def _sweep(self) -> None:
        """End the processes that a killed client left behind."""
        kill(processes(self.folder, self.name, is_worker=False))
        if self.way == "slurm":
            subprocess.run(["scancel", *jobs_of(self.folder, self.name)], check=False, capture_output=True)


def calm(folder: Path) -> dict[str, str]:
    """Return the digests of the undisturbed results."""
    if not (folder / "expected.json").exists():
        for command in commands(folder, "none", "calm"):
            program = [sys.executable, "-m", "tomostream"]
            subprocess.run([*program, *command], cwd=folder, check=True, env=environment(folder, "calm"), capture_output=True)
        (folder / "expected.json").write_text(json.dumps(digests(folder / "calm")))
    found: dict[str, str] = json.loads((folder / "expected.json").read_text())
    return found


def chaos(folder: Path, *, runs: int, kills: int, ways: list[str], seed: int) -> list[Outcome]:
    """Do all runs; the outcomes of finished ones are read."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "_counting").exists():
        prepare(folder)
    expected = calm(folder)
    kept = folder / f"runs-{'-'.join(ways)}-{kills}-{seed}.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    outcomes = [Outcome(**values | {"kills": tuple(values["kills"])}) for values in map(json.loads, lines)]
    service = Service(folder)
    try:
        for number in range(len(outcomes), runs):
            way, turn = ways[number % len(ways)], number // len(ways)
            kinds = tuple(KINDS[way][(turn + n) % len(KINDS[way])] for n in range(kills))
            run = Run(folder, number, way, kinds, random.Random(1000 * seed + number), service)
            shutil.rmtree(folder / run.name, ignore_errors=True)
            outcome = run.go(expected)
            outcomes.append(outcome)
            print(row(outcome), flush=True)
            with kept.open("a") as log:
                log.write(json.dumps(asdict(outcome)) + "\n")
            if outcome.is_good:
                shutil.rmtree(folder / run.name)
    finally:
        service.close()
    return outcomes


def row(one: Outcome) -> str:
    """Return a row of the table of runs."""
    killed = ", ".join(one.kills) or "nothing"
    verdict = "yes" if one.is_good else f"NO ({one.fault or 'other bytes'})"
    return (
        f"| {one.number} | {one.way} | {killed} | {one.commands} | {one.computed} | {one.most_computed} | {verdict} | {one.seconds:.0f} |"
    )


def report(outcomes: list[Outcome]) -> str:
    """Return the figures as Markdown."""
    lines = ["| where | runs | killed | commands given | shards computed again | most often | same bytes | s a run |", "|" + "---|" * 8]
    for way in dict.fromkeys(one.way for one in outcomes):
        ours = [one for one in outcomes if one.way == way]
        kinds = Counter(kind for one in ours for kind in one.kills)
        killed = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items())
        again = sum(one.computed - SHARDS for one in ours)
        lines.append(
            f"| {way} | {len(ours)} | {killed} | {sum(one.commands for one in ours)} | {again} of {SHARDS * len(ours)} | "
            f"{max(one.most_computed for one in ours)} | {sum(one.is_same for one in ours)} | {statistics.median(one.seconds for one in ours):.0f} |"
        )
    good = sum(one.is_good for one in outcomes)
    return "\n".join(
        [*lines, "", f"{good} of {len(outcomes)} runs ended with the same bytes and no shard computed more than kills + 1 times."]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--ways", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("-o", "--output", type=Path, help="REPORT: writes REPORT.json and REPORT.md")
    given = parser.parse_args()
    folder = (given.folder or Path(tempfile.mkdtemp(prefix="chaos-"))).absolute()
    print("| run | where | killed | commands | shards | most computed | as it should be | s |\n" + "|---" * 8 + "|")
    outcomes = chaos(folder, runs=given.runs, kills=given.kills, ways=given.ways, seed=given.seed)
    text = report(outcomes)
    print(f"\n{text}")
    if given.output is not None:
        rows = [asdict(one) | {"is_good": one.is_good} for one in outcomes]
        given.output.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
        given.output.with_suffix(".md").write_text(text + "\n")
    return 0 if all(one.is_good for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
