"""How much memory does each stage take at its peak, on ever larger volumes, compared with its projection and its budget?

1. Make up a float32 volume (white noise and blobs), plane by plane, as an MRC file; and a network with random weights.
2. Run the commands as a user would, each in a process of its own: convert, stats, predict, pick by count, and pick by threshold (the score
   of the last pick by count, so both must give the same picks).
3. Record the largest high-water mark of the resident memory (VmHWM) of the process and its descendants.
4. Print a table.  Fail if a peak is over its budget, or, among volumes larger than the budget, more than 1.1 times that of the volume a
   quarter as large.

    python bench/memory.py --full -o FILE.json      # 1, 2, 4 and 8 GB in 1 GB of memory; 20 minutes and 25 GB of disk
    python bench/memory.py --full --level 2 --volumes 4GB 16GB     # the largest: 50 GB of disk
    python bench/memory.py --quick -o FILE.json     # 0.2 GB; half a minute

Limits: needs Linux (`/proc`); misses the last two hundredths of a second of each process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

Shape = tuple[int, int, int]
SPACING, RADIUS = 10.0, 10.0  # angstrom, voxels
CHANNELS = (8, 16, 32)
PRECISION = "bf16"
SIGMA = 4.0  # of a blob, voxels
VOXELS_PER_BLOB = 250_000
MOST_GROWTH = 1.1
_INTERVAL = 0.02  # seconds between two looks at a process
_HEADER_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Case:
    """One volume, and the level at which it is scored."""

    name: str
    shape: Shape
    level: int
    budgets: dict[str, str]  # by command

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One command on one volume; bytes and seconds."""

    stage: str
    volume: str
    voxels: int
    seconds: float
    peak: int
    projected: int
    budget: int
    growth: float | None = None  # the peak over that of the smaller volume


_GB = dict.fromkeys(("convert", "stats", "predict", "pick"), "1GB")
FULL = (
    Case("1GB", (250, 1000, 1000), 1, _GB),
    Case("2GB", (500, 1000, 1000), 1, _GB),
    Case("4GB", (500, 1000, 2000), 1, _GB),
    Case("8GB", (500, 2000, 2000), 1, _GB),
    Case("fine", (64, 700, 700), 0, _GB),
)
HUGE = (Case("16GB", (1000, 2000, 2000), 2, _GB),)  # only where `--volumes` names it
QUICK = (Case("quick", (112, 680, 680), 1, {"convert": "400MB", "stats": "400MB", "predict": "800MB", "pick": "450MB"}),)


def write_volume(path: Path, shape: Shape, *, seed: int = 0) -> None:
    """Write white noise (deviation 1) with blobs of height -2 on a jittered grid, a few planes at a time."""
    nz, ny, nx = shape
    header = bytearray(_HEADER_BYTES)
    struct.pack_into("<4i", header, 0, nx, ny, nz, 2)
    struct.pack_into("<3i6f3i", header, 28, nx, ny, nz, nx * SPACING, ny * SPACING, nz * SPACING, 90, 90, 90, 1, 2, 3)
    struct.pack_into("<4s4B", header, 208, b"MAP ", 0x44, 0x44, 0, 0)
    edge = round(VOXELS_PER_BLOB ** (1 / 3))
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(edge // 2, n, edge) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    centres = grid + rng.uniform(-edge / 6, edge / 6, grid.shape)
    reach = round(3 * SIGMA)
    with path.open("wb") as file:
        file.write(header)
        for z in range(nz):
            plane = rng.standard_normal((ny, nx), dtype=np.float32)
            for cz, cy, cx in centres[np.abs(centres[:, 0] - z) <= reach]:
                rows = np.arange(max(0, int(cy) - reach), min(ny, int(cy) + reach + 1))
                columns = np.arange(max(0, int(cx) - reach), min(nx, int(cx) + reach + 1))
                y, x = (np.exp(-((at - c) ** 2) / (2 * SIGMA**2)) for at, c in ((rows, cy), (columns, cx)))
                height = -2 * math.exp(-((cz - z) ** 2) / (2 * SIGMA**2))
                plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += (height * y[:, None] * x).astype(np.float32)
            file.write(plane.data)


def write_model(folder: Path, level: int) -> None:
    """Write a network with random weights whose batch-norm statistics fit noise, so that its scores vary."""
    import torch

    from tomostream import __version__
    from tomostream.learn.recalibration import recalibrated
    from tomostream.strategies.unet.model import UNetSettings, save_model
    from tomostream.strategies.unet.network import ResidualUNet

    generator = torch.Generator().manual_seed(0)
    network = recalibrated(
        ResidualUNet(CHANNELS, 1, seed=0), [torch.randn(2, 1, 32, 32, 32, generator=generator)], device=torch.device("cpu")
    )
    settings = UNetSettings(
        channels=CHANNELS,
        species=("blob",),
        radius_ang=(RADIUS * SPACING,),
        level=level,
        spacing=SPACING,
        clip_sigma=3.0,
        label_shape="sphere",
        objective={"name": "none"},
        precision="float32",
        trained_on=(),
        version=__version__,
        batch_statistics="tomogram",
    )
    save_model(folder, network, settings)


def peak_of(command: list[str]) -> tuple[int, float]:
    """Run a command; return the largest resident memory of any of its processes, in bytes, and the seconds it took.

    Raises
    ------
    SystemExit
        If the command fails.
    """
    start, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT) as process:
        while process.poll() is None:
            peak = max(peak, *map(_high_water, _family(process.pid)))
            time.sleep(_INTERVAL)
        seconds = time.perf_counter() - start
        said.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed with {process.returncode}:\n{said.read().decode()}")
    return peak, seconds


