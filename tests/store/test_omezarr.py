import errno
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaozarrs
import zarr
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from repository import SUPPORT
from store_files import noise, spec_of, tree, write_store

from tomostream.errors import BusyError, ExistsError, InputError, TomostreamError
from tomostream.store.omezarr import StoreWriter, store_state, write_shard
from tomostream.store.pyramid import mean_pooled, rounded_to

FINGERPRINT = {"source": "a.mrc", "settings": {"dtype": "float32"}}


def start(path, volume, *, fingerprint=FINGERPRINT, overwrite=False, **values):
    return StoreWriter.create_or_resume(Path(path), spec_of(volume, **values), fingerprint=fingerprint, overwrite=overwrite)


@examples(15)
@given(
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    chunk=st.tuples(*[st.sampled_from([3, 4, 8, 11])] * 3),
    shard=st.tuples(*[st.sampled_from([4, 8, 12, 16, 32])] * 3),
    codec=st.sampled_from(["none", "zstd:2", "lz4-bitshuffle"]),
    dtype=st.sampled_from(["int8", ">i2", "float16", "float32", ">f4"]),
)
def test_level_0_is_the_input_and_the_pyramid_is_that_of_the_whole_volume(tmp_path_factory, shape, chunk, shard, codec, dtype):
    volume = noise(*shape, dtype=dtype)
    path = write_store(tmp_path_factory.mktemp("s") / "t.ome.zarr", volume, chunk=chunk, shard=shard, codec=codec)
    expected = volume
    group = zarr.open_group(path, mode="r")
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    for dataset in datasets:
        stored = group[dataset["path"]][...]
        assert stored.dtype == volume.dtype.newbyteorder("=")
        np.testing.assert_array_equal(stored, expected)
        expected = rounded_to(mean_pooled(expected), volume.dtype)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["none", "zstd", "lz4-bitshuffle"])
def test_the_store_is_valid_ome_zarr_with_centred_translations(tmp_path, codec):
    path = write_store(tmp_path / "t.ome.zarr", noise(100, 90, 80), spacing=10.0, codec=codec, shard=(64, 64, 64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yaozarrs.validate_zarr_store(str(path))
    image = zarr.open_group(path, mode="r").attrs["ome"]["multiscales"][0]
    assert [(axis["name"], axis["unit"]) for axis in image["axes"]] == [("z", "angstrom"), ("y", "angstrom"), ("x", "angstrom")]
    steps = [[step[step["type"]][0] for step in dataset["coordinateTransformations"]] for dataset in image["datasets"]]
    assert steps == [[10.0, 0.0], [20.0, 5.0]]


def test_attributes_say_what_made_the_store(tmp_path):
    volume = noise(8, 8, 8)
    with start(tmp_path / "t.ome.zarr", volume, kind="scores") as writer:
        writer.write((0, 0, 0), volume)
        writer.mark_done((0, 0, 0))
        path = writer.finish({"extra": [1, 2]})
    ours = zarr.open_group(path, mode="r").attrs["tomostream"]
    assert {key: ours[key] for key in ours if key not in ("levels_sha256", "seal")} == {
        "format": 1,
        "kind": "scores",
        "extra": [1, 2],
        "fingerprint": FINGERPRINT,
        "complete": True,
    }


def test_states_of_a_store(tmp_path):
    path, volume = tmp_path / "t.ome.zarr", noise(20, 8, 8)
    other = {"source": "b.mrc"}
    assert store_state(path, FINGERPRINT) == "absent"
    with start(path, volume) as writer:
        assert store_state(path, FINGERPRINT) == "partial"
        assert store_state(path, other) == "other"
        for index in writer.pending():
            writer.write(index, volume[writer.shards.core(index).slices])
            writer.mark_done(index)
        writer.finish()
    assert store_state(path, FINGERPRINT) == "done"
    assert store_state(path, other) == "other"


def test_tuples_in_a_fingerprint_are_what_json_makes_of_them(tmp_path):
    path = write_store(tmp_path / "t.ome.zarr", noise(8, 8, 8), fingerprint={"chunk": (1, 2)})
    assert store_state(path, {"chunk": (1, 2)}) == "done"


def test_a_resumed_writer_asks_only_for_what_is_not_done(tmp_path):
    path, volume = tmp_path / "t.ome.zarr", noise(40, 16, 16)
    with start(path, volume) as writer:
        writer.write((1, 0, 0), volume[16:32])
        writer.mark_done((1, 0, 0))
        with pytest.raises(TomostreamError, match=r"2 of 3 shards are not written, the first is \(0, 0, 0\)"):
            writer.finish()
    with start(path, volume) as writer:
        assert writer.pending() == [(0, 0, 0), (2, 0, 0)]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["new", "overwrite"])
def test_a_writer_killed_at_any_file_system_call_is_resumed_to_the_same_tree(tmp_path, mode):
    (tmp_path / "stores").mkdir()
    script = SUPPORT / "killed_writer.py"
    result = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "stores"), mode], capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 40  # so many calls it was killed at


