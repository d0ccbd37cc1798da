"""A density becomes kernels of the tomogram's voxels: centred, dark, without what no tilt has measured."""

import mrcfile
import numpy as np
import pytest
import scipy.fft
from scipy.spatial.transform import Rotation

from tomostream.errors import InputError
from tomostream.strategies.matched_filter.correlation import ball_of
from tomostream.strategies.matched_filter.density import FINER, RotatedKernels, Wedge, prepare_density

ALL = Wedge(-90.0, 90.0)


def write_density(path, values, spacing=5.0):
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(values.astype(np.float32))
        if spacing:
            file.voxel_size = spacing
    return path


def blob(edge, centre, sigma):
    axis = [np.arange(edge) - c for c in centre]
    squared = axis[0][:, None, None] ** 2 + axis[1][None, :, None] ** 2 + axis[2][None, None, :] ** 2
    return np.exp(-squared / (2 * sigma**2))


def is_measured(wedge, z, y, x, edge=15):
    """Whether the frequency (z, y, x) of a cube's real FFT is kept."""
    return bool(wedge.measured(edge)[z % edge, y % edge, x])


def test_wedge_keeps_what_a_projection_at_a_tilt_measures():
    wedge = Wedge(-60.0, 60.0)
    assert is_measured(wedge, 0, 0, 5)  # untilted: the plane kz = 0
    assert is_measured(wedge, 0, 5, 0)  # the tilt axis, y, is in every projection
    assert not is_measured(wedge, 5, 0, 0)  # the beam's direction is in none
    assert not is_measured(wedge, 5, 5, 1)
    assert is_measured(wedge, 5, 5, 3)  # atan(5 / 3) = 59 degrees
    assert is_measured(wedge, 0, 0, 0)
    about_x = Wedge(-60.0, 60.0, "x")
    assert is_measured(about_x, 0, 0, 5)
    assert is_measured(about_x, 5, 3, 0)
    assert is_measured(about_x, -5, -3, 0)
    assert not is_measured(about_x, 5, 0, 5)
    assert ALL.measured(9).all()


def test_sign_of_the_tilt_is_that_of_z_along_x():
    one_sided = Wedge(-10.0, 60.0)
    assert is_measured(one_sided, 5, 0, 5)  # 45 degrees
    assert not is_measured(one_sided, -5, 0, 5)


def test_wedge_is_its_own_mirror_through_the_origin():
    for wedge in (Wedge(-54.0, 60.0), Wedge(-20.0, 60.0, "x")):
        kept = wedge.measured(15)
        volume = np.random.default_rng(0).standard_normal((15, 15, 15))
        spectrum = scipy.fft.rfftn(volume) * kept
        again = scipy.fft.rfftn(scipy.fft.irfftn(spectrum, s=(15, 15, 15)))
        np.testing.assert_allclose(again, spectrum, atol=1e-9)  # a real volume has exactly this spectrum


def test_bad_tilts_are_refused():
    with pytest.raises(InputError, match=r"found \[60, -60\]"):
        Wedge(60.0, -60.0)
    with pytest.raises(InputError, match="x or y, found 'z'"):
        Wedge(-60.0, 60.0, "z")


def test_density_is_centred_on_its_mass_and_resampled(tmp_path):
    path = write_density(tmp_path / "d.mrc", blob(60, (33.3, 27.8, 30.5), 8.0))  # sigma 40 A
    density = prepare_density(path, spacing=20.0, half=6, low_pass=None)
    edge = 2 * (FINER * 6 + 1) + 1
    assert density.shape == (edge,) * 3
    expected = blob(edge, ((edge - 1) / 2,) * 3, 4.0)  # 40 A in voxels of 10 A
    np.testing.assert_allclose(density, expected, atol=0.02)


def test_low_pass_removes_detail(tmp_path):
    stripes = np.sin(2 * np.pi * np.arange(64) / 8)[:, None, None] * blob(64, (32, 32, 32), 10.0) + 3 * blob(64, (32, 32, 32), 10.0)
    path = write_density(tmp_path / "d.mrc", stripes)  # stripes of 40 A
    fine, coarse = (prepare_density(path, spacing=10.0, half=12, low_pass=low) for low in (None, 60.0))
    smooth = prepare_density(write_density(tmp_path / "s.mrc", 3 * blob(64, (32, 32, 32), 10.0)), spacing=10.0, half=12, low_pass=None)
    assert np.abs(fine - smooth).max() > 0.3
    assert np.abs(coarse - smooth).max() < 0.1


def test_kernels_are_dark_normalised_and_turned(tmp_path):
    values = blob(64, (32, 32, 24), 5.0) + blob(64, (32, 32, 40), 5.0)
    density = prepare_density(write_density(tmp_path / "d.mrc", values), spacing=10.0, half=8, low_pass=None)
    turns = Rotation.from_rotvec([[0, 0, 0], [0, np.pi / 2, 0]])  # not at all, and about y
    kernels = list(RotatedKernels(density, turns, half=8, radius=8.0, wedge=ALL))
    assert len(kernels) == 2
    for kernel in kernels:
        assert abs(kernel.sum(dtype=np.float64)) < 1e-4
        assert abs((kernel.astype(np.float64) ** 2).sum() - 1) < 1e-5
        assert not kernel[~ball_of(8, 8.0)].any()
    assert kernels[0][8, 8, 4] < 0 > kernels[0][8, 8, 12]
    assert kernels[0][8, 8, 4] < kernels[0][8, 4, 8]
    rotated = np.tensordot(turns[1].as_matrix(), np.array([0, 0, 4.0]), axes=1)  # where the dumb-bell's end lies now
    there = tuple(round(c) + 8 for c in rotated)
    assert kernels[1][there] == pytest.approx(kernels[0][8, 8, 12], rel=0.2)


def test_missing_wedge_smears_along_the_beam(tmp_path):
    density = prepare_density(write_density(tmp_path / "d.mrc", blob(64, (32, 32, 32), 5.0)), spacing=10.0, half=8, low_pass=None)
    [whole] = RotatedKernels(density, Rotation.identity(1), half=8, radius=8.0, wedge=ALL)
    [cut] = RotatedKernels(density, Rotation.identity(1), half=8, radius=8.0, wedge=Wedge(-60.0, 60.0))
    assert whole[12, 8, 8] == pytest.approx(whole[8, 8, 12], abs=0.01)
    assert cut[11, 8, 8] < cut[8, 8, 11]  # darker above than beside


def test_densities_that_can_not_serve_are_refused(tmp_path):
    with pytest.raises(InputError, match="no voxel size"):
        prepare_density(write_density(tmp_path / "a.mrc", blob(16, (8, 8, 8), 2.0), spacing=0), spacing=10.0, half=4, low_pass=None)
    with pytest.raises(InputError, match="no contrast"):
        prepare_density(write_density(tmp_path / "b.mrc", np.ones((8, 8, 8))), spacing=10.0, half=4, low_pass=None)
    (tmp_path / "c.mrc").write_bytes(b"no map")
    with pytest.raises(InputError, match="not an MRC"):
        prepare_density(tmp_path / "c.mrc", spacing=10.0, half=4, low_pass=None)
