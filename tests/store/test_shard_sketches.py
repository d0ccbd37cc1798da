"""Conversion leaves the statistics behind: exact, whatever the shards, bands and kills; and the voxels are not read again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mrc_files import write_mrc

from tomostream.geometry import Box
from tomostream.stages.voxel_statistics.stage import measure
from tomostream.store import conversion
from tomostream.store.conversion import ConvertSettings, convert_file
from tomostream.store.pyramid import plan_levels
from tomostream.store.shard_sketches import ShardSketch, statistics_from
from tomostream.tomogram import Tomogram, open_tomogram

MEMORY = 2 * 10**9


def convert(source, out, **settings_):
    return convert_file(source, out, ConvertSettings(**settings_), memory=MEMORY, overwrite=False, report=lambda _: None)


def of_whole(volume, clip=3.0):
    """The definition, in float64."""
    values = volume.astype(np.float64)
    values = values[np.isfinite(values)]
    clipped = np.clip((values - values.mean()) / values.std(), -clip, clip)
    return values.mean(), values.std(), clipped.mean(), clipped.std()


def assert_close(found, volume):
    mean, std, clipped_mean, clipped_std = of_whole(volume)
    assert abs(found.mean - mean) <= 1e-6 * std
    assert abs(found.std / std - 1) <= 1e-6
    assert abs(found.clipped_mean - clipped_mean) <= 1e-6
    assert abs(found.clipped_std / clipped_std - 1) <= 1e-6
    assert (found.finite, found.total) == (np.isfinite(volume).sum(), volume.size)


@settings(deadline=None, max_examples=15)
@given(st.tuples(*[st.integers(2, 40)] * 3), st.sampled_from(["int8", "int16", "uint16", "float16"]), st.integers(0, 2**32 - 1))
def test_sketches_of_shards_give_the_statistics_of_every_level(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    volume = (rng.normal(size=shape) * 20 + 50).astype(dtype)
    if volume.dtype.kind == "f":
        volume[rng.random(shape) < 0.02] = np.nan
    levels = plan_levels(shape, chunk=(8, 8, 8), shard=(16, 16, 16), levels=1)
    notes = []
    for index in rng.permutation(list(levels[0].shards.indices())).tolist():
        sketch = ShardSketch()
        sketch.look(0, volume[levels[0].shards.core(tuple(index)).slices])
        notes.append(sketch.note(tuple(index)))
    found = statistics_from([{"machine": {}}, *notes], levels, np.dtype(dtype), clip_sigma=3.0)
    assert found == statistics_from(sorted(notes, key=lambda note: note["of"]), levels, np.dtype(dtype), clip_sigma=3.0)
    assert statistics_from(notes[1:], levels, np.dtype(dtype), clip_sigma=3.0) == {}
    values = volume[np.isfinite(volume)].astype(np.float64)
    known = found["normalisation"]["0"]
    assert abs(known["mean"] - values.mean()) <= 1e-6 * values.std()


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_a_converted_tomogram_knows_what_it_needs_at_every_level(tmp_path, dtype, monkeypatch):
    volume = (np.random.default_rng(0).normal(size=(40, 60, 70)) * 20).astype(dtype)
    store = convert(write_mrc(tmp_path / "t.mrc", volume), tmp_path / "out", chunk=(8, 8, 8), shard=(32, 32, 32), levels=3)
    read = []
    plain = Tomogram.read
    monkeypatch.setattr(Tomogram, "read", lambda self, box: read.append(box.size) or plain(self, box))
    for level in range(3):
        tomogram = open_tomogram(store, level=level)
        voxels = plain(tomogram, Box.whole(tomogram.shape))
        read.clear()
        assert_close(measure(tomogram, memory=MEMORY, keep=False), voxels)
        assert not read


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_a_kill_changes_no_byte_of_the_statistics(tmp_path, dtype, monkeypatch):
    volume = (np.random.default_rng(1).normal(size=(40, 60, 70)) * 20).astype(dtype)
    source = write_mrc(tmp_path / "t.mrc", volume)
    edges = {"chunk": (8, 8, 8), "shard": (32, 32, 32), "levels": 2}
    undisturbed = convert(source, tmp_path / "one", **edges)
    plain = conversion.StoreWriter.mark_done

    def killed(self, index):
        if index == (1, 0, 1):
            raise KeyboardInterrupt
        plain(self, index)

    monkeypatch.setattr(conversion.StoreWriter, "mark_done", killed)
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "two", **edges)
    monkeypatch.undo()
    resumed = convert(source, tmp_path / "two", **edges)
    assert (resumed / "zarr.json").read_bytes() == (undisturbed / "zarr.json").read_bytes()


def test_other_types_and_volumes_without_statistics_are_measured_when_asked(tmp_path):
    plain = convert(write_mrc(tmp_path / "f.mrc", np.random.default_rng(2).normal(size=(5, 6, 7)).astype(np.float32)), tmp_path / "out")
    assert open_tomogram(plain).normalisation is None
    constant = convert(write_mrc(tmp_path / "c.mrc", np.full((5, 6, 7), 3, dtype=np.int16)), tmp_path / "out")
    assert open_tomogram(constant).normalisation.is_constant
