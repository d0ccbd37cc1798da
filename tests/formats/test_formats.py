"""Tables of particles: what is written reads back, and what is unknown is refused, never guessed."""

import json

import numpy as np
import pytest
import starfile
from hypothesis import given
from hypothesis import strategies as st

from tomostream.errors import InputError
from tomostream.formats.csv_table import HEADER
from tomostream.formats.registry import Conversion, read_table, write_table
from tomostream.particles import Particles
from tomostream.units import Length

SPACING, SHAPE = 13.48, (112, 320, 318)
FACTS = Conversion(
    spacings={"TS_1": SPACING, "TS_2": 7.0},
    shapes={"TS_1": SHAPE, "TS_2": (50, 60, 70)},
    options={"unbinned_pixel_size": 3.37, "box_size": Length(21.0, True)},
)

positions = st.lists(
    st.tuples(*[st.floats(0, 1e5, allow_nan=False, allow_subnormal=False) for _ in range(3)]), min_size=1, max_size=20
).filter(
    lambda rows: max(map(max, rows)) > 2 * SPACING  # all within 0..1 are refused, as fractions of a volume
)


def table(rows: int = 3, *, tomograms: int = 1, species: int = 1) -> Particles:
    rng = np.random.default_rng(0)
    return Particles.build(
        rng.uniform(0, 600, (rows, 3)),
        unit="angstrom",
        tomogram=[f"TS_{i % tomograms + 1}" for i in range(rows)],
        species=[("ribosome", "fas")[i % species] for i in range(rows)],
        score=rng.uniform(size=rows),
    )


@given(positions)
def test_csv_numbers_read_back_exactly(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "picks.csv"
    written = Particles.build(np.array(rows), unit="angstrom", tomogram="a", species="b", score=np.linspace(0, 1, len(rows)) / 3)
    write_table(path, written)
    read = read_table(path)
    assert np.array_equal(read.position_zyx, written.position_zyx)
    assert np.array_equal(read.score, written.score)
    assert read.unit == "angstrom"


def test_csv_columns_are_x_y_z_in_that_order(tmp_path):
    path = tmp_path / "picks.csv"
    write_table(path, Particles.build([[1.0, 2.0, 3.0]], unit="angstrom", tomogram="t", species="s", score=0.5))
    assert path.read_text() == ",".join(HEADER) + "\nt,s,3.0,2.0,1.0,0.5\n"


def test_relion5_counts_from_half_the_size(tmp_path):
    path = tmp_path / "p.star"
    centre = Particles.build([[50 / 2 * 7.0, 60 / 2 * 7.0, 70 / 2 * 7.0]], unit="angstrom", tomogram="TS_2", species="s")
    write_table(path, centre, format_name="star-relion5", conversion=FACTS)
    block = starfile.read(path)
    assert block.loc[0, ["rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateZAngst"]].tolist() == [0, 0, 0]
    assert block["rlnTomoName"].tolist() == ["TS_2"]


def test_relion5_uses_each_tomograms_own_shape_and_spacing(tmp_path):
    path = tmp_path / "p.star"
    written = table(6, tomograms=2)
    write_table(path, written, format_name="star-relion5", conversion=FACTS)
    assert np.allclose(read_table(path, format_name="star-relion5", conversion=FACTS).position_zyx, written.position_zyx, atol=1e-5)


@pytest.mark.parametrize(("facts", "option"), [(Conversion(spacing=10.0), "--shape"), (Conversion(shape=(5, 5, 5)), "--voxel-size")])
def test_relion5_refuses_without_shape_or_spacing(tmp_path, facts, option):
    with pytest.raises(InputError, match=option):
        write_table(tmp_path / "p.star", table(), format_name="star-relion5", conversion=facts)
    assert not (tmp_path / "p.star").exists()


def test_star_of_several_species_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"one species.*ribosome, fas.*--species"):
        write_table(tmp_path / "p.star", table(4, species=2), format_name="star-relion5", conversion=FACTS)


