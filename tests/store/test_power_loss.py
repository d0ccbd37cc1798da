"""A store after a power loss: absent, taken up again, or whole; never one that only looks whole."""

import shutil

import numpy as np
import pytest
from example_counts import spread
from power_loss import ForgetfulDisk, PowerLoss
from store_files import noise, spec_of, tree, write_store

from tomostream.errors import InputError
from tomostream.geometry import Box
from tomostream.store import ledger
from tomostream.store.omezarr import StoreWriter
from tomostream.tomogram import open_tomogram

VOLUME = noise(20, 24, 28)
SETTINGS = {"chunk": (8, 8, 8), "shard": (16, 16, 16), "levels": 2}


def write(folder, *, stop_after=None):
    with StoreWriter.create_or_resume(
        folder / "t.ome.zarr", spec_of(VOLUME, **SETTINGS), fingerprint={"made": "for a test"}, overwrite=False
    ) as writer:
        made = 0
        for index in writer.pending():
            writer.write(index, VOLUME[writer.shards.core(index).slices])
            writer.mark_done(index)
            made += 1
            if made == stop_after:
                return made
        writer.finish()
        return made


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calm")
    write(folder)
    return tree(folder)


def test_a_published_store_outlives_a_power_loss(tmp_path, calm):
    (tmp_path / "disk").mkdir()
    disk = ForgetfulDisk(tmp_path / "disk")
    with disk.watched():
        write(tmp_path / "disk")
    found = tree(disk.after_loss(tmp_path / "after"))
    found.pop("t.ome.zarr/ledger.jsonl", None)  # its removal may be lost; the next command tidies up
    assert found == calm
    disk.close()


@pytest.mark.slow
def test_power_lost_at_any_moment_of_publishing_leaves_no_store_that_only_looks_whole(tmp_path, calm):
    """Before each of the fsyncs in turn; the same command then goes on, and the bytes are those of an undisturbed run."""
    (tmp_path / "count").mkdir()
    counted = ForgetfulDisk(tmp_path / "count")
    with counted.watched():
        write(tmp_path / "count")
    for loss_at in spread(counted.count):
        folder = tmp_path / f"disk{loss_at}"
        folder.mkdir()
        disk = ForgetfulDisk(folder)
        disk.loss_at = loss_at
        with pytest.raises(PowerLoss), disk.watched():
            write(folder)
        after = disk.after_loss(tmp_path / f"after{loss_at}")
        if (after / "t.ome.zarr").exists():
            np.testing.assert_array_equal(open_tomogram(after / "t.ome.zarr").read(Box.whole(VOLUME.shape)), VOLUME)
        else:
            with pytest.raises(InputError, match=r"not finished|does not exist"):
                open_tomogram(after / "t.ome.zarr")
            write(after)
        assert {name: data for name, data in tree(after).items() if "ledger" not in name} == calm
        disk.close()
        shutil.rmtree(folder)
        shutil.rmtree(after)
    counted.close()


def test_shards_that_a_power_loss_took_are_made_again(tmp_path, calm, monkeypatch):
    write(tmp_path, stop_after=5)
    partial = tmp_path / "t.ome.zarr.partial"
    shards = sorted(file for file in (partial / "0" / "c").rglob("*") if file.is_file())
    shards[1].write_bytes(b"")  # what ext4 may leave
    shards[3].write_bytes(bytes(shards[3].stat().st_size))  # what XFS may leave
    coarse = sorted(file for file in (partial / "1" / "c").rglob("*") if file.is_file())
    coarse[0].unlink()
    monkeypatch.setattr(ledger, "_boot", lambda: "another start of the machine")
    assert write(tmp_path) == len(shards) + 3 - 5 + 3
    assert tree(tmp_path) == calm


def test_shards_are_trusted_while_the_machine_runs(tmp_path, monkeypatch):
    write(tmp_path, stop_after=5)
    monkeypatch.setattr("tomostream.store.local_build.damage_of_shard", lambda *_: pytest.fail("nothing is to be read again"))
    assert write(tmp_path) == 8 - 5


def test_an_old_store_is_untouched_until_its_successor_is_on_the_disk(tmp_path):
    (tmp_path / "disk").mkdir()
    path = write_store(tmp_path / "disk" / "t.ome.zarr", VOLUME, **SETTINGS)
    old = tree(path)
    disk = ForgetfulDisk(tmp_path / "disk")
    with disk.watched():
        spec = spec_of(-VOLUME, **SETTINGS)
        with StoreWriter.create_or_resume(path, spec, fingerprint={"made": "anew"}, overwrite=True) as writer:
            for index in writer.pending():
                writer.write(index, -VOLUME[writer.shards.core(index).slices])
                writer.mark_done(index)
            assert tree(disk.after_loss(tmp_path / "before") / "t.ome.zarr") == old
            writer.finish()
    np.testing.assert_array_equal(open_tomogram(disk.after_loss(tmp_path / "after") / "t.ome.zarr").read(Box.whole(VOLUME.shape)), -VOLUME)
    disk.close()
