"""Files as other software writes them, our files as other software reads them, and broken ones."""

import contextlib
import json
import os
from pathlib import Path

import dynamotable
import emfile
import imodmodel
import numpy as np
import pytest
import starfile
from cli_runner import tomostream
from hypothesis import given
from hypothesis import strategies as st
from repository import TESTS

from tomostream.errors import InputError
from tomostream.formats.registry import FORMATS, Conversion, format_of, read_table, write_table
from tomostream.particles import Particles
from tomostream.units import Length

GOLDEN = TESTS / "data" / "formats"
SPACING, SHAPE = 10.0, (100, 80, 60)
FACTS = Conversion(spacing=SPACING, shape=SHAPE, options={"box_size": Length(37.0, True)})
FILES = {  # file: format, whether it has scores
    "TS_1.mod": ("imod", False),
    "TS_1.tbl": ("dynamo", True),
    "TS_1.em": ("em", True),
    "napari/TS_1.csv": ("napari", False),
    "TS_1.cbox": ("cbox", True),
    "TS_1_relion3.star": ("star-tomogram-pixels", False),
    "pytom.star": ("star-tomogram-pixels", True),
    "relion4.star": ("star-relion4", False),
    "relion5.star": ("star-relion5", False),
    "TS_1.ndjson": ("portal-ndjson", False),
    "TS_1.cmm": ("cmm", False),
    "TS_1.coords": ("coords", False),
}
XYZ_ANG = np.array([[10.0, 20.0, 30.0], [100.0, 205.0, 310.0]])


def two(**others: object) -> Particles:
    facts = {"unit": "angstrom", "tomogram": "TS_1", "species": "ribosome", "score": [0.75, 0.5]} | others
    return Particles.build(XYZ_ANG[:, ::-1], **facts)


# as other software writes


@pytest.mark.parametrize("file", FILES)
def test_the_same_two_particles_are_read_from_every_softwares_file(file):
    name, has_scores = FILES[file]
    read = FACTS.to_unit(read_table(GOLDEN / file, format_name=name, conversion=FACTS), "angstrom", "test")
    assert np.allclose(read.position_zyx[:, ::-1], XYZ_ANG, atol=1e-5 if name in ("em", "imod") else 1e-12)
    assert read.tomograms() == ["TS_1_relion3" if "relion3" in file else "TS_1"]
    assert np.array_equal(read.score, [0.75, 0.5] if has_scores else [np.nan] * 2, equal_nan=True)


