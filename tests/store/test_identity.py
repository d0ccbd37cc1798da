"""Identity is content and settings, not time and place; what 0.1 recorded is still understood."""

import json
import os
import shutil

import pytest
from mrc_files import random_volume, write_mrc
from store_files import noise, tree, write_foreign

from tomostream.cluster import Resources
from tomostream.errors import ExistsError
from tomostream.progress import Progress
from tomostream.stages.conversion.stage import ConvertSettings, convert_many
from tomostream.stages.shared.fingerprints import tomogram_fingerprint
from tomostream.store import identity
from tomostream.store.identity import file_identity, folder_identity, is_same_identity
from tomostream.store.naming import distinct_names
from tomostream.tomogram import open_tomogram


@pytest.mark.parametrize("size", [0, 1000, 3 * 2**20])
def test_a_copy_is_the_same_file_and_a_changed_byte_another(tmp_path, monkeypatch, size):
    monkeypatch.setattr(identity, "WHOLE_BYTES", 2**21)  # the largest is looked at in pieces
    path = tmp_path / "t.mrc"
    path.write_bytes(os.urandom(size))
    first = file_identity(path)
    (tmp_path / "copy").mkdir()
    shutil.copy(path, tmp_path / "copy" / "t.mrc")
    assert file_identity(tmp_path / "copy" / "t.mrc") == first
    path.write_bytes(path.read_bytes() + b"x")
    assert file_identity(path) != first
    if size:
        for place in (0, size - 1):
            data = bytearray((tmp_path / "copy" / "t.mrc").read_bytes())
            data[place] ^= 1
            path.write_bytes(data)
            assert file_identity(path) != first


def test_reprocessed_voxels_of_a_large_file_make_another(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "WHOLE_BYTES", 2**16)
    path = tmp_path / "t.mrc"
    data = os.urandom(3 * 2**20)
    path.write_bytes(data)
    first = file_identity(path)
    path.write_bytes(data[: 2**20] + bytes(b ^ 1 for b in data[2**20 :]))  # the same head
    assert file_identity(path)["sha256_of_first_mb"] == first["sha256_of_first_mb"]
    assert file_identity(path) != first


@pytest.mark.parametrize("is_large", [False, True])
def test_a_copied_foreign_store_is_the_same_and_any_changed_chunk_another(tmp_path, monkeypatch, is_large):
    if is_large:
        monkeypatch.setattr(identity, "_FOLDER_WHOLE_BYTES", 1000)
    path = write_foreign(tmp_path / "f.zarr", [noise(9, 9, 9)])
    first = folder_identity(path)
    shutil.copytree(path, tmp_path / "elsewhere" / "f.zarr")
    assert folder_identity(tmp_path / "elsewhere" / "f.zarr") == first
    for file in [file for file in path.rglob("*") if file.is_file()]:
        before = file.read_bytes()
        file.write_bytes(bytes([before[0] ^ 1]) + before[1:])
        assert folder_identity(path) != first, file
        file.write_bytes(before)
    assert folder_identity(path) == first


def _as_0_1_wrote(store, **source):
    """Give a store the fingerprint that 0.1 gave it."""
    metadata = json.loads((store / "zarr.json").read_text())
    ours = metadata["attributes"]["tomostream"]
    made = ours["fingerprint"]
    del ours["seal"], ours["levels_sha256"]
    made["source"] = {key: made["source"][key] for key in ("name", "size", "sha256_of_first_mb")} | {"mtime_ns": 1} | source
    (store / "zarr.json").write_text(json.dumps(metadata, indent=2) + "\n")
    return made


def convert(source, out):
    names = distinct_names([str(source)])
    return convert_many(names, out, ConvertSettings(), resources=Resources(), overwrite=False, progress=Progress())[0]


def test_a_store_of_0_1_is_recognised_and_left_as_it_is(tmp_path):
    source = write_mrc(tmp_path / "t.mrc", random_volume((8, 16, 16), "f4"), spacing=10.0)
    store = convert(source, tmp_path / "out")
    _as_0_1_wrote(store)
    before = tree(store)
    os.utime(source, ns=(5, 5))
    assert convert(source, tmp_path / "out") == store
    assert tree(store) == before


def test_a_store_of_0_1_from_another_source_is_refused_with_what_differs(tmp_path):
    source = write_mrc(tmp_path / "t.mrc", random_volume((8, 16, 16), "f4"), spacing=10.0)
    store = convert(source, tmp_path / "out")
    _as_0_1_wrote(store, sha256_of_first_mb="0" * 64)
    with pytest.raises(ExistsError, match=r"source\.sha256_of_first_mb"):
        convert(source, tmp_path / "out")


def test_scores_of_a_tomogram_that_0_1_made_belong_to_the_tomogram_made_anew(tmp_path):
    source = write_mrc(tmp_path / "t.mrc", random_volume((8, 16, 16), "f4"), spacing=10.0)
    store = convert(source, tmp_path / "out")
    new = tomogram_fingerprint(open_tomogram(store))
    _as_0_1_wrote(store)
    assert is_same_identity(tomogram_fingerprint(open_tomogram(store)), new)


def test_a_foreign_store_that_0_1_recorded_is_recognised_where_it_lies_unchanged(tmp_path):
    path = write_foreign(tmp_path / "f.zarr", [noise(9, 9, 9)])
    now = tomogram_fingerprint(open_tomogram(path))
    files = [file.stat() for file in path.rglob("*") if file.is_file()]
    old = {key: now[key] for key in ("name", "shape", "dtype")} | {
        "path": str(path),
        "files": {
            "number": len(files),
            "bytes": sum(s.st_size for s in files),
            "newest": max(s.st_mtime_ns for s in files),
        },
    }
    assert is_same_identity({"tomogram": old, "level": 1}, {"tomogram": now, "level": 1})
    assert not is_same_identity({"tomogram": old, "level": 1}, {"tomogram": now, "level": 2})
    chunk = next(file for file in (path / "0").rglob("*.*.*") if file.is_file())
    os.utime(chunk, ns=(2**62, 2**62))
    assert not is_same_identity(old, now)


def test_tables_of_clicks_are_known_by_their_content():
    old, new = {"labels": {"clicks/a.csv": "aa", "clicks/b.csv": "bb"}}, {"labels": ["aa", "bb"]}
    assert is_same_identity(old, new)
    assert not is_same_identity(old, {"labels": ["aa", "cc"]})
