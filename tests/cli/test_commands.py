import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from cli_runner import in_process_of_its_own, tomostream
from mrc_files import random_volume, write_mrc
from store_files import noise, tree, write_foreign, write_store

from tomostream.cli.options import spread_tomograms
from tomostream.tomogram import open_tomogram

COMMANDS = ("demo", "inspect", "convert", "stats", "labels", "train", "predict", "pick", "evaluate", "export", "import", "report", "run")
COMPUTING = ("convert", "stats", "labels", "train", "predict", "pick", "run")
HEADER = "tomogram,species,x_angstrom,y_angstrom,z_angstrom,score"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def mrc(here):
    return write_mrc(here / "a.mrc", random_volume((20, 24, 28), np.float32))


@pytest.fixture
def scores(here):
    for i in range(3):
        write_store(here / f"s/t{i}.ome.zarr", noise(20, 24, 28, seed=i), spacing=10.0, levels=1)
    return here / "s"


def table(path, *rows, header="x_voxel,y_voxel,z_voxel"):
    Path(path).write_text("\n".join([header, *rows]) + "\n")
    return path


# every command


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_shared_options(command, here):
    done = tomostream(command, "--help")
    assert done.code == 0
    assert "--json" in done.out
    for option in ("--cluster", "--scheduler", "--workers", "--threads", "--memory", "--gpu-memory"):
        alone = (command, option) == ("orient", "--memory")  # one process, no cluster
        assert (option in done.out) == (command in COMPUTING or alone)
    if command in ("convert", "labels", "predict", "train"):
        assert "--overwrite" in done.out


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], {"torch", "dask", "distributed", "pandas", "zarr", "scipy", "numcodecs"}),
        (["inspect", "a.mrc"], {"torch", "dask", "distributed", "pandas", "scipy", "zarr"}),
        (["export", "p.csv", "-o", "x.csv"], {"torch", "dask", "distributed", "pandas", "zarr", "scipy", "numcodecs"}),
        (
            ["export", "p.csv", "-o", "x.star", "--format", "star-relion4", "--unbinned-pixel-size", "2"],
            {"torch", "dask", "pandas", "zarr"},
        ),
        (["evaluate", "--picks", "p.csv", "--truth", "p.csv", "--tolerance", "10A"], {"torch", "dask", "distributed", "pandas", "zarr"}),
        pytest.param(["stats", "s"], {"torch", "distributed", "pandas"}, marks=pytest.mark.slow),
        pytest.param(
            ["pick", "s", "--radius", "4vox", "--count", "3", "-o", "p"], {"torch", "dask", "distributed", "pandas"}, marks=pytest.mark.slow
        ),
        pytest.param(
            ["labels", "s/t0.ome.zarr", "--points", "p.csv", "--radius", "4vox", "-o", "l.ome.zarr"],
            {"torch", "dask", "distributed", "pandas"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_imports_only_what_it_needs(arguments, absent, mrc, scores):
    table("p.csv", "t0,,10.0,20.0,30.0,1.0", header=HEADER)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tomostream", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 0, [line for line in lines if not line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "tomostream.cli.program" in imported
    assert not imported & absent


def test_what_is_missing_is_an_error_that_names_the_option(mrc, scores):
    for arguments, option in (
        (["convert"], "FILE..."),
        (["convert", "a.mrc"], "--output"),
        (["pick", "s", "-o", "p", "--count", "3"], "--radius"),
        (["labels", "s/t0.ome.zarr", "--radius", "3vox", "-o", "l"], "--points"),
        (["evaluate", "--picks", "p"], "--truth"),
        (["export", "p.csv"], "--output"),
        (["orient", "p.csv", "--tomograms", "s", "--radius", "3vox", "-o", "o.csv"], "--clicks"),
        (["orient", "p.csv", "--clicks", "p.csv", "--radius", "3vox", "-o", "o.csv"], "--tomograms"),
        (["run"], "CONFIG.yaml"),
    ):
        done = tomostream(*arguments)
        assert (done.code, done.out) == (2, "")
        assert option in done.err
    done = tomostream("pick", "s", "-o", "p", "--radius", "3vox")
    assert done.code == 2
    assert "--count N" in done.message
    assert "--threshold T" in done.message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["convert", "a.mrc", "-o", "o", "--memory", "5"], ["--memory", "'5'", "2GB"]),
        (["convert", "a.mrc", "-o", "o", "--gpu-memory", "lots"], ["--gpu-memory", "'lots'"]),
        (["convert", "a.mrc", "-o", "o", "--cluster", "cloud"], ["--cluster", "'cloud'", "none, local, slurm"]),
        (["convert", "a.mrc", "-o", "o", "--voxel-size", "0"], ["--voxel-size", "above zero", "found 0"]),
        (["convert", "a.mrc", "-o", "o", "--voxel-size", "nan"], ["--voxel-size", "found nan"]),
        (["convert", "a.mrc", "-o", "o", "--dtype", "int9"], ["int9", "keep, float32, float16, int8"]),
        (["convert", "a.mrc", "-o", "o", "--codec", "rar"], ["rar", "lz4-bitshuffle"]),
        (["convert", "a.mrc", "-o", "o", "--chunk", "0"], ["--chunk", "'0'", "64"]),
        (["convert", "a.mrc", "-o", "o", "--shard", "1,2"], ["--shard", "'1,2'"]),
        (["convert", "a.mrc", "-o", "o", "--memory", "100MB"], ["150 MB", "100 MB", "--memory"]),
        (["convert", "a.mrc", "-o", "a.mrc"], ["a.mrc", "another output folder"]),
        (["convert", "a.mrc", "-o", "/proc/none/here"], ["/proc/none/here", "another output folder"]),
        (["convert", "nothing.mrc", "-o", "o"], ["nothing.mrc", "No such file"]),
        (["convert", "s/t0.ome.zarr", "-o", "o"], ["t0.ome.zarr", "not an MRC file", "needs no conversion"]),
        (["stats", "nothing.zarr"], ["nothing.zarr", "does not exist"]),
        (["stats", "a.mrc"], ["a.mrc", "tomostream convert a.mrc"]),
        (["stats", "s/t0.ome.zarr", "--memory", "100MB"], ["100 MB", "--memory"]),
        (["stats", "s/t0.ome.zarr", "-o", "a.mrc"], ["a.mrc", "-o"]),
        (["pick", "s", "-o", "p", "--radius", "40", "--count", "3"], ["--radius", "'40'", "135A", "10vox"]),
        (["pick", "s", "-o", "p", "--radius", "-4vox", "--count", "3"], ["--radius", "-4vox"]),
        (["pick", "s", "-o", "p", "--radius", "4vox", "--count", "0"], ["--count", "at least 1", "found 0"]),
        (
            ["pick", "s", "-o", "p", "--radius", "4vox", "--count", "5", "--expected", "6"],
            ["--count 5", "--expected 6", "exclude each other"],
        ),
        (["pick", "s", "-o", "p", "--radius", "4vox", "--threshold", "nan"], ["--threshold", "nan"]),
        (["pick", "s", "-o", "p", "--radius", "4vox", "--count", "3", "--smooth", "2"], ["--smooth", "'2'"]),
        (["pick", "s", "-o", "p", "--radius", "4vox", "--count", "3", "--block-size", "x"], ["--block-size", "'x'"]),
        (["pick", "s/t0.ome.zarr", "-o", "p", "--radius", "4vox", "--count", "3", "--box", "0:9"], ["--box", "'0:9'", "z0:z1"]),
        (["pick", "s/t0.ome.zarr", "-o", "p", "--radius", "4vox", "--count", "3", "--box", "0:21,0:9,0:9"], ["--box", "0:21", "20,24,28"]),
        (["pick", "s/t0.ome.zarr", "-o", "p", "--radius", "4vox", "--count", "3", "--mask", "nothing"], ["nothing", "does not exist"]),
        (["pick", "s/t0.ome.zarr", "-o", "p", "--radius", "4vox", "--count", "3", "--mask", "small.zarr"], ["5,5,5", "20,24,28"]),
        (["pick", "s/t0.ome.zarr", "-o", "p", "--radius", "4vox", "--count", "3", "--memory", "100MB"], ["100 MB"]),
        (["pick", "s/t0.ome.zarr", "-o", "a.mrc", "--radius", "4vox", "--count", "3"], ["a.mrc", "-o"]),
        (["export", "p.csv", "-o", "x.foo"], ["x.foo", "--format", "star-relion5"]),
        (["export", "p.csv", "-o", "x", "--format", "foo"], ["'foo'", "star-relion5"]),
        (["export", "p.csv", "-o", "x.star", "--format", "star-relion5", "--voxel-size", "10"], ["shape", "'t0'", "--shape"]),
        (["export", "p.csv", "-o", "x.coords"], ["voxel spacing", "'t0'", "--voxel-size"]),
        (["export", "nothing", "-o", "x.csv"], ["nothing", "no file or folder"]),
        (["export", "p.csv", "-o", "x.csv", "--species", "fas"], ["fas", "ribosome"]),
        (["export", "p.csv", "-o", "a.mrc/x.csv"], ["a.mrc/x.csv", "another folder"]),
        (["import", "bare.csv", "-o", "x.csv"], ["--columns x,y,z --unit vox"]),
        (["import", "bare.csv", "-o", "x.csv", "--columns", "x,y,z"], ["--unit"]),
        (["import", "bare.csv", "-o", "x.csv", "--columns", "x,y,z", "--unit", "nm"], ["--unit", "'nm'"]),
        (["import", "bare.csv", "-o", "x.csv", "--columns", "x,y,z", "--unit", "vox"], ["--voxel-size"]),
        (["evaluate", "--picks", "nothing", "--truth", "p.csv"], ["nothing"]),
        (["evaluate", "--picks", "p.csv", "--truth", "p.csv", "--tolerance", "10"], ["--tolerance", "'10'"]),
        (["evaluate", "--picks", "p.csv", "--truth", "p.csv", "--matching", "best"], ["--matching", "best"]),
        (["evaluate", "--picks", "p.csv", "--truth", "p.csv"], ["10vox", "--voxel-size"]),
        (["evaluate", "--picks", "p.csv", "--truth", "p.csv", "--beta", "0"], ["--beta", "found 0"]),
        (["report", "s", "-o", "r.html"], ["s", "not the project folder of a run"]),
        (["run", "nothing.yaml"], ["nothing.yaml", "does not exist"]),
    ],
    ids=lambda value: " ".join(value) if value[0] in COMMANDS else "",
)
def test_bad_input_is_one_message_and_exit_2(arguments, words, mrc, scores):
    write_store("small.zarr", np.ones((5, 5, 5), np.uint8), levels=1)
    table("p.csv", "t0,ribosome,10.0,20.0,30.0,1.0", header=HEADER)
    Path("bare.csv").write_text("1,2,3\n")
    before = tree(".")
    done = tomostream(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.message.count("\n") == 0 or done.message.startswith("tomostream: error: all ")
    for word in words:
        assert word in done.message
    assert tree(".") == before


# convert, inspect, stats


def test_convert_says_what_it_made_and_skips_what_is_done(mrc):
    done = tomostream("convert", "a.mrc", "-o", "out", "--json")
    assert (done.code, done.json) == (0, ["out/a.ome.zarr"])
    assert done.err == "a: out/a.ome.zarr\n"
    before = tree("out")
    again = tomostream("convert", "a.mrc", "-o", "out", "--json")
    assert (again.code, again.out) == (0, done.out)
    assert "already made" in again.err
    assert tree("out") == before
    other = tomostream("convert", "a.mrc", "-o", "out", "--dtype", "int8")
    assert other.code == 2
    assert "--overwrite" in other.message
    assert tree("out") == before
    assert tomostream("convert", "a.mrc", "-o", "out", "--dtype", "int8", "--overwrite").code == 0
    assert open_tomogram("out/a.ome.zarr").dtype == np.int8


def test_two_inputs_of_one_name_are_refused_or_named_by_their_folders(mrc, scores):
    shutil.copy("a.mrc", Path(shutil.copytree("s", "x")) / "a.mrc")
    refused = tomostream("convert", "a.mrc", "x/a.mrc", "-o", "out")
    assert refused.code == 2
    for word in ("'a'", "a.mrc", "x/a.mrc", "--name-from-folder"):
        assert word in refused.message
    done = tomostream("convert", "a.mrc", "x/a.mrc", "-o", "out", "--name-from-folder", "--json")
    assert done.json == [f"out/{Path.cwd().name}.ome.zarr", "out/x.ome.zarr"]
    stores = ["s/t0.ome.zarr", "x/t0.ome.zarr"]
    assert tomostream("stats", *stores).code == 2
    assert [record["name"] for record in tomostream("stats", *stores, "--json", "--name-from-folder").json] == ["s", "x"]
    picked = tomostream("pick", *stores, "--radius", "4vox", "--count", "2", "-o", "p", "--name-from-folder", "--json")
    assert picked.json == ["p/s.csv", "p/x.csv"]
    assert Path("p/x.csv").read_text().splitlines()[1].startswith("x,")


def test_of_three_files_the_two_whole_ones_are_done_and_the_broken_one_is_named(mrc):
    Path("b.mrc").write_bytes(mrc.read_bytes()[:-5])
    shutil.copy("a.mrc", "c.mrc")
    done = tomostream("convert", "a.mrc", "b.mrc", "c.mrc", "-o", "out", "--json")
    assert (done.code, done.json) == (3, ["out/a.ome.zarr", "out/c.ome.zarr"])
    assert "1 of 3 inputs failed" in done.message
    assert "\n  b: b.mrc: is truncated" in done.message
    assert "54779" in done.message
    inspected = tomostream("inspect", "a.mrc", "b.mrc", "--json")
    assert inspected.code == 3
    assert [one["is_usable"] for one in inspected.json] == [True, False]
    Path("a.mrc").write_bytes(b"\x89PNG" * 1000)
    done = tomostream("convert", "a.mrc", "b.mrc", "-o", "none", "--json")
    assert (done.code, done.out) == (2, "")
    assert "all 2 inputs failed" in done.message
    assert not Path("none").exists()


def test_a_voxel_spacing_is_never_guessed(here):
    write_mrc(here / "b.mrc", random_volume((8, 8, 8), np.int16), spacing=None)
    done = tomostream("convert", "b.mrc", "-o", "out")
    assert done.code == 2
    assert "--voxel-size ANGSTROM" in done.message
    assert tomostream("convert", "b.mrc", "-o", "out", "--voxel-size", "7.5").code == 0
    assert open_tomogram("out/b.ome.zarr").spacing == 7.5


def test_stats_are_stored_with_our_stores_and_beside_other_softwares(scores):
    write_foreign("f/old.zarr", [noise(9, 9, 9)])
    before = tree("f/old.zarr")
    done = tomostream("stats", "s/t1.ome.zarr", "f/old.zarr", "--json")
    assert done.code == 0
    volume = noise(20, 24, 28, seed=1).astype(np.float64)
    ours, foreign = done.json
    assert list(ours) == ["name", "mean", "std", "clipped_mean", "clipped_std", "finite", "total"]
    assert ours["mean"] == pytest.approx(volume.mean(), abs=1e-6 * volume.std())
    assert ours["std"] == pytest.approx(volume.std(), rel=1e-6)
    assert (ours["finite"], ours["total"]) == (volume.size, volume.size)
    assert json.loads(Path("f/old.stats.json").read_text()) == foreign
    assert tree("f/old.zarr") == before
    assert open_tomogram("s/t1.ome.zarr").normalisation.mean == ours["mean"]
    assert tomostream("stats", "s", "-o", "d").code == 0
    assert sorted(path.name for path in Path("d").glob("[!.]*")) == ["t0.stats.json", "t1.stats.json", "t2.stats.json"]
    columns = tomostream("stats", "s/t1.ome.zarr").out.split("\n")
    assert columns[0].split() == list(ours)


def test_a_volume_without_finite_voxels_has_no_statistics_and_is_named(here):
    for name, value in (("nan", np.nan), ("const", 3.0)):
        write_store(f"s/{name}.ome.zarr", np.full((8, 8, 8), value, np.float32), levels=1)
    done = tomostream("stats", "s", "--json")
    assert done.code == 3
    assert [record["name"] for record in done.json] == ["const"]
    assert done.json[0]["std"] == 0
    assert "nan: " in done.message
    assert "512 voxels" in done.message


def test_a_damaged_store_is_named_with_its_file(scores):
    for file in Path("s/t1.ome.zarr/0/c").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:100])
    done = tomostream("pick", "s", "--radius", "4vox", "--count", "2", "-o", "p", "--json")
    assert (done.code, done.json) == (3, ["p/t0.csv", "p/t2.csv"])
    assert "s/t1.ome.zarr/0/c/" in done.message
    Path("s/t1.ome.zarr/zarr.json").write_text("{")
    assert "s/t1.ome.zarr" in tomostream("stats", "s/t1.ome.zarr").message


