"""How picks of template matching are turned: against particles that were placed with known rotations."""

import mrcfile
import numpy as np
import pytest
import starfile
import yaml
from cli_runner import tomostream
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from tomostream.formats.registry import Conversion, read_table, write_table
from tomostream.orientations import matrices
from tomostream.particles import Particles
from tomostream.strategies.matched_filter.density import Wedge
from tomostream.strategies.matched_filter.kernels import rotated_kernels
from tomostream.strategies.matched_filter.orienting import best_rotations

# of a particle without symmetry: blobs at x, y, z from its centre (voxels), and how heavy they are
BLOBS_XYZ = np.array([[4.0, 0.0, 0.0], [0.0, 2.5, 0.0], [0.0, 0.0, -3.5], [1.5, 1.5, 2.0]])
WEIGHTS = (1.0, 0.8, 1.2, 0.6)
STEP = 20.0


def blobs(shape, centre_zyx, matrix, *, scale=1.0):
    """A density with the blobs, turned by a matrix on x, y, z; `scale` voxels a unit."""
    z, y, x = np.ogrid[tuple(slice(0, n) for n in shape)]
    result = np.zeros(shape, np.float32)
    for (bx, by, bz), weight in zip(BLOBS_XYZ @ matrix.T * scale, WEIGHTS, strict=True):
        squared = (z - centre_zyx[0] - bz) ** 2 + (y - centre_zyx[1] - by) ** 2 + (x - centre_zyx[2] - bx) ** 2
        result += weight * np.exp(-squared / (2 * (1.2 * scale) ** 2)).astype(np.float32)
    return result


def off_by(found, true):
    """The angles between rotations, degrees."""
    return np.degrees((Rotation.from_matrix(found) * Rotation.from_matrix(true).inv()).magnitude())


@pytest.mark.slow
def test_the_best_rotation_is_the_one_that_the_particle_was_placed_with():
    true = Rotation.random(6, rng=3).as_matrix()
    shape, centres = (20, 20, 120), [np.array([10.0, 10.0, 10.0 + 20 * i]) for i in range(6)]
    volume = -sum(blobs(shape, centre, matrix) for centre, matrix in zip(centres, true, strict=True))
    reference = blobs((31, 31, 31), (15, 15, 15), np.eye(3), scale=2.0)  # two voxels for one of the tomogram's
    kernels = rotated_kernels(reference, 6.0, angle_step=STEP, wedge=Wedge(-90.0, 90.0))
    found = best_rotations(kernels, 6, lambda box: volume[box.slices], np.array(centres), memory=10**6)
    assert off_by(found, true).max() < STEP
    one_by_one = best_rotations(kernels, 6, lambda box: volume[box.slices], np.array(centres), memory=1)
    np.testing.assert_array_equal(found, one_by_one)


@pytest.mark.slow
def test_a_run_of_template_matching_leaves_orientations_that_relion_and_dynamo_get(tmp_path):
    true = Rotation.random(6, rng=4).as_matrix()
    centres = [np.array([16.0, y, x]) for y in (16.0, 40.0) for x in (14.0, 36.0, 58.0)]
    volume = -4 * sum(blobs((32, 56, 72), centre, matrix) for centre, matrix in zip(centres, true, strict=True))
    volume += np.random.default_rng(5).normal(0, 0.1, volume.shape).astype(np.float32)
    for name, data, spacing in (("t1", volume, 10.0), ("density", blobs((31, 31, 31), (15, 15, 15), np.eye(3), scale=2.0), 5.0)):
        with mrcfile.new(tmp_path / f"{name}.mrc") as file:
            file.set_data(data.astype(np.float32))
            file.voxel_size = spacing
    rows = [f"t1,{x:g},{y:g},{z:g}" for z, y, x in centres]
    (tmp_path / "clicks.csv").write_text("tomogram,x_voxel,y_voxel,z_voxel\n" + "\n".join(rows) + "\n")
    configuration = {
        "project": str(tmp_path / "made"),
        "tomograms": [str(tmp_path / "t1.mrc")],
        "species": [{"name": "blob", "radius": "60A", "expected": 6}],
        "labels": {"train": [str(tmp_path / "clicks.csv")]},
        "objective": {"name": "template"},
        "template": {"density": str(tmp_path / "density.mrc"), "angle_step": 60, "tilt_range": [-90, 90]},
        "network": {"level": 0},
        "pick": {"count": 6},
        "cluster": {"threads": 1},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(configuration))
    done = tomostream("run", tmp_path / "run.yaml")
    assert done.code == 0, done.err
    picks = read_table(tmp_path / "made" / "picks" / "t1.csv")
    assert picks.rotation is not None
    nearest = [int(np.argmin([np.linalg.norm(p / 10 - c) for c in centres])) for p in picks.position_zyx]
    assert sorted(nearest) == list(range(6))
    # so coarse a search, whose picks lie a voxel or two beside, takes some for their flipped selves; three of six by chance: one in 10 000
    assert np.sort(off_by(picks.rotation, true[nearest]))[2] < 40
    exported = tmp_path / "p.star"
    stores = tmp_path / "made" / "tomograms"
    assert tomostream("export", tmp_path / "made" / "picks", "-o", exported, "--format", "star-relion5", "--tomograms", stores).code == 0
    assert "_rlnAngleTilt" in exported.read_text()
    assert tomostream("check", tmp_path / "made").code == 0


