"""A small training learns from places that are no particles, and records them; without them it is bit for bit what it was."""

import json

import mrcfile
import numpy as np
import pytest
import yaml

from tomostream.config import configuration_from
from tomostream.errors import InputError
from tomostream.geometry import Box
from tomostream.pipeline.execution import run_project
from tomostream.pipeline.training import train_model
from tomostream.progress import Progress
from tomostream.score_map import open_score_map
from tomostream.strategies.loading import load_model
from tomostream.testing.small_project import SPACING, make_project, make_volume

pytestmark = pytest.mark.slow
HEAD = "tomogram,species,x_voxel,y_voxel,z_voxel,label"
CLICKS = 4


def rows(points, label):
    return [f"t1,ribosome,{x:.2f},{y:.2f},{z:.2f},{label}" for z, y, x in points]


def configuration(folder, table, **values):
    """Large balls are clicked; the small ones between them look alike.  The network works alone, without validation."""
    folder.mkdir()
    objective = {"objective": {"name": "nnpu", "rejected_weight": 1}} | values
    path = make_project(folder, **({"labels": {"train": [str(folder / "train.csv")]}, "matched_filter": {"weight": 0}} | objective))
    for number, tomogram in enumerate(("t1", "t2")):
        volume, _ = make_volume(number, species=2)
        with mrcfile.new(folder / f"{tomogram}.mrc", overwrite=True) as file:
            file.set_data(volume)
            file.voxel_size = SPACING
    (folder / "train.csv").write_text("\n".join([HEAD, *table]) + "\n")
    content = yaml.safe_load(path.read_text())
    content["species"][0]["expected"] = 24  # whoever clicks takes them for particles
    content["train"] |= {"steps": 80, "steps_per_epoch": 80, "learning_rate": 0.01}
    return configuration_from(content, "test")


def score_at(project, points):
    scores = open_score_map(str(project / "scores/t1.ome.zarr"))
    values = scores.read(Box((0, 0, 0), scores.shape))
    return np.array([values[tuple(np.rint(point).astype(int))] for point in points])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Projects trained without and with rejected look-alikes."""
    _, (particles, alike) = make_volume(0, species=2)
    made = {}
    for name, rejected in (("plain", alike[:0]), ("corrected", alike[:CLICKS])):
        folder = tmp_path_factory.mktemp("corrections") / name
        given = configuration(folder, [*rows(particles[:CLICKS], 1), *rows(rejected, 0)])
        run_project(given, stages=["convert", "stats", "train", "predict"], overwrite=False, progress=Progress())
        made[name] = folder / "project"
    return made, particles, alike


def test_look_alikes_of_rejected_ones_fall_below_the_particles(pairs):
    projects, particles, alike = pairs
    scores = {name: (score_at(project, particles[CLICKS:]), score_at(project, alike[CLICKS:])) for name, project in projects.items()}
    plain, corrected = (scores[name] for name in ("plain", "corrected"))
    assert plain[1].mean() > 0.4  # they pass for particles
    assert corrected[1].max() < 0.4
    assert corrected[0].min() > 0.6


def test_the_model_records_them(pairs):
    projects, _, _ = pairs
    assert load_model(projects["plain"] / "model").summary.rejected is None
    summary = load_model(projects["corrected"] / "model").summary
    assert summary.rejected == [CLICKS]
    ball = 4 / 3 * np.pi * 4.0**3
    assert summary.rejected_fraction[0] == pytest.approx(CLICKS * ball / (2 * 40 * 64 * 56), rel=0.15)
    fingerprints = {name: json.loads((project / "model/training.json").read_text()) for name, project in projects.items()}
    assert "rejected" in json.dumps(fingerprints["corrected"])
    assert "rejected" not in json.dumps(fingerprints["plain"])


def test_a_table_without_a_particle_is_refused_and_says_why(tmp_path):
    _, (_, alike) = make_volume(0, species=2)
    given = configuration(tmp_path / "p", rows(alike[:3], 0))
    with pytest.raises(InputError, match="no point of species 'ribosome'; its 3 rows are labelled 0"):
        train_model(given, out=None, overwrite=False, progress=Progress())
    assert not (tmp_path / "p/project/model").exists()