# labels


def test_labels_are_written_resumed_and_not_replaced_unasked(scores):
    label = ["labels", "s/t0.ome.zarr", "-o", "l.ome.zarr", "--points"]
    table("p.csv", "5,6,7", "20,18,15")
    done = tomostream(*label, "p.csv", "--radius", "40A", "--json")
    assert (done.code, done.json) == (0, {"path": "l.ome.zarr", "points": 2})
    z, y, x = np.indices((20, 24, 28))
    truth = ((z - 7) ** 2 + (y - 6) ** 2 + (x - 5) ** 2 <= 16) | ((z - 15) ** 2 + (y - 18) ** 2 + (x - 20) ** 2 <= 16)
    assert np.array_equal(open_tomogram("l.ome.zarr").zarr[...], truth)
    assert "already made" in tomostream(*label, "p.csv", "--radius", "4vox").err
    other = tomostream(*label, "p.csv", "--radius", "5vox")
    assert other.code == 2
    assert "--overwrite" in other.message
    assert tomostream(*label, "p.csv", "--radius", "5vox", "--overwrite").code == 0


def test_labels_of_several_species_are_numbered_and_the_first_wins(scores):
    table("p.csv", "t0,a,10,10,10", "t0,b,12,10,10", "t1,b,1,1,1", header="tomogram,species,x_voxel,y_voxel,z_voxel")
    assert tomostream("labels", "s/t0.ome.zarr", "-o", "l.ome.zarr", "--points", "p.csv", "--radius", "2vox", "--shape", "cube").code == 0
    mask = open_tomogram("l.ome.zarr")
    assert mask.zarr[10, 10, 7:16].tolist() == [0, 1, 1, 1, 1, 1, 2, 2, 0]
    assert mask.attributes["values"] == {"1": "a", "2": "b"}