@pytest.mark.parametrize("file", FILES)
def test_evaluate_scores_every_softwares_picks(file, tmp_path):
    name, _ = FILES[file]
    write_table(tmp_path / "truth.csv", two())
    given_name = [] if name == "star-relion5" or GOLDEN.joinpath(file).suffix in FORMATS[name].known_by else ["--picks-format", name]
    done = tomostream(
        "evaluate", "--picks", GOLDEN / file, "--truth", tmp_path / "truth.csv", "--tolerance", "1A", *given_name,
        "--tomogram", "TS_1", "--voxel-size", SPACING, "--shape", "100,80,60", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert (done.json["pooled"]["tp"], done.json["pooled"]["fp"], done.json["pooled"]["fn"]) == (2, 0, 0)


def test_evaluate_takes_a_folder_of_boxes(tmp_path):
    write_table(f"{tmp_path}/boxes/", two(), format_name="cbox", conversion=FACTS)
    write_table(tmp_path / "truth.csv", two())
    found = tomostream("evaluate", "--picks", tmp_path / "boxes", "--truth", tmp_path / "truth.csv", "--voxel-size", SPACING, "--json")
    assert found.json["tomograms"]["TS_1"]["f1"] == 1


def test_napari_clicks_are_not_taken_for_our_table():
    with pytest.raises(InputError, match="--format napari"):
        read_table(GOLDEN / "napari" / "TS_1.csv")


# as other software reads


def test_imodmodel_reads_our_model(tmp_path):
    both = Particles.concatenate([two(), two(species="fas", score=np.nan)])
    write_table(tmp_path / "TS_1.mod", both, conversion=FACTS)
    model = imodmodel.ImodModel.from_file(tmp_path / "TS_1.mod")
    assert [item.header.name for item in model.objects] == ["ribosome", "fas"]
    assert all(item.header.flags.scattered for item in model.objects)
    assert (model.header.xmax, model.header.ymax, model.header.zmax) == SHAPE[::-1]
    assert (model.header.pixelsize, model.header.units) == (1.0, -9)  # nanometres
    assert np.allclose(model.objects[1].contours[0].points, XYZ_ANG / SPACING + [0.5, 0.5, 0])  # IMOD's voxel centres


def test_dynamotable_reads_our_table_and_map(tmp_path):
    write_table(tmp_path / "all.tbl", Particles.concatenate([two(), two(tomogram="TS_2")]), conversion=FACTS)
    table = dynamotable.read(str(tmp_path / "all.tbl"), str(tmp_path / "all.doc"))
    assert np.array_equal(table[["x", "y", "z"]], np.vstack([XYZ_ANG, XYZ_ANG]) / SPACING)
    assert table["tomo_file"].tolist() == ["TS_1", "TS_1", "TS_2", "TS_2"]
    assert table["tag"].tolist() == [1, 2, 3, 4]
    assert set(table["apix"]) == {SPACING}


def test_emfile_reads_our_motive_list_that_counts_from_one(tmp_path):
    write_table(tmp_path / "TS_1.em", two(), conversion=FACTS)
    _, data = emfile.read(tmp_path / "TS_1.em")
    assert data.shape == (1, 2, 20)
    assert np.allclose(data[0, :, 7:10], XYZ_ANG / SPACING + 1)
    assert data[0, :, 0].tolist() == [0.75, 0.5]


def test_boxes_are_corners_in_x_and_y_and_the_centre_in_z(tmp_path):
    write_table(tmp_path / "TS_1.cbox", two(), conversion=FACTS)
    blocks = starfile.read(tmp_path / "TS_1.cbox")
    assert blocks["cryolo"][["CoordinateX", "CoordinateY", "CoordinateZ"]].to_numpy().tolist() == [[-17.5, -16.5, 3.0], [-8.5, 2.0, 31.0]]
    assert set(blocks["cryolo"]["Width"]) == {37}
    assert blocks["cryolo_include"]["slice_index"].tolist() == [3, 31]
    assert blocks["global"]["cbox_format_version"] == 1.0


def test_portal_lines_and_markers_read_as_documented(tmp_path):
    write_table(tmp_path / "a.ndjson", two(), conversion=FACTS)
    lines = [json.loads(line) for line in (tmp_path / "a.ndjson").read_text().splitlines()]
    assert lines[0] == {"type": "point", "location": {"x": 1.0, "y": 2.0, "z": 3.0}}
    write_table(tmp_path / "a.cmm", two(), conversion=FACTS)
    assert (tmp_path / "a.cmm").read_text().splitlines()[:2] == [
        '<marker_set name="ribosome" species="ribosome" tomogram="TS_1">',
        '<marker id="1" x="10.0" y="20.0" z="30.0" r="1.0" g="0.8" b="0.1" radius="185" score="0.75"/>',
    ]
    write_table(tmp_path / "a.csv", two(), format_name="napari", conversion=FACTS)
    assert (tmp_path / "a.csv").read_text() == "index,axis-0,axis-1,axis-2,score\n0,3.0,2.0,1.0,0.75\n1,31.0,20.5,10.0,0.5\n"


def test_names_with_blanks_are_quoted_for_star_readers(tmp_path):
    facts = Conversion(spacing=10.0)
    for name in ("my tomogram", "001", "1e5", "_x", "it's", "data_1", "loop_"):
        write_table(tmp_path / "p.star", two(tomogram=name), format_name="star-tomogram-pixels", conversion=facts)
        assert read_table(tmp_path / "p.star", format_name="star-tomogram-pixels").tomograms() == [name]


# RELION 4's pixels


def test_relion4_pixels_come_from_the_option_the_binning_or_the_file(tmp_path):
    path = tmp_path / "p.star"
    for facts in (Conversion(options={"unbinned_pixel_size": 2.5}), Conversion(spacing=10.0, options={"binning": 4.0})):
        write_table(path, two(), format_name="star-relion4", conversion=facts)
        assert starfile.read(path)["rlnCoordinateY"].tolist() == [8.0, 82.0]
        assert np.array_equal(read_table(path, format_name="star-relion4", conversion=facts).position_zyx, two().position_zyx)
    for facts, option in (
        (Conversion(spacing=10.0), "--unbinned-pixel-size"),
        (Conversion(options={"binning": 4.0}), "--voxel-size"),
        (Conversion(options={"unbinned_pixel_size": 2.5, "binning": 4.0}), "not both"),
    ):
        with pytest.raises(InputError, match=option):
            write_table(path, two(), format_name="star-relion4", conversion=facts)
        with pytest.raises(InputError, match=option):
            read_table(path, format_name="star-relion4", conversion=facts)
    with pytest.raises(InputError, match=r"has pixels of 2\.5 A.*you gave 3 A"):
        read_table(GOLDEN / "relion4.star", format_name="star-relion4", conversion=Conversion(options={"unbinned_pixel_size": 3.0}))


def test_shifts_of_turned_subtomograms_are_refused(tmp_path):
    text = (GOLDEN / "relion4.star").read_text().replace("_rlnTomoParticleId", "_rlnTomoSubtomogramTilt")
    (tmp_path / "p.star").write_text(text)
    with pytest.raises(InputError, match="rotated subtomograms"):
        read_table(tmp_path / "p.star", format_name="star-relion4")


def test_star_ending_tells_relion5_only(tmp_path):
    assert len(read_table(GOLDEN / "relion5.star", conversion=FACTS)) == 2
    with pytest.raises(InputError, match=r"star-relion4, star-relion5, star-tomogram-pixels.*--picks-format"):
        read_table(GOLDEN / "pytom.star", conversion=FACTS)
    with pytest.raises(InputError, match=r"tomostream import FILE --format"):
        format_of(Path("clicks.unknown"))


# folders


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"copick"}))
def test_a_folder_holds_a_file_for_each_tomogram_and_reads_back(tmp_path, name):
    facts = Conversion(spacing=SPACING, shape=SHAPE, options={"box_size": Length(37.0, True), "unbinned_pixel_size": 2.5})
    parts = [two(tomogram=t, species=s) for t in ("TS_1", "TS_2") for s in ("fas", "ribosome")]
    write_table(f"{tmp_path}/out/", Particles.concatenate(parts), format_name=name, conversion=facts)
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.suffix == FORMATS[name].ending)
    folders = ("fas/", "ribosome/") if FORMATS[name].one_species else ("",)
    assert found == [f"{folder}{t}{FORMATS[name].ending}" for folder in folders for t in ("TS_1", "TS_2")]
    read = read_table(tmp_path / "out", format_name=name, conversion=facts)
    assert sorted(read.tomograms()) == ["TS_1", "TS_2"]
    assert len(read) == 8
    if name != "coords":  # numbers its classes
        assert sorted(read.species_names()) == ["fas", "ribosome"]


