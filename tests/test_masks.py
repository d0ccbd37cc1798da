"""The label mask of any box is the part of the whole volume's mask, voxel for voxel."""

import time

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from tomostream.errors import InputError
from tomostream.geometry import BlockGrid, Box
from tomostream.masks import mask_of_box, points_touching

SHAPES = ("sphere", "gaussian", "cube")


def whole_volume_mask(volume, points, radius, shape, values=None):
    """The definition, on the full grid, one point at a time."""
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in volume), indexing="ij")
    radii = np.broadcast_to(radius, len(points))
    mask = np.zeros(volume, dtype=np.uint8)
    for i, (pz, py, px) in enumerate(points):
        r = radii[i]
        squared = (z - pz) ** 2 + (y - py) ** 2 + (x - px) ** 2
        cube = (abs(z - pz) <= r) & (abs(y - py) <= r) & (abs(x - px) <= r)
        near = {"sphere": squared <= r**2, "gaussian": cube & (squared < 2 * r**2), "cube": cube}[shape]
        value = 1 if values is None else values[i]
        mask[near & ((mask == 0) | (mask > value))] = value
    return mask


coordinate = st.one_of(
    st.integers(-6, 30).map(float),
    st.integers(-12, 60).map(lambda n: n / 2),
    st.floats(-6, 30, allow_nan=False, width=64),
)
tables = st.lists(st.tuples(coordinate, coordinate, coordinate), max_size=6).map(
    lambda rows: np.array(rows, dtype=np.float64).reshape(-1, 3)
)
radii = st.one_of(st.sampled_from([0.5, 1.0, 3.0, 5.0, 2.5]), st.floats(0.05, 9))
volumes = st.tuples(st.integers(1, 20), st.integers(1, 24), st.integers(1, 24))
blocks = st.tuples(st.integers(1, 24), st.integers(1, 24), st.integers(1, 24))


@examples(120)
@given(tables, radii, st.sampled_from(SHAPES), volumes, blocks)
def test_masks_of_any_blocks_are_the_parts_of_the_whole_mask(points, radius, shape, volume, block):
    expected = whole_volume_mask(volume, points, radius, shape)
    found = np.full(volume, 255, dtype=np.uint8)
    for core in BlockGrid(volume, block).cores():
        found[core.slices] = mask_of_box(core, points, radius=radius, shape=shape, volume=volume)
    np.testing.assert_array_equal(found, expected)


@examples(60)
@given(tables, st.data())
def test_smallest_value_wins_with_a_radius_for_each_point_in_any_order(points, data):
    n = len(points)
    values = np.array(data.draw(st.lists(st.integers(1, 255), min_size=n, max_size=n)), dtype=np.uint8)
    each = np.array(data.draw(st.lists(radii, min_size=n, max_size=n)), dtype=np.float64)
    order = np.array(data.draw(st.permutations(range(n))), dtype=np.int64)
    volume = (12, 17, 15)
    expected = whole_volume_mask(volume, points, each, "sphere", values)
    box = Box.whole(volume)
    found = mask_of_box(box, points[order], radius=each[order], shape="sphere", volume=volume, values=values[order])
    np.testing.assert_array_equal(found, expected)


def test_gaussian_equals_the_thresholded_template_cut_at_the_label_diameter():
    diameter = 9
    sigma = (diameter - 1) / 2
    z, y, x = np.ogrid[-4:5, -4:5, -4:5]
    template = np.exp(-(z * z + y * y + x * x) / (2 * sigma**2)) > np.exp(-1) * (1 + 1e-12)
    found = mask_of_box(Box.whole((15, 15, 15)), np.array([[7.0, 7.0, 7.0]]), radius=sigma, shape="gaussian", volume=(15, 15, 15))
    np.testing.assert_array_equal(found[3:12, 3:12, 3:12], template)
    assert found.sum() == template.sum()