def test_labels_never_replace_their_tomogram(scores):
    before = tree("s")
    table("p.csv", "5,6,7")
    done = tomostream("labels", "s/t0.ome.zarr", "-o", "s/t0.ome.zarr", "--points", "p.csv", "--radius", "3vox", "--overwrite")
    assert done.code == 2
    assert "is a tomogram" in done.message
    assert tree("s") == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty", "x_angstrom"]),
        ("x_voxel,y_voxel,z_voxel\n", ["no point", "'t0'"]),
        ("tomogram,x_voxel,y_voxel,z_voxel\nt9,1,1,1\n", ["no point", "'t0'", "t9"]),
        ("x_voxel,y_voxel,z_voxel\n5,5,27\n5,5,26\n", ["0 of 2", "95 %", "20,24,28", "27,5,5"]),
        ("x_voxel,y_voxel,z_voxel\n1,nan,3\n", ["line 2", "finite"]),
        ("x_voxel,y_voxel,z_voxel\n1,2\n", ["line 2", "2 fields"]),
        ("x_voxel,y_voxel,z_voxel\n1,2,three\n", ["line 2", "'three'"]),
        ("a,b,c\n1,2,3\n", ["a,b,c", "x_voxel,y_voxel,z_voxel"]),
        ("1,2,3\n", ["no header", "--columns"]),
    ],
)
def test_click_tables_that_cannot_be_meant_are_refused(text, words, scores):
    Path("p.csv").write_text(text)
    done = tomostream("labels", "s/t0.ome.zarr", "-o", "l.ome.zarr", "--points", "p.csv", "--radius", "3vox")
    assert done.code == 2
    assert "p.csv" in done.message
    for word in words:
        assert word in done.message
    assert not list(Path().glob("l.ome.zarr*"))


