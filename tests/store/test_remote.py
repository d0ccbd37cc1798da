"""Stores on an object store: the same bytes as on a disk, one writer, resumed after a kill, through a server that fails."""

import contextlib
import itertools
import json
import multiprocessing
import random
import threading
import time

import numpy as np
import psutil
import pytest
import s3fs
from store_files import noise, spec_of, tree, write_store

from tomostream.errors import BusyError, ExistsError, InputError, TomostreamError
from tomostream.geometry import Box
from tomostream.normalisation import Normalisation
from tomostream.remote import faults, leases
from tomostream.remote.places import place
from tomostream.store.omezarr import StoreWriter, store_state, write_shard
from tomostream.tomogram import open_tomogram, store_normalisation

pytestmark = pytest.mark.slow

MADE = {"made": "for a test"}
SETTINGS = {"shard": (16, 16, 16), "codec": "zstd", "levels": 2}


def objects(folder):
    return {name: (folder / name).read_bytes() for name in folder.below()}


def stored(volume, path, *, fingerprint=MADE, overwrite=False, only=None, **settings):
    with StoreWriter.create_or_resume(path, spec_of(volume, **SETTINGS | settings), fingerprint=fingerprint, overwrite=overwrite) as writer:
        for index in writer.pending()[:only]:
            writer.write(index, volume[writer.shards.core(index).slices])
            writer.mark_done(index)
        return writer.finish() if only is None else None


def test_a_store_has_the_bytes_of_a_local_one_and_nothing_stays_beside_it(tmp_path, bucket):
    volume = noise(40, 20, 16)
    stored(volume, bucket / "t.ome.zarr")
    assert objects(bucket / "t.ome.zarr") == tree(write_store(tmp_path / "t.ome.zarr", volume, **SETTINGS))
    assert {name.split("/")[0] for name in bucket.below()} == {"t.ome.zarr"}
    assert store_state(bucket / "t.ome.zarr", MADE) == "done"


@pytest.mark.parametrize("codec", ["none", "zstd", "lz4-bitshuffle"])
def test_any_box_is_read_back(bucket, codec):
    volume = noise(40, 20, 16)
    stored(volume, bucket / "t.ome.zarr", codec=codec)
    tomogram = open_tomogram(bucket / "t.ome.zarr")
    for box in (Box((0, 0, 0), (40, 20, 16)), Box((1, 15, 3), (38, 18, 15)), Box((39, 19, 15), (40, 20, 16))):
        np.testing.assert_array_equal(tomogram.read(box), volume[box.slices])


def test_a_shard_of_many_parts_is_one_object(bucket, monkeypatch):
    monkeypatch.setattr("tomostream.remote.remote_path.PART_BYTES", 5 * 2**20)
    volume = noise(128, 128, 256)
    stored(volume, bucket / "t.ome.zarr", shard=(128, 128, 256), chunk=(64, 64, 64), codec="none", levels=1)
    np.testing.assert_array_equal(open_tomogram(bucket / "t.ome.zarr").read(Box((60, 1, 2), (70, 128, 256))), volume[60:70, 1:128, 2:256])


def test_a_store_is_no_store_until_its_last_object(bucket):
    volume = noise(40, 20, 16)
    stored(volume, bucket / "t.ome.zarr", only=2)
    with pytest.raises(InputError, match=r"t\.ome\.zarr is not finished; run the command that makes it again"):
        open_tomogram(bucket / "t.ome.zarr")
    assert store_state(bucket / "t.ome.zarr", MADE) == "partial"


def test_resuming_writes_only_what_is_missing_and_lists_once(proxy, bucket):
    volume = noise(40, 20, 16)
    stored(volume, bucket / "t.ome.zarr", only=2)
    proxy.seen.clear()
    stored(volume, bucket / "t.ome.zarr")
    assert proxy.count("PUT", "/t.ome.zarr/0/c/") == 6 - 2
    assert proxy.count("GET", "list-type=2") <= 6  # however many shards