def relions_matrix(rot, tilt, psi):
    """RELION's `Euler_angles2matrix`, term by term: A, with a point r of the reference at A r in the tomogram."""
    (ca, cb, cg), (sa, sb, sg) = np.cos(np.deg2rad([rot, tilt, psi])), np.sin(np.deg2rad([rot, tilt, psi]))
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


def turned_volume(volume, matrix):
    """The volume whose value at A r is that of the given one at r, as RELION turns a reference; about the central voxel."""
    on_zyx = matrix[::-1, ::-1].T  # its inverse, on z y x
    centre = (np.array(volume.shape) - 1) / 2
    return affine_transform(volume, on_zyx, offset=centre - on_zyx @ centre, order=1)


def zoomed(cube):
    """Every second voxel, in a cube of 21: a voxel of the tomogram is two of the reference's."""
    half = cube[1::2, 1::2, 1::2]
    return np.pad(half, [(3, 3)] * 3)


def alike(one, other):
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@given(st.floats(-180, 180), st.floats(0.01, 179.99), st.floats(-180, 180))
def test_relions_matrix_is_scipys_zyz_the_other_way_round(rot, tilt, psi):
    expected = relions_matrix(rot, tilt, psi)
    np.testing.assert_allclose(Rotation.from_euler("ZYZ", [rot, tilt, psi], degrees=True).inv().as_matrix(), expected, atol=1e-12)
    np.testing.assert_allclose(matrices(np.array([[rot, tilt, psi]]), "relion")[0], expected, atol=1e-12)


@pytest.mark.slow
def test_the_angles_in_relions_file_turn_the_reference_onto_a_particle_without_symmetry_and_no_half_turn_does_as_well(tmp_path):
    reference = blobs((31, 31, 31), (15, 15, 15), np.eye(3), scale=2.0)
    given_angles = [(20.0, 35.0, -70.0), (-140.0, 100.0, 15.0), (95.0, 160.0, 130.0), (60.0, 75.0, 60.0)]
    cubes = [turned_volume(reference, relions_matrix(*one)) for one in given_angles]
    volume = -np.concatenate([zoomed(cube) for cube in cubes], axis=2)
    centres = np.array([[10.0, 10.0, 10.0 + 21 * i] for i in range(len(cubes))])
    searched = rotated_kernels(reference, 6.0, angle_step=STEP, wedge=Wedge(-90.0, 90.0))
    found = best_rotations(searched, 6, lambda box: volume[box.slices], centres, memory=10**6)
    picks = Particles.build(centres * 10, unit="angstrom", tomogram="TS_01", rotation=found)
    write_table(tmp_path / "p.star", picks, format_name="star-relion5", conversion=Conversion(spacing=10.0, shape=volume.shape))
    rows = starfile.read(tmp_path / "p.star")
    for cube, true, angles in zip(cubes, given_angles, rows[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(), strict=True):
        matrix = relions_matrix(*angles)
        assert off_by(matrix, relions_matrix(*true)) < STEP
        right = alike(turned_volume(reference, matrix), cube)
        assert right > 0.85
        halves = [Rotation.from_rotvec(180 * axis, degrees=True).as_matrix() for axis in np.eye(3)]
        wrong = [matrix.T, *(matrix @ half for half in halves), *(half @ matrix for half in halves)]
        others = [other for other in wrong if off_by(other, matrix) > 60]  # a turn of nearly 180 degrees is nearly its own inverse
        assert max(alike(turned_volume(reference, other), cube) for other in others) < right - 0.1
