import builtins
import inspect
import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
import zarr
from mrc_files import random_volume, write_mrc
from picking_oracle import greedy_loop
from store_files import noise, write_foreign, write_store

import tomostream as ts
from tomostream.geometry import Box
from tomostream.masks import mask_of_box

CONTRACT = {
    "open",
    "convert",
    "statistics",
    "label_mask",
    "SubtomogramDataset",
    "train",
    "load_model",
    "predict",
    "pick",
    "evaluate",
    "read_particles",
    "write_particles",
}
VOLUME = noise(20, 24, 28)


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "t.ome.zarr", VOLUME, spacing=10.0, levels=2)


def test_the_contracts_names_are_there_and_star_import_shadows_only_open():
    assert set(ts.__all__) >= CONTRACT
    assert set(dir(ts)) >= CONTRACT
    namespace = {}
    exec("from tomostream import *", namespace)
    assert namespace.keys() >= CONTRACT
    assert {name for name in ts.__all__ if hasattr(builtins, name)} == {"open"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ts.nothing


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_every_public_function_says_what_it_does(name):
    assert len(inspect.getdoc(getattr(ts, name)).splitlines()) > 2


def test_what_needs_no_network_imports_no_torch(tmp_path):
    write_mrc(tmp_path / "a.mrc", random_volume((8, 9, 10), np.float32))
    code = """
import sys
import tomostream as ts
assert not {"numpy", "zarr", "dask", "torch"} & set(sys.modules), "import tomostream costs something"
import numpy as np
path = ts.convert("a.mrc", "out")
tomogram = ts.open(path)
ts.statistics(tomogram)
ts.label_mask([[1, 2, 3]], (8, 9, 10), radius=2.0).compute()
picks = ts.pick(tomogram, radius="3vox", count=2)
ts.pick(np.zeros((3, 3, 3)), radius=2.0, threshold=0.5)
ts.write_particles("p.csv", picks)
ts.evaluate("p.csv", ts.read_particles("p.csv"), tolerance="10A")
assert not {"torch", "pandas"} & set(sys.modules), sorted({"torch", "pandas"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_an_open_tomogram_has_lazy_raw_voxels(store):
    tomogram = ts.open(store)
    assert isinstance(tomogram, ts.Tomogram)
    assert isinstance(tomogram.array, da.Array)
    assert np.array_equal(tomogram.array.compute(), VOLUME)
    assert tomogram.array.dtype == VOLUME.dtype
    assert np.array_equal(tomogram.zarr[3], VOLUME[3])
    assert (tomogram.spacing, tomogram.normalisation) == (10.0, None)
    assert ts.open(str(store), level=1).array.shape == (10, 12, 14)
    with pytest.raises(ts.TomostreamError, match="does not exist"):
        ts.open(store.with_name("nothing.zarr"))


def test_convert_takes_the_command_lines_settings(tmp_path):
    volume = random_volume((20, 24, 28), np.int16)
    source = write_mrc(tmp_path / "a.mrc", volume, spacing=None)
    with pytest.raises(ts.TomostreamError, match="voxel"):
        ts.convert(source, tmp_path)
    path = ts.convert(source, tmp_path, voxel_size=5.0, dtype="float32", chunk=8, shard=(16, 16, 16), codec="zstd:3", levels=1)
    assert path == tmp_path / "a.ome.zarr"
    tomogram = ts.open(path)
    assert np.array_equal(tomogram.array.compute(), volume)
    assert (tomogram.chunk, tomogram.shard, tomogram.level_count, tomogram.spacing) == ((8, 8, 8), (16, 16, 16), 1, 5.0)
    assert ts.convert(source, tmp_path, voxel_size=5.0, dtype="float32", chunk=8, shard=16, codec="zstd:3", levels=1) == path
    with pytest.raises(ts.TomostreamError, match="overwrite"):
        ts.convert(source, tmp_path, voxel_size=5.0)


def as_kind(kind, volume, folder):
    if kind == "zarr":
        array = zarr.create_array(folder / "array.zarr", shape=volume.shape, chunks=(8, 8, 8), dtype=volume.dtype)
        array[...] = volume
        return array
    return da.from_array(volume, chunks=(7, 24, 5)) if kind == "dask" else volume


@pytest.mark.parametrize("kind", ["numpy", "zarr", "dask"])
def test_statistics_of_any_array_are_those_of_numpy(kind, tmp_path):
    found = ts.statistics(as_kind(kind, VOLUME, tmp_path))
    truth = VOLUME.astype(np.float64)
    clipped = np.clip((truth - truth.mean()) / truth.std(), -3, 3)
    assert found.mean == pytest.approx(truth.mean(), abs=1e-6 * truth.std())
    assert found.std == pytest.approx(truth.std(), rel=1e-6)
    assert found.clipped_mean == pytest.approx(clipped.mean(), abs=1e-6)
    assert found.clipped_std == pytest.approx(clipped.std(), rel=1e-6)


def test_statistics_of_a_store_are_measured_and_the_store_is_left_alone(store):
    before = (store / "zarr.json").read_bytes()
    assert ts.statistics(store) == ts.statistics(str(store)) == ts.statistics(ts.open(store))
    assert ts.statistics(ts.open(store, level=1)).std < ts.statistics(store).std
    assert (store / "zarr.json").read_bytes() == before
    with pytest.raises(ts.TomostreamError, match="expected a tomogram, or a numpy, zarr or dask array"):
        ts.statistics([1, 2, 3])


def test_a_label_mask_is_lazy_and_that_of_the_whole_volume():
    points = [[3.2, 4.0, 5.5], [15.0, 20.0, 26.9]]
    shape = (20, 24, 28)
    mask = ts.label_mask(points, shape, radius=3.5, chunks=8)
    assert isinstance(mask, da.Array)
    assert (mask.shape, mask.dtype) == (shape, np.uint8)
    whole = mask_of_box(Box.whole(shape), np.array(points), radius=3.5, shape="sphere", volume=shape)
    assert np.array_equal(mask.compute(scheduler="sync"), whole)
    assert not ts.label_mask([], shape, radius=3.5).compute(scheduler="sync").any()
    with pytest.raises(ts.TomostreamError, match="ball"):
        ts.label_mask(points, shape, radius=3.5, kind="ball")


@pytest.mark.parametrize("kind", ["numpy", "zarr", "dask"])
def test_picks_of_an_array_are_records_of_integer_voxels(kind, tmp_path):
    array = as_kind(kind, VOLUME, tmp_path)
    picks = ts.pick(array, radius=4.0, count=12, block_size=9)
    index, score = greedy_loop(VOLUME, 4.0, count=12)
    assert len(picks) == 12
    assert [(z, y, x) for z, y, x, _ in picks] == [tuple(row) for row in index.tolist()]
    assert [record.score for record in picks] == score.tolist()
    z, y, x, best = picks[0]
    assert all(type(value) is int for value in (z, y, x))
    assert best == VOLUME.max() == VOLUME[z, y, x]
    assert picks[-1] == list(picks)[-1]
    assert [tuple(record) for record in picks[:2]] == [tuple(record) for record in list(picks)[:2]]
    above = ts.pick(array, radius=4.0, threshold=50.0)
    assert {record.score > 50.0 for record in above} == {True}
    assert list(ts.pick(array, radius=4.0, threshold=1e9)) == []


def test_picks_of_a_store_are_a_table_in_angstrom(store):
    picks = ts.pick(store, radius="40A", count=7)
    records = ts.pick(VOLUME, radius=4.0, count=7)
    assert isinstance(picks, ts.Particles)
    assert picks.unit == "angstrom"
    assert np.array_equal(picks.position_zyx, records.index_zyx * 10.0)
    assert np.array_equal(picks.score, records.score)
    assert picks.tomograms() == ["t"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"radius": 4.0}, "count=N"),
        ({"radius": 4.0, "count": 0}, "at least 1"),
        ({"radius": 4.0, "threshold": float("nan")}, "nan"),
        ({"radius": 0.0, "count": 3}, "radius"),
        ({"radius": "40A", "count": 3}, "no voxel spacing"),
        ({"radius": 4.0, "count": 3, "block_size": 0}, "block_size"),
        ({"radius": 4.0, "count": 3, "memory": "1MB"}, "1 MB"),
        ({"radius": 4.0, "count": 3, "memory": "much"}, "'much'"),
    ],
)
def test_impossible_settings_of_pick_are_refused(settings, words):
    with pytest.raises(ts.TomostreamError, match=words):
        ts.pick(VOLUME, **settings)


@pytest.mark.parametrize("array", [np.zeros((4, 4)), np.zeros((4, 4, 4), complex), np.zeros((4, 4, 4), "U3")])
def test_what_is_no_score_volume_is_refused(array):
    with pytest.raises(ts.TomostreamError):
        ts.pick(array, radius=2.0, count=1)


def test_a_store_wants_lengths_with_a_unit(store):
    with pytest.raises(ts.TomostreamError, match="135A"):
        ts.pick(store, radius=4.0, count=1)


def test_particles_are_written_read_and_evaluated(store, tmp_path):
    picks = ts.pick(store, radius="40A", count=7)
    ts.write_particles(tmp_path / "p.csv", picks)
    back = ts.read_particles(tmp_path / "p.csv")
    assert np.array_equal(back.position_zyx, picks.position_zyx)
    assert np.array_equal(back.score, picks.score)
    ts.write_particles(tmp_path / "p.coords", picks, spacing=10.0)
    voxels = ts.read_particles(tmp_path / "p.coords", tomogram="t")
    assert np.allclose(voxels.position_zyx * 10.0, picks.position_zyx)
    for truth in (picks, voxels, tmp_path / "p.csv"):
        found = ts.evaluate(picks, truth, tolerance="1vox", tomograms=[store])
        assert (found.pooled.tp, found.pooled.fp, found.pooled.fn) == (7, 0, 0)
    one = ts.evaluate(picks.select(np.arange(3)), picks, tolerance="10A", matching="one-to-one")
    assert (one.pooled.precision, one.pooled.recall) == (1.0, 3 / 7)
    with pytest.raises(ts.TomostreamError, match="voxel"):
        ts.evaluate(picks, picks, tolerance="1vox")
    with pytest.raises(ts.TomostreamError, match="shape"):
        ts.write_particles(tmp_path / "p.star", picks, format="star-relion5", spacing=10.0)


def test_stores_of_other_software_are_opened(tmp_path):
    for version in ("0.4", "0.5"):
        path = write_foreign(tmp_path / f"{version}.zarr", [VOLUME], version=version)
        assert np.array_equal(ts.open(path).array.compute(), VOLUME)
        assert len(ts.pick(path, radius="4vox", count=3)) == 3