def test_notes_stay_with_the_half_written_store(bucket):
    path, spec = bucket / "t.ome.zarr", spec_of(noise(20, 16, 16), **SETTINGS)
    for wanted, notes in [([], [{"a": 1}, {"a": 1}]), ([{"a": 1}], [{"b": 2}]), ([{"a": 1}, {"b": 2}], [])]:
        with StoreWriter.create_or_resume(path, spec, fingerprint=MADE, overwrite=False) as writer:
            assert writer.notes == wanted
            for note in notes:
                writer.add_note(note)
    with StoreWriter.create_or_resume(path, spec, fingerprint={"made": "otherwise"}, overwrite=True) as writer:
        assert writer.notes == []


def test_other_settings_are_refused_and_replaced_only_if_asked(bucket):
    volume = noise(20, 16, 16)
    stored(volume, bucket / "t.ome.zarr")
    with pytest.raises(ExistsError, match=r"was made with other settings or data \(made for a test, now otherwise\).*--overwrite"):
        stored(volume, bucket / "t.ome.zarr", fingerprint={"made": "otherwise"})
    stored(volume + 1, bucket / "t.ome.zarr", fingerprint={"made": "otherwise"}, overwrite=True)
    np.testing.assert_array_equal(open_tomogram(bucket / "t.ome.zarr").read(Box.whole((20, 16, 16))), volume + 1)


def test_half_written_with_other_settings_is_never_mixed(bucket):
    volume = noise(40, 20, 16)
    stored(volume, bucket / "t.ome.zarr", only=2)
    other = {"made": "otherwise"}
    with pytest.raises(ExistsError, match="half-written with other settings"):
        stored(volume + 1, bucket / "t.ome.zarr", fingerprint=other)
    stored(volume + 1, bucket / "t.ome.zarr", fingerprint=other, overwrite=True)
    np.testing.assert_array_equal(open_tomogram(bucket / "t.ome.zarr").read(Box.whole((40, 20, 16))), volume + 1)


def test_a_worker_of_a_run_with_other_settings_is_refused(bucket):
    volume = noise(20, 16, 16)
    with StoreWriter.create_or_resume(bucket / "t.ome.zarr", spec_of(volume, **SETTINGS), fingerprint=MADE, overwrite=False) as writer:
        late = writer.partial
    with StoreWriter.create_or_resume(
        bucket / "t.ome.zarr", spec_of(volume, **SETTINGS), fingerprint={"made": 2}, overwrite=True
    ) as writer:
        with pytest.raises(TomostreamError, match="is not a store that is being written"):
            write_shard(late, (0, 0, 0), volume[:16])
        write_shard(writer.partial, (0, 0, 0), volume[:16])


