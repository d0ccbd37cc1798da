"""Streaks near the faces are measured line by line, are where they were put, and don't depend on how the volume is read."""

import numpy as np
import pytest
from scipy import ndimage

from tomostream import defaults
from tomostream.geometry import Box
from tomostream.inference import face_noise
from tomostream.inference.face_noise import ALONG_X, ALONG_Y, FaceNoise, face_gains, told

NOISE = FaceNoise(smooth_vox=1.5, reach_vox=6, background=(0.0,))
SHAPE = (30, 120, 100)


def volume_of(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def with_streaks(volume, axis, times):
    """Add smooth noise in the first three voxels of an axis and the first ten slices, `times` as strong as the smoothed volume's own."""
    own = ndimage.gaussian_filter(volume, NOISE.smooth_vox)
    smooth = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal(volume.shape), 3.0)
    near = np.ones(volume.shape)
    near[10:] = 0
    near[tuple(slice(3, None) if a == axis else slice(None) for a in range(3))] = 0
    return (volume + times * own.std() * smooth / smooth.std() * near).astype(np.float32)


def reader(volume):
    return lambda box: volume[box.slices]


def measured(volume, noise=NOISE):
    return face_gains(reader(volume), volume.shape, noise)


@pytest.mark.parametrize(("axis", "name", "other"), [(2, ALONG_Y, ALONG_X), (1, ALONG_X, ALONG_Y)])
def test_streaks_are_found_where_they_are(axis, name, other):
    found = measured(with_streaks(volume_of(), axis, 8))
    near, far = found[name]
    assert near.shape == far.shape == (30, 6)
    assert near[1:8, :2].min() > 1.5
    assert (near[14:] == 1).all()  # other slices
    assert (far == 1).all()  # the other face
    assert (found[other] == 1).all()


def test_a_user_is_told_of_streaks_and_of_nothing_else():
    assert told(measured(volume_of())) is None
    assert told({}) is None
    assert told({"encoders.0.norm.running_mean": np.full(4, 9.0)}) is None
    gains = {ALONG_Y: np.array([[[1.0]], [[2.25]]]), ALONG_X: np.ones((2, 1, 1))}
    assert "up to 4.5 times as strong" in str(told(gains))
    assert told({ALONG_Y: np.array([[[1.0]], [[1.2]]])}) is None


def test_a_volume_of_noise_alone_has_none():
    for seed in range(4):
        for gains in measured(volume_of(seed=seed)).values():
            assert (gains == 1).all()


def test_the_gain_is_the_spread_over_twice_the_inner_one():
    volume = with_streaks(volume_of(), 2, 8)
    weights = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights /= weights.sum()
    smoothed = volume.astype(np.float64)
    for axis, n in enumerate(SHAPE):
        smoothed = ndimage.convolve1d(smoothed, weights, axis=axis, mode="constant")
        left = [np.sqrt(sum(w**2 for w, j in zip(weights, range(i - 5, i + 6), strict=True) if 0 <= j < n)) for i in range(n)]
        smoothed /= np.array(left).reshape([-1 if axis == place else 1 for place in range(3)])
    spread = np.median(np.abs(smoothed - np.median(smoothed, axis=1, keepdims=True)), axis=1)
    across = np.median(np.abs(smoothed - np.median(smoothed, axis=2, keepdims=True)), axis=2)
    inner = [across[:, np.linspace(12, 107, 6).round().astype(int)], spread[:, np.linspace(12, 87, 6).round().astype(int)]]
    wanted = spread / (defaults.FACE_NOISE * np.median(np.concatenate([part.ravel() for part in inner])))
    near, far = measured(volume)[ALONG_Y]
    np.testing.assert_allclose(near, np.maximum(1, wanted[:, :6]), rtol=1e-4)
    np.testing.assert_allclose(far, np.maximum(1, wanted[:, :-7:-1]), rtol=1e-4)


def test_thin_slabs_give_the_same_bits_and_stay_inside(monkeypatch):
    volume = with_streaks(volume_of(), 2, 8)
    whole = measured(volume)
    boxes = []

    def read(box):
        boxes.append(box)
        return volume[box.slices]

    monkeypatch.setattr(face_noise, "_SLAB_BYTES", 4 * 120 * 14 * 12)  # three slices, and the reach of the Gaussian
    found = face_gains(read, SHAPE, NOISE)
    assert found.keys() == whole.keys()
    for name, gains in found.items():
        np.testing.assert_array_equal(gains, whole[name])
    assert len(boxes) > 100
    assert all(box.clipped(Box.whole(SHAPE)) == box for box in boxes)
    assert max(4 * box.size for box in boxes) <= 4 * 120 * 14 * 13


@pytest.mark.parametrize("shape", [(30, 60, 60), (1, 1, 1), (30, 200, 20), (5, 7, 300)])
def test_lines_too_short_to_measure_are_left_alone(shape):
    for name, gains in measured(volume_of(shape)).items():
        assert name == (ALONG_X if shape[2] >= 84 else ALONG_Y)
        assert shape[{ALONG_Y: 1, ALONG_X: 2}[name]] >= 84
        assert (gains >= 1).all()


def test_constant_and_missing_voxels_have_no_gain():
    assert measured(np.zeros(SHAPE, dtype=np.float32)) == {}
    volume = with_streaks(volume_of(), 2, 8)
    volume[:, :, :20] = np.nan
    for gains in measured(volume).values():
        assert np.isfinite(gains).all()
        assert (gains >= 1).all()
    assert measured(np.full(SHAPE, np.nan, dtype=np.float32)) == {}
