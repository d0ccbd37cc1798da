"""Rotations and the angles of other software: against scipy, and through every format that has them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tomostream.errors import InputError
from tomostream.formats.registry import Conversion, read_table, write_table
from tomostream.orientations import angles, are_rotations, known_or_none, matrices
from tomostream.particles import Particles

DEGREES = st.floats(-180, 180).map(lambda value: round(value, 3))
TILTS = st.floats(0.01, 179.99).map(lambda value: round(value, 3))
# file, and how far a matrix's entry may be off: numbers in the file have so many digits
HOLD_ROTATIONS = {"p.csv": 1e-9, "p.parquet": 1e-9, "p.tbl": 1e-9, "p.em": 1e-6, "p.ndjson": 1e-12, "p.json": 1e-12}
STARS = ("star-relion5", "star-relion4", "star-tomogram-pixels")
FACTS = Conversion(
    spacing=10.0, shape=(100, 200, 300), options={"unbinned_pixel_size": 2.5}, only_tomogram="TS_01", only_species="ribosome"
)
rotations = st.integers(0, 2**32 - 1).map(lambda seed: Rotation.random(5, rng=seed).as_matrix())


def spelled(axis: str, degrees: float) -> np.ndarray:
    """The turn about one axis, from its formula."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array(
        {"z": [[c, -s, 0], [s, c, 0], [0, 0, 1]], "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]], "x": [[1, 0, 0], [0, c, -s], [0, s, c]]}[axis]
    )


@given(DEGREES, TILTS, DEGREES)
def test_matrices_are_the_products_that_the_table_of_conventions_says(first, tilt, last):
    z, x, y = (lambda angle, axis=axis: spelled(axis, angle) for axis in "zxy")
    given_angles = np.array([[first, tilt, last]])
    np.testing.assert_allclose(matrices(given_angles, "relion")[0], (z(first) @ y(tilt) @ z(last)).T, atol=1e-12)
    np.testing.assert_allclose(matrices(given_angles, "dynamo")[0], (z(last) @ x(tilt) @ z(first)).T, atol=1e-12)
    np.testing.assert_allclose(matrices(given_angles, "em")[0], z(last) @ x(tilt) @ z(first), atol=1e-12)


@given(rotations, st.sampled_from(["relion", "dynamo", "em"]))
def test_angles_give_the_matrix_back(turned, convention):
    np.testing.assert_allclose(matrices(angles(turned, convention), convention), turned, atol=1e-9)


@pytest.mark.parametrize("convention", ["relion", "dynamo", "em"])
@pytest.mark.parametrize("tilt", [0.0, 180.0])
def test_angles_where_two_axes_fall_together_give_the_matrix_back(convention, tilt):
    turned = matrices(np.array([[33.0, tilt, -71.0]]), convention)
    np.testing.assert_allclose(matrices(angles(turned, convention), convention), turned, atol=1e-9)


def test_relions_tilt_and_psi_say_where_the_references_z_points_and_rot_does_not():
    """As its priors of filaments and membranes need it."""
    turned = matrices(np.array([[0.0, 90.0, 0.0], [77.0, 90.0, 0.0]]), "relion")
    np.testing.assert_allclose(turned[:, :, 2], [[-1, 0, 0], [-1, 0, 0]], atol=1e-12)


def table(turned: np.ndarray) -> Particles:
    return Particles.build(
        np.arange(3.0 * len(turned)).reshape(-1, 3) * 10, unit="angstrom", tomogram="TS_01", species="ribosome", score=0.5, rotation=turned
    )


@settings(max_examples=15)
@given(turned=rotations)
@pytest.mark.parametrize("name", HOLD_ROTATIONS)
def test_a_format_gives_orientations_back(name, turned, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / name
    write_table(path, table(turned), conversion=FACTS)
    found = read_table(path, conversion=FACTS)
    assert found.rotation is not None
    np.testing.assert_allclose(found.rotation, turned, atol=HOLD_ROTATIONS[name])


@settings(max_examples=15)
@given(turned=rotations)
@pytest.mark.parametrize("name", STARS)
def test_star_files_give_orientations_back(name, turned, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "p.star"
    write_table(path, table(turned), format_name=name, conversion=FACTS)
    found = read_table(path, format_name=name, conversion=FACTS)
    assert found.rotation is not None
    np.testing.assert_allclose(found.rotation, turned, atol=1e-9)


@pytest.mark.parametrize("name", [*HOLD_ROTATIONS, *STARS])
def test_a_table_without_orientations_has_none_afterwards(name, tmp_path):
    path, form = (tmp_path / "p.star", name) if name in STARS else (tmp_path / name, None)
    write_table(path, table(np.full((2, 3, 3), np.nan)), format_name=form, conversion=FACTS)
    assert read_table(path, format_name=form, conversion=FACTS).rotation is None
    assert b"rlnAngle" not in path.read_bytes()


@settings(max_examples=15)
@given(rotations, rotations)
def test_relions_subtomogram_angles_come_before_the_particles(outer, inner):
    from tempfile import TemporaryDirectory

    names = ["rlnTomoName", *(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ")]
    names += [f"rln{kind}{angle}" for kind in ("TomoSubtomogram", "Angle") for angle in ("Rot", "Tilt", "Psi")]
    rows = [
        ["TS_01", "0", "0", "0", *map(repr, (*a.tolist(), *b.tolist()))]
        for a, b in zip(angles(outer, "relion"), angles(inner, "relion"), strict=True)
    ]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "p.star"
        path.write_text("data_particles\n\nloop_\n" + "".join(f"_{name}\n" for name in names) + "\n".join(map(" ".join, rows)) + "\n")
        found = read_table(path, conversion=FACTS)
    assert found.rotation is not None
    np.testing.assert_allclose(found.rotation, outer @ inner, atol=1e-9)


def test_matrices_that_are_no_rotations_are_refused_or_told(tmp_path):
    mirror = np.diag([1.0, 1.0, -1.0])
    assert not are_rotations(np.stack([mirror, np.eye(3) * 2])).any()
    with pytest.raises(InputError, match="particle 1: its matrix is no rotation"):
        table(mirror[None])
    point = {"type": "orientedPoint", "location": {"x": 1, "y": 2, "z": 3}, "xyz_rotation_matrix": mirror.tolist()}
    (tmp_path / "p.ndjson").write_text(json.dumps(point))
    with pytest.raises(InputError, match=r"line 1 .* must be a rotation"):
        read_table(tmp_path / "p.ndjson", conversion=FACTS)


def test_two_of_three_angles_are_refused(tmp_path):
    (tmp_path / "p.csv").write_text("x_voxel,y_voxel,z_voxel,rot_degree,psi_degree\n1,2,3,4,5\n")
    with pytest.raises(InputError, match="orientations need all of rot_degree, tilt_degree, psi_degree"):
        read_table(tmp_path / "p.csv")


def test_orientations_go_with_their_rows():
    turned = Rotation.random(3, rng=1).as_matrix()
    chosen = table(turned).select(np.array([2, 0]))
    assert chosen.rotation is not None
    np.testing.assert_array_equal(chosen.rotation, turned[[2, 0]])
    joined = Particles.concatenate([chosen, table(np.full((1, 3, 3), np.nan))])
    assert joined.rotation is not None
    np.testing.assert_array_equal(np.isfinite(joined.rotation).all(axis=(1, 2)), [True, True, False])
    frame = Particles.from_dataframe(joined.to_dataframe())
    assert frame.rotation is not None
    np.testing.assert_allclose(frame.rotation, joined.rotation, atol=1e-9)
    assert known_or_none(np.tile(np.eye(3), (2, 1, 1))) is None
