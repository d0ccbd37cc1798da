"""Tables as they are found: what other software, editors and spreadsheets make of them.  Each case once gave wrong positions, or a fault."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cli_runner import tomostream
from hypothesis import given
from hypothesis import strategies as st
from repository import TESTS

from tomostream.errors import InputError
from tomostream.formats.registry import FORMATS, Conversion, read_table, write_table
from tomostream.particles import Particles
from tomostream.progress import Progress

WILD = TESTS / "data" / "wild"
TEN = Conversion(spacing=10.0)
PIXELS = "star-tomogram-pixels"


class Heard(Progress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def say(self, text: str) -> None:
        self.texts.append(text)

    warn = say


def xyz_ang(file: str, name: str | None = None, facts: Conversion = TEN) -> list[list[float]]:
    read = read_table(WILD / file, format_name=name, conversion=facts)
    return facts.to_unit(read, "angstrom", "test").position_zyx[:, ::-1].tolist()


@pytest.mark.parametrize(
    ("file", "name", "expected"),
    [
        ("star/pixel_origins.star", PIXELS, [[900, 2050, 475], [1280, 2060, 590]]),
        ("star/two_origins.star", PIXELS, [[920, 2050, 500]]),
        ("copick/p_shift.json", None, [[130, 180, 310]]),
        ("star/optics_images.star", "star-relion4", [[13.5, 27, 40.5]]),
        ("star/optics_nonloop.star", "star-relion4", [[13.5, 27, 40.5]]),
        ("csv/c_comment_first.csv", None, [[10, 20, 30]]),
        ("csv/c_comment_comma.csv", None, [[10, 20, 30]]),
        ("csv/c_sep.csv", None, [[10, 20, 30]]),
        ("text/k_bom.coords", None, [[10, 20, 30], [40, 50, 60]]),
        ("text/k_comment.coords", None, [[10, 20, 30]]),
        ("text/n_bom.ndjson", None, [[10, 20, 30]]),
        ("text/n_u2028.ndjson", None, [[10, 20, 30]]),
        ("text/p_bom.json", None, [[1, 2, 3]]),
        ("parquet/q_caps.parquet", None, [[10, 20, 30]]),
        ("parquet/q_names.parquet", None, [[10, 20, 30]]),
    ],
)
def test_positions_are_where_the_file_means_them(file, name, expected):
    assert np.allclose(xyz_ang(file, name), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("file", "name", "message"),
    [
        ("star/normalised.star", PIXELS, r"within 0\.\.1.*WarpTools.*multiply"),
        ("star/normalised.star", "star-relion4", r"within 0\.\.1"),
        ("star/pixel_origins.star", "star-relion4", "shifts in pixels.*does not give the pixel size"),
        ("star/px_contra.star", PIXELS, r"pixels of 5\.36 A \(rlnPixelSize\).*are 10 A"),
        ("star/dup_col.star", PIXELS, "line 9.*rlnCoordinateX twice"),
        ("star/fewer_cols.star", PIXELS, "line 13 has 7 values, but 8 columns are named"),
        ("copick/two_users", None, r"alice_1_ribosome\.json and .*tomotwin_9_ribosome\.json both hold.*--user"),
        ("copick/p_nan.json", None, "must be finite, particle 1"),
        ("copick/p_inf.json", None, "must be finite, particle 1"),
        ("parquet/q_nan.parquet", None, "must be finite, particle 1"),
        ("parquet/q_inf.parquet", None, "must be finite, particle 1"),
        ("parquet/q_score_text.parquet", None, "particle 1: score must be a number, found 'high'"),
        ("parquet/q_x_badtext.parquet", None, "particle 1: x_angstrom must be a number, found 'a'"),
        ("parquet/q_cplx.parquet", None, "particle 1: score must be a number"),
        ("csv/c_underscore_num.csv", None, "x_voxel must be a number, found '1_000'"),
    ],
)
def test_what_can_t_be_meant_is_refused(file, name, message):
    with pytest.raises(InputError, match=message):
        read_table(WILD / file, format_name=name, conversion=Conversion(spacing=10.0, options={"unbinned_pixel_size": 2.0}))


@pytest.mark.parametrize("name", ["csv", "parquet", "coords", "napari", "portal-ndjson", PIXELS, "star-relion4", "dynamo", "cmm"])
def test_fractions_of_a_volume_are_refused_in_every_format(tmp_path, name):
    facts = Conversion(spacing=1.0, options={"unbinned_pixel_size": 1.0})
    rows = Particles.build(np.array([[0.1, 0.5, 0.9], [0.3, 0.2, 1.0]], float), unit="angstrom", tomogram="t")
    write_table(tmp_path / f"t{FORMATS[name].ending}", rows, format_name=name, conversion=facts)
    with pytest.raises(InputError, match=r"within 0\.\.1"):
        read_table(tmp_path / f"t{FORMATS[name].ending}", format_name=name, conversion=facts)


def star(path: Path, columns: str, *rows: str, block: str = "particles") -> Path:
    names = "\n".join(f"_{name} #{i}" for i, name in enumerate(columns.split(), 1))
    path.write_text(f"\ndata_{block}\n\nloop_\n{names}\n" + "\n".join(rows) + "\n")
    return path


XYZ = "rlnTomoName rlnCoordinateX rlnCoordinateY rlnCoordinateZ"


def test_a_mended_star_file_is_read_anew(tmp_path):
    path = star(tmp_path / "a.star", XYZ, "TS_01 10 20 30", "TS_01 10 20 30 40 50")
    with pytest.raises(InputError, match="line 10 has 6 values"):
        read_table(path, format_name=PIXELS)
    star(path, XYZ, "TS_01 99 88 77")
    assert read_table(path, format_name=PIXELS).position_zyx.tolist() == [[77, 88, 99]]


def test_rows_with_too_many_values_never_shift_into_each_other(tmp_path):
    """Two rows of six values are three rows of four to a reader that doesn't look at lines."""
    path = star(tmp_path / "a.star", XYZ, "a 1 2 3 b 4", "5 6 c 7 8 9")
    with pytest.raises(InputError, match="line 9 has 6 values, but 4"):
        read_table(path, format_name=PIXELS)


