"""Statistics by blocks are those of float64 numpy on the whole array."""

import multiprocessing

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from tomostream.errors import InputError
from tomostream.graph.lazy_arrays import as_dask, block_shape
from tomostream.graph.moments import projected_bytes, statistics_of
from tomostream.moments import SCRATCH_BYTES, Histogram, Moments
from tomostream.tomogram import open_tomogram

DTYPES = ["?", "i1", "u1", "i2", "u2", ">i2", "f2", "i4", "u4", "i8", "f4", ">f4", "f8"]


def of_numpy(array, clip_sigma=3.0):
    """The definition, in float64, on the whole array."""
    values = array[np.isfinite(array)].astype(np.float64)
    mean, std = values.mean(), values.std()
    clipped = np.clip((values - mean) / std, -clip_sigma, clip_sigma)
    return mean, std, clipped.mean(), clipped.std()


def assert_within_guarantee(found, array, clip_sigma=3.0):
    mean, std, clipped_mean, clipped_std = of_numpy(array, clip_sigma)
    assert abs(found.mean - mean) <= 1e-6 * std
    assert abs(found.std - std) <= 1e-6 * std
    assert abs(found.clipped_mean - clipped_mean) <= 1e-6 * clipped_std
    assert abs(found.clipped_std - clipped_std) <= 1e-6 * clipped_std
    assert (found.finite, found.total, found.clip_sigma) == (np.isfinite(array).sum(), array.size, clip_sigma)


def volume_of(dtype, shape, seed, *, spoiled=False):
    rng = np.random.default_rng(seed)
    values = rng.normal(60, 25, shape) + 900 * (rng.random(shape) < 0.01)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return values > 70
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.clip(values, info.min, min(info.max, 2**40)).astype(dtype)
    array = values.astype(dtype)
    if spoiled:
        array.flat[:: max(2, array.size // 7)] = rng.choice([np.nan, np.inf, -np.inf], size=len(array.flat[:: max(2, array.size // 7)]))
    return array


@examples(80)
@given(
    st.sampled_from(DTYPES),
    st.tuples(st.integers(2, 12), st.integers(2, 13), st.integers(2, 14)),
    st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 14)),
    st.integers(0, 1000),
    st.booleans(),
    st.sampled_from([1.0, 3.0, 4.5]),
)
def test_statistics_of_any_chunks_and_type_equal_numpy(dtype, shape, chunks, seed, spoiled, clip_sigma):
    array = volume_of(dtype, shape, seed, spoiled=spoiled)
    values = array[np.isfinite(array)]
    if values.size == 0 or values.min() == values.max():
        return
    with dask.config.set(scheduler="synchronous"):
        found = statistics_of(da.from_array(array, chunks=chunks), clip_sigma=clip_sigma)
    assert_within_guarantee(found, array, clip_sigma)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
def test_large_offset_costs_no_digits(dtype):
    array = (1e6 + np.random.default_rng(0).uniform(-1, 1, (40, 50, 60)) * (1 if dtype != "i4" else 3)).astype(dtype)
    assert_within_guarantee(statistics_of(da.from_array(array, chunks=(7, 50, 11)), clip_sigma=3.0), array)


def test_drifting_mean_between_blocks_is_merged_exactly():
    array = (np.random.default_rng(0).normal(size=(64, 40, 40)) + 1e4 * np.arange(64)[:, None, None]).astype(np.float32)
    assert_within_guarantee(statistics_of(da.from_array(array, chunks=(5, 40, 40)), clip_sigma=3.0), array)


@pytest.mark.parametrize("hot", [1e8, -1e20])
def test_hot_first_voxel_does_not_spoil_the_sums(hot):
    array = np.random.default_rng(0).normal(size=(20, 60, 60)).astype(np.float32)
    array[0, 0, 0] = hot
    assert_within_guarantee(statistics_of(da.from_array(array, chunks=(20, 60, 60)), clip_sigma=3.0), array)


def test_tiny_values_keep_their_digits():
    array = (1e-30 * np.random.default_rng(0).normal(size=(9, 30, 30))).astype(np.float32)
    assert_within_guarantee(statistics_of(da.from_array(array, chunks=8), clip_sigma=3.0), array)


