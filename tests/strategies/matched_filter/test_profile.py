"""The average's profile is that of the particles, although clicks are off and rotations unknown; orientations cover SO(3)."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tomostream.errors import InputError
from tomostream.geometry import Box
from tomostream.strategies.matched_filter.correlation import ball_of
from tomostream.strategies.matched_filter.profile import best_shift, click_profiles, kernel_of, radial_profile, subtomogram
from tomostream.strategies.matched_filter.rotations import rotation_set


def distances(half):
    axis = np.arange(-half, half + 1.0) ** 2
    return np.sqrt(axis[:, None, None] + axis[None, :, None] + axis[None, None, :])


def reader_of(volume):
    def read(box):
        result = np.zeros(box.shape, dtype=np.float32)
        inside = box.clipped(Box.whole(volume.shape))
        result[inside.relative_to(box.start).slices] = volume[inside.slices]
        return result

    return read


def test_profile_of_what_depends_on_the_distance_linearly_is_exact():
    cube = (3 - 0.25 * distances(6)).astype(np.float32)
    profile = radial_profile(cube)
    assert profile.shape == (7,)
    # a voxel between two distances pulls each towards it, by no more than the slope
    np.testing.assert_allclose(profile, 3 - 0.25 * np.arange(7), atol=0.08)


def test_profile_does_not_see_rotations():
    cube = np.random.default_rng(0).standard_normal((9, 9, 9)).astype(np.float32)
    np.testing.assert_allclose(radial_profile(cube), radial_profile(np.ascontiguousarray(cube.transpose(2, 0, 1)[::-1])), atol=1e-6)


def test_subtomogram_is_interpolated_linearly_and_zero_beyond_the_volume():
    volume = np.random.default_rng(1).standard_normal((12, 13, 14)).astype(np.float32)
    at = np.array([5.25, 6.5, 1.75])
    places = np.stack(np.meshgrid(*[np.arange(-4, 5) + c for c in at], indexing="ij"))
    expected = ndimage.map_coordinates(np.pad(volume, 6), places + 6, order=1)
    np.testing.assert_allclose(subtomogram(reader_of(volume), at, 4), expected, atol=1e-5)


@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (1.4, -0.7, 2.3), (-2.0, 0.3, 0.0)])
def test_shift_is_found_to_a_fifth_of_a_voxel(shift):
    profile = np.exp(-(np.arange(10) ** 2) / (2 * 2.5**2))
    axis = [np.arange(-10, 11.0) - s for s in shift]
    squared = axis[0][:, None, None] ** 2 + axis[1][None, :, None] ** 2 + axis[2][None, None, :] ** 2
    cube = np.exp(-squared / (2 * 2.5**2)).astype(np.float32)
    np.testing.assert_allclose(best_shift(cube, kernel_of(profile, 6.0), limit=4.0), shift, atol=0.2)


def test_recentring_sharpens_the_average():
    rng = np.random.default_rng(2)
    centres = rng.uniform(14, 50, (20, 3))
    grid = np.indices((64, 64, 64), dtype=np.float64)
    volume = rng.normal(0, 0.05, (64, 64, 64))
    for centre in centres:
        squared = ((grid - centre[:, None, None, None]) ** 2).sum(axis=0)
        volume = np.minimum(volume, -2 * np.exp(-squared / (2 * 2.0**2)))
    clicks = centres + rng.normal(0, 1.2, centres.shape)
    read = reader_of(volume.astype(np.float32))
    rough = radial_profile(np.mean([subtomogram(read, c, 9) for c in clicks], axis=0, dtype=np.float32))
    sharp = click_profiles([read], [clicks], radius=6.0, support=8.0).mean(axis=0)
    assert sharp[0] < rough[0] - 0.2
    assert sharp[0] < -1.6


def test_rotations_cover_all_orientations_evenly():
    rotations = rotation_set(30.0)
    assert len(rotations) == 551
    anything = Rotation.random(200, rng=np.random.default_rng(0))
    nearest = np.array([np.degrees((one.inv() * rotations).magnitude().min()) for one in anything])
    assert nearest.max() < 30
    assert 10 < nearest.mean() < 18
    assert np.abs(rotations.as_matrix().mean(axis=0)).max() < 0.02


def test_a_step_that_is_too_fine_is_refused():
    with pytest.raises(InputError, match="5 to 180 degrees, found 1"):
        rotation_set(1.0)


def test_kernel_of_a_dark_particle_is_dark_inside():
    kernel = kernel_of(-np.exp(-(np.arange(8.0) ** 2) / 8), 5.6)
    assert kernel.shape == (11, 11, 11)
    assert kernel[5, 5, 5] == kernel.min() < 0
    assert not kernel[~ball_of(5, 5.6)].any()