def test_shifts_in_angstrom_and_in_pixels_together_are_refused(tmp_path):
    path = star(tmp_path / "a.star", f"{XYZ} rlnOriginXAngst rlnOriginX", "a 10 20 30 5 1")
    with pytest.raises(InputError, match=r"in angstrom.*and in pixels"):
        read_table(path, format_name=PIXELS, conversion=TEN)


def test_a_pixel_size_by_magnification_is_compared_too(tmp_path):
    path = star(tmp_path / "a.star", f"{XYZ} rlnDetectorPixelSize rlnMagnification", "a 10 20 30 5.0 10000")
    assert len(read_table(path, format_name=PIXELS, conversion=Conversion(spacing=5.0))) == 1
    with pytest.raises(InputError, match=r"pixels of 5 A.*are 10 A"):
        read_table(path, format_name=PIXELS, conversion=TEN)


@pytest.mark.parametrize(
    ("name", "optics", "columns", "values", "expected"),
    [
        (PIXELS, "", ["rlnTomoTiltSeriesPixelSize"], "1.35", ["1.35 A, the voxels of tomogram 'TS' are 10 A", "star-relion4"]),
        (PIXELS, "", ["rlnImagePixelSize"], "5.4", ["rlnImagePixelSize 5.4 A"]),
        (PIXELS, "", ["rlnDetectorPixelSize"], "7.1", ["rlnDetectorPixelSize 7.1 A"]),
        (PIXELS, "\ndata_optics\n\nloop_\n_rlnOpticsGroup\n_rlnTomoTiltSeriesPixelSize\n1 1.35\n", [], "", ["1.35 A"]),
        ("star-relion4", "", ["rlnPixelSize"], "5.4", ["rlnPixelSize 5.4 A", "pixels of 2 A"]),
        (PIXELS, "", ["rlnImagePixelSize"], "10.0", []),
        (PIXELS, "", ["rlnDetectorPixelSize", "rlnMagnification"], "5.0 5000", []),
    ],
)
def test_a_pixel_size_that_may_contradict_is_told(tmp_path, name, optics, columns, values, expected):
    named = "".join(f"_{column}\n" for column in ["rlnTomoName", "rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ", *columns])
    (tmp_path / "x.star").write_text(f"{optics}\ndata_particles\n\nloop_\n{named}TS 10 20 30 {values}\n")
    heard = Heard()
    read_table(
        tmp_path / "x.star", format_name=name, conversion=Conversion(spacing=10.0, options={"unbinned_pixel_size": 2.0}, progress=heard)
    )
    assert len(heard.texts) == bool(expected)
    assert all(word in heard.texts[0] for word in expected)


def test_every_optics_group_has_its_own_pixel_size(tmp_path):
    path = star(tmp_path / "a.star", "rlnOpticsGroup rlnTomoTiltSeriesPixelSize", "1 2.0", "2 3.0", block="optics")
    optics = path.read_text()
    star(path, f"{XYZ} rlnOpticsGroup", "a 10 20 30 2", "a 10 20 30 1")
    path.write_text(optics + path.read_text())
    assert read_table(path, format_name="star-relion4").position_zyx.tolist() == [[90, 60, 30], [60, 40, 20]]
    path.write_text(path.read_text().replace("a 10 20 30 1", "a 10 20 30 7"))
    with pytest.raises(InputError, match="rlnOpticsGroup 7 of the particles"):
        read_table(path, format_name="star-relion4")