def test_a_few_points_outside_are_dropped_and_counted(scores):
    table("p.csv", *["5,6,7"] * 19, "500,6,7")
    done = tomostream("labels", "s/t0.ome.zarr", "-o", "l.ome.zarr", "--points", "p.csv", "--radius", "3vox", "--json")
    assert (done.code, done.json["points"]) == (0, 19)
    assert "1 of 20 points lie outside" in done.err


def test_headerless_tables_are_read_with_columns_and_unit(scores):
    Path("bare.csv").write_text("5,6,7\n")
    for unit, text in (("vox", "5,6,7\n"), ("A", "50,60,70\n")):
        Path("bare.csv").write_text(text)
        done = tomostream(
            "labels",
            "s/t0.ome.zarr",
            "-o",
            f"{unit}.ome.zarr",
            "--points",
            "bare.csv",
            "--radius",
            "3vox",
            "--columns",
            "x,y,z",
            "--unit",
            unit,
        )
        assert done.code == 0
    assert np.array_equal(open_tomogram("vox.ome.zarr").zarr[...], open_tomogram("A.ome.zarr").zarr[...])


# pick, evaluate, export, import


@pytest.mark.slow
def test_pick_writes_tables_and_makes_them_anew_with_other_settings(scores):
    write_foreign("f/old.zarr", [noise(20, 24, 28)])
    pick = ["pick", "s", "f/old.zarr", "--radius", "40A", "-o", "p", "--json"]
    done = tomostream(*pick, "--count", "5")
    assert (done.code, done.json) == (0, ["p/t0.csv", "p/t1.csv", "p/t2.csv", "p/old.csv"])
    lines = Path("p/t0.csv").read_text().splitlines()
    assert lines[0] == HEADER
    rows = [line.split(",") for line in lines[1:]]
    assert [float(row[5]) for row in rows] == sorted((float(row[5]) for row in rows), reverse=True)
    volume = noise(20, 24, 28)
    for tomogram, species, x, y, z, score in rows:
        assert (tomogram, species) == ("t0", "particle")
        assert volume[int(float(z) / 10), int(float(y) / 10), int(float(x) / 10)] == np.float32(score)
    before = tree("p")
    assert "is a tomogram that `tomostream convert` made, not a score map" in done.err  # `write_store` makes them so
    assert "f/old.zarr is a tomogram" not in done.err
    again = tomostream(*pick, "--count", "5", "--block-size", "7")
    assert again.err.count("already made") == 4
    assert tree("p") == before
    anew = tomostream(*pick, "--count", "3")
    assert anew.code == 0
    assert "t0: p/t0.csv is replaced: it was made with other settings (count 5, now 3)" in anew.err
    assert "radius 40A, now 5vox" in tomostream("pick", "s", "--radius", "5vox", "--count", "3", "-o", "p").err
    assert len(Path("p/t0.csv").read_text().splitlines()) == 4
    assert tomostream(*pick, "--count", "5").code == 0
    assert tree("p") == before


