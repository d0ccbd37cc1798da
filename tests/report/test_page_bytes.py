"""The page stays within its bytes however many picks there are, and the counts in it are the evaluation's own."""

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tomostream as ts
from tomostream.evaluation.curves import precision_recall_curve
from tomostream.formats.registry import read_table
from tomostream.particles import Particles
from tomostream.pipeline import report_page

pytestmark = pytest.mark.slow
NAMES = ("t1", "t2")


def embedded(page: Path) -> dict[str, Any]:
    return {name: json.loads(text) for name, text in re.findall(r'id="(report|tomogram-\d+)">(.*?)</script>', page.read_text(), re.DOTALL)}


@pytest.fixture
def crowded(picked: Path, tmp_path: Path) -> Path:
    """The project with 20,000 picks in each tomogram, many of equal score, as the table of another program: in any order."""
    project = tmp_path / "project"
    shutil.copytree(picked, project)
    rng = np.random.default_rng(0)
    for name in NAMES:
        zyx = rng.uniform(0, 400, size=(20_000, 3))
        scores = rng.integers(1, 9_000, size=len(zyx)) / 9_000
        ts.write_particles(
            project / "picks" / f"{name}.csv", Particles.build(zyx, unit="angstrom", tomogram=name, species="ribosome", score=scores)
        )
    return project


def test_many_picks_take_the_room_of_pictures_and_never_more(crowded, tmp_path, monkeypatch):
    sizes, shown = [], []
    for room in (1_000_000, 1_150_000, 4_000_000):
        monkeypatch.setattr(report_page, "PAGE_BYTES", room)
        assert report_page.write_report(crowded, tmp_path / "report.html") == []
        sizes.append((tmp_path / "report.html").stat().st_size)
        assert sizes[-1] <= room
        shown.append(sum(name.startswith("tomogram-") for name in embedded(tmp_path / "report.html")))
    assert shown == [0, 1, 2], sizes


def test_counts_at_every_pick_are_those_of_the_evaluation(crowded, picked, tmp_path):
    report_page.write_report(crowded, tmp_path / "report.html")
    for one in embedded(tmp_path / "report.html")["report"]["tomograms"][: len(NAMES)]:
        own = one["picks"]["ribosome"]
        scores = np.frombuffer(base64.b64decode(own["scores"]), "<f4")
        assert (np.diff(scores) <= 0).all()
        tp, fp = (np.frombuffer(base64.b64decode(own["curve"][which]), "<u1").astype(np.int64).cumsum() for which in ("tp", "fp"))
        picks = read_table(crowded / "picks" / f"{one['name']}.csv").in_unit("voxel", 10.0)
        truth = read_table(picked.parent / "truth.csv").of(tomogram=one["name"])
        curve = precision_recall_curve(picks.position_zyx, picks.score, truth.position_zyx, tolerance=4.0, matching="any")
        ends = np.searchsorted(-scores, -curve.threshold.astype(np.float32), side="right") - 1
        np.testing.assert_array_equal(tp[ends], curve.tp)
        np.testing.assert_array_equal(fp[ends], curve.fp)
        assert own["curve"]["truths"] == len(truth)
        assert curve.tp[-1] > 0


@pytest.mark.parametrize("most", [3, 255, 256, 70_000])
def test_steps_are_one_byte_each_where_that_holds_them(most):
    text = report_page._packed_steps(np.array([0, most, most + 1]), np.array([0, 2, 3]), 4)
    kind = "<u1" if most <= 255 else "<u4"
    assert np.frombuffer(base64.b64decode(text), kind).tolist() == [0, 0, most, 1]