def test_two_blocks_of_particles_are_not_chosen_between(tmp_path):
    one = star(tmp_path / "a.star", XYZ, "a 1 2 3", block="first").read_text()
    path = star(tmp_path / "a.star", XYZ, "a 4 5 6", block="second")
    path.write_text(one + path.read_text())
    with pytest.raises(InputError, match="data_first, data_second"):
        read_table(path, format_name=PIXELS)
    path.write_text(path.read_text().replace("data_second", "data_particles"))
    assert read_table(path, format_name=PIXELS).position_zyx.tolist() == [[6, 5, 4]]


# names


@pytest.mark.parametrize(
    "written", ["TS_01.tomostar", "TS_01.mrc", "TS_01.rec.gz", "job6/tomograms/rec_TS_01.mrc", "/data/TS_01.ome.zarr", "TS_01"]
)
@pytest.mark.parametrize("name", ["csv", "parquet", PIXELS, "copick", "dynamo"])
def test_one_rule_names_tomograms_in_every_format(tmp_path, name, written):
    path = tmp_path / f"x{FORMATS[name].ending}"
    if name == "copick":
        point = {"location": {"x": 1, "y": 2, "z": 3}}
        path.write_text(json.dumps({"pickable_object_name": "a", "run_name": written, "points": [point]}))
    else:
        write_table(
            path, Particles.build(np.array([[30, 20, 10]], float), unit="angstrom", tomogram=written), format_name=name, conversion=TEN
        )
    assert read_table(path, format_name=name).tomograms() == ["TS_01"]


def test_a_name_that_leads_out_of_the_folder_stays_one_and_is_never_written(tmp_path):
    table = tmp_path / "p.csv"
    (tmp_path / "in").mkdir()
    for name in ("../../../escaped", str(tmp_path / "escaped"), "..", "a\\b"):
        pd.DataFrame({"tomogram": [name], "x_angstrom": [10], "y_angstrom": [20], "z_angstrom": [30]}).to_csv(table, index=False)
        for form, ending in (("copick", ""), ("cmm", "/"), ("coords", "/")):
            done = tomostream("export", table, "-o", f"{tmp_path}/in/a/b/c{ending}", "--format", form, "--voxel-size", 10)
            assert done.code == 2, name
            assert "can't be a file's name" in done.message
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [table]
    assert not (tmp_path / "escaped").exists()


def test_relions_file_of_a_tomogram_is_the_tomogram(tmp_path):
    facts = Conversion(spacings={"rec_TS_01": 10.0}, shapes={"rec_TS_01": (16, 24, 24)})
    rows = Particles.build(np.array([[80, 110, 100.0]], float), unit="angstrom", tomogram="rec_TS_01", species="a")
    heard = Heard()
    path = tmp_path / "p.star"
    write_table(path, rows, format_name="star-relion5", conversion=Conversion(facts.spacings, facts.shapes, progress=heard))
    assert "TS_01\t" in path.read_text()
    assert "rec_" not in path.read_text()
    assert heard.texts == ["renamed for RELION: 'rec_TS_01' is 'TS_01'"]
    back = read_table(path, conversion=facts)
    assert back.tomograms() == ["rec_TS_01"]  # as its store is called here
    assert np.allclose(back.position_zyx, rows.position_zyx)
    with pytest.raises(InputError, match=r"'TS_01'.*those given are named other"):
        read_table(path, conversion=Conversion({"other": 10.0}, {"other": (1, 1, 1)}))
    both = Particles.concatenate([rows, rows.renamed({"rec_TS_01": "TS_01"})])
    with pytest.raises(InputError, match="another tomogram already has that name"):
        write_table(path, both, format_name="star-relion4", conversion=Conversion(options={"unbinned_pixel_size": 1.0}))


def test_missing_names_are_empty_and_broken_ones_refused(tmp_path):
    assert read_table(WILD / "parquet" / "q_tomo_none.parquet").tomograms() == ["", "TS_01"]
    assert read_table(WILD / "copick" / "p_objnum.json").species_names() == [""]
    table = pd.DataFrame({"tomogram": [1, 2], "species": [None, float("nan")], "x_voxel": [1, 5], "y_voxel": [2, 5], "z_voxel": [3, 5]})
    assert Particles.from_dataframe(table).tomograms() == ["1", "2"]
    assert Particles.from_dataframe(table).species_names() == [""]
    for bad in ([1], {"a": 1}, b"x", True):
        with pytest.raises(InputError, match="particle 1: species must be a name"):
            Particles.from_dataframe(table.assign(species=pd.Series([bad, "x"], dtype=object)))
    (tmp_path / "t.csv").write_text(
        'tomogram,species,x_voxel,y_voxel,z_voxel\nt,"a,1,2,3\nt,b",4,5,6\n'
    )  # a quote that closes a line too late
    with pytest.raises(InputError, match=r"line break.*quote"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["it's", "a b", "data_1", "loop_", "_x", "001", "ö"])
