import gzip
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import zarr
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from mrc_files import BROKEN, MODE_TYPES, patch, random_volume, write_mrc

from tomostream.store.conversion import ConvertSettings, convert_file
from tomostream.store.preflight import inspect_file

SHAPE = (5, 6, 7)


def convert(source, out, **changes):
    settings = ConvertSettings(**{"chunk": (4, 4, 4), "shard": (4, 8, 8), "codec": "none", "levels": 2, **changes})
    return convert_file(source, out, settings, memory=10**9, overwrite=False, report=lambda text: None)


@pytest.fixture
def whole(tmp_path):
    return write_mrc(tmp_path / "tomo.mrc", random_volume(SHAPE, np.float32), spacing=13.48)


@pytest.fixture
def store(whole, tmp_path):
    return convert(write_mrc(whole, random_volume((9, 17, 20), np.float32), spacing=13.48), tmp_path / "out")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("mode", MODE_TYPES)
def test_facts_of_a_whole_file(tmp_path, mode, order):
    volume = random_volume(SHAPE, MODE_TYPES[mode])
    path = write_mrc(tmp_path / "tomo.rec", volume, spacing=13.48, order=order, extended=160)
    found = inspect_file(path)
    assert found.is_usable
    assert (found.name, found.kind, found.shape, found.dtype, found.spacing) == ("tomo", "mrc", SHAPE, volume.dtype.name, 13.48)
    assert found.statistics["max"] == pytest.approx(float(volume.max()))
    assert found.size == path.stat().st_size
    assert (found.details["mode"], found.details["extended_header_bytes"]) == (mode, 160)
    assert json.loads(json.dumps(found.to_json()))["is_usable"] is True
    assert "13.48 A" in found.describe()


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_is_a_problem_with_the_value_found(whole, name, suffix):
    write_mrc(whole, random_volume(SHAPE, np.float32))
    change, words = BROKEN[name]
    change(whole)
    if suffix:
        packed = whole.with_name("tomo.mrc.gz")
        packed.write_bytes(gzip.compress(whole.read_bytes()))
        whole = packed
    found = inspect_file(whole)
    json.dumps(found.to_json())
    told = " ".join(found.problems + found.warnings)
    if "truncated" in words:
        assert "truncated" in told
    else:
        assert not found.is_usable
        for word in words:
            assert word in told


@given(content=st.binary(max_size=1300), header=st.booleans())
@examples(100)
def test_any_content_is_told_and_never_raised(tmp_path_factory, content, header):
    for name in ("any.mrc", "any.mrc.gz", "any.rec"):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(content[:208] + b"MAP DD\0\0" + content[216:] if header else content)
        json.dumps(inspect_file(path).to_json())
        inspect_file(path).describe()


