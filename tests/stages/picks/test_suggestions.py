"""`suggest` names the places between sure particles and sure background, spread over the tomograms."""

import csv
import json

import numpy as np
import pytest
from cli_runner import tomostream
from store_files import write_store

from tomostream.stages.picks.suggestions import doubt, in_turns, spread
from tomostream.stages.shared.clicks import read_points

SHAPE = (16, 40, 40)
PLACES = [(8, y, x) for y in (5, 15, 25, 35) for x in (5, 15, 25, 35)]  # 10 voxels apart


def score_map(path, seed, *, contrast=1.0):
    """16 peaks: six sure (0.9), four doubtful (around 0.5), six hardly there (0.1); returns the doubtful places."""
    heights = np.array([0.9] * 6 + [0.56, 0.52, 0.48, 0.44] + [0.1] * 6)
    order = np.random.default_rng(seed).permutation(16)
    volume = np.zeros(SHAPE, dtype=np.float32)
    for place, height in zip(order, heights, strict=True):
        volume[PLACES[place]] = height * contrast + place * 1e-4
    write_store(path, volume, species="ribosome", kind="scores", levels=1, spacing=10.0)
    return {PLACES[place] for place in order[6:10]}


def places_in(table, tomogram):
    with open(table) as file:
        rows = [row for row in csv.DictReader(file) if row["tomogram"] == tomogram]
    if rows and "x_voxel" in rows[0]:
        return [tuple(round(float(row[f"{axis}_voxel"])) for axis in "zyx") for row in rows]
    return [tuple(round(float(row[f"{axis}_angstrom"]) / 10) for axis in "zyx") for row in rows]


@pytest.fixture
def maps(tmp_path):
    doubtful = {name: score_map(tmp_path / f"{name}.ome.zarr", seed, contrast=c) for seed, (name, c) in enumerate([("a", 1.0), ("b", 0.3)])}
    return tmp_path, doubtful


def test_half_of_the_places_are_around_the_expected_number_in_every_tomogram_whatever_its_contrast(maps):
    folder, doubtful = maps
    done = tomostream(
        "suggest",
        folder / "a.ome.zarr",
        folder / "b.ome.zarr",
        "--radius",
        "4vox",
        "--count",
        8,
        "--points",
        12,
        "-o",
        folder / "next.csv",
        "--json",
    )
    assert done.code == 0, done.err
    assert json.loads(done.out)["points"] == 12
    for name in ("a", "b"):
        places = places_in(folder / "next.csv", name)
        assert len(set(places)) == 6
        assert len(set(places) & doubtful[name]) >= 3
        assert len(set(places) - doubtful[name]) >= 2  # and some of the picks that seem sure


def test_places_that_were_clicked_are_left_out(maps):
    folder, doubtful = maps
    z, y, x = sorted(doubtful["a"])[0]
    (folder / "known.csv").write_text(f"tomogram,species,x_voxel,y_voxel,z_voxel\na,ribosome,{x + 2},{y},{z - 2}\n")
    done = tomostream(
        "suggest", folder / "a.ome.zarr", folder / "b.ome.zarr", "--radius", "4vox", "--count", 8, "--points", 6, "--known", folder / "known.csv",
        "-o", folder / "next.csv",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert (z, y, x) not in places_in(folder / "next.csv", "a")
    assert len(places_in(folder / "next.csv", "a")) == 3
    # in the unit of what is known, so that both can be given to the next training
    tables = [str(folder / "known.csv"), str(folder / "next.csv")]
    points = read_points(tables, ["ribosome"], ["a", "b"], "labels.train").position_zyx
    assert len(points) == 7
    assert (points == np.rint(points)).all()


def test_the_other_half_meets_particles_and_false_picks_where_the_expected_number_is_much_too_large():
    # of 444 picks the first 50 are 30 particles and 20 others; 222 are expected
    ranks = spread(np.arange(444), 222, 20)
    assert len(set(ranks)) == 20
    assert 6 <= sum(rank < 50 for rank in ranks) <= 14
    assert max(ranks) <= 222
    for part in (5, 10):  # any first part is spread as well
        assert 0.25 <= np.mean([rank < 56 for rank in ranks[:part]]) <= 0.75
    scores = np.linspace(1, 0, 444)
    places = in_turns(scores, np.arange(444), 222, 20)
    assert len(set(places.tolist())) == 20
    assert sum(abs(rank - 221) <= 6 for rank in places) >= 9
    assert sum(rank < 56 for rank in places) >= 4


def test_all_free_picks_are_suggested_once_if_there_are_few():
    free = np.array([1, 4, 5])
    assert sorted(in_turns(np.linspace(1, 0, 8), free, 4, 10).tolist()) == [1, 4, 5]
    assert len(in_turns(np.linspace(1, 0, 8), np.array([], dtype=np.int64), 4, 10)) == 0


def test_doubt_is_least_at_the_expected_rank():
    scores = np.array([1.0, 0.9, 0.6, 0.5, 0.4, 0.1])
    assert doubt(scores, 4).argmin() == 3
    assert (doubt(np.full(5, 0.3), 2) == 0).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--count", "8"), "--radius"), (("--radius", "4vox"), "--expected"), (("--radius", "4vox", "--count", "0"), "at least 1")],
)
def test_what_is_missing_is_named(maps, arguments, said):
    folder, _ = maps
    done = tomostream("suggest", folder / "a.ome.zarr", *arguments, "-o", folder / "next.csv")
    assert done.code == 2
    assert said in done.err
    assert not (folder / "next.csv").exists()