def test_names_come_back_from_star_files(tmp_path, name):
    path = tmp_path / "p.star"
    write_table(path, Particles.build(np.array([[1, 2, 3.0]], float), unit="voxel", tomogram=name), format_name=PIXELS)
    assert read_table(path, format_name=PIXELS).tomograms() == [name]


def test_names_that_star_readers_cut_are_refused_on_writing(tmp_path):
    for name in ("TS#1", "#1", 'a "b" c'):
        with pytest.raises(InputError, match="rename it"):
            write_table(
                tmp_path / "p.star", Particles.build(np.array([[1, 2, 3.0]], float), unit="voxel", tomogram=name), format_name=PIXELS
            )
    assert read_table(WILD / "star" / "hash_name.star", format_name=PIXELS).tomograms() == ["TS#1"]


def test_a_name_that_begins_like_a_comment_comes_back_and_an_unquoted_one_is_told(tmp_path):
    written = Particles.build(np.array([[1, 2, 3.0], [4, 5, 6]], float), unit="angstrom", tomogram=["#1", "TS#1"], species="a")
    write_table(tmp_path / "p.csv", written)
    assert read_table(tmp_path / "p.csv").tomograms() == ["#1", "TS#1"]
    heard = Heard()
    assert read_table(WILD / "csv" / "c_hash_in.csv", conversion=Conversion(progress=heard)).tomograms() == ["TS#1"]
    assert len(heard.texts) == 1
    assert "line 2 (1 in all) begins with #" in heard.texts[0]


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=8).filter(
    lambda name: name == name.strip() and name not in ("nan", "NaN", "None", "<NA>") and not name.endswith((".mrc", ".gz"))
)


@given(st.lists(st.tuples(names, names), min_size=1, max_size=5))
def test_any_name_comes_back_from_our_tables(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("t")
    written = Particles.build(np.full((len(rows), 3), 5.0), unit="angstrom", tomogram=[t for t, _ in rows], species=[s for _, s in rows])
    for path in (folder / "p.csv", folder / "p.parquet"):
        write_table(path, written)
        read = read_table(path)
        assert read.tomogram.tolist() == written.tomogram.tolist()
        assert read.species.tolist() == written.species.tolist()


# what the caller says against what the file says


@pytest.mark.parametrize("unit", ["voxel", "angstrom"])
def test_a_position_that_is_too_large_for_the_other_unit_is_refused(unit):
    far = Particles.build(np.array([[1.0, 2.0, 1e308]]), unit=unit, tomogram="TS")
    facts = Conversion(spacing=10.0 if unit == "voxel" else 0.01)
    other = "angstrom" if unit == "voxel" else "voxel"
    with pytest.raises(InputError, match=rf"in {other}s: every position must be finite, particle 1 is at x inf"):
        facts.to_unit(far, other, "test")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("x.ndjson", '{"type":"point","location":{"x":1,"x":9,"y":2,"z":3}}', "line 1 .*the key 'x' is there twice"),
        ("x.ndjson", "[1]", "a value is of another kind than expected"),
        ("x.ndjson", '{"type":"point","location":{"x":1}}', "it has no 'z'"),
        ("x.ndjson", '{"type":"point","location":{"x":' + "9" * 5000 + ',"y":1,"z":1}}', "finite numbers"),
        ("x.json", '{"points":[{"location":{"x":1,"y":2,"z":3}}],"points":[]}', "the key 'points' is there twice"),
        ("x.json", '{"points":{"a":1}}', "a value is of another kind than expected"),
    ],
)
def test_broken_json_is_explained_in_words(tmp_path, file, text, message):
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=message) as refused:
        read_table(tmp_path / file, conversion=TEN)
    assert not any(word in str(refused.value) for word in ("KeyError", "TypeError", "object has no attribute", "set_int_max_str_digits"))


def test_a_dynamo_map_that_names_one_number_twice_is_refused(tmp_path):
    (tmp_path / "x.tbl").write_text(" ".join(["1"] * 40) + "\n")
    (tmp_path / "x.doc").write_text("1 A.mrc\n1 B.mrc\n")
    with pytest.raises(InputError, match="gives number 1 to several tomograms"):
        read_table(tmp_path / "x.tbl", conversion=TEN)


