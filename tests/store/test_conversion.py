import bz2
import dataclasses
import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import zarr
from mrc_files import BROKEN, MODE_TYPES, as_imod, patch, random_volume, write_mrc
from peak_memory import PEAK

from tomostream.budget import conversion_bytes
from tomostream.errors import BudgetError, BusyError, ExistsError, InputError, TomostreamError
from tomostream.store import conversion, local_build
from tomostream.store.conversion import ConvertSettings, convert_file

DEFAULTS = {
    "voxel_size": None,
    "dtype": "keep",
    "chunk": (8, 8, 8),
    "shard": (16, 16, 16),
    "codec": "none",
    "levels": 2,
    "memory": 10**9,
    "overwrite": False,
    "checksum": False,
    "assume_mrc": False,
    "name": None,
    "progress": None,
    "report": lambda text: None,
}
SHAPE = (37, 50, 45)  # 3 x 4 x 3 shards, none of the last ones whole


def convert(source, out, **changes):
    given = {**DEFAULTS, **changes}
    settings = ConvertSettings(**{field.name: given.pop(field.name) for field in dataclasses.fields(ConvertSettings)})
    return convert_file(source, out, settings, **given)


def tree(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def level(store, number=0):
    return zarr.open_array(store / str(number), mode="r")[:]


def attributes(store):
    return json.loads((store / "zarr.json").read_text())["attributes"]["tomostream"]


@pytest.fixture
def source(tmp_path):
    return write_mrc(tmp_path / "tomo.mrc", random_volume(SHAPE, np.float32))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("mode", MODE_TYPES)
def test_store_equals_the_source_for_every_mode_and_byte_order(tmp_path, out, mode, order):
    volume = random_volume((17, 20, 23), MODE_TYPES[mode])
    store = convert(write_mrc(tmp_path / "tomo.mrc", volume, order=order, extended=512), out)
    assert store == out / "tomo.ome.zarr"
    assert level(store).dtype == volume.dtype
    np.testing.assert_array_equal(level(store), volume)
    assert attributes(store)["source"]["mode"] == mode


@pytest.mark.parametrize("signed", [False, True])
def test_imod_bytes_keep_their_sign(tmp_path, out, signed):
    volume = random_volume((5, 6, 7), np.int8)
    store = convert(as_imod(write_mrc(tmp_path / "tomo.rec", volume), signed=signed), out, levels=1)
    np.testing.assert_array_equal(level(store), volume if signed else volume.view(np.uint8))


@pytest.mark.parametrize("codec", ["none", "zstd", "lz4-bitshuffle"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 70, 3), (16, 16, 16), (17, 33, 15), (40, 9, 64)])
def test_odd_shapes_are_exact_with_every_codec(tmp_path, out, shape, codec):
    volume = random_volume(shape, np.float32)
    store = convert(write_mrc(tmp_path / "tomo.mrc", volume), out, codec=codec, levels=None)
    np.testing.assert_array_equal(level(store), volume)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["keep", "int8", "float16"])
def test_store_does_not_depend_on_the_memory_budget(source, out, dtype):
    large = convert(source, out / "large", dtype=dtype)
    least = conversion_bytes(
        band_voxels=16**3,
        shard=(16, 16, 16),
        chunk=(8, 8, 8),
        source_itemsize=4,
        stored_itemsize={"keep": 4, "int8": 1, "float16": 2}[dtype],
        is_cast=dtype != "keep",
    )
    row = 16 * 16 * 45 * 4 - 16**3 * 4
    for extra in (0, 16**3 * 4, row, 2 * row):
        small = convert(source, out / f"{extra}", dtype=dtype, memory=least + extra)
        assert tree(small) == tree(large)


def test_less_memory_than_one_shard_needs_is_refused_before_work(source, out):
    with pytest.raises(BudgetError, match=r"needs 150 MB for one shard of \(16, 16, 16\).*--memory is 150 MB.*smaller --shard"):
        convert(source, out, memory=150_000_000)
    assert not out.exists()