def test_a_second_writer_is_refused_and_the_first_goes_on(tmp_path):
    volume = noise(8, 8, 8)
    with start(tmp_path / "t.ome.zarr", volume) as writer:
        with pytest.raises(BusyError, match=rf"t.ome.zarr.partial is being written by another process \(pid {os.getpid()} on"):
            start(tmp_path / "t.ome.zarr", volume)
        with pytest.raises(BusyError):
            start(tmp_path / "t.ome.zarr", volume, fingerprint={"other": 1}, overwrite=True)
        writer.write((0, 0, 0), volume)
        writer.mark_done((0, 0, 0))
        writer.finish()


@pytest.mark.slow
def test_shards_are_written_by_other_processes(tmp_path):
    volume = noise(20, 20, 20)
    with start(tmp_path / "t.ome.zarr", volume, levels=2) as writer, ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(write_shard, writer.partial, i, volume[writer.shards.core(i).slices]) for i in writer.pending()]
        for job, index in zip(jobs, writer.pending(), strict=True):
            job.result()
            writer.mark_done(index)
        path = writer.finish()
    assert tree(path) == tree(write_store(tmp_path / "u.ome.zarr", volume, levels=2, fingerprint=FINGERPRINT))


def test_a_block_of_another_shape_type_or_index_is_refused(tmp_path):
    volume = noise(20, 8, 8)
    with start(tmp_path / "t.ome.zarr", volume) as writer:
        with pytest.raises(
            TomostreamError, match=r"shard \(1, 0, 0\) .* takes float32 voxels of shape \(4, 8, 8\), found float32 of shape \(5, 8, 8\)"
        ):
            writer.write((1, 0, 0), volume[:5])
        with pytest.raises(TomostreamError, match=r"takes float32 voxels .* found float64"):
            writer.write((1, 0, 0), volume[16:].astype(np.float64))
        for index in [(2, 0, 0), (-1, 0, 0)]:
            with pytest.raises(TomostreamError, match="has no shard"):
                writer.write(index, volume[:4])


def test_a_late_worker_of_a_finished_store_changes_nothing(tmp_path):
    volume = noise(8, 8, 8)
    path = write_store(tmp_path / "t.ome.zarr", volume)
    with pytest.raises(TomostreamError, match="finished, moved or removed"):
        write_shard(tmp_path / "t.ome.zarr.partial", (0, 0, 0), volume)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("number", [errno.ENOTEMPTY, errno.ENOENT])
def test_an_orphaned_worker_that_still_writes_does_not_hinder_the_end(number, tmp_path, monkeypatch):
    """Its client was killed, and another one finishes the store: a file comes or goes while the scratch folder is removed."""
    volume = noise(16, 16, 16)
    remove, raised = shutil.rmtree, []

    def rmtree(path, *arguments, **options):
        if Path(path).name == ".writing" and len(raised) < 3:
            raised.append(number)
            raise OSError(number, os.strerror(number), str(path))
        remove(path, *arguments, **options)

    writer = StoreWriter.create_or_resume(
        tmp_path / "t.ome.zarr", spec_of(volume, chunk=(16, 16, 16), shard=(16, 16, 16), levels=1), fingerprint={}, overwrite=False
    )
    with writer:
        writer.write((0, 0, 0), volume)
        writer.mark_done((0, 0, 0))
        monkeypatch.setattr(shutil, "rmtree", rmtree)
        writer.finish()
    assert len(raised) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["t.ome.zarr"]
    assert not list(tmp_path.rglob(".writing"))