def test_picks_are_made_anew_when_the_scores_or_the_table_have_changed(here):
    write_foreign("f.zarr", [noise(12, 12, 12)])
    pick = ["pick", "f.zarr", "--radius", "3vox", "--count", "4", "-o", "p"]
    assert tomostream(*pick).code == 0
    first = Path("p/f.csv").read_text()
    Path("p/f.csv").write_text(first.replace("f,particle", "f,partikel"))
    assert tomostream(*pick).code == 0
    assert Path("p/f.csv").read_text() == first
    write_foreign("new.zarr", [noise(12, 12, 12, seed=5)])
    for chunk in Path("new.zarr/0").rglob("*.*.*"):  # the voxels, not the metadata
        if chunk.is_file():
            shutil.copyfile(chunk, Path("f.zarr") / chunk.relative_to("new.zarr"))
    assert tomostream(*pick).code == 0
    assert Path("p/f.csv").read_text() != first


def test_a_count_that_is_not_reached_is_said_and_an_empty_table_is_a_table(scores):
    done = tomostream("pick", "s/t0.ome.zarr", "--radius", "40A", "--threshold", "1e9", "-o", "p")
    assert done.code == 0
    assert Path("p/t0.csv").read_text() == HEADER + "\n"
    done = tomostream("pick", "s/t0.ome.zarr", "--radius", "90A", "--count", "9999", "-o", "p")
    assert "fewer than the 9999" in done.err