def test_what_is_not_ours_is_never_replaced(bucket):
    (bucket / "t.ome.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(ExistsError, match="never replaced"):
        stored(noise(20, 16, 16), bucket / "t.ome.zarr", overwrite=True)
    assert bucket.below() == {"t.ome.zarr/zarr.json": 2}


def test_a_clearing_that_was_killed_is_begun_again(bucket):
    volume = noise(40, 20, 16)
    stored(volume, bucket / "t.ome.zarr")
    new = {"made": "anew"}
    head = {"fingerprint": new, "layout": None, "clearing": True}
    (bucket / "t.ome.zarr.partial" / "head.json").write_text(json.dumps(head))  # as a kill leaves it
    (bucket / "t.ome.zarr" / "zarr.json").unlink()
    stored(volume + 1, bucket / "t.ome.zarr", fingerprint=new)
    np.testing.assert_array_equal(open_tomogram(bucket / "t.ome.zarr").read(Box.whole((40, 20, 16))), volume + 1)


def test_a_lost_shard_is_damage_and_not_zeros(bucket):
    stored(noise(40, 20, 16), bucket / "t.ome.zarr")
    (bucket / "t.ome.zarr" / "0/c/1/1/0").unlink()
    with pytest.raises(InputError, match=r"0/c/1/1/0 is missing"):
        open_tomogram(bucket / "t.ome.zarr").read(Box.whole((40, 20, 16)))


def test_statistics_are_kept_in_the_store(tmp_path, bucket):
    volume = noise(20, 16, 16)
    local = write_store(tmp_path / "t.ome.zarr", volume, **SETTINGS)
    stored(volume, bucket / "t.ome.zarr")
    found = Normalisation(1.0, 2.0, 0.0, 1.0, 5120, 5120)
    for path in (local, bucket / "t.ome.zarr"):
        store_normalisation(path, 0, found)
    assert open_tomogram(bucket / "t.ome.zarr").normalisation == found
    assert objects(bucket / "t.ome.zarr") == tree(local)


# --- one writer


def test_a_second_writer_is_refused_at_once_on_one_machine(bucket):
    volume = noise(20, 16, 16)
    with StoreWriter.create_or_resume(bucket / "t.ome.zarr", spec_of(volume, **SETTINGS), fingerprint=MADE, overwrite=False):
        start = time.monotonic()
        with pytest.raises(BusyError, match=r"t\.ome\.zarr is being written by another process \(pid \d+ on .*\); wait for it to finish"):
            stored(volume, bucket / "t.ome.zarr")
        assert time.monotonic() - start < 20  # and not after `LEASE_SECONDS`; a busy machine may take a while
    stored(volume, bucket / "t.ome.zarr")


def on_another_machine(monkeypatch):
    monkeypatch.setattr(leases, "_machine", lambda: "another machine")


def test_a_living_holder_on_another_machine_is_recognised_by_its_beat(bucket, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(leases, "_LOOK_SECONDS", 0.1)
    with leases.Lease(bucket / "lease.json", "it"):
        on_another_machine(monkeypatch)
        start = time.monotonic()
        with pytest.raises(BusyError):
            leases.Lease(bucket / "lease.json", "it")
        assert time.monotonic() - start < 5


def test_a_dead_holder_on_another_machine_is_taken_over_when_its_lease_has_run_out(bucket, monkeypatch):
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1.0)
    (bucket / "lease.json").write_text(json.dumps({"owner": "dead", "machine": "gone", "pid": 1, "beat": 4}))
    start = time.monotonic()
    with leases.Lease(bucket / "lease.json", "it"):
        assert time.monotonic() - start >= 1.0
    assert not (bucket / "lease.json").exists()


def test_a_killed_holder_on_this_machine_is_taken_over_at_once(bucket):
    dead = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    dead.start()
    record = {**leases._self(), "owner": "dead", "pid": dead.pid}
    record |= {"started": psutil.Process(dead.pid).create_time(), "ticks": leases._ticks(dead.pid)}
    (bucket / "lease.json").write_text(json.dumps(record))
    with pytest.raises(BusyError):
        leases.Lease(bucket / "lease.json", "it")
    dead.kill()
    dead.join()
    start = time.monotonic()
    with leases.Lease(bucket / "lease.json", "it"):
        assert time.monotonic() - start < 20  # and not after `LEASE_SECONDS`; a busy machine may take a while


def test_a_living_holder_stays_one_when_the_clock_is_set(bucket, monkeypatch):
    """The kernel's time of boot, and with it that of every process' start, moves with the clock."""
    record = {**leases._self(), "owner": "another"}
    (bucket / "lease.json").write_text(json.dumps(record))
    real = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: real(self) + 3600)
    with pytest.raises(BusyError):
        leases.Lease(bucket / "lease.json", "it")


@pytest.mark.parametrize("pid", [float("inf"), float("nan"), -1, 10**30, "x", None, [], "self"])
def test_a_lease_of_no_process_is_taken_over(bucket, pid):
    (bucket / "lease.json").write_text(json.dumps({**leases._self(), "owner": "another", "pid": pid}))
    with leases.Lease(bucket / "lease.json", "it"):
        pass


def test_who_lost_the_lease_stops(bucket, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.4)
    volume = noise(20, 16, 16)
    with StoreWriter.create_or_resume(bucket / "t.ome.zarr", spec_of(volume, **SETTINGS), fingerprint=MADE, overwrite=False) as writer:
        (bucket / "t.ome.zarr.partial" / "lease.json").write_text(json.dumps({"owner": "another", "pid": 7, "host": "there"}))
        time.sleep(1.5)
        with pytest.raises(BusyError, match="pid 7 on there"):
            writer.mark_done((0, 0, 0))
    assert json.loads((bucket / "t.ome.zarr.partial" / "lease.json").read_text())["owner"] == "another"