def test_other_settings_are_refused_with_their_names(tmp_path):
    volume = noise(8, 8, 8)
    path = write_store(tmp_path / "t.ome.zarr", volume, fingerprint=FINGERPRINT)
    new = {"source": "a.mrc", "settings": {"dtype": "int8"}}
    with pytest.raises(ExistsError, match=r"settings.dtype float32, now int8\); choose another folder, or replace it with --overwrite"):
        start(path, volume, fingerprint=new)
    start(tmp_path / "u.ome.zarr", volume).close()
    with pytest.raises(ExistsError, match=r"half-written with other settings \(settings.dtype float32, now int8\).*--overwrite"):
        start(tmp_path / "u.ome.zarr", volume, fingerprint=new)
    assert store_state(tmp_path / "u.ome.zarr", FINGERPRINT) == "partial"


def test_overwriting_a_half_written_store_starts_from_nothing(tmp_path):
    path, volume = tmp_path / "t.ome.zarr", noise(20, 8, 8)
    with start(path, volume, levels=2) as writer:
        writer.write((0, 0, 0), volume[:16])
        writer.mark_done((0, 0, 0))
    new = {"source": "other"}
    with start(path, volume, fingerprint=new, overwrite=True, levels=1) as writer:
        assert writer.pending() == [(0, 0, 0), (1, 0, 0)]
        assert not (writer.partial / "1").exists()


def test_overwriting_keeps_the_old_store_until_the_new_one_is_whole(tmp_path):
    path, old, new = tmp_path / "t.ome.zarr", noise(8, 8, 8), noise(9, 8, 8, seed=5)
    write_store(path, old, fingerprint={"n": 1})
    before = tree(path)
    with start(path, new, fingerprint={"n": 2}, overwrite=True) as writer:
        writer.write((0, 0, 0), new)
        assert tree(path) == before
        writer.mark_done((0, 0, 0))
        writer.finish()
    np.testing.assert_array_equal(zarr.open_group(path, mode="r")["0"][...], new)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_is_not_ours_is_never_replaced(tmp_path):
    (tmp_path / "t.ome.zarr").mkdir()
    (tmp_path / "t.ome.zarr" / "thesis.txt").write_text("precious")
    with pytest.raises(ExistsError, match="is not a store that tomostream finished, so it is never replaced"):
        start(tmp_path / "t.ome.zarr", noise(8, 8, 8), overwrite=True)
    assert (tmp_path / "t.ome.zarr" / "thesis.txt").read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["t.ome.zarr"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": 9}, "levels 9: .* at most 3"),
        ({"codec": "gzip"}, "codec 'gzip'"),
        ({"spacing": 0.0}, "voxel spacing is 0.0 angstrom"),
        ({"spacing": float("nan")}, "voxel spacing is nan"),
        ({"chunk": (0, 4, 4)}, "chunk .0, 4, 4."),
    ],
)
def test_an_impossible_specification_is_refused_before_anything_is_made(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        start(tmp_path / "t.ome.zarr", noise(20, 20, 20), **{"shard": (4, 4, 4), **change})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["complex64", "bool", "int64"])
def test_a_type_that_is_no_tomograms_is_refused(tmp_path, dtype):
    with pytest.raises(InputError, match=f"voxels of type {dtype} can't be stored; allowed are int8, uint8"):
        start(tmp_path / "t.ome.zarr", np.zeros((4, 4, 4), dtype=dtype))


def test_a_folder_that_cant_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"t.ome.zarr.partial can't be written: Not a directory"):
        start(tmp_path / "file" / "t.ome.zarr", noise(4, 4, 4))


def test_a_full_disk_is_reported_and_what_is_done_is_kept(tmp_path, monkeypatch):
    volume = noise(20, 8, 8)
    with start(tmp_path / "t.ome.zarr", volume) as writer:
        writer.write((0, 0, 0), volume[:16])
        writer.mark_done((0, 0, 0))

        def full(*_, **__):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr("tomostream.store.local_build.write_shard_file", full)
            with pytest.raises(TomostreamError, match="the disk is full; free some space and run the same command again"):
                writer.write((1, 0, 0), volume[16:])
    with start(tmp_path / "t.ome.zarr", volume) as writer:
        assert writer.pending() == [(1, 0, 0)]


def test_array_metadata_hold_no_trace_of_the_run(tmp_path):
    path = write_store(tmp_path / "t.ome.zarr", noise(8, 8, 8))
    metadata = json.loads((path / "0" / "zarr.json").read_text())
    assert metadata["dimension_names"] == ["z", "y", "x"]
    assert metadata["attributes"] == {}
