"""Does anything that is killed change the result?  Runs of predict and pick with kills at random moments: a worker, a job, the client, in turn.

    python bench/chaos.py [--runs 50] [--kills 2] [--without slurm] [--folder DIR] [--seed 0]

1. A made-up volume and a network that was never trained (its weights don't matter here); predict and pick once undisturbed, in this process.
2. Each run predicts on two local worker processes, or as two SLURM jobs: at random moments a worker is killed (SIGKILL), a job cancelled
   (scancel), or the client killed; then the same command is given again, until it succeeds.  Then picks.
3. Every file must have the bytes of the undisturbed run; every computed shard was noted, and none may be computed more often than kills + 1.

Linux; the shards are counted by an import hook that `PYTHONPATH` brings into every process (`_counting/sitecustomize.py`, written here).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomostream.learn.model_folder import ModelSettings, save_model
from tomostream.learn.resunet import ResidualUNet
from tomostream.store.omezarr import StoreSpec, StoreWriter

SHAPE = (128, 192, 192)
PREDICT = ["--memory", "602MB", "--threads", "1", "--device", "cpu"]  # so little that the volume is many shards
WAYS = {
    "local": ["--cluster", "local", "--workers", "2"],
    "slurm": ["--cluster", "slurm", "--workers", "2", "--cluster-option", "interface=lo", "--cluster-option", "walltime=00:10:00"],
}
KINDS = {"local": ("worker", "client"), "slurm": ("job", "worker", "client")}
COUNTING = '''"""Notes every shard that is computed: pid and the shard's index."""
import importlib.util
import os
import sys

NAME = "tomostream.stages.shard_scoring"