def test_of_many_that_begin_together_one_gets_the_lease(bucket):
    got, refused = [], []
    start = threading.Barrier(6)

    def take():
        start.wait()
        try:
            lease = leases.Lease(bucket / "lease.json", "it")
        except BusyError as error:
            refused.append(error)
        else:
            got.append(lease)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lease in got:
        lease.close()
    assert (len(got), len(refused)) == (1, 5)


# --- a server that fails


@pytest.mark.parametrize("fault", ["slow", "many", "cut"])
def test_throttling_and_cut_connections_are_survived(proxy, bucket, tmp_path, fault):
    """One request in four fails."""
    dice = random.Random(7)
    proxy.fault = lambda method, path: fault if dice.random() < 0.25 else None
    volume = noise(40, 20, 16)
    stored(volume, bucket / "t.ome.zarr")
    np.testing.assert_array_equal(open_tomogram(bucket / "t.ome.zarr").read(Box.whole((40, 20, 16))), volume)
    proxy.fault = lambda method, path: None
    assert objects(bucket / "t.ome.zarr") == tree(write_store(tmp_path / "t.ome.zarr", volume, **SETTINGS))


@pytest.mark.parametrize("fault", ["lost", "half", "late"])
def test_answers_that_are_lost_cut_or_late_change_nothing(proxy, bucket, tmp_path, fault):
    """Of one answer in four; the requests have been done."""
    dice = random.Random(11)
    proxy.fault = lambda method, path: fault if dice.random() < 0.25 else None
    volume = noise(40, 20, 16)
    stored(volume, bucket / "t.ome.zarr")
    np.testing.assert_array_equal(open_tomogram(bucket / "t.ome.zarr").read(Box.whole((40, 20, 16))), volume)
    stored(volume + 1, bucket / "t.ome.zarr", fingerprint={"made": "anew"}, overwrite=True)
    proxy.fault = lambda method, path: None
    again = write_store(tmp_path / "t.ome.zarr", volume + 1, **SETTINGS | {"fingerprint": {"made": "anew"}})
    assert objects(bucket / "t.ome.zarr") == tree(again)
    assert {name.split("/")[0] for name in bucket.below()} == {"t.ome.zarr"}  # neither a head nor a lease is left


LARGE = {"shard": (128, 128, 256), "chunk": (64, 64, 64), "codec": "none", "levels": 1}  # a shard of four parts


@pytest.mark.parametrize("fault", ["lost", "cut", "half", "slow"])
@pytest.mark.parametrize("request_of_it", ["begin", "part", "last part", "completion"])
def test_a_large_object_survives_the_loss_of_any_answer_of_its_upload(proxy, bucket, monkeypatch, fault, request_of_it):
    """The completion is the delicate one: done twice, the server says that there is no such upload."""
    monkeypatch.setattr("tomostream.remote.remote_path.PART_BYTES", 5 * 2**20)
    volume = noise(128, 128, 256)
    wanted = {
        "begin": lambda method, path: method == "POST" and "uploads" in path,
        "part": lambda method, path: method == "PUT" and "partNumber=1" in path,
        "last part": lambda method, path: method == "PUT" and "partNumber=4" in path,
        "completion": lambda method, path: method == "POST" and "uploadId=" in path,
    }[request_of_it]
    faults_made = []

    def once(method, path):
        if wanted(method, path) and not faults_made:
            faults_made.append(path)
            return fault
        return None

    proxy.fault = once
    stored(volume, bucket / "t.ome.zarr", **LARGE)
    assert len(faults_made) == 1
    np.testing.assert_array_equal(open_tomogram(bucket / "t.ome.zarr").read(Box((60, 1, 2), (70, 128, 256))), volume[60:70, 1:128, 2:256])


def test_retries_have_a_limit_and_longer_and_longer_pauses(proxy, bucket, monkeypatch):
    pauses = []
    monkeypatch.setattr(faults.time, "sleep", pauses.append)
    monkeypatch.setattr(faults.random, "uniform", lambda low, high: high)
    proxy.fault = lambda method, path: "slow" if method == "PUT" else None
    with pytest.raises(TomostreamError, match=r"the server kept failing after 9 tries \(.*\); finished work is kept"):
        (bucket / "x").write_bytes(b"1")
    assert proxy.count("PUT", "/run/x") == faults.ATTEMPTS
    assert pauses == [0.001 * 2**k for k in range(8)]