def test_evaluate_scores_the_tomograms_with_a_table(scores):
    assert tomostream("pick", "s", "--radius", "40A", "--count", "5", "-o", "truth").code == 0
    Path("picks").mkdir()
    shutil.copy("truth/t0.csv", "picks/t0.csv")
    Path("picks/t1.csv").write_text(HEADER + "\n")
    done = tomostream(
        "evaluate",
        "--picks",
        "picks",
        "--truth",
        "truth",
        "--tolerance",
        "3vox",
        "--tomograms",
        *map(str, sorted(scores.iterdir())),
        "--json",
        "-o",
        "e/x.json",
        "--curve",
        "c.csv",
    )
    assert done.code == 0, done.err
    assert {key: done.json["pooled"][key] for key in ("tp", "fp", "fn")} == {"tp": 5, "fp": 0, "fn": 5}
    assert done.json["pooled"]["f1"] == pytest.approx(2 / 3)
    assert list(done.json["tomograms"]) == ["t0", "t1"]
    assert json.loads(Path("e/x.json").read_text()) == done.json
    assert "not scored, because they have no table of picks: t2" in done.err
    assert Path("c.csv").read_text().startswith("species,threshold,precision,recall\nparticle,")
    shown = tomostream("evaluate", "--picks", "picks", "--truth", "truth", "--tolerance", "30A", "--matching", "one-to-one")
    assert [line.split()[0] for line in shown.out.splitlines()] == ["tomogram", "t0", "t1", "pooled"]
    shutil.copy("truth/t0.csv", "picks/copy.csv")
    twice = tomostream("evaluate", "--picks", "picks", "--truth", "truth", "--tolerance", "30A")
    assert twice.code == 2
    assert "picks/copy.csv and picks/t0.csv" in twice.message


def test_evaluate_reads_headerless_truth(here):
    table("t.csv", "1,2,3", "9,9,9")
    Path("truth.csv").write_text("1,2,3\n20,20,20\n")
    done = tomostream(
        "evaluate", "--picks", "t.csv", "--truth", "truth.csv", "--columns", "x,y,z", "--unit", "vox", "--tolerance", "1vox", "--json"
    )
    assert {key: done.json["pooled"][key] for key in ("tp", "fp", "fn")} == {"tp": 1, "fp": 1, "fn": 1}