def _family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    children: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):  # it has ended
            children += map(int, (thread / "children").read_text().split())
    return [pid, *(one for child in children for one in _family(child))]


def _high_water(pid: int) -> int:
    """Return VmHWM of a process in bytes; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def measure_case(case: Case, folder: Path, tell: Callable[[str], object]) -> list[Measurement]:
    """Run all stages on one volume, and delete their results."""
    folder.mkdir()
    file, store, scores, model = folder / f"{case.name}.mrc", folder / "stores", folder / "scores", folder / "model"
    write_model(model, case.level)
    write_volume(file, case.shape)
    zarr, score_map = str(store / f"{case.name}.ome.zarr"), str(scores / f"{case.name}.ome.zarr")
    found: list[Measurement] = []

    def run(stage: str, project: Callable[[int], int], *arguments: str) -> None:
        command = stage.split(",", maxsplit=1)[0]
        memory = case.budgets[command]
        budget = _bytes(memory)
        projected = project(budget)
        peak, seconds = peak_of([sys.executable, "-m", "tomostream", command, *arguments, "--memory", memory])
        found.append(Measurement(stage, case.name, case.voxels, seconds, peak, projected, budget))
        tell(f"{case.name} {stage}: {peak / 1e6:.0f} MB, {seconds:.0f} s")

    run("convert", lambda memory: _project_convert(file, memory), str(file), "-o", str(store))
    file.unlink()
    run("stats", lambda _: _project_stats(zarr), zarr)
    run("predict", lambda memory: _project_predict(case, memory), zarr, "--model", str(model), "-o", str(scores), "--precision", PRECISION)
    shutil.rmtree(store)
    count = max(20, case.voxels // VOXELS_PER_BLOB)
    radius = ("--radius", f"{RADIUS:g}vox")
    by_count, by_threshold = folder / "by_count", folder / "by_threshold"
    run("pick, count", lambda memory: _project_pick(case, memory), score_map, *radius, "--count", str(count), "-o", str(by_count))
    picks = _picks(by_count / f"{case.name}.csv")
    last = picks[-1].rsplit(",", maxsplit=1)[1]
    run("pick, threshold", lambda memory: _project_pick(case, memory), score_map, *radius, "--threshold", last, "-o", str(by_threshold))
    above = [line for line in picks if float(line.rsplit(",", maxsplit=1)[1]) > float(last)]
    if len(picks) != count or _picks(by_threshold / f"{case.name}.csv") != above:
        raise SystemExit(f"{case.name}: the picks by count (of {count}: {len(picks)}) and by threshold {last} differ")
    shutil.rmtree(folder)
    return found


def _picks(table: Path) -> list[str]:
    return table.read_text().splitlines()[1:]


def _bytes(memory: str) -> int:
    from tomostream.units import parse_bytes

    return parse_bytes(memory, "--memory")


def _project_convert(file: Path, memory: int) -> int:
    from tomostream import defaults
    from tomostream.budget import LIBRARIES_BYTES, conversion_bytes
    from tomostream.store.conversion import band_voxels_within
    from tomostream.store.decompress import peek_header
    from tomostream.store.specification import StoreLayout, StoreSpec

    header = peek_header(file)
    dtype = header.native_dtype
    spec = StoreSpec(file.stem, header.shape, dtype, SPACING, None, None, defaults.CODEC, levels=None)
    layout = StoreLayout.plan(spec)
    level = layout.levels[0]
    return conversion_bytes(
        band_voxels=min(band_voxels_within(memory, header, layout, libraries=LIBRARIES_BYTES), math.prod(header.shape)),
        shard=level.shards.core((0, 0, 0)).shape,
        chunk=level.chunk,
        source_itemsize=dtype.itemsize,
        stored_itemsize=dtype.itemsize,
        is_cast=False,
    )


def _project_stats(store: str) -> int:
    from tomostream.budget import LIBRARIES_BYTES
    from tomostream.graph.lazy_arrays import as_dask
    from tomostream.graph.moments import projected_bytes
    from tomostream.stages.voxel_statistics.stage import STATS_BLOCK_BYTES
    from tomostream.tomogram import open_tomogram

    return LIBRARIES_BYTES + projected_bytes(as_dask(open_tomogram(store), block_bytes=STATS_BLOCK_BYTES), threads=1)


def _project_predict(case: Case, memory: int) -> int:
    from tomostream.inference.plan import PlanRequest
    from tomostream.strategies.unet.network import ResidualUNet
    from tomostream.strategies.unet.planning import plan_prediction

    request = PlanRequest(volume=case.shape, level=case.level, memory=memory, block_size=None, name=case.name)
    return plan_prediction(request, ResidualUNet(CHANNELS, 1, seed=0), precision=PRECISION).block_bytes


def _project_pick(case: Case, memory: int) -> int:
    from tomostream.budget import LIBRARIES_BYTES
    from tomostream.picking.planning import plan_blocks, window_bytes

    plan = plan_blocks(case.shape, block=None, halo=None, radius=RADIUS, smooth=0.0, memory=memory, libraries=LIBRARIES_BYTES, workers=1)
    return LIBRARIES_BYTES + window_bytes(plan.block, halo=plan.halo, radius=RADIUS, smooth=0.0, domain=case.shape) + plan.settling_bytes


def with_growth(found: list[Measurement]) -> list[Measurement]:
    """Compare each peak with that of the volume a quarter as large, among volumes larger than the budget."""
    peaks = {(one.stage, one.voxels): one.peak for one in found if 4 * one.voxels > one.budget}
    quarters = [peaks.get((one.stage, one.voxels // 4)) for one in found]
    return [one if quarter is None else replace(one, growth=one.peak / quarter) for one, quarter in zip(found, quarters, strict=True)]


def table_of(found: list[Measurement]) -> str:
    """Return the measurements as Markdown."""
    rows = [
        "| stage | volume | peak MB | projected MB | budget MB | peak / that of a quarter | s | Mvoxel/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        growth = "" if one.growth is None else f"{one.growth:.2f}"
        sizes = " | ".join(f"{n / 1e6:.0f}" for n in (one.peak, one.projected, one.budget))
        rows.append(f"| {one.stage} | {one.volume} | {sizes} | {growth} | {one.seconds:.1f} | {one.voxels / one.seconds / 1e6:.1f} |")
    return "\n".join(rows)


def _machine() -> dict[str, object]:
    import torch
    import zarr

    from tomostream import __version__

    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or None
    versions = {"tomostream": __version__, "numpy": np.__version__, "torch": torch.__version__, "zarr": zarr.__version__}
    return {"machine": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version(), "commit": commit, **versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--full", action="store_true", help="volumes of 1, 2, 4 and 8 GB, 1 GB of memory; needs 25 GB of disk")
    size.add_argument("--quick", action="store_true", help="a volume of 0.2 GB")
    parser.add_argument(
        "--volumes",
        nargs="+",
        help=f"only these of --full: {', '.join(case.name for case in FULL + HUGE)} (the last only where it is named)",
    )
    parser.add_argument(
        "--level", type=int, help="pyramid level that is scored (default: 1, and 0 of the small volume); 2 is 6 times as fast"
    )
    parser.add_argument("--folder", type=Path, help="where the volumes are made (default: the system's temporary folder)")
    parser.add_argument("-o", "--output", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    known = QUICK if options.quick else FULL + HUGE if options.volumes else FULL
    cases = [case for case in known if not options.volumes or case.name in options.volumes]
    if options.level is not None:
        cases = [replace(case, level=options.level) for case in cases]
    found: list[Measurement] = []
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="tomostream-memory-") as folder:
        needed, free = 4 * max(case.voxels for case in cases) * 13 // 5, shutil.disk_usage(folder).free  # volume, store with pyramid
        if needed > free:
            raise SystemExit(f"{folder} needs {needed / 1e9:.0f} GB but has {free / 1e9:.0f} GB free; give another --folder")
        for case in cases:
            found += measure_case(case, Path(folder) / case.name, lambda text: print(text, file=sys.stderr, flush=True))
    found = with_growth(found)
    print(table_of(found))
    if options.output:
        options.output.write_text(json.dumps({**_machine(), "measured": [asdict(one) for one in found]}, indent=1) + "\n")
    wrong = [one for one in found if one.peak > one.budget or (one.growth or 0) > MOST_GROWTH]
    if wrong:
        raise SystemExit(f"over the budget, or growing with the volume: {', '.join(f'{one.stage} of {one.volume}' for one in wrong)}")


if __name__ == "__main__":
    main()