@pytest.mark.parametrize("file", ["copick/p_shift.json", "star/tomoname_tomostar.star", "star/pixel_origins.star", "csv/c_tomo_ext.csv"])
def test_an_option_wins_over_the_one_name_in_the_file(file, tmp_path):
    form = ["--format", PIXELS] if file.endswith(".star") else []
    done = tomostream("import", WILD / file, *form, "--voxel-size", 10, "--tomogram", "X", "--species", "Y", "-o", tmp_path / "o.csv")
    assert done.code == 0, done.err
    read = read_table(tmp_path / "o.csv")
    assert (read.tomograms(), read.species_names()) == (["X"], ["Y"])


def test_an_option_is_refused_where_the_file_has_several_names(tmp_path):
    done = tomostream("import", WILD / "csv" / "coll.csv", "--species", "Y", "-o", tmp_path / "o.csv")
    assert (done.code, "names 3 species" in done.message) == (2, True)
    done = tomostream("import", WILD / "csv" / "swap.csv", "--tomogram", "Y", "-o", tmp_path / "o.csv")
    assert (done.code, "names 3 tomograms (A, B, C)" in done.message) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["csv/c_tomo_ext.csv", "--unit", "A"], "in voxels, but --unit says angstroms"),
        (["parquet/q_caps.parquet", "--columns", "x,y,z", "--unit", "A"], "are for tables without a header (csv), but parquet names"),
        (["star/tomoname_tomostar.star", "--format", PIXELS, "--binning", "4"], "is for star-relion4"),
        (["csv/c_tomo_ext.csv", "--user", "alice"], "--user is for copick, but the format is csv"),
        (["copick/p_shift.json", "--unbinned-pixel-size", "2"], "is for star-relion4, but the format is copick"),
    ],
)
def test_options_that_contradict_or_serve_nothing_are_refused(arguments, message, tmp_path):
    done = tomostream("import", WILD / arguments[0], *arguments[1:], "--voxel-size", 10, "-o", tmp_path / "o.csv")
    assert done.code == 2
    assert message in done.message


def test_a_users_picks_are_chosen_from_a_copick_project(tmp_path):
    project = WILD / "copick" / "two_users"
    assert len(read_table(project, conversion=Conversion(options={"user": "alice"}))) == 1
    assert len(read_table(project, conversion=Conversion(options={"session": "9"}))) == 1
    with pytest.raises(InputError, match=r"no picks of --user bob; it has those of alice \(session 1\), tomotwin \(session 9\)"):
        read_table(project, conversion=Conversion(options={"user": "bob"}))
    truth = tmp_path / "truth.csv"
    write_table(truth, Particles.build(np.array([[310, 180, 130.0]], float), unit="angstrom", tomogram="TS_01", species="ribosome"))
    refused = tomostream("evaluate", "--picks", project, "--truth", truth, "--tolerance", "5A")
    assert (refused.code, "both hold picks" in refused.message) == (2, True)
    done = tomostream("evaluate", "--picks", project, "--truth", truth, "--tolerance", "5A", "--user", "alice", "--json")
    assert done.json["pooled"]["f1"] == 1


def test_two_tables_of_one_answer_are_not_joined_on_import(tmp_path):
    for name in ("a", "b"):
        write_table(
            tmp_path / "t" / f"{name}.csv", Particles.build(np.array([[3, 2, 1.0]], float), unit="angstrom", tomogram="TS_01", species="r")
        )
    done = tomostream("import", tmp_path / "t", "--format", "csv", "-o", tmp_path / "o.csv")
    assert done.code == 2
    assert "both hold picks of 'r' in tomogram 'TS_01'" in done.message


def test_evaluate_reads_the_folders_that_export_writes(tmp_path):
    rows = Particles.build(np.array([[30, 20, 10.0], [60, 50, 40]], float), unit="angstrom", tomogram=["A", "B"], species=["r", "s"])
    write_table(tmp_path / "all.csv", rows)
    assert (
        tomostream(
            "export", tmp_path / "all.csv", "-o", f"{tmp_path}/b/", "--format", "cbox", "--box-size", "4vox", "--voxel-size", 10
        ).code
        == 0
    )
    done = tomostream(
        "evaluate", "--picks", tmp_path / "b", "--picks-format", "cbox", "--truth", tmp_path / "all.csv", "--voxel-size", 10, "--json"
    )
    assert done.code == 0, done.err
    assert {name: part["pooled"]["tp"] for name, part in done.json["species"].items()} == {"r": 1, "s": 1}


# one export