def test_star_of_other_software_is_named(tmp_path):
    path = tmp_path / "other.star"
    path.write_text("data_particles\n\nloop_\n_rlnTomoName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n_rlnCoordinateZ #4\nTS_1 1 2 3\n")
    with pytest.raises(InputError, match=r"lacks rlnCenteredCoordinate.*pixels"):
        read_table(path, format_name="star-relion5", conversion=FACTS)


def test_copick_folder_has_the_layout_that_copick_opens(tmp_path):
    write_table(tmp_path / "project", table(6, tomograms=2, species=2), format_name="copick", conversion=FACTS)
    found = sorted(str(p.relative_to(tmp_path / "project")) for p in (tmp_path / "project").rglob("*.json"))
    assert found == [
        "ExperimentRuns/TS_1/Picks/tomostream_0_ribosome.json",
        "ExperimentRuns/TS_2/Picks/tomostream_0_fas.json",
    ]
    point = json.loads((tmp_path / "project" / found[0]).read_text())["points"][0]
    assert np.array_equal(point["transformation_"], np.eye(4))
    assert set(point["location"]) == {"x", "y", "z"}
    assert len(read_table(tmp_path / "project", format_name="copick")) == 6


def test_coords_class_column_comes_first(tmp_path):
    path = tmp_path / "TS_9.coords"
    path.write_text("2\t10\t20\t30\n1\t11\t21\t31\n")
    read = read_table(path)
    assert read.unit == "voxel"
    assert read.position_zyx.tolist() == [[30, 20, 10], [31, 21, 11]]
    assert read.species.tolist() == ["class2", "class1"]
    assert read.tomograms() == ["TS_9"]


@pytest.mark.parametrize(
    ("header", "unit"),
    [
        ("x_voxel,y_voxel,z_voxel", "voxel"),
        ("x_angstrom,y_angstrom,z_angstrom", "angstrom"),
        ("tomogram_name,x_coord,y_coord,z_coord", "voxel"),
    ],
)
def test_accepted_headers_say_the_unit(tmp_path, header, unit):
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n{'TS,' if 'name' in header else ''}1.5,2,3\n")
    read = read_table(path)
    assert read.unit == unit
    assert read.position_zyx.tolist() == [[3, 2, 1.5]]


def test_table_without_header_needs_columns_and_unit(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("517,261,469\n881,689,530\n")
    with pytest.raises(InputError, match=r"no header.*517,261,469.*--columns x,y,z --unit vox"):
        read_table(path)
    with pytest.raises(InputError, match="--unit"):
        read_table(path, conversion=Conversion(columns=["x", "y", "z"]))
    read = read_table(path, conversion=Conversion(columns=["x", "y", "z"], unit="voxel"))
    assert read.position_zyx.tolist() == [[469, 261, 517], [530, 689, 881]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("x,y,z\n1,2,3\n", "its columns are x,y,z.*never guessed"),
        ("x_voxel,y_voxel,z_voxel\n1,2\n", "line 2: 2 fields, expected 3"),
        ("x_voxel;y_voxel;z_voxel\n90,1;30;44\n", "line 2: x_voxel must be a number, found '90,1'; write a decimal point, not a comma"),
        ("x_voxel,y_voxel,z_voxel\n90,1,30,0,44,5\n", "line 2: 6 fields, expected 3 .*decimal commas"),
        ("x_voxel,y_voxel,z_voxel\n1,2,three\n", "line 2: z_voxel must be a number, found 'three'"),
        ("x_voxel,y_voxel,z_voxel\n1,2,nan\n", "line 2: the position must be finite"),
    ],
)
def test_broken_csv_is_refused_with_its_line(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_table(path)


def test_unknown_format_names_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"format 'relion' is unknown.*star-relion5"):
        write_table(tmp_path / "x", table(), format_name="relion")
    with pytest.raises(InputError, match="ending does not identify"):
        write_table(tmp_path / "x.unknown", table())


def test_mixed_units_are_not_joined():
    with pytest.raises(InputError, match="voxels and in angstrom"):
        Particles.concatenate([table(), Particles.build([[1.0, 2.0, 3.0]], unit="voxel")])