@pytest.mark.parametrize("dtype", ["i1", "u2", "f2", "f4", "f8", "i8"])
def test_constant_volume_has_exactly_no_deviation(dtype):
    array = np.full((11, 12, 13), 0.1 if dtype[0] == "f" else 101, dtype=dtype)
    found = statistics_of(da.from_array(array, chunks=5), clip_sigma=3.0)
    assert found.is_constant
    assert (found.mean, found.std, found.clipped_mean, found.clipped_std) == (float(array[0, 0, 0]), 0.0, 0.0, 0.0)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_volume_without_a_finite_voxel_is_refused_with_its_size(dtype):
    with pytest.raises(InputError, match="none of the volume's 120 voxels is finite"):
        statistics_of(da.full((4, 5, 6), np.nan, dtype=dtype, chunks=3), clip_sigma=3.0)


@pytest.mark.parametrize(
    ("array", "clip_sigma", "message"),
    [
        (da.zeros((4, 4), dtype="c8"), 3.0, "complex64"),
        (da.zeros((4, 4), dtype="f4"), 0.0, "above zero and finite, found 0"),
        (da.zeros((4, 0), dtype="f4"), 3.0, r"shape \(4, 0\) holds no voxel"),
        (da.from_array(np.array([1e200, -1e200, 0.0])), 3.0, "leave the range of float64"),
        (da.from_array(np.array([1e-160, -1e-160, 0.0])), 3.0, "leave the range of float64"),
    ],
)
def test_what_has_no_statistics_is_refused(array, clip_sigma, message):
    with pytest.raises(InputError, match=message):
        statistics_of(array, clip_sigma=clip_sigma)


@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_bits_do_not_depend_on_the_number_of_workers(dtype):
    array = da.from_array(volume_of(dtype, (40, 50, 60), 3), chunks=(13, 17, 19))
    found = []
    for workers in (1, 2, 5):
        with dask.config.set(scheduler="threads", num_workers=workers):
            found.append(statistics_of(array, clip_sigma=3.0))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(("dtype", "passes"), [("i1", 1), ("u2", 1), ("f2", 1), ("f4", 2)])
def test_blocks_are_read_once_where_a_histogram_is_exact_and_twice_otherwise(dtype, passes):
    reads = []

    def counted(block):
        if block.size:
            reads.append(block.shape)
        return block

    array = da.from_array(volume_of(dtype, (8, 8, 8), 0), chunks=4).map_blocks(counted, meta=np.empty((0, 0, 0), dtype=dtype))
    with dask.config.set(scheduler="synchronous"):
        statistics_of(array, clip_sigma=3.0)
    assert len(reads) == 8 * passes


@pytest.mark.parametrize("dtype", ["u1", "i2", "f2"])
def test_histogram_counts_every_pattern_of_any_layout(dtype):
    array = volume_of(dtype, (13, 15, 17), 5)
    for view in (array, array[::2, 1:, ::-1], array.T, array.astype(array.dtype.newbyteorder(">"))):
        histogram = Histogram.of(view)
        values, counts = np.unique(view, return_counts=True)
        patterns = np.ascontiguousarray(values.astype(dtype)).view(f"u{values.dtype.itemsize}")
        np.testing.assert_array_equal(histogram.counts[patterns], counts)
        assert histogram.counts.sum() == view.size


def test_histogram_and_moments_agree_on_raw_and_clipped_data():
    array = volume_of("i2", (20, 30, 40), 1)
    exact, summed = Histogram.of(array).moments(), Moments.of(array)
    assert (exact.count, exact.total) == (summed.count, summed.total) == (24000, 24000)
    assert exact.mean == pytest.approx(summed.mean, rel=1e-13)
    assert exact.std == pytest.approx(summed.std, rel=1e-13)
    clip = {"mean": exact.mean, "std": exact.std, "clip_sigma": 2.0}
    one, other = Histogram.of(array).clipped(**clip), Moments.clipped(array, **clip)
    assert one.mean == pytest.approx(other.mean, abs=1e-13)
    assert one.std == pytest.approx(other.std, rel=1e-13)


@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=5), min_size=1, max_size=6))
def test_merge_of_parts_is_the_sketch_of_the_whole(parts):
    merged = Moments()
    for part in parts:
        merged = merged.merge(Moments.of(np.array(part, dtype=np.float64)))
    whole = np.array([value for part in parts for value in part], dtype=np.float64)
    assert merged.count == merged.total == whole.size
    if whole.size:
        assert merged.mean == pytest.approx(whole.mean(), abs=1e-8)
        assert merged.std == pytest.approx(whole.std(), abs=1e-6)