def test_classes_are_numbered_alike_in_all_files_of_an_export(tmp_path):
    done = tomostream("export", WILD / "csv" / "swap.csv", "-o", f"{tmp_path}/o/", "--format", "coords", "--voxel-size", 10)
    assert "the classes are 1 ribosome, 2 spliceosome" in done.err
    classes = {p.stem: [line.split()[0] for line in p.read_text().splitlines()] for p in (tmp_path / "o").iterdir()}
    assert classes == {"A": ["1", "2"], "B": ["2", "1"], "C": ["2"]}


def test_species_that_copick_can_t_tell_apart_are_refused_and_renamed_ones_told(tmp_path):
    done = tomostream("export", WILD / "csv" / "coll.csv", "-o", tmp_path / "c", "--format", "copick")
    assert done.code == 2
    assert "'beta_gal' and 'beta-gal'" in done.message
    assert not (tmp_path / "c").exists()
    write_table(tmp_path / "one.csv", Particles.build(np.array([[3, 2, 1.0]], float), unit="angstrom", tomogram="A", species="beta gal"))
    done = tomostream("export", tmp_path / "one.csv", "-o", tmp_path / "c", "--format", "copick")
    assert "'beta gal' is 'beta-gal'" in done.err


def test_what_is_reckoned_prints_no_digits_of_the_arithmetics(tmp_path):
    facts = Conversion(spacing=13.48, shape=(100, 100, 100))
    write_table(
        tmp_path / "p.star",
        Particles.build(np.array([[16, 16, 16.0]], float), unit="voxel", tomogram="t"),
        format_name="star-relion5",
        conversion=facts,
    )
    assert "t\t-458.32\t-458.32\t-458.32\n" in (tmp_path / "p.star").read_text()


# faults


def test_broken_json_and_csv_of_any_size_are_refused(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "deep.ndjson").write_text("[" * 100_000)
    (tmp_path / "big.json").write_text('{"pickable_object_name": "a", "points": [{"location": {"x": 1' + "0" * 400 + ', "y": 1, "z": 1}}]}')
    (tmp_path / "quote.csv").write_text("tomogram,x_voxel,y_voxel,z_voxel\n" + 'TS_01,"1,2,3\n' + "TS_01,1,2,3\n" * 20_000)
    (tmp_path / "napari.csv").write_text("index,axis-0,axis-1,axis-2\n0,1,2,3\n0,1,2,3,4\n")
    for name in ("deep.json", "deep.ndjson", "big.json", "quote.csv"):
        with pytest.raises(InputError, match=name):
            read_table(tmp_path / name)
    with pytest.raises(InputError, match="point 2: 5 fields, expected 4"):
        read_table(tmp_path / "napari.csv", format_name="napari")


@pytest.mark.parametrize(
    "header",
    [
        "tomogram,tomogram_name,x_voxel,y_voxel,z_voxel",
        "x_voxel,x_voxel,y_voxel,z_voxel",
        "x_voxel,y_voxel,z_voxel,x_angstrom,y_angstrom,z_angstrom",
    ],
)
def test_columns_that_say_one_thing_twice_are_refused(tmp_path, header):
    values = ",".join("12345678"[: header.count(",") + 1])
    (tmp_path / "t.csv").write_text(f"{header}\n{values}\n")
    with pytest.raises(InputError, match=r"twice|both name"):
        read_table(tmp_path / "t.csv")


