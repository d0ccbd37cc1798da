"""A project that was picked by hand: two tomograms with picks, one that failed; and a headless Chromium."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_runner import tomostream
from headless_browser import browser  # noqa: F401 (a fixture)
from small_project import make_project

import tomostream as ts
from tomostream.pipeline.journal import Journal


@pytest.fixture(scope="session")
def picked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder: stores, picks of t1 (all true) and t2 (every second true, others false), and a log that says that t3 failed."""
    folder = tmp_path_factory.mktemp("picked")
    configuration = make_project(folder)
    result = tomostream("run", configuration, "--stage", "convert", "--stage", "stats")
    assert result.code == 0, result.err
    project = folder / "project"
    truth = ts.read_particles(folder / "truth.csv")
    for name in ("t1", "t2"):
        own = truth.of(tomogram=name).in_unit("angstrom", 10.0)
        zyx = own.position_zyx.copy()
        if name == "t2":
            zyx[1::2, 2] = 550.0 - zyx[1::2, 2] + 60.0  # elsewhere: most are false
        scores = np.linspace(0.95, 0.15, len(zyx))
        ts.write_particles(
            project / "picks" / f"{name}.csv", ts.Particles.build(zyx, unit="angstrom", tomogram=name, species="ribosome", score=scores)
        )
    journal = Journal(project / "log.jsonl")
    journal.write("stage", stage="predict")
    journal.write("chosen", map="t1", picks=24, f1=0.8, precision=0.7, doubt=None)  # an earlier run
    journal.write("chosen", map="t1", picks=24, f1=0.85, precision=0.9, doubt=None)
    journal.write("chosen", map="t2", picks=24, f1=None, precision=None, doubt="its noise is not as in the others")
    journal.write("failed", tomogram="t3", why="its shard 0,0,0 is damaged")
    journal.write("end", failures=1)
    return project
