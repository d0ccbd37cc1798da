"""Picks get the rotations with which particles were placed; where there are none to find, that is said, and nothing is written."""

import subprocess
import sys

import numpy as np
import pytest
import starfile
from cli_runner import tomostream
from peak_memory import PEAK
from store_files import write_store
from turned_particles import RADIUS_VOX, SPACING, angles_off, turned_particles, write_points

import tomostream as ts
from tomostream.budget import LIBRARIES_BYTES
from tomostream.orientations import matrices
from tomostream.orienting.solving import solving_bytes

LAYOUT, CLICKED, NOISE = (2, 4, 8), 40, 0.5


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A tomogram of 64 particles, clicks on 40 of them, and picks of all, each a little beside."""
    folder = tmp_path_factory.mktemp("turned")
    volume, centres, rotations = turned_particles(LAYOUT, seed=1, noise=NOISE)
    rng = np.random.default_rng(2)
    write_store(folder / "t.ome.zarr", volume, spacing=SPACING)
    write_points(folder / "clicks.csv", centres[:CLICKED] + rng.normal(0, 0.7, (CLICKED, 3)))
    picks = centres + rng.normal(0, 0.7, centres.shape)
    write_points(folder / "picks.csv", picks)
    return folder, volume, centres, rotations


def orient(folder, *more, picks="picks.csv", clicks="clicks.csv", store="t.ome.zarr", output="oriented.csv"):
    given = ["orient", folder / picks, "--clicks", folder / clicks, "--tomograms", folder / store, "--radius", f"{RADIUS_VOX}vox"]
    return tomostream(*given, "-o", folder / output, *more)


@pytest.fixture(scope="module")
def oriented(ground):
    folder = ground[0]
    done = orient(folder, "--refine-positions", "--json")
    assert done.code == 0, done.err
    return ts.read_particles(folder / "oriented.csv"), done.json


@pytest.mark.slow
def test_picks_are_turned_as_their_particles_were_placed(ground, oriented):
    found, told = oriented
    off = angles_off(found.rotation, ground[3])
    assert np.median(off) < 8
    assert (off < 20).mean() > 0.9
    by_chance = angles_off(np.roll(found.rotation, 1, axis=0), ground[3])
    assert (by_chance < 20).mean() < 0.3
    assert told["oriented"] == told["picks"] == len(found) == 64
    assert told["averaged"] == CLICKED
    assert told["agreement"] > 0.45


@pytest.mark.slow
def test_positions_are_refined_if_asked_for_and_rows_stay_in_order(ground, oriented):
    folder, _, centres, _ = ground
    picks = ts.read_particles(folder / "picks.csv").position_zyx
    refined = oriented[0].position_zyx / SPACING
    assert np.sqrt(((refined - centres) ** 2).sum(axis=1).mean()) < 0.7 * np.sqrt(((picks - centres) ** 2).sum(axis=1).mean())


@pytest.mark.slow
def test_relion_gets_the_angles(ground, oriented):
    folder = ground[0]
    done = tomostream(
        "export", folder / "oriented.csv", "-o", folder / "p.star", "--format", "star-relion5", "--tomograms", folder / "t.ome.zarr"
    )
    assert done.code == 0, done.err
    angles = starfile.read(folder / "p.star")[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()
    np.testing.assert_allclose(matrices(angles, "relion"), oriented[0].rotation, atol=1e-4)


@pytest.mark.slow
def test_a_turned_tomogram_turns_the_answers(ground, oriented, tmp_path):
    folder, volume, centres, rotations = ground
    # a quarter turn about z: x y z becomes y, -x, z; the tilt axis is then x
    quarter = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    turned = np.rot90(volume, 1, axes=(1, 2))
    last_x = volume.shape[2] - 1
    write_store(tmp_path / "t.ome.zarr", np.ascontiguousarray(turned), spacing=SPACING)
    for name in ("clicks.csv", "picks.csv"):
        z, y, x = ts.read_particles(folder / name).position_zyx.T
        write_points(tmp_path / name, np.stack([z, last_x - x, y], axis=1))
    z, y, x = np.rint(centres[0]).astype(int)
    assert turned[z, last_x - x, y] == volume[z, y, x]
    clicks, store = ts.read_particles(tmp_path / "clicks.csv"), tmp_path / "t.ome.zarr"
    oriented_too = ts.orient(tmp_path / "picks.csv", clicks, store, radius=f"{RADIUS_VOX}vox", tilt_axis="x", memory="1GB")
    np.testing.assert_array_equal(oriented_too.position_zyx, ts.read_particles(tmp_path / "picks.csv").position_zyx)
    found = oriented_too.rotation
    off = angles_off(found, quarter @ rotations)
    assert np.median(off) < 8
    assert np.median(angles_off(found, quarter @ oriented[0].rotation)) < 10


@pytest.mark.slow
def test_where_there_is_no_orientation_it_says_so_and_writes_nothing(tmp_path):
    volume, centres, _ = turned_particles(LAYOUT, seed=3, noise=NOISE, is_ball=True)
    write_store(tmp_path / "t.ome.zarr", volume, spacing=SPACING)
    for name, points in (("clicks.csv", centres[:CLICKED]), ("picks.csv", centres)):
        write_points(tmp_path / name, points)
    done = orient(tmp_path)
    assert done.code == 2
    assert "can't tell how these particles are turned" in done.message
    assert "Nothing is written" in done.message
    assert not (tmp_path / "oriented.csv").exists()


@pytest.mark.slow
def test_few_clicks_are_helped_by_the_best_picks_and_a_pick_at_the_rim_has_no_rotation(ground, tmp_path):
    folder, _, centres, rotations = ground
    write_points(tmp_path / "few.csv", centres[:5])
    rim = np.concatenate([centres, [[0.0, 0.0, 0.0]]])
    write_points(tmp_path / "rim.csv", rim)
    out = tmp_path / "o.csv"
    given = [
        "orient", tmp_path / "rim.csv", "--clicks", tmp_path / "few.csv", "--tomograms", folder / "t.ome.zarr", "--radius", "70A", "-o", out,
    ]  # fmt: skip
    refused = tomostream(*given)
    assert (refused.code, "found 5" in refused.message, "--best 5 or more" in refused.message) == (2, True, True)
    done = tomostream(*given, "--best", 45, "--json")
    assert done.code == 0, done.err
    assert (done.json["averaged"], done.json["oriented"], done.json["picks"]) == (50, 64, 65)
    found = ts.read_particles(out).rotation
    assert np.isnan(found[-1]).all()
    assert np.median(angles_off(found[:-1], rotations)) < 8


@pytest.mark.slow
def test_other_chunks_give_the_same_bytes_within_the_projected_memory(ground, oriented, tmp_path):
    folder, volume, _, _ = ground
    assert len(oriented[0]) == 64
    write_store(tmp_path / "t.ome.zarr", volume, spacing=SPACING, chunk=(16, 16, 16), shard=(32, 32, 32))
    script = f"import sys; from tomostream.cli.main import main\ntry:\n    main()\nexcept SystemExit:\n    pass\nprint({PEAK})"
    places = ["picks.csv", "--clicks", "clicks.csv", "--tomograms", tmp_path / "t.ome.zarr", "--radius", f"{RADIUS_VOX}vox"]
    command = [sys.executable, "-c", script, "orient", *map(str, places), "-o", "again.csv", "--refine-positions"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert (folder / "again.csv").read_bytes() == (folder / "oriented.csv").read_bytes()
    assert int(done.stdout.split()[-1]) <= LIBRARIES_BYTES + solving_bytes(CLICKED, RADIUS_VOX)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--radius", "2vox"], "2 voxels of 10 A; orient needs 4 to 120"),
        (["--radius", "130vox"], "orient needs 4 to 120"),
        (["--tilt-range", "60,-60"], "--tilt-range must be two angles from -90 to 90 degrees, the smaller first, found 60,-60"),
        (["--tilt-range", "60"], "as -60,60; found '60'"),
        (["--tilt-axis", "z"], "--tilt-axis must be x or y, found 'z'"),
        (["--species", "fas"], "--species fas"),
        (["--memory", "100MB"], "but --memory is 100 MB"),
    ],
)
def test_wrong_settings_are_refused_before_any_work(ground, more, words):
    done = orient(ground[0], *more, output="refused.csv")
    assert done.code == 2
    assert words in done.message
    assert not (ground[0] / "refused.csv").exists()


@pytest.mark.parametrize("output", ["picks.csv", "clicks.csv", "o.star"])
def test_what_is_read_is_not_written_over_and_other_formats_are_exported(ground, output):
    before = (ground[0] / "picks.csv").read_bytes()
    done = orient(ground[0], output=output)
    assert (done.code, "give another CSV file" in done.message) == (2, True)
    assert (ground[0] / "picks.csv").read_bytes() == before


def test_tables_that_do_not_fit_together_are_refused(ground, tmp_path):
    folder, _, centres, _ = ground
    for name, facts in (("fas", {"species": "fas"}), ("u", {"tomogram": "u"})):
        write_points(tmp_path / f"{name}.csv", centres, **facts)
    (tmp_path / "two.csv").write_text((folder / "picks.csv").read_text() + "t,fas,20,20,20\n")
    (tmp_path / "none.csv").write_text("tomogram,species,x_voxel,y_voxel,z_voxel\n")
    for picks, clicks, words in (
        ("picks.csv", tmp_path / "fas.csv", "--clicks has fas, and the picks are blob"),
        (tmp_path / "u.csv", "clicks.csv", "name the tomograms u, and --tomograms has t"),
        (tmp_path / "two.csv", "clicks.csv", "several species (blob, fas); choose one with --species"),
        (tmp_path / "none.csv", "clicks.csv", "no picks to orient"),
        ("picks.csv", tmp_path / "none.csv", "has no point"),
    ):
        done = orient(folder, picks=picks, clicks=clicks, output="refused.csv")
        assert (done.code, words in done.message) == (2, True), done.message


def test_tomograms_of_two_spacings_are_refused(ground, tmp_path):
    folder, volume, centres, _ = ground
    write_store(tmp_path / "s" / "t.ome.zarr", volume, spacing=SPACING)
    write_store(tmp_path / "s" / "u.ome.zarr", volume, spacing=12.0)
    rows = (folder / "picks.csv").read_text()
    (tmp_path / "both.csv").write_text(rows + rows.partition("\n")[2].replace("t,blob", "u,blob"))
    done = orient(folder, picks=tmp_path / "both.csv", store=tmp_path / "s", output="refused.csv")
    assert (done.code, "'u' has voxels of 12 A, 't' of 10 A" in done.message) == (2, True)
    assert len(centres) == 64