def test_levels_are_means_and_spacings_double(source, out):
    store = convert(source, out)
    volume = level(store)
    whole = volume[:36, :, :44].astype(np.float64).reshape(18, 2, 25, 2, 22, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(level(store, 1)[:18, :, :22], whole, rtol=0, atol=1e-5)
    scales = [
        d["coordinateTransformations"][0]["scale"] for d in zarr.open_group(store, mode="r").attrs["ome"]["multiscales"][0]["datasets"]
    ]
    assert scales == [[10.0] * 3, [20.0] * 3]


def test_int8_factors_give_the_raw_values_back(source, out):
    store = convert(source, out, dtype="int8")
    volume = random_volume(SHAPE, np.float32).astype(np.float64)
    found = attributes(store)
    assert found["stored_offset"] == pytest.approx(volume.mean(), abs=1e-6 * volume.std())
    assert found["stored_scale"] == pytest.approx(volume.std() / 32, rel=1e-6)
    expected = np.clip(np.rint((volume - found["stored_offset"]) / found["stored_scale"]), -127, 127)
    np.testing.assert_array_equal(level(store), expected)


def test_voxels_that_a_type_cannot_hold_are_refused_and_leave_nothing(tmp_path, out):
    volume = np.zeros((5, 6, 7), np.float32)
    volume[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="1 of 210 voxels are not finite"):
        convert(write_mrc(tmp_path / "nan.mrc", volume), out, dtype="int8", levels=1)
    volume[0, 0, 0] = 1e6
    with pytest.raises(InputError, match="float16 ends at 65504"):
        convert(write_mrc(tmp_path / "large.mrc", volume), out, dtype="float16", levels=1)
    assert list(out.iterdir()) == []


def test_facts_of_the_source_are_kept(tmp_path, out):
    source = patch(write_mrc(tmp_path / "tomo.mrc", random_volume((5, 6, 7), np.int16), order=">", extended=80), 216, ">f", float("nan"))
    facts = attributes(convert(source, out, checksum=True, levels=1))["source"]
    assert (facts["name"], facts["size_bytes"], facts["mode"], facts["dtype"]) == ("tomo.mrc", 1024 + 80 + 420, 1, ">i2")
    assert facts["statistics"]["rms"] is None
    assert facts["statistics"]["max"] == random_volume((5, 6, 7), np.int16).max()
    assert facts["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_compressed_source_gives_the_same_arrays_and_leaves_no_copy(source, out, suffix, pack):
    packed = source.with_name("tomo.mrc" + suffix)
    packed.write_bytes(pack(source.read_bytes()))
    plain, unpacked = convert(source, out / "plain"), convert(packed, out / "packed")
    assert [path.name for path in (out / "packed").iterdir()] == ["tomo.ome.zarr"]
    a, b = tree(plain), tree(unpacked)
    assert a.pop("zarr.json") != b.pop("zarr.json")  # the source's name and size
    assert a == b


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("name", BROKEN)
def test_broken_source_is_refused_and_leaves_nothing(source, out, name, suffix):
    write_mrc(source, random_volume((5, 6, 7), np.float32))
    change, _ = BROKEN[name]
    change(source)
    if suffix:
        packed = source.with_name(source.name + suffix)
        packed.write_bytes(gzip.compress(source.read_bytes()))
        source = packed
    with pytest.raises((InputError, BudgetError)) as caught:
        convert(source, out)
    assert str(source) in str(caught.value)  # huge edges in a compressed file: more than the disk holds
    assert not out.exists() or list(out.iterdir()) == []


def test_missing_spacing_must_be_given(source, out):
    patch(source, 40, "<3f", 0, 0, 0)
    with pytest.raises(InputError, match="no voxel spacing; give it with --voxel-size"):
        convert(source, out)
    texts = []
    store = convert(source, out, voxel_size=13.48, report=texts.append)
    assert (
        zarr.open_group(store, mode="r").attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
        == [13.48] * 3
    )
    assert texts == []


def test_spacing_that_contradicts_the_header_is_used_and_told(source, out):
    texts = []
    convert(source, out, voxel_size=10.05, report=texts.append)
    assert texts == []
    convert(source, out / "b", voxel_size=13.48, report=texts.append)
    assert len(texts) == 1
    assert "13.48 is used, but the header says z 10, y 10, x 10" in texts[0]


def test_anisotropic_header_is_refused_unless_the_spacing_is_given(source, out):
    patch(source, 40, "<f", 450.0 * 1.5)
    with pytest.raises(InputError, match=r"not cubes.*x 15 "):
        convert(source, out)
    convert(source, out, voxel_size=10.0)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_spacing_is_refused(source, out, value):
    with pytest.raises(InputError, match="--voxel-size must be above zero"):
        convert(source, out, voxel_size=value)


@pytest.mark.slow
def test_finished_work_is_skipped_and_other_settings_need_overwrite(source, out):
    store = convert(source, out)
    before = tree(store), os.stat(store / "zarr.json").st_mtime_ns
    assert convert(source, out, memory=5 * 10**8) == store
    assert (tree(store), os.stat(store / "zarr.json").st_mtime_ns) == before
    with pytest.raises(ExistsError, match="--overwrite"):
        convert(source, out, dtype="int8")
    convert(source, out, dtype="int8", overwrite=True)
    assert level(store).dtype == np.int8


def test_changed_source_of_equal_size_is_noticed(source, out):
    convert(source, out)
    status = source.stat()
    with source.open("r+b") as file:
        file.seek(2000)
        file.write(b"abcd")
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ExistsError):
        convert(source, out)


def test_source_that_changes_meanwhile_is_refused(source, out):
    with pytest.raises(InputError, match="changed while it was being converted"):
        convert(source, out, progress=lambda done, total: os.utime(source, ns=(1, done)))
    assert not (out / "tomo.ome.zarr").exists()


def test_name_and_progress_and_warnings(source, out):
    steps, texts = [], []
    with source.open("ab") as file:
        file.write(b"tail")
    store = convert(source, out, name="other", progress=lambda *step: steps.append(step), report=texts.append)
    assert store.name == "other.ome.zarr"
    assert steps == [(i, 36) for i in range(37)]
    assert len(texts) == 1
    assert "4 bytes follow" in texts[0]


def test_full_disk_is_refused_before_work(source, out, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(conversion.shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(BudgetError, match=r"store of \(37, 50, 45\) voxels needs 5\d\d KB, but .* has 1 KB free"):
        convert(source, out)
    assert list(out.iterdir()) == []


def test_disk_that_fills_up_keeps_what_is_done(source, out, monkeypatch):
    expected = tree(convert(source, out / "whole"))
    write, calls = local_build.write_shard_file, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 30:
            raise OSError(28, "No space left on device")
        return write(*args, **kwargs)

    monkeypatch.setattr(local_build, "write_shard_file", failing)
    with pytest.raises(TomostreamError, match="disk is full"):
        convert(source, out)
    assert not (out / "tomo.ome.zarr").exists()
    steps = []
    assert tree(convert(source, out, progress=lambda *step: steps.append(step))) == expected
    assert steps[0] == (14, 36)  # two levels a shard: the 15th was in flight


def test_unwritable_folder_is_refused(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be made"):
        convert(source, tmp_path / "file" / "out")
    with pytest.raises(InputError, match=r"can.t be (made|written)"):
        convert(source, Path("/proc/out"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"dtype": "float64"}, "--dtype float64"), ({"codec": "gzip"}, "gzip"), ({"levels": 99}, "levels 99"), ({"levels": 0}, "levels 0")],
)
def test_impossible_settings_are_refused_before_work(source, out, changes, words):
    with pytest.raises(InputError, match=words):
        convert(source, out, **changes)
    assert not out.exists()


def test_two_processes_on_one_store_are_refused(source, out):
    def again(done, total):
        if done == 3:
            with pytest.raises(BusyError):
                convert(source, out)

    convert(source, out, progress=again)


CHILD = """
import sys, time
from pathlib import Path
from tomostream.store.conversion import ConvertSettings, convert_file
def progress(done, total):
    print(done, flush=True)
    time.sleep(0.003)
settings = ConvertSettings(dtype=sys.argv[3], chunk=(8, 8, 8), shard=(16, 16, 16), codec="none", levels=2)
convert_file(Path(sys.argv[1]), Path(sys.argv[2]), settings, memory=10**9, overwrite=False, progress=progress, report=print)
"""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["keep", "int8"])
def test_killed_conversion_resumes_to_the_same_bytes(source, out, dtype):
    expected = tree(convert(source, out / "whole", dtype=dtype))
    for seed in range(2):
        folder = out / str(seed)
        wanted = random.Random(seed).randint(1, 34)
        with subprocess.Popen([sys.executable, "-c", CHILD, str(source), str(folder), dtype], stdout=subprocess.PIPE, text=True) as child:
            for line in child.stdout:
                if int(line) >= wanted:
                    break
            child.send_signal(signal.SIGKILL)
            # a few more shards may have been finished between the line and the signal
            last = max([wanted, *map(int, child.stdout.read().split())])
        assert not (folder / "tomo.ome.zarr").exists()
        steps = []
        assert tree(convert(source, folder, dtype=dtype, progress=lambda *step, steps=steps: steps.append(step))) == expected
        assert last <= steps[0][0] <= last + 1
        assert [path.name for path in folder.iterdir()] == ["tomo.ome.zarr"]
        shutil.rmtree(folder)


MEASURED = f"""
import sys
from pathlib import Path
from tomostream.store.conversion import ConvertSettings, convert_file
settings = ConvertSettings(dtype=sys.argv[3], chunk=(64, 64, 64), shard=(128, 128, 128), codec="none")
convert_file(Path(sys.argv[1]), Path(sys.argv[2]), settings, memory=int(sys.argv[4]), overwrite=False, report=print)
print({PEAK})
"""


@pytest.mark.slow
@pytest.mark.memory
@pytest.mark.parametrize("dtype", ["keep", "int8"])
def test_peak_memory_stays_within_the_budget(tmp_path, dtype):
    source = tmp_path / "large.mrc"
    with mrcfile.new_mmap(source, (200, 700, 720), mrc_mode=2) as file:  # 403 MB
        file.voxel_size = 10.0
        file.data[::50] = 1.0
    memory = 300_000_000
    command = [sys.executable, "-c", MEASURED, str(source), str(tmp_path / "out"), dtype, str(memory)]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    shutil.rmtree(tmp_path / "out")
    source.unlink()
    assert 60_000_000 < peak <= memory