def test_one_file_is_refused_for_several_tomograms_where_it_holds_one(tmp_path):
    both = Particles.concatenate([two(), two(tomogram="TS_2")])
    with pytest.raises(InputError, match=r"one tomogram per file, here are TS_1, TS_2.*folder"):
        write_table(tmp_path / "all.cmm", both)
    write_table(tmp_path / "all", both, format_name="cmm")  # a name without ending is a folder where one file can't be
    assert sorted(os.listdir(tmp_path / "all")) == ["TS_1.cmm", "TS_2.cmm"]
    assert os.listdir(tmp_path) == ["all"]


def test_a_tomograms_name_never_leads_out_of_the_folder(tmp_path):
    for name in ("../TS_1", "", ".."):
        with pytest.raises(InputError, match="can't be a file's name"):
            write_table(f"{tmp_path}/out/", two(tomogram=name), format_name="cmm")


def test_export_and_import_take_the_options_of_the_formats(tmp_path):
    write_table(tmp_path / "TS_1.csv", two())
    table = tmp_path / "TS_1.csv"
    for name, needed in (("cbox", ["--voxel-size", "10", "--box-size", "370A"]), ("star-relion4", ["--unbinned-pixel-size", "2.5"])):
        target = tmp_path / f"TS_1.{name.partition('-')[0]}"
        assert tomostream("export", table, "-o", target, "--format", name, *needed).code == 0
        options = needed[:2]
        done = tomostream("import", target, "--format", name, *options, "--species", "ribosome", "-o", tmp_path / "back.csv", "--json")
        assert done.json == {"path": str(tmp_path / "back.csv"), "particles": 2, "tomograms": ["TS_1"]}
        assert (tmp_path / "back.csv").read_text() == table.read_text()
        for left_out in needed[::2]:
            fewer = [word for pair in zip(needed[::2], needed[1::2], strict=True) if pair[0] != left_out for word in pair]
            refused = tomostream("export", table, "-o", tmp_path / "x", "--format", name, *fewer)
            assert refused.code == 2
            assert left_out in refused.message
    assert not (tmp_path / "x").exists()


