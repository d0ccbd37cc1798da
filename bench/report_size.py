"""How large is the report of a hundred tomograms, and how long does it take to open?

    python -m bench.report_size MRC... --truth TABLE --species NAME --radius LENGTH [--count 100] [--folder DIR]

Make a project like one of `tomostream run`, with `--count` tomograms: the given ones in turn (as links to one copy on disk), with the true
particles as picks, and a tenth as many false ones.  Print the seconds to write the report, its size, the seconds from opening the file until
its first slice is drawn, and from choosing another tomogram until its slice is drawn.  The last two are medians of five, with the smallest
and the largest; the browser has already shown an empty page.  Needs Chromium and its driver.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml

import tomostream as ts
from bench.view_speed import browser
from tomostream.formats.registry import read_table
from tomostream.particles import Particles
from tomostream.pipeline.report_page import write_report
from tomostream.store.naming import tomogram_name

_ROUNDS = 5
_WHOLE = "return document.querySelector('#slices canvas')?.dataset.whole === 'true'"
_NAME = "return document.querySelector('#h-slices')?.textContent"


def make_project(folder: Path, files: list[Path], truth: Path, species: str, radius: str, count: int) -> Path:
    """Write tomograms, picks, truth and settings; return the project folder."""
    project, rng = folder / "project", np.random.default_rng(0)
    (project / "picks").mkdir(parents=True)
    (project / "tomograms").mkdir()
    stores = [Path(ts.convert(file, folder / "once")) for file in files]
    known = read_table(truth).of(species=species)
    truths = []
    for n in range(count):
        store = stores[n % len(stores)]
        tomogram, name = ts.open(store), f"{tomogram_name(str(store))}_{n:03d}"
        shutil.copytree(store, project / "tomograms" / f"{name}.ome.zarr", copy_function=os.link)
        own = known.of(tomogram=tomogram.name).in_unit("angstrom", tomogram.spacing).position_zyx
        wrong = rng.uniform(0, 1, size=(len(own) // 10, 3)) * np.array(tomogram.shape) * tomogram.spacing
        zyx = np.concatenate([own, wrong])
        score = np.sort(rng.beta(5, 2, size=len(zyx)))[::-1]
        kind = {"unit": "angstrom", "tomogram": name, "species": species}
        ts.write_particles(project / "picks" / f"{name}.csv", Particles.build(zyx, score=score, **kind))
        truths.append(Particles.build(own, **kind))
    ts.write_particles(folder / "truth.csv", Particles.concatenate(truths))
    settings = {
        "project": str(project), "tomograms": [str(project / "tomograms" / "*.ome.zarr")],
        "species": [{"name": species, "radius": radius}], "labels": {"train": [str(folder / "truth.csv")]},
        "truth": str(folder / "truth.csv"), "tolerance": radius,
    }  # fmt: skip
    (project / "resolved.yaml").write_text(yaml.safe_dump(settings))
    return project


def seconds_until(is_so: Callable[[], bool], begin: Callable[[], object]) -> float:
    """Call `begin`, wait until `is_so` is true, and return the seconds."""
    began = time.perf_counter()
    begin()
    while not is_so():
        time.sleep(0.002)
    return time.perf_counter() - began


def spelt(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"


def measure(project: Path, output: Path) -> None:
    began = time.perf_counter()
    problems = write_report(project, output)
    written = time.perf_counter() - began
    assert problems == [], problems
    count = len(list((project / "picks").glob("*.csv")))
    print(f"{count} tomograms: {output.stat().st_size / 1e6:.2f} MB, written in {written:.0f} s")
    driver = browser()
    try:
        opened, turned = [], []
        for n in range(_ROUNDS):
            driver.get("about:blank")
            opened.append(seconds_until(lambda: bool(driver.execute_script(_WHOLE)), lambda: driver.get(output.as_uri())))
            other = driver.find_elements("css selector", "section.list button")[(7 * n + 3) % count]
            name = other.text
            turned.append(
                seconds_until(lambda name=name: driver.execute_script(_NAME) == name and bool(driver.execute_script(_WHOLE)), other.click)
            )
        print(f"from opening the file to its first slice {spelt(opened)}; from choosing another tomogram to its slice {spelt(turned)}")
    finally:
        driver.quit()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="MRC")
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--species", required=True)
    parser.add_argument("--radius", required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where the project and the report are kept (default: nowhere)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        where = given.folder or Path(temporary)
        where.mkdir(parents=True, exist_ok=True)
        made = where / "project"
        if not made.exists():
            made = make_project(where, given.files, given.truth, given.species, given.radius, given.count)
        measure(made, where / "report.html")
    sys.exit(0)