def test_compressed_file_reads_only_the_head(whole):
    packed = whole.with_name("tomo.mrc.gz")
    packed.write_bytes(gzip.compress(whole.read_bytes()))
    found = inspect_file(packed)
    assert (found.is_usable, found.warnings, found.shape, found.details["compression"]) == (True, (), SHAPE, "gzip")
    content = packed.read_bytes()
    packed.write_bytes(content[: len(content) * 9 // 10])
    assert "may be truncated" in " ".join(inspect_file(packed).warnings)


def test_missing_and_odd_spacings_are_told(whole):
    assert inspect_file(patch(whole, 40, "<3f", 0, 0, 0)).spacing is None
    assert "no voxel spacing" in " ".join(inspect_file(whole).warnings)
    found = inspect_file(patch(whole, 40, "<3f", 70, 60, 75))
    assert (found.is_usable, found.spacing, found.shape) == (False, None, SHAPE)
    assert "not cubes" in found.problems[0]


@pytest.mark.parametrize(
    ("offset", "form", "values", "words"),
    [
        (28, "<3i", (1, 1, 1), "mx, my, mz are 1"),
        (40, "<3f", (7e-9, 6e-9, 5e-9), "which is implausible for an electron tomogram"),
        (40, "<3f", (1400.0, 1200.0, 1000.0), "which is implausible for an electron tomogram"),
        (40, "<3f", (7.0, 6.0, 5.0), "exactly 1 angstrom"),
    ],
)
def test_a_spacing_that_can_t_be_is_told(tmp_path, offset, form, values, words):
    cube = write_mrc(tmp_path / "cube.mrc", random_volume((5, 6, 7) if offset == 40 else (6, 6, 6), np.float32))
    found = inspect_file(patch(cube, offset, form, *values))
    assert found.is_usable
    assert words in " ".join(found.warnings)


def test_a_stack_of_images_is_told(tmp_path):
    path = write_mrc(tmp_path / "a.mrc", random_volume((5, 6, 7), np.float32))
    patch(patch(path, 36, "<i", 1), 48, "<f", 10.0)  # mz, and the cell's edge along z
    assert "mz is 1" in " ".join(inspect_file(path).warnings)


@pytest.mark.parametrize("stamp", [b"\0\0\0\0", b"    ", b"abcd"])
def test_a_file_without_the_stamp_is_one_where_all_else_agrees_or_the_caller_says_so(tmp_path, stamp):
    path = patch(write_mrc(tmp_path / "a.mrc", random_volume((5, 6, 7), np.float32)), 208, "4s", stamp)
    found = inspect_file(path)
    assert found.is_usable == (stamp != b"abcd")
    assert "not an MRC file: bytes 208-211" in " ".join(found.warnings + found.problems)
    path.write_bytes(path.read_bytes() + b"more")
    assert "--assume-mrc" in inspect_file(path).problems[0]
    assert inspect_file(path, assume_mrc=True).is_usable
    patch(path, 12, "<i", 77)
    assert not inspect_file(path, assume_mrc=True).is_usable


def test_a_promised_extended_header_that_is_not_there_is_told_from_a_cut_off_file(tmp_path):
    path = patch(write_mrc(tmp_path / "a.mrc", random_volume((5, 6, 7), np.float32)), 92, "<i", 57600)
    assert "without the extended header of 57600 bytes" in inspect_file(path).problems[0]
    path.write_bytes(path.read_bytes()[:-1])
    assert "is truncated" in inspect_file(path).problems[0]


def test_missing_path_is_told(tmp_path):
    for name in ("no.mrc", "no.ome.zarr", "no"):
        found = inspect_file(tmp_path / name)
        assert not found.is_usable
        assert name in found.problems[0]


def test_facts_of_a_store(store):
    found = inspect_file(store)
    assert found.is_usable
    assert found.warnings == ()
    assert (found.name, found.kind, found.shape, found.dtype, found.spacing, found.levels) == (
        "tomo",
        "ome-zarr",
        (9, 17, 20),
        "float32",
        13.48,
        2,
    )
    assert set(found.statistics) == {"min", "max", "mean", "rms"}
    assert found.size > 9 * 17 * 20 * 4
    json.dumps(found.to_json())
    assert "2 levels" in found.describe()


def test_store_of_zarr_version_2_is_read(tmp_path):
    group = zarr.open_group(tmp_path / "other.zarr", mode="w", zarr_format=2)
    group.create_array("s0", shape=(4, 8, 8), chunks=(4, 4, 4), dtype="uint8", chunk_key_encoding={"name": "v2", "separator": "/"})[
        :, :4
    ] = 7
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    dataset = {"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [dataset]}]
    found = inspect_file(tmp_path / "other.zarr")
    assert (found.is_usable, found.spacing, found.shape, found.details["zarr_format"]) == (True, 10.0, (4, 8, 8), 2)
    assert any("2 of 4 files of level s0 are missing" in text for text in found.warnings)


def test_lost_shards_of_our_store_are_a_problem(store):
    (store / "0/c/1/2/0").unlink()
    (store / "0/c/2/0/2").write_bytes(b"")
    (store / "1/c/0/0/0").unlink()
    found = inspect_file(store)
    assert [text.split(" are")[0] for text in found.problems] == ["2 of 27 files of level 0", "1 of 27 files of level 1"]


def test_half_written_store_is_never_usable(store, whole, tmp_path):
    partial = store.with_name(store.name + ".partial")
    shutil.move(store, partial)
    for path in (partial, store):
        found = inspect_file(path)
        assert not found.is_usable
        assert "half-written" in found.problems[0] or "not finished" in found.problems[0]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"zarr_format": 3}', b'{"zarr_format": 3, "node_type": "group", "attributes": {"ome": 3}}']
)
def test_broken_metadata_of_a_store_are_told(store, content):
    (store / "zarr.json").write_bytes(content)
    assert not inspect_file(store).is_usable


@pytest.mark.parametrize("content", [b"", b"{}", b'{"zarr_format": 3, "node_type": "array"}'])
def test_broken_metadata_of_a_level_are_told(store, content):
    (store / "0/zarr.json").write_bytes(content)
    assert not inspect_file(store).is_usable


def test_folder_without_metadata_is_told(tmp_path):
    assert not inspect_file(tmp_path).is_usable


def test_inspect_needs_no_heavy_library():
    code = (
        "import sys, tomostream.store.preflight; print([m for m in ('torch', 'dask', 'pandas', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