def test_every_voxel_at_exactly_the_radius_is_labelled():
    found = mask_of_box(Box.whole((21, 21, 21)), np.array([[10.0, 10.0, 10.0]]), radius=10.0, shape="sphere", volume=(21, 21, 21))
    assert [found[0, 10, 10], found[10, 20, 10], found[10, 16, 18], found[10, 17, 18]] == [1, 1, 1, 0]


def test_nothing_is_labelled_outside_the_volume():
    volume = (4, 4, 4)
    found = mask_of_box(Box((-2, -2, -2), (6, 6, 6)), np.array([[0.0, 0.0, 3.0]]), radius=3.0, shape="cube", volume=volume)
    assert found[2:6, 2:6, 2:6].sum() == found.sum() == 64


def test_box_outside_the_volume_and_empty_table_are_all_background():
    point = np.array([[1.0, 1.0, 1.0]])
    assert not mask_of_box(Box((9, 9, 9), (11, 11, 11)), point, radius=20.0, shape="sphere", volume=(4, 4, 4)).any()
    assert mask_of_box(Box.whole((4, 4, 4)), np.empty((0, 3)), radius=2.0, shape="sphere", volume=(4, 4, 4)).shape == (4, 4, 4)


@examples(60)
@given(tables, radii, st.sampled_from(SHAPES), blocks, volumes)
def test_points_that_do_not_touch_a_box_label_nothing_in_it(points, radius, shape, start, size):
    box = Box(start, tuple(a + n for a, n in zip(start, size, strict=True)))
    volume = box.stop
    far = np.delete(points, points_touching(box, points, radius), axis=0)
    assert not whole_volume_mask(volume, far, radius, shape)[box.slices].any()


def test_large_window_is_painted_in_slabs_without_a_seam():
    volume = (3, 160, 170)
    point = np.array([[1.25, 80.5, 70.125]])
    found = mask_of_box(Box.whole(volume), point, radius=75.3, shape="sphere", volume=volume)
    np.testing.assert_array_equal(found, whole_volume_mask(volume, point, 75.3, "sphere"))
    volume = (40, 90, 90)  # 90 x 90 planes: 16 planes a slab
    point = np.array([[19.75, 44.5, 44.0]])
    found = mask_of_box(Box.whole(volume), point, radius=43.0, shape="gaussian", volume=volume)
    np.testing.assert_array_equal(found, whole_volume_mask(volume, point, 43.0, "gaussian"))


def test_a_hundred_labels_cost_a_thousandth_of_full_grids():
    volume = (64, 320, 320)
    points = np.random.default_rng(0).uniform((0, 0, 0), volume, size=(100, 3))
    start = time.perf_counter()
    whole_volume_mask(volume, points[:1], 10.0, "sphere")
    full_grids = 100 * (time.perf_counter() - start) * 28e6 / np.prod(volume)
    start = time.perf_counter()
    mask_of_box(Box.whole((112, 500, 500)), points, radius=10.0, shape="sphere", volume=(112, 500, 500))
    assert full_grids > 300 * (time.perf_counter() - start)  # measured 3,000; a loaded machine is given room


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": "ball"}, "'ball' is unknown; choose one of sphere, gaussian, cube"),
        ({"radius": 0.0}, "above zero and finite, found 0 to 0 voxels"),
        ({"radius": float("nan")}, "above zero and finite"),
        ({"points_zyx": np.array([[1.0, 2.0, 3.0], [1.0, np.nan, 3.0]])}, r"1 of 2 points .* row 1"),
        ({"points_zyx": np.array([[np.inf, 2.0, 3.0]])}, "1 of 1 points"),
        ({"values": np.array([0], dtype=np.uint8)}, "1 to 255, found 0"),
    ],
)
def test_what_cannot_be_painted_is_refused_with_its_value(change, message):
    arguments = {"points_zyx": np.array([[1.0, 2.0, 3.0]]), "radius": 2.0, "shape": "sphere", "volume": (4, 4, 4)} | change
    with pytest.raises(InputError, match=message):
        mask_of_box(Box.whole((4, 4, 4)), arguments.pop("points_zyx"), **arguments)
