"""The lazy label mask is the whole volume's mask for any chunks, and touches no more than it must."""

import time

import dask
import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from tomostream.errors import InputError
from tomostream.geometry import BlockGrid, Box
from tomostream.graph import label_arrays
from tomostream.graph.label_arrays import label_array, points_by_block
from tomostream.masks import mask_of_box, paint_checked, points_touching

coordinate = st.one_of(st.integers(-8, 32).map(float), st.floats(-8, 32))
tables = st.lists(st.tuples(coordinate, coordinate, coordinate), max_size=8).map(
    lambda rows: np.array(rows, dtype=np.float64).reshape(-1, 3)
)
triples = st.tuples(st.integers(1, 24), st.integers(1, 24), st.integers(1, 24))


@examples(60)
@given(tables, st.floats(0.2, 8), st.sampled_from(["sphere", "gaussian", "cube"]), triples, st.tuples(*[st.integers(3, 24)] * 3), st.data())
def test_lazy_mask_equals_the_whole_mask_for_any_chunks(points, radius, kind, shape, chunks, data):
    values = np.array(data.draw(st.lists(st.integers(1, 3), min_size=len(points), max_size=len(points))), dtype=np.uint8)
    whole = mask_of_box(Box.whole(shape), points, radius=radius, shape=kind, volume=shape, values=values)
    lazy = label_array(points, shape=shape, radius=radius, kind=kind, chunks=chunks, values=values)
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(lazy.compute(), whole)
    assert (lazy.shape, lazy.dtype) == (shape, np.uint8)


@examples(80)
@given(tables, st.data(), triples, triples)
def test_buckets_hold_every_point_that_touches_a_block(points, data, shape, block):
    radii = np.array(data.draw(st.lists(st.floats(0.1, 9), min_size=len(points), max_size=len(points))), dtype=np.float64)
    grid = BlockGrid(shape, block)
    buckets = points_by_block(grid, points, radii)
    for index in grid.indices():
        expected = points_touching(grid.core(index), points, radii) if len(points) else np.empty(0)
        np.testing.assert_array_equal(buckets.get(index, np.empty(0)), expected)


def test_a_block_paints_only_its_own_points(monkeypatch):
    painted = []

    def spy(core, points, *arguments, **others):
        painted.append((core, points))
        return paint_checked(core, points, *arguments, **others)

    monkeypatch.setattr(label_arrays, "paint_checked", spy)
    points = np.random.default_rng(0).uniform(0, 64, (40, 3))
    lazy = label_array(points, shape=(64, 64, 64), radius=2.0, kind="sphere", chunks=(16, 16, 16))
    assert not painted
    with dask.config.set(scheduler="synchronous"):
        mask = lazy.compute()
    assert 0 < len(painted) < 64
    for core, own in painted:
        assert len(points_touching(core, own, 2.0)) == len(own)
    untouched = [core for core in BlockGrid((64, 64, 64), (16, 16, 16)).cores() if core not in [c for c, _ in painted]]
    assert untouched
    assert not any(mask[core.slices].any() for core in untouched)


def test_untouched_block_takes_no_memory():
    lazy = label_array(np.empty((0, 3)), shape=(64, 64, 64), radius=2.0, kind="sphere", chunks=(64, 64, 64))
    block = dask.get(dict(lazy.dask), (lazy.name, 0, 0, 0))
    assert block.strides == (0, 0, 0)
    assert not block.any()


def test_many_points_and_blocks_are_bucketed_in_proportion_to_their_contacts():
    points = np.random.default_rng(0).uniform(0, 1000, (50_000, 3))
    start = time.perf_counter()
    buckets = points_by_block(BlockGrid((1000, 1000, 1000), (20, 20, 20)), points, np.full(50_000, 3.0))
    assert time.perf_counter() - start < 20  # measured 0.6 s; comparing all pairs would take minutes
    assert sum(len(b) for b in buckets.values()) > 50_000


def test_name_follows_the_content():
    arguments = {"shape": (8, 8, 8), "radius": 2.0, "kind": "sphere", "chunks": (4, 4, 4)}
    point = np.array([[1.0, 2.0, 3.0]])
    assert label_array(point, **arguments).name == label_array(point.copy(), **arguments).name
    assert label_array(point, **arguments).name != label_array(point + 1, **arguments).name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunks": (0, 4, 4)}, r"at least 1 voxel, found \(8, 8, 8\) and \(0, 4, 4\)"),
        ({"radius": np.array([1.0, 2.0])}, r"1 points, \(2,\) radii"),
        ({"values": np.array([1, 2], dtype=np.uint8)}, r"\(2,\) values"),
        ({"kind": "ball"}, "'ball' is unknown"),
        ({"radius": -1.0}, "above zero"),
    ],
)
def test_bad_arguments_are_refused_before_a_graph_is_built(change, message):
    arguments = {"shape": (8, 8, 8), "radius": 2.0, "kind": "sphere", "chunks": (4, 4, 4)} | change
    with pytest.raises(InputError, match=message):
        label_array(np.array([[1.0, 2.0, 3.0]]), **arguments)