@pytest.mark.slow
def test_text_is_utf8_under_every_locale(tmp_path):
    shutil.copy(WILD / "csv" / "latin.csv", tmp_path / "in.csv")
    for name, ending in (
        ("csv", "csv"),
        ("coords", "coords"),
        (PIXELS, "star"),
        ("napari", "csv"),
        ("copick", "json"),
        ("portal-ndjson", "ndjson"),
    ):
        out = tmp_path / f"{name}.{ending}"
        command = ["-X", "utf8=0", "-m", "tomostream", "export", tmp_path / "in.csv", "-o", out, "--format", name, "--voxel-size", "10"]
        done = subprocess.run(
            [sys.executable, *command], env=os.environ | {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"}, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        out.read_bytes().decode("utf-8")
        if name in ("csv", PIXELS, "copick"):
            assert read_table(out, format_name=name).tomograms() == ["TS_é"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("star-relion4", {"options": {"unbinned_pixel_size": 2.0}}),
        ("dynamo", {"spacing": 10.0}),
        ("star-relion5", {"spacing": 10.0, "shape": (9, 9, 9)}),
    ],
)
def test_many_tomograms_take_no_more_time_than_few(tmp_path, name, facts):
    """Tomograms x particles would be 40 times as much."""
    rng = np.random.default_rng(0)
    seconds = {}
    for count in (20, 800):
        rows = Particles.build(rng.uniform(0, 500, (8000, 3)), unit="angstrom", tomogram=[f"TS_{i % count}" for i in range(8000)])
        start = time.process_time()
        path = tmp_path / f"p{FORMATS[name].ending}"
        write_table(path, rows, format_name=name, conversion=Conversion(**facts))
        read_table(path, format_name=name, conversion=Conversion(**facts))
        seconds[count] = time.process_time() - start
    assert seconds[800] < 4 * seconds[20] + 0.2


# sizes and names that a file says in a second place


def with_optics(path, columns, row, optics, values):
    """A STAR file whose optics say the size of a pixel."""
    heads = "".join(f"_{column}\n" for column in (*columns, "rlnOpticsGroup"))
    groups = "".join(f"{i} {value}\n" for i, value in enumerate(values, 1))
    described = "".join(f"_{column}\n" for column in ("rlnOpticsGroup", *optics))
    path.write_text(f"\ndata_optics\n\nloop_\n{described}{groups}\n\ndata_particles\n\nloop_\n{heads}{row}\n")
    return path


@pytest.mark.parametrize(("optics", "value"), [(["rlnPixelSize"], "5.36"), (["rlnDetectorPixelSize", "rlnMagnification"], "5 10000")])
def test_a_pixel_size_in_the_optics_is_compared_as_one_in_the_rows_is(tmp_path, optics, value):
    columns = [column.removeprefix("_") for column in ("rlnTomoName", "rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")]
    path = with_optics(tmp_path / "a.star", columns, "TS_01 10 20 30 2", optics, ["8 1" if len(optics) > 1 else "8", value])
    with pytest.raises(InputError, match=r"pixels of 5.*but the voxels of tomogram 'TS_01' are 10 A"):
        read_table(path, format_name=PIXELS, conversion=TEN)
    same = "10 10000" if len(optics) > 1 else "10"
    path = with_optics(tmp_path / "b.star", columns, "TS_01 10 20 30 2", optics, ["8 1" if len(optics) > 1 else "8", same])
    assert read_table(path, format_name=PIXELS, conversion=TEN).position_zyx.tolist() == [[30, 20, 10]]


def test_fractions_of_a_volume_may_lie_a_little_outside_of_it(tmp_path):
    path = star(tmp_path / "a.star", XYZ, "a 0.1 0.2 0.3\na 0.5 -0.01 1.02")
    with pytest.raises(InputError, match="fractions of the volume"):
        read_table(path, format_name=PIXELS, conversion=TEN)


def copick_file(root, run, file, species, said):
    path = root / "ExperimentRuns" / run / "Picks" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    point = {"location": {"x": 100, "y": 200, "z": 300}}
    path.write_text(json.dumps({"pickable_object_name": species, "run_name": said, "points": [point]}))


def test_the_folder_of_a_copick_run_names_it_and_a_file_that_says_another_is_told(tmp_path):
    copick_file(tmp_path, "TS_01", "alice_1_a.json", "a", "TS_01")
    copick_file(tmp_path, "TS_02", "alice_1_a.json", "a", "TS_01")
    heard = Heard()
    read = read_table(tmp_path, format_name="copick", conversion=Conversion(progress=heard))
    assert read.tomogram.tolist() == ["TS_01", "TS_02"]
    assert ["run_name is 'TS_01'" in text and "folder of run 'TS_02'" in text for text in heard.texts] == [True]


def test_two_copick_files_of_one_object_are_not_joined_whatever_their_names(tmp_path):
    copick_file(tmp_path, "TS_01", "alice_1_ribo.json", "ribosome", "TS_01")
    copick_file(tmp_path, "TS_01", "alice_1_ribosome.json", "ribosome", "TS_01")
    with pytest.raises(InputError, match=r"alice_1_ribo\.json and .*alice_1_ribosome\.json both hold picks of 'ribosome'"):
        read_table(tmp_path, format_name="copick")


def test_a_parquet_column_that_is_there_twice_is_named(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = [pa.array([float(i)]) for i in range(10, 14)]
    pq.write_table(pa.table(numbers, names=["x_angstrom", "x_angstrom", "y_angstrom", "z_angstrom"]), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="has the column 'x_angstrom' twice"):
        read_table(tmp_path / "a.parquet")


@pytest.mark.parametrize(("size", "is_told"), [("1e-9", True), ("0.1348", True), ("500", True), ("13.48", False)])
def test_an_implausible_voxel_size_on_the_command_line_is_told(tmp_path, size, is_told):
    (tmp_path / "a.csv").write_text("tomogram,x_voxel,y_voxel,z_voxel\nTS_01,10,20,30\n")
    done = tomostream("import", tmp_path / "a.csv", "-o", tmp_path / "b.csv", "--voxel-size", size)
    assert done.code == 0
    assert ("is implausible for an electron tomogram (0.5 to 100)" in done.err) == is_told


BOTH = (*(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"), *(f"rlnCoordinate{axis}" for axis in "XYZ"))


def both_kinds(folder, rows, optics=""):
    """A STAR file with centred coordinates and those in pixels; each row is `x y z` of both."""
    columns = "\n".join(f"_{name} #{i}" for i, name in enumerate(("rlnTomoName", *BOTH), 1))
    path = folder / "both.star"
    path.write_text(f"{optics}\ndata_particles\n\nloop_\n{columns}\n" + "".join(f"TS_01 {row}\n" for row in rows))
    return path


TILT_SERIES = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnTomoTiltSeriesPixelSize #2\n1 2.5\n"
SIZED = Conversion(spacing=10.0, shape=(40, 60, 80))  # its centre is at x 400, y 300, z 200 angstrom


@pytest.mark.parametrize(
    ("name", "optics", "row"),
    [
        ("star-relion5", "", "-300 -100 50 10 20 25"),  # voxels of the tomogram
        ("star-relion5", TILT_SERIES, "-300 -100 50 40 80 100"),  # unbinned pixels
        ("star-relion5", TILT_SERIES, "-300 -100 50 10 20 25"),  # voxels, though the file also says another size
        ("star-relion4", TILT_SERIES, "-300 -100 50 41 81 99"),  # within what two programs differ by
        (PIXELS, "", "-300 -100 50 10 20 25"),
        (None, "", "-300 -100 50 10 20 25"),
    ],
)
def test_centred_coordinates_and_those_in_pixels_that_agree_are_read_without_a_word(tmp_path, name, optics, row):
    heard = Heard()
    facts = Conversion(spacing=10.0, shape=(40, 60, 80), progress=heard)
    read = read_table(both_kinds(tmp_path, [row], optics), format_name=name, conversion=facts)
    found = facts.to_unit(read, "angstrom", "test").position_zyx[0, ::-1]
    assert np.allclose(found, [100, 200, 250], atol=5)
    assert heard.texts == []


@pytest.mark.parametrize(
    ("name", "optics"), [("star-relion5", TILT_SERIES), ("star-relion4", TILT_SERIES), (PIXELS, ""), (None, TILT_SERIES)]
)
def test_centred_coordinates_and_those_in_pixels_that_contradict_are_refused(tmp_path, name, optics):
    path = both_kinds(tmp_path, ["-300 -100 50 40 80 100" if optics else "-300 -100 50 10 20 25", "-300 -100 50 140 80 100"], optics)
    with pytest.raises(InputError, match=r"particle 2: rlnCentered.*x 100\.0, y 200\.0, z 250\.0.*RELION 5 reads the former: remove"):
        read_table(path, format_name=name, conversion=SIZED)


@pytest.mark.parametrize(
    ("name", "facts", "used"),
    [
        ("star-relion4", {}, "rlnCoordinateX"),
        (PIXELS, {"spacing": 10.0}, "rlnCoordinateX"),
        (
            "star-relion5",
            {"spacing": 10.0, "shape": (40, 60, 80)},
            "rlnCenteredCoordinateXAngst",
        ),  # of which size its pixels are is not said
    ],
)
def test_which_coordinates_are_used_is_told_where_they_can_t_be_compared(tmp_path, name, facts, used):
    heard = Heard()
    optics = TILT_SERIES if name == "star-relion4" else ""
    read = read_table(
        both_kinds(tmp_path, ["-300 -100 50 140 80 100"], optics), format_name=name, conversion=Conversion(**facts, progress=heard)
    )
    assert len(read) == 1
    assert len(heard.texts) == 1
    assert f"{used}, ..." in heard.texts[0].split("compared, because")[1].split(" are used")[0]


def test_a_folder_of_tables_of_one_ending_is_read_as_it_is_written(tmp_path):
    """As the picks of a run are: by `import`, and in Python."""
    picks = Particles.build([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], unit="angstrom", tomogram=["A", "B"], species="a", score=[0.5, 0.25])
    for ending in (".csv", ".parquet"):
        folder = tmp_path / ending[1:]
        for name in ("A", "B"):
            write_table(folder / f"{name}{ending}", picks.of(tomogram=name))
        done = tomostream("import", folder, "-o", tmp_path / "all.csv")
        assert done.code == 0, done.err
        assert np.array_equal(read_table(tmp_path / "all.csv").position_zyx, picks.position_zyx)
    write_table(folder / "A.csv", picks.of(tomogram="A"))  # of two formats now
    assert tomostream("import", folder, "-o", tmp_path / "no.csv").code == 2
    (tmp_path / "empty").mkdir()
    assert "is a folder" in tomostream("import", tmp_path / "empty", "-o", tmp_path / "no.csv").message