def test_positions_outside_the_tomograms_are_refused_before_anything_is_written(tmp_path):
    """Pixels of the tomogram read as unbinned ones, or the axes in another order."""
    facts = ("--voxel-size", SPACING, "-o", tmp_path / "x.csv")
    swapped = tomostream("import", GOLDEN / "TS_1.coords", "--shape", "20,30,100", *facts)
    assert swapped.code == 2
    assert "only 1 of 2 positions lie inside tomogram 'TS_1' of z,y,x = 20,30,100 voxels" in swapped.message
    assert not (tmp_path / "x.csv").exists()
    assert tomostream("import", GOLDEN / "TS_1.coords", "--shape", "100,80,60", *facts).code == 0
    assert tomostream("export", tmp_path / "x.csv", "-o", tmp_path / "y.csv", "--voxel-size", "1", "--shape", "9,9,9").code == 2


# broken files


@pytest.mark.parametrize("file", FILES)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_never_a_fault(tmp_path_factory, file, data):
    name, _ = FILES[file]
    content = bytearray((GOLDEN / file).read_bytes())
    del content[data.draw(st.integers(0, len(content))) :]
    for _ in range(data.draw(st.integers(0, 4)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("broken") / Path(file).name
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        assert np.isfinite(read_table(path, format_name=name, conversion=FACTS).position_zyx).all()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("TS_1.cbox", "data_cryolo\n", "data_other\n", "no block 'cryolo'"),
        ("TS_1.cbox", "37 37 37 30.0 30.0 0.75", "<NA> 37 37 30.0 30.0 0.75", "particle 1: Width must be finite"),
        ("TS_1.ndjson", '"point"', '"mesh"', "line 2: expected type point"),
        ("TS_1.coords", "2.0", "two", "line 1: expected numbers"),
        ("TS_1.cmm", 'y="20"', 'y="nan"', "position must be finite"),
        ("TS_1.cmm", "<marker_set ", '<!DOCTYPE x [<!ENTITY a "b">]><marker_set ', "entities"),
        ("TS_1.tbl", " 20.0 ", " x ", "line 2: expected 26 columns"),
        ("pytom.star", "20.5", "nan", "particle 2: rlnCoordinateY must be finite"),
        ("pytom.star", "0.1\t10.0\tTS_1", "0.1\t10.0\tnan", "particle 1: rlnMicrographName must be a name, found 'nan'"),
        ("napari/TS_1.csv", "axis-2", "axis-3", "has the columns index,axis-0,axis-1,axis-2"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, file, old, new, message):
    text = (GOLDEN / file).read_text()
    assert old in text
    path = tmp_path / Path(file).name
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        read_table(path, format_name=FILES[file][0], conversion=FACTS)


def test_a_motive_list_of_several_tomograms_and_a_table_without_its_map_are_refused(tmp_path):
    content = bytearray((GOLDEN / "TS_1.em").read_bytes())
    content[512 + 4 * 4 : 512 + 4 * 5] = np.float32(3).tobytes()
    (tmp_path / "a.em").write_bytes(content)
    with pytest.raises(InputError, match="holds tomograms 3, 7"):
        read_table(tmp_path / "a.em")
    text = (GOLDEN / "TS_1.tbl").read_text().splitlines()
    other = text[1].split(" ")
    other[19] = "8"
    (tmp_path / "a.tbl").write_text(f"{text[0]}\n{' '.join(other)}\n")
    with pytest.raises(InputError, match=r"2 tomograms.*a\.doc"):
        read_table(tmp_path / "a.tbl")
    (tmp_path / "a.doc").write_text("7 TS_1.mrc\n")
    with pytest.raises(InputError, match="does not name tomogram 8"):
        read_table(tmp_path / "a.tbl")