def test_pauses_are_random_and_bounded():
    for attempt in range(1, 20):
        found = {faults._pause(attempt) for _ in range(50)}
        assert len(found) > 40
        assert 0 <= min(found) <= max(found) <= faults.LONGEST_PAUSE


def test_permanent_faults_are_told_at_once(proxy, bucket):
    proxy.fault = lambda method, path: "key"
    with pytest.raises(InputError, match=r"s3://.*/run/x: access is denied .*AWS_ACCESS_KEY_ID.*FSSPEC_S3_ANON") as caught:
        (bucket / "x").write_bytes(b"1")
    assert proxy.count("PUT", "/run/x") == 1
    assert "\n" not in str(caught.value)


def test_a_missing_bucket_is_told(proxy):
    with pytest.raises(InputError, match=r"s3://no-such-bucket/.*: there is no such bucket; check its name"):
        stored(noise(20, 16, 16), place("s3://no-such-bucket/t.ome.zarr"))


def test_credentials_in_the_url_of_an_object_store_are_refused_and_not_shown(proxy):
    with pytest.raises(InputError, match="must not hold credentials") as caught:
        place("s3://key:geheim@bucket/t").exists()
    assert "geheim" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch):
    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(InputError, match=r"pip install 'tomostream\[remote\]'"):
        open_tomogram("s3://bucket/t.ome.zarr")


def test_a_conditional_write_whose_answer_was_lost_still_counts_as_ours(proxy, bucket, monkeypatch):
    lost = []

    def pipe_file(self, path, value, **settings):
        found = whole(self, path, value, **settings)
        if settings.get("mode") == "create" and not lost:
            lost.append(path)
            raise ConnectionResetError("the answer did not come")
        return found

    whole = s3fs.S3FileSystem.pipe_file
    monkeypatch.setattr(s3fs.S3FileSystem, "pipe_file", pipe_file)
    assert (bucket / "x").create(b"mine")
    assert not (bucket / "x").create(b"another's")


# --- killed at any moment


@pytest.mark.parametrize("with_old", [False, True])
def test_a_writer_that_is_cut_off_after_any_of_its_writes_leaves_nothing_wrong(proxy, bucket, tmp_path, monkeypatch, with_old):
    """From the n-th write on nothing more reaches the server, as if the process had been killed there; then the run is started again."""
    monkeypatch.setattr(faults, "ATTEMPTS", 1)
    monkeypatch.setattr(leases, "_lives", lambda holder: False)
    old, new = noise(12, 9, 9, seed=1), noise(12, 10, 9, seed=2)
    settings = {"levels": 1, "fingerprint": {"seed": 2}, "overwrite": with_old}
    expected = tree(write_store(tmp_path / "t.ome.zarr", new, **SETTINGS | {"levels": 1}, fingerprint={"seed": 2}))
    for last in itertools.count(step=1 if with_old else 3):
        path = bucket / f"{last}" / "t.ome.zarr"
        if with_old:
            stored(old, path, fingerprint={"seed": 1}, levels=1)
        writes = itertools.count()
        is_cut = False

        def fault(method, path, last=last, writes=writes):
            nonlocal is_cut
            is_cut = is_cut or (method in ("PUT", "DELETE", "POST") and next(writes) >= last)
            return "cut" if is_cut else None

        proxy.fault = fault
        with contextlib.suppress(TomostreamError):
            stored(new, path, **settings)
        proxy.reset()
        with contextlib.suppress(InputError):  # it is no store for now
            found = open_tomogram(path)
            np.testing.assert_array_equal(found.read(Box.whole(found.shape)), new if found.shape == new.shape else old)
        if store_state(path, {"seed": 2}) != "done":
            stored(new, path, **settings)
        assert objects(path) == expected, f"write {last}"
        if not is_cut:
            assert last > 6
            return