class Finder:
    def find_spec(self, name, path, target=None):
        if name != NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            write = module.write_shard

            def noted(store, index, block):
                handle = os.open(os.environ["CHAOS_COUNTS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.write(handle, f"{os.getpid()} {index}\\n".encode())
                os.close(handle)
                write(store, index, block)

            module.write_shard = noted

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
'''


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run."""

    way: str
    kills: tuple[str, ...]
    attempts: int
    most_computed: int  # of any shard
    is_same: bool
    seconds: float

    @property
    def is_good(self) -> bool:
        """Same bytes, and no shard too often."""
        return self.is_same and self.most_computed <= len(self.kills) + 1


def prepare(folder: Path) -> None:
    volume = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    spec = StoreSpec("v", volume.shape, volume.dtype, 10.0, (64, 64, 64), (128, 192, 192), "none", 1, {"kind": "tomogram"})
    with StoreWriter.create_or_resume(folder / "v.ome.zarr", spec, fingerprint={"made": "for chaos"}, overwrite=False) as writer:
        for index in writer.pending():
            writer.write(index, volume[writer.shards.core(index).slices])
            writer.mark_done(index)
        writer.finish()
    settings = ModelSettings(
        channels=(8, 16), species=("ribosome",), radius_ang=(50.0,), level=0, spacing=10.0, clip_sigma=3.0, label_shape="sphere",
        objective={"name": "nnpu"}, precision="float32", trained_on=(), version="0",
    )  # fmt: skip
    save_model(folder / "model", ResidualUNet((8, 16), 1, seed=0), settings, {})
    (folder / "_counting").mkdir()
    (folder / "_counting" / "sitecustomize.py").write_text(COUNTING)


def environment(folder: Path, counts: Path) -> dict[str, str]:
    paths = [str(folder / "_counting"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths), "CHAOS_COUNTS": str(counts)}


def predict_command(out: Path, way: list[str]) -> list[str]:
    return [sys.executable, "-m", "tomostream", "predict", "v.ome.zarr", "--model", "model", "-o", str(out / "scores"), *PREDICT, *way]


def pick(folder: Path, out: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tomostream",
        "pick",
        str(out / "scores"),
        "--radius",
        "50A",
        "--count",
        "200",
        "-o",
        str(out / "picks"),
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def digests(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file() and "made-by" not in path.name)
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def workers_of(pid: int) -> list[int]:
    """Worker processes below a client, or those of SLURM jobs: whatever runs Dask's worker or was spawned for it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == pid:
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            wanted = (entry / "environ").read_bytes()
        except OSError:
            continue
        if "spawn_main" in line and b"CHAOS_COUNTS" in wanted:
            found.append(int(entry.name))
    return found


def strike(kind: str, client: subprocess.Popen[bytes], dice: random.Random) -> bool:
    """Kill one; tells whether there was one to kill."""
    if kind == "client":
        client.send_signal(signal.SIGKILL)
        return True
    if kind == "job":
        jobs = subprocess.run(
            ["squeue", "-h", "-o", "%i", "-n", "tomostream", "-t", "R"], capture_output=True, text=True, check=True
        ).stdout.split()
        if not jobs:
            return False
        subprocess.run(["scancel", dice.choice(jobs)], check=True)
        return True
    workers = workers_of(client.pid)
    if not workers:
        return False
    try:
        os.kill(dice.choice(workers), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def chaos(folder: Path, out: Path, way: str, kills: int, expected: dict[str, str], dice: random.Random) -> Outcome:
    counts = out.with_suffix(".counts")
    started, struck, attempts = time.perf_counter(), [], 0
    while True:
        attempts += 1
        client = subprocess.Popen(
            predict_command(out, WAYS[way]), cwd=folder, env=environment(folder, counts), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        while client.poll() is None:
            if len(struck) < kills:
                # any moment from the start of the workers to the last shard
                time.sleep(dice.uniform(1.0, 8.0))
                kind = dice.choice(KINDS[way])
                if client.poll() is None and strike(kind, client, dice):
                    struck.append(kind)
            else:
                time.sleep(0.2)
        if client.returncode == 0:
            break
        said = client.stderr.read().decode(errors="replace") if client.stderr else ""
        if "Traceback" in said or attempts > kills + 3:
            raise RuntimeError(f"attempt {attempts} of {out.name}: exit {client.returncode}\n{said[-2000:]}")
        _wait_for_workers()
    pick(folder, out)
    computed = Counter(line.split(" ", 1)[1] for line in counts.read_text().splitlines())
    return Outcome(way, tuple(struck), attempts, max(computed.values()), digests(out) == expected, time.perf_counter() - started)


def _wait_for_workers() -> None:
    """Workers of a killed client end by themselves when they miss it; until then they may still write."""
    deadline = time.monotonic() + 90
    while workers_of(os.getpid()) and time.monotonic() < deadline:
        time.sleep(0.5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--without", choices=["slurm"], action="append", default=[])
    given = parser.parse_args()
    ways = [way for way in WAYS if way not in given.without]
    folder = given.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "_counting").exists():
        prepare(folder)
    calm = folder / "calm"
    subprocess.run(predict_command(calm, []), cwd=folder, check=True, env=environment(folder, folder / "calm.counts"), capture_output=True)
    pick(folder, calm)
    expected = digests(calm)
    print(f"{len((folder / 'calm.counts').read_text().splitlines())} shards, {len(expected)} files")
    print("| run | where | killed | attempts | most computed | same bytes | s |\n|---|---|---|---|---|---|---|")
    outcomes = []
    for number in range(given.runs):
        dice = random.Random(1000 * given.seed + number)
        outcome = chaos(folder, folder / f"run{number}", ways[number % len(ways)], given.kills, expected, dice)
        outcomes.append(outcome)
        killed = ", ".join(outcome.kills) or "nothing"
        print(
            f"| {number} | {outcome.way} | {killed} | {outcome.attempts} | {outcome.most_computed} | {outcome.is_same} | {outcome.seconds:.0f} |",
            flush=True,
        )
        shutil.rmtree(folder / f"run{number}")
    good = sum(outcome.is_good for outcome in outcomes)
    print(f"\n{good} of {len(outcomes)} runs ended with the same bytes and no shard computed more than kills + 1 times")
    return 0 if good == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
