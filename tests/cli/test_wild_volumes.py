"""Volumes as they are found: stores without unit, copick's layout, absurd spacings, files with odd names and without MRC's stamp."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from cli_runner import tomostream
from mrc_files import patch, random_volume, write_mrc
from store_files import noise, write_foreign

import tomostream as ts

SHAPE = (16, 20, 24)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def nounit(here):
    Path("p.csv").write_text("x_voxel,y_voxel,z_voxel\n12,12,8\n")
    return write_foreign(here / "nounit.zarr", [noise(*SHAPE)], unit=None, scale=1.0)


@pytest.mark.parametrize(
    "command",
    [
        ("labels", "nounit.zarr", "--points", "p.csv", "--radius", "50A", "-o", "l.ome.zarr"),
        ("pick", "nounit.zarr", "--radius", "50A", "--count", 2, "-o", "p"),
    ],
)
def test_a_store_without_unit_needs_the_voxel_size(nounit, command):
    refused = tomostream(*command)
    assert refused.code == 2
    assert all(word in refused.message for word in ("no unit", "--voxel-size", "voxel_size"))
    assert tomostream(*command, "--voxel-size", 10).code == 0
    if command[0] == "labels":
        assert 500 < int(np.asarray(ts.open("l.ome.zarr")).sum()) < 530  # a ball of 5 voxels, not of 50
        assert ts.open("l.ome.zarr").spacing == 10.0
    else:
        assert all(float(line.split(",")[2]) % 10 == 0 for line in Path("p/nounit.csv").read_text().splitlines()[1:])


def test_statistics_need_no_spacing_and_the_doubt_is_told(nounit):
    done = tomostream("stats", "nounit.zarr")
    assert (done.code, "no unit" in done.err) == (0, True)
    assert "spacing     unknown" in tomostream("inspect", "nounit.zarr").out


def test_a_voxel_size_that_the_store_contradicts_is_refused(here):
    write_foreign(here / "a.zarr", [noise(*SHAPE)], unit="angstrom", scale=10.0)
    done = tomostream("pick", "a.zarr", "--radius", "50A", "--count", 2, "-o", "p", "--voxel-size", 12)
    assert (done.code, "its voxels are 10 angstrom" in done.message) == (2, True)


def test_copicks_layout_names_tomograms_by_their_runs(here):
    for run in ("TS_001", "TS_002"):
        write_foreign(here / "ExperimentRuns" / run / "VoxelSpacing10.000" / "denoised.zarr", [noise(*SHAPE)], unit="angstrom", scale=10.0)
    stores = sorted(map(str, here.glob("ExperimentRuns/*/*/denoised.zarr")))
    for option in ([], ["--name-from-folder"]):
        done = tomostream("pick", *stores, "--radius", "50A", "--count", 3, "-o", "p", *option)
        assert done.code == 0, done.err
    assert sorted(path.name for path in Path("p").glob("*.csv")) == ["TS_001.csv", "TS_002.csv"]
    write_foreign(here / "ExperimentRuns" / "TS_001" / "VoxelSpacing10.000" / "wbp.zarr", [noise(*SHAPE)], unit="angstrom", scale=10.0)
    done = tomostream("pick", stores[0], stores[0].replace("denoised", "wbp"), "--radius", "50A", "--count", 3, "-o", "p")
    assert (done.code, "have the name 'TS_001'" in done.message) == (2, True)


def test_an_absurd_spacing_is_told_and_picking_ends_at_once(here):
    patch(write_mrc(here / "tiny.mrc", random_volume(SHAPE, np.float32)), 40, "<3f", 24e-9, 20e-9, 16e-9)
    assert "is implausible for an electron tomogram" in tomostream("convert", "tiny.mrc", "-o", "c").err
    start = time.monotonic()
    done = tomostream("pick", "c/tiny.ome.zarr", "--radius", "50A", "--count", 3, "-o", "p")
    assert time.monotonic() - start < 20
    assert "is implausible for an electron tomogram" in done.err
    assert len(Path("p/tiny.csv").read_text().splitlines()) == 2  # the best; all others are nearer than the radius


@pytest.mark.parametrize(("radius", "is_told"), [("1e9A", True), ("40A", False)])
def test_a_label_that_fills_the_volume_is_told(here, radius, is_told):
    write_foreign(here / "t.zarr", [noise(*SHAPE)], unit="angstrom", scale=10.0)
    (here / "p.csv").write_text("x_voxel,y_voxel,z_voxel\n4,4,4\n")
    done = tomostream("labels", "t.zarr", "--points", "p.csv", "--radius", radius, "-o", "l.ome.zarr")
    assert (done.code, "so one label fills it; check the radius" in done.err) == (0, is_told)


def test_a_cell_of_one_slice_is_named_where_it_makes_the_voxels_flat(here):
    patch(write_mrc(here / "s.mrc", random_volume(SHAPE, np.float32)), 36, "<i", 1)  # mz; the cell is that of the whole volume
    done = tomostream("inspect", "s.mrc")
    assert (done.code, "mz is 1" in done.message, "give the true spacing with --voxel-size" in done.message) == (2, True, True)


def test_a_path_that_goes_up_and_down_names_the_run(here):
    folder = here / "ExperimentRuns" / "TS_001" / "VoxelSpacing10.000"
    write_foreign(folder / "denoised.zarr", [noise(*SHAPE)], unit="angstrom", scale=10.0)
    done = tomostream("pick", f"{folder}/../VoxelSpacing10.000/denoised.zarr", "--radius", "50A", "--count", 3, "-o", "p")
    assert done.code == 0, done.err
    assert [path.name for path in Path("p").glob("*.csv")] == ["TS_001.csv"]


@pytest.mark.parametrize("radius", [1e2, 1e6, 1e300])
def test_a_radius_beyond_the_volume_leaves_the_best_pick(radius):
    volume = noise(*SHAPE)
    assert [tuple(one)[:3] for one in ts.pick(volume, radius=radius, count=3)] == [np.unravel_index(volume.argmax(), SHAPE)]


def test_a_file_name_that_is_no_text_fails_alone(here):
    write_mrc(here / "z.mrc", random_volume(SHAPE, np.float32))
    odd = os.fsdecode(b"lat\xe9.mrc")
    os.link(here / "z.mrc", here / odd)
    done = tomostream("convert", odd, "z.mrc", "-o", "c")
    assert done.code == 3
    assert "not UTF-8" in done.message
    assert os.listdir("c") == ["z.ome.zarr"]
    assert tomostream("inspect", odd).code == 2


def test_a_file_without_mrcs_stamp_is_converted_with_a_word(here):
    path = patch(write_mrc(here / "old.mrc", random_volume(SHAPE, np.float32)), 208, "4s", b"\0\0\0\0")
    done = tomostream("convert", "old.mrc", "-o", "c")
    assert (done.code, "not an MRC file: bytes 208-211" in done.err) == (0, True)
    path.write_bytes(path.read_bytes() + b"more")
    refused = tomostream("convert", "old.mrc", "-o", "d")
    assert (refused.code, "--assume-mrc" in refused.message) == (2, True)
    assert tomostream("convert", "old.mrc", "-o", "d", "--assume-mrc").code == 0