def test_projection_counts_blocks_of_each_thread():
    array = da.zeros((256, 256, 256), dtype="f4", chunks=(128, 128, 100))
    assert projected_bytes(array, threads=3) == 3 * (4 * 128 * 128 * 100 * 4 + SCRATCH_BYTES)
    assert projected_bytes(array.astype("i2"), threads=1) > 4 * 128 * 128 * 100 * 2 + SCRATCH_BYTES


def test_zarr_blocks_follow_shards_and_numpy_blocks_are_slabs(tmp_path):
    data = volume_of("f4", (20, 24, 28), 0)
    store = zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(4, 4, 4), shards=(16, 8, 8))
    assert as_dask(store, block_bytes=10**6).chunks == ((16, 4), (8, 8, 8), (8, 8, 8, 4))
    assert as_dask(store, block_bytes=16 * 8 * 8 * 4 // 2).chunks[0] == (8, 8, 4)
    assert as_dask(store, block_bytes=1).chunksize == (4, 4, 4)
    assert as_dask(data, block_bytes=24 * 28 * 4 * 7).chunks == ((7, 7, 6), (24,), (28,))
    lazy = da.zeros((3, 3))
    assert as_dask(lazy, block_bytes=1) is lazy
    assert statistics_of(as_dask(store, block_bytes=5000), clip_sigma=3.0).mean == pytest.approx(float(data.mean(dtype=np.float64)))
    with pytest.raises(InputError, match=r"expected a tomogram, or a numpy, zarr or dask array, found builtins\.list"):
        as_dask([1, 2], block_bytes=1)


def test_tomogram_is_read_by_itself_at_stored_and_derived_levels(tmp_path):
    data = volume_of("f4", (20, 24, 28), 0)
    group = zarr.create_group(tmp_path / "a.ome.zarr")
    group.create_array("0", data=data, chunks=(4, 4, 4), shards=(16, 8, 8))
    axes = [{"name": n, "type": "space", "unit": "angstrom"} for n in "zyx"]
    scale = [{"coordinateTransformations": [{"type": "scale", "scale": [10.0, 10.0, 10.0]}], "path": "0"}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"name": "a", "axes": axes, "datasets": scale}]}
    tomogram = open_tomogram(tmp_path / "a.ome.zarr")
    lazy = as_dask(tomogram, block_bytes=16 * 8 * 8 * 4 // 2)
    assert lazy.chunks[0] == (8, 8, 4)
    np.testing.assert_array_equal(lazy.compute(), data)
    assert_within_guarantee(statistics_of(tomogram, clip_sigma=3.0), data)
    binned = data.reshape(10, 2, 12, 2, 14, 2).mean(axis=(1, 3, 5), dtype=np.float64).astype(np.float32)
    assert statistics_of(tomogram.at_level(1), clip_sigma=3.0).std == pytest.approx(float(binned.std(dtype=np.float64)), rel=1e-5)


@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_numpy_volume_is_measured_without_wrapping(dtype):
    array = volume_of(dtype, (9, 10, 11), 0)
    assert_within_guarantee(statistics_of(array, clip_sigma=3.0), array)


@given(st.integers(1, 6), st.integers(1, 40), st.integers(1, 6), st.integers(1, 10**5))
def test_blocks_never_cross_a_shard(units, edge, chunk, limit):
    shard = units * chunk
    block = block_shape((edge,), (shard,), (chunk,), 4, block_bytes=limit)[0]
    assert block % chunk == 0
    assert shard % block == 0 or edge <= shard
    assert block * 4 <= max(limit, chunk * 4)


def test_a_forked_process_computes_with_threads_of_its_own():
    array = np.random.default_rng(0).normal(size=(8, 9, 10)).astype(np.float32)
    with dask.config.set(scheduler="threads"):
        mean = float(da.from_array(array, chunks=4).astype(np.float64).mean().compute())  # not ours; Dask has a pool of threads now
        child = multiprocessing.get_context("fork").Process(target=compare_statistics, args=(array, mean))
        child.start()
        child.join(60)
    is_done = not child.is_alive()
    child.kill()
    assert is_done
    assert child.exitcode == 0


def compare_statistics(array, mean):
    assert statistics_of(array, clip_sigma=3.0).mean == pytest.approx(mean, abs=1e-9)