@pytest.mark.parametrize(
    ("name", "kind"), [("x.parquet", "parquet"), ("x.star", "star-relion5"), ("x", "copick"), ("x.coords", "coords"), ("x.csv", "csv")]
)
def test_export_and_import_bring_the_picks_back(name, kind, scores):
    assert tomostream("pick", "s/t0.ome.zarr", "--radius", "40A", "--count", "5", "-o", "p", "--species", "fas").code == 0
    facts = ["--tomograms", "s/t0.ome.zarr"]
    done = tomostream("export", "p", "-o", name, "--format", kind, *facts, "--json")
    assert (done.code, done.json) == (0, {"path": name, "particles": 5, "tomograms": ["t0"]})
    back = tomostream("import", name, "--format", kind, "-o", "back.csv", *facts, "--tomogram", "t0", "--species", "fas", "--json")
    assert back.code == 0, back.err
    original, returned = (np.genfromtxt(file, delimiter=",", skip_header=1, usecols=(2, 3, 4)) for file in ("p/t0.csv", "back.csv"))
    assert np.allclose(original, returned, atol=1e-5)
    assert Path("back.csv").read_text().splitlines()[1].startswith("t0,fas,")


def test_tomograms_takes_several_stores_as_a_shell_gives_them():
    arguments = ["export", "--tomograms", "a.zarr", "b.zarr/", "picks", "-o", "x", "--tomograms", "s", "c.zarr", "--species", "d.zarr"]
    assert spread_tomograms(arguments) == (
        [
            "export",
            "--tomograms",
            "a.zarr",
            "--tomograms",
            "b.zarr/",
            "picks",
            "-o",
            "x",
            "--tomograms",
            "s",
            "--tomograms",
            "c.zarr",
            "--species",
            "d.zarr",
        ]
    )


# real layouts


@pytest.mark.slow
def test_clicks_truth_and_headerless_tables_of_the_data_are_read(data_folder, here):
    simulated = data_folder / "pombe_sim"
    done = tomostream("evaluate", "--picks", simulated / "clicks_DEF_01_train_100.csv", "--truth", simulated / "truth.csv", "--json")
    assert done.json["pooled"]["tp"] == 100
    assert "DEF_02" in done.err
    given = ["--columns", "x,y,z", "--unit", "vox", "--voxel-size", "13.48", "--tomogram", "TS_037", "--species", "fas", "--json"]
    done = tomostream("import", data_folder / "empiar10988_coordinates" / "TS_037_fas.csv", "-o", "fas.csv", *given)
    assert (done.code, done.json["particles"]) == (0, 22)
    assert Path("fas.csv").read_text().splitlines()[1] == "TS_037,fas,2035.48,11875.88,4340.56,"  # what is reckoned, to a millionth


# disks, signals, terminals


def mounted(folder, *options):
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], check=False, capture_output=True).returncode
    ):
        pytest.skip("mounting a small tmpfs needs root")


@pytest.fixture
def full_disk(here):
    """A disk of 1 MB."""
    folder = here / "full"
    mounted(folder, "size=1m")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def read_only_disk(here):
    folder = here / "fixed"
    mounted(folder, "ro")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_message_and_leaves_nothing_half_written(full_disk, here):
    write_mrc(here / "a.mrc", random_volume((72, 72, 72), np.float32))
    done = tomostream("convert", "a.mrc", "-o", "full/out")
    assert done.code == 2
    assert "1.05 MB free" in done.message
    (full_disk / "filling").write_bytes(bytes(2**20 - 64 * 1024))
    write_store("s.ome.zarr", noise(64, 64, 64), levels=1, spacing=10.0, chunk=(32,) * 3, shard=(64,) * 3)
    table("p.csv", "5,6,7")
    for command in (
        ["pick", "s.ome.zarr", "--radius", "1vox", "--threshold", "0", "-o", "full/p"],
        ["labels", "s.ome.zarr", "--points", "p.csv", "--radius", "20vox", "-o", "full/l.ome.zarr"],
    ):
        done = tomostream(*command)
        assert done.code == 2
        assert "full" in done.message
        assert "space" in done.message
    with (full_disk / "filling").open("ab") as filling:
        filling.write(bytes(4096 * (os.statvfs(full_disk).f_bavail)))
    for command in (
        ["stats", "s.ome.zarr", "-o", "full/d"],
        ["export", "p.csv", "-o", "full/x.csv", "--voxel-size", "10"],
        ["evaluate", "--picks", "p.csv", "--truth", "p.csv", "-o", "full/x.json"],
    ):
        done = tomostream(*command)
        assert done.code == 2
        assert "space" in done.message
    left = {str(path.relative_to(full_disk)) for path in full_disk.rglob("*") if path.is_file()}
    assert {name for name in left if not name.startswith("l.ome.zarr.partial/")} == {"filling"}
    (full_disk / "filling").unlink()
    assert tomostream("labels", "s.ome.zarr", "--points", "p.csv", "--radius", "20vox", "-o", "full/l.ome.zarr").code == 0


