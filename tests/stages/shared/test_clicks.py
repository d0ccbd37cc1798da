import numpy as np
import pytest
from store_files import noise, write_store

from tomostream.errors import InputError
from tomostream.formats.registry import Conversion
from tomostream.particles import Particles
from tomostream.progress import Progress
from tomostream.stages.shared.clicks import by_tomogram, inside_volume, on_one_face, read_points
from tomostream.stages.shared.particle_tables import read_scored, read_truth, table_paths
from tomostream.tomogram import open_tomogram

HEADER = "tomogram,species,x_voxel,y_voxel,z_voxel"


@pytest.fixture
def tomogram(tmp_path):
    return open_tomogram(write_store(tmp_path / "t.ome.zarr", noise(10, 20, 30), spacing=10.0, levels=2))


class Heard(Progress):
    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


def table(folder, *rows, name="p.csv", header=HEADER):
    (folder / name).write_text("\n".join([header, *rows]) + "\n")
    return str(folder / name)


def test_a_point_is_inside_up_to_half_a_voxel_beyond_the_outer_centres(tomogram):
    edge = np.array([[-0.5, -0.5, -0.5], [9.5, 19.5, 29.5]])
    assert len(inside_volume(Particles.build(edge, unit="voxel"), tomogram, "p", Progress())) == 2
    assert len(inside_volume(Particles.build(edge * 10, unit="angstrom"), tomogram.at_level(1), "p", Progress())) == 2
    beyond = Particles.build(np.array([[5.0, 5.0, 5.0]] * 19 + [[10.51, 5.0, 5.0]]), unit="voxel")
    heard = Heard()
    assert len(inside_volume(beyond, tomogram, "p.csv", heard)) == 19  # 95 % are enough
    assert heard.warnings == ["p.csv: 1 of 20 points lie outside tomogram 't' and are left out"]


@pytest.mark.parametrize("unit", ["voxel", "angstrom"])
@pytest.mark.parametrize("off", [0.3, 1.0])
def test_a_point_at_most_a_voxel_outside_is_taken_at_the_face_and_told(tomogram, off, unit):
    voxels = np.array([[5.0, 5.0, 5.0]] * 11 + [[9.5 + off, -0.5 - off, 29.0]])
    given = Particles.build(voxels * (10 if unit == "angstrom" else 1), unit=unit)
    heard = Heard()
    found = inside_volume(given, tomogram, "p.csv", heard)
    assert np.allclose(found.position_zyx[-1], [9.5, -0.5, 29.0], atol=1e-9)
    assert (found.position_zyx[:-1] == 5).all()
    assert heard.warnings == [f"p.csv: 1 of 12 points lie up to {off:.2g} voxels outside tomogram 't' and are taken to be at its face"]


@pytest.mark.parametrize("outside", [[10.6, 5.0, 5.0], [5.0, -2.0, 5.0], [5.0, 5.0, 300.0]])
def test_one_point_of_a_few_that_is_clearly_outside_stops(tomogram, outside):
    with pytest.raises(InputError, match="only 12 of 13 points lie inside"):
        inside_volume(Particles.build(np.array([[5.0, 5.0, 5.0]] * 12 + [outside]), unit="voxel"), tomogram, "p.csv", Progress())


def test_under_95_percent_inside_is_refused_with_shape_and_largest_coordinates(tomogram):
    swapped = Particles.build(np.array([[5.0, 5.0, 5.0]] * 18 + [[25.0, 5.0, 5.0]]), unit="voxel")
    with pytest.raises(InputError, match=r"18 of 19 points.*95 %.*z,y,x = 10,20,30.*25,5,5.*spacing 10 A"):
        inside_volume(swapped, tomogram, "p.csv", Progress())


def test_points_without_names_get_the_only_ones_there_are(tmp_path, tomogram):
    path = table(tmp_path, "1,2,3", header="x_voxel,y_voxel,z_voxel")
    points = read_points([path], ["fas"], ["t"], "labels.train")
    assert (points.tomograms(), points.species_names()) == (["t"], ["fas"])
    assert by_tomogram(points, {"t": tomogram}, ["fas"], path, Progress())["t"][0].tolist() == [[3.0, 2.0, 1.0]]
    with pytest.raises(InputError, match=r"without species.*fas, ribosome"):
        read_points([path], ["fas", "ribosome"], ["t"], "labels.train")
    with pytest.raises(InputError, match=r"without tomogram.*t, u"):
        read_points([path], ["fas"], ["t", "u"], "labels.train")


def test_unknown_names_empty_tables_and_mixed_units_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"names species ribosom;.*has ribosome"):
        read_points([table(tmp_path, "t,ribosom,1,2,3")], ["ribosome"], ["t"], "labels.train")
    with pytest.raises(InputError, match="no point"):
        read_points([table(tmp_path)], ["a"], ["t"], "labels.train")
    voxels, angstrom = table(tmp_path, "t,a,1,2,3"), table(tmp_path, "1,2,3", name="q.csv", header="x_angstrom,y_angstrom,z_angstrom")
    with pytest.raises(InputError, match="one unit"):
        read_points([voxels, angstrom], ["a"], ["t"], "labels.train")


