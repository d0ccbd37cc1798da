"""What is odd about clicks and expected numbers is told before any work, by the dry run and by the run, with the lines to look at."""

import numpy as np
import pytest
import yaml
from ball_tomograms import RADIUS_VOX, ball_positions, ball_volume, write_mrc
from cli_runner import tomostream

from tomostream.formats.csv_table import row_lines
from tomostream.stages.training.click_doubts import most_spheres

CLICKS = ball_positions(1, 25)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doubts")
    write_mrc(folder / "t1.mrc", ball_volume(CLICKS, 1))
    return folder


def configured(data, tmp_path, monkeypatch, rows, **values):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clicks.csv").write_text("x_voxel,y_voxel,z_voxel\n" + rows)
    (tmp_path / "truth.csv").write_text("x_voxel,y_voxel,z_voxel\n")
    species = {"name": "ball", "radius": f"{RADIUS_VOX}vox", "expected": 30} | values.pop("species", {})
    given = {"project": "p", "tomograms": [str(data / "t1.mrc")], "species": [species], "labels": {"train": ["clicks.csv"]}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(given | {"objective": {"name": "average"}} | values))


def rows(points=CLICKS):
    return "".join(f"{x:.2f},{y:.2f},{z:.2f}\n" for z, y, x in points)


@pytest.mark.slow
def test_clicks_outside_are_told_with_their_lines(data, tmp_path, monkeypatch):
    configured(data, tmp_path, monkeypatch, f"# a comment\n\n{rows()}500,20,20\n")
    for arguments in (["--dry-run"], ["--stage", "convert", "--stage", "train"]):
        done = tomostream("run", "run.yaml", *arguments)
        assert done.code == 0
        assert done.err.count("1 of 26 clicks lie outside tomogram 't1' and are left out: clicks.csv, line 29") == 1, done.err
        assert "points lie outside" not in done.err
    assert "clicks lie outside" in (tmp_path / "p" / "log.jsonl").read_text()  # though told before the folder was there


@pytest.mark.slow
def test_a_click_and_a_true_particle_a_little_outside_are_told_and_stop_nothing(data, tmp_path, monkeypatch):
    little, clearly = "20,-0.8,20\n", "20,-2,20\n"
    configured(data, tmp_path, monkeypatch, rows(CLICKS[:12]) + little, truth="truth.csv")
    (tmp_path / "truth.csv").write_text("x_voxel,y_voxel,z_voxel\n" + rows(CLICKS[:12]) + little)
    for arguments in (["--dry-run"], []):
        done = tomostream("run", "run.yaml", *arguments)
        assert done.code == 0, done.err
        assert (
            done.err.count("labels.train: 1 of 13 points lie up to 0.3 voxels outside tomogram 't1' and are taken to be at its face") == 1
        )
        assert done.err.count("truth truth.csv: 1 of 13 points lie up to 0.3 voxels outside tomogram 't1'") == 1
    for table in ("truth.csv", "clicks.csv"):
        before = (tmp_path / table).read_text()
        (tmp_path / table).write_text(before.replace(little, clearly))
        assert "12 of 13" in tomostream("run", "run.yaml", "--dry-run").message
        (tmp_path / table).write_text(before)


@pytest.mark.slow
def test_what_is_sound_is_told_nothing_of(data, tmp_path, monkeypatch):
    configured(data, tmp_path, monkeypatch, rows(), species={"expected": 30})
    assert tomostream("run", "run.yaml", "--dry-run").err == ""


@pytest.mark.slow
def test_clicks_given_twice_are_told(data, tmp_path, monkeypatch):
    configured(data, tmp_path, monkeypatch, rows() + rows(CLICKS[:1]))
    assert "t1, ball: 1 of 26 points are duplicates" in tomostream("run", "run.yaml", "--dry-run").err


@pytest.mark.slow
def test_more_particles_than_spheres_fit_are_told(data, tmp_path, monkeypatch):
    configured(data, tmp_path, monkeypatch, rows(), species={"expected": 100_000})
    done = tomostream("run", "run.yaml", "--dry-run")
    assert done.code == 0
    assert "species 'ball': expected is 100000 in tomogram 't1', but its 48 x 160 x 160 voxels hold at most" in done.err


@pytest.mark.slow
def test_a_radius_that_is_clearly_off_is_told_by_the_dry_run(data, tmp_path, monkeypatch):
    configured(data, tmp_path, monkeypatch, rows(), species={"radius": "20vox"})
    done = tomostream("run", "run.yaml", "--dry-run")
    assert done.code == 0
    assert "the configuration says 20; a wrong radius costs much of F1" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--dry-run"], ["--stage", "convert", "--stage", "evaluate"]])
def test_a_truth_without_a_row_is_told(data, tmp_path, monkeypatch, arguments):
    configured(data, tmp_path, monkeypatch, rows(), truth="truth.csv")
    assert "truth truth.csv has no row, only a header" in tomostream("run", "run.yaml", *arguments).err


def test_the_densest_packing_is_no_fewer_than_what_was_packed():
    rng = np.random.default_rng(0)
    shape, radius, found = (20, 40, 40), 4.0, []
    for point in rng.uniform(0, 1, (20_000, 3)) * shape:
        if all(np.linalg.norm(point - other) >= 2 * radius for other in found):
            found.append(point)
    assert len(found) <= most_spheres(shape, radius) < 20 * len(found)


def test_lines_are_those_of_the_rows(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("# c\nx_voxel,y_voxel,z_voxel\n1,2,3\n\n# c\n4,5,6\n")
    assert row_lines(table) == [3, 6]
    assert row_lines(tmp_path / "t.star") is None