def test_a_read_only_folder_is_refused_before_any_work(read_only_disk, mrc, scores):
    table("p.csv", "5,6,7")
    for command in (
        ["convert", "a.mrc", "-o", "fixed"],
        ["pick", "s", "--radius", "3vox", "--count", "2", "-o", "fixed"],
        ["labels", "s/t0.ome.zarr", "--points", "p.csv", "--radius", "3vox", "-o", "fixed/l.ome.zarr"],
        ["stats", "s", "-o", "fixed"],
        ["export", "p.csv", "-o", "fixed/x.csv", "--voxel-size", "10"],
    ):
        done = tomostream(*command)
        assert done.code == 2
        assert "fixed" in done.message
        assert "can't be written" in done.message


@pytest.mark.slow
def test_output_that_cannot_be_written_is_told(mrc):
    for target, code in (("/dev/full", 2), ("| head -c 1", 0)):
        command = f"{sys.executable} -m tomostream inspect a.mrc " + (target if "|" in target else f"> {target}")
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == code
        assert "Traceback" not in done.stderr
    assert (
        "disk is full"
        in subprocess.run(
            ["bash", "-c", f"{sys.executable} -m tomostream --version > /dev/full"], capture_output=True, text=True, check=False
        ).stderr
    )


def start(*arguments):
    return subprocess.Popen([sys.executable, "-m", "tomostream", *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(pattern):
    deadline = time.monotonic() + 30
    while not any(Path().glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_a_convert_leaves_no_whole_looking_store_and_the_rerun_ends_the_same(number, code, here):
    write_mrc(here / "a.mrc", random_volume((64, 160, 160), np.float32))
    convert = ["convert", "a.mrc", "--shard", "16", "--chunk", "8", "--codec", "zstd"]
    running = start(*convert, "-o", "out")
    wait_for("out/a.ome.zarr.partial/0/c/0")
    running.send_signal(number)
    error = running.communicate(timeout=30)[1]
    assert running.returncode == code
    assert error == "tomostream: error: interrupted; run the same command again to go on\n"
    assert [path.name for path in Path("out").iterdir()] == ["a.ome.zarr.partial"]
    assert "not finished" in tomostream("stats", "out/a.ome.zarr").message
    assert tomostream(*convert, "-o", "out").code == 0
    assert tomostream(*convert, "-o", "ref").code == 0
    assert tree("out") == tree("ref")


def processes_of_group(group):
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getpgid(process.pid) == group:
                found.append(process)
    return found


@pytest.mark.slow
def test_ctrl_c_ends_a_local_cluster_without_a_traceback_or_an_orphan(here):
    names = [str(write_mrc(here / f"a{i}.mrc", random_volume((32, 128, 128), np.float32, seed=i)).name) for i in range(4)]
    running = start("convert", *names, "-o", "out", "--shard", "16", "--chunk", "8", "--cluster", "local", "--workers", "2")
    wait_for("out/*.partial/0/c/0")
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    error = running.communicate(timeout=30)[1]
    assert running.returncode == 130
    assert "Traceback" not in error
    assert error.splitlines()[-1] == "tomostream: error: interrupted; run the same command again to go on"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (left := processes_of_group(running.pid)):
        time.sleep(0.05)
    assert not left


@pytest.mark.slow
def test_a_terminal_shows_progress_with_the_time_left(here):
    write_mrc(here / "a.mrc", random_volume((32, 96, 96), np.float32))
    own, its = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "tomostream", "convert", "a.mrc", "-o", "out", "--shard", "16", "--chunk", "8"],
        stderr=its,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(its)
    shown = b""
    while True:
        try:
            shown += os.read(own, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
    os.close(own)
    assert running.wait() == 0
    assert b"convert a" in shown
    assert b"left" in shown
    assert b"72/72" in shown


def test_a_bug_is_told_as_one_without_a_traceback(mrc, monkeypatch):
    monkeypatch.setattr("tomostream.store.preflight.inspect_file", lambda path, **_: 1 / 0)
    done = tomostream("inspect", "a.mrc")
    assert done.code == 1
    assert "a bug of tomostream (ZeroDivisionError" in done.message
    assert "TOMOSTREAM_DEBUG=1" in done.message


def test_the_module_runs_as_the_program(here):
    assert in_process_of_its_own("--version").out.strip()[0].isdigit()