def test_a_folder_stands_for_its_tables_and_an_empty_one_counts(tmp_path):
    table(tmp_path, "1,2,3", name="a.csv", header="x_voxel,y_voxel,z_voxel")
    table(tmp_path, name="b.csv")
    (tmp_path / ".a.csv.made-by.json").write_text("{}")
    assert [path.name for path in table_paths(tmp_path)] == ["a.csv", "b.csv"]
    picks, names = read_scored(tmp_path, Conversion())
    assert (picks.tomograms(), names) == (["a"], ["a", "b"])
    table(tmp_path, "a,,5,5,5", name="c.csv")
    with pytest.raises(InputError, match=r"a.csv and .*c.csv both hold picks"):
        read_scored(tmp_path, Conversion())
    with pytest.raises(InputError, match="no file or folder"):
        table_paths(tmp_path / "nothing")


def test_truth_without_names_is_the_only_scored_tomograms(tmp_path):
    path = table(tmp_path, "1,2,3", header="x_voxel,y_voxel,z_voxel")
    assert read_truth(path, ["t"], Conversion()).tomograms() == ["t"]
    with pytest.raises(InputError, match="t, u"):
        read_truth(path, ["t", "u"], Conversion())


def test_points_that_are_there_twice_count_once_in_their_order(tmp_path, tomogram):
    rows = ["t,ribosome,5,6,7", "t,ribosome,1,2,3", "t,fas,5,6,7", "t,ribosome,5,6,7"]
    points = read_points([table(tmp_path, *rows)], ["ribosome", "fas"], ["t"], "clicks")
    heard = Heard()
    ribosomes, fas = by_tomogram(points, {"t": tomogram}, ["ribosome", "fas"], "clicks", heard)["t"]
    assert ribosomes.tolist() == [[7, 6, 5], [3, 2, 1]]
    assert fas.tolist() == [[7, 6, 5]]
    assert heard.warnings == ["clicks: t, ribosome: 1 of 3 points are duplicates; each counts once"]


def test_voxels_that_are_named_angstrom_are_refused_many_and_told_few(tmp_path):
    tomogram = open_tomogram(write_store(tmp_path / "v.ome.zarr", noise(40, 60, 60), spacing=10.0, levels=1))
    voxels = np.random.default_rng(0).uniform(0, (39, 59, 59), (6, 3))
    with pytest.raises(InputError, match=r"all 6 points lie in one corner.*voxels that are named angstrom.*x_voxel"):
        inside_volume(Particles.build(voxels, unit="angstrom"), tomogram, "p.csv", Progress())
    heard = Heard()
    assert len(inside_volume(Particles.build(voxels[:2], unit="angstrom"), tomogram, "p.csv", heard)) == 2
    assert "all 2 points lie in one corner" in heard.warnings[0]
    for right in (Particles.build(voxels, unit="voxel"), Particles.build(voxels * 10, unit="angstrom")):
        heard = Heard()
        assert len(inside_volume(right, tomogram, "p.csv", heard)) == 6
        assert heard.warnings == []


def test_places_that_are_no_particles_are_no_clicks(tmp_path):
    path = table(tmp_path, "t,a,1,2,3,1", "t,a,4,5,6,0", "t,a,7,8,9,", header=f"{HEADER},label")

    heard = Heard()
    heard.say = heard.warn
    points = read_points([path], ["a"], ["t"], "labels.train", heard)
    assert points.position_zyx.tolist() == [[3, 2, 1], [9, 8, 7]]
    assert heard.warnings == [f"{path}: 1 of 3 rows are labelled 0 (not a particle); they are left out"]


def test_a_table_that_names_no_tomogram_is_of_the_one_its_file_is_called_after(tmp_path):
    path = table(tmp_path, "1,2,3", header="x_voxel,y_voxel,z_voxel", name="TS_2.csv")
    assert read_points([path], ["a"], ["TS_1", "TS_2"], "labels.train").tomograms() == ["TS_2"]
    assert read_points([path], ["a"], ["TS_1", "rec_TS_2"], "labels.train").tomograms() == ["rec_TS_2"]
    with pytest.raises(InputError, match="rows without tomogram"):
        read_points([path], ["a"], ["TS_1", "TS_3"], "labels.train")


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ([[0, 5, 9], [0, 20, 3], [1, 8, 30]], "all 3 points lie on the face z = 0"),
        ([[5, 39, 9], [7, 38.5, 3], [9, 39, 30]], "all 3 points lie on the face y = 39"),
        ([[0, 5, 9], [0, 20, 3]], None),
        ([[0, 5, 9], [0, 20, 3], [15, 8, 30]], None),
    ],
)
def test_clicks_that_all_lie_on_one_face_are_told(points, told):
    assert on_one_face(np.array(points, dtype=float), (32, 40, 50)) == told


def test_a_volume_of_few_slices_has_its_clicks_near_a_face():
    assert on_one_face(np.array([[0.0, 5, 9], [1, 20, 3], [2, 8, 30]]), (3, 40, 50)) is None
