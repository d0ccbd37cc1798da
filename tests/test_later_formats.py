"""Every JSON that we write says its format, and one of a later format is refused in words: what was found, what is allowed, what to do."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_runner import tomostream
from repository import TESTS

import tomostream as ts
from tomostream.errors import InputError
from tomostream.pipeline.journal import read_journal
from tomostream.stages.shared.sidecar import is_made_by, made_by, parse_record
from tomostream.store.existing_output import half_written_head
from tomostream.store.omezarr import StoreSpec, StoreWriter
from tomostream.strategies.model_folder import read_record
from tomostream.strategies.training_record import read_training_record

SAMPLE = TESTS / "data" / "archives" / "v0.2" / "project" / "project"
REFUSED = r"has format 7, this version of tomostream reads format 1: a later version wrote it; use that version, or another folder"


@pytest.fixture
def project(tmp_path):
    shutil.copytree(SAMPLE, tmp_path / "project")
    return tmp_path / "project"


def write_later(path, *keys, drop=False):
    """Change the format that a JSON file says below some keys to 7, or leave it out."""
    whole = json.loads(path.read_text())
    record = whole
    for key in keys:
        record = record[key]
    assert record.pop("format") >= 1
    record.pop("seal", None)
    path.write_text(json.dumps(whole if drop else _with(whole, keys)))


def _with(whole, keys):
    record = whole
    for key in keys:
        record = record[key]
    record["format"] = 7
    return whole


@pytest.mark.parametrize("name", ["tomograms/t1.ome.zarr", "scores/t1.ome.zarr"])
def test_a_store(project, name):
    store = project / name
    write_later(store / "zarr.json", "attributes", "tomostream")
    with pytest.raises(InputError, match=f"attribute 'tomostream' of .*t1.ome.zarr {REFUSED}"):
        ts.open(store)
    done = tomostream("check", store)
    assert (done.code, "has format 7" in done.out) == (2, True)


def test_a_store_without_a_format_is_of_version_0_1(project):
    write_later(project / "tomograms/t1.ome.zarr/zarr.json", "attributes", "tomostream", drop=True)
    assert ts.open(project / "tomograms/t1.ome.zarr").shape == (28, 30, 30)


def test_the_record_of_a_table(project):
    table, record = project / "picks" / "t1.csv", project / "picks" / ".t1.csv.made-by.json"
    fingerprint = made_by(table)
    write_later(record, drop=True)
    assert is_made_by(table, fingerprint), "one of version 0.1 has no format"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"format": 7}))
    with pytest.raises(InputError, match=f"t1.csv.made-by.json {REFUSED}"):
        is_made_by(table, fingerprint)
    with pytest.raises(InputError, match=REFUSED):
        parse_record(record.read_bytes(), record)
    done = tomostream("check", project / "picks")
    assert (done.code, "has format 7" in done.out) == (2, True)


def test_a_model_and_what_it_was_trained_from(project):
    write_later(project / "model" / "training.json")
    with pytest.raises(InputError, match=f"training.json {REFUSED}"):
        read_training_record(project / "model")
    write_later(project / "model" / "model.json")
    with pytest.raises(InputError, match=r"model.json must have model format 1 or 2, found 7; a later version of tomostream may read it"):
        read_record(project / "model")


def test_the_journal(project):
    lines = (project / "log.jsonl").read_text().splitlines()
    known = list(read_journal(project / "log.jsonl"))
    assert len(known) == len(lines)
    with (project / "log.jsonl").open("a") as log:
        log.write(json.dumps(known[0] | {"format": 7}) + "\n")
    with pytest.raises(InputError, match=f"log.jsonl {REFUSED}"):
        list(read_journal(project / "log.jsonl"))
    done = tomostream("status", project)
    assert done.code == 2
    assert "log.jsonl has format 7" in done.message


SPEC = StoreSpec(name="t", shape=(4, 4, 4), dtype=np.dtype("f4"), spacing=10.0, chunk=(2, 2, 2), shard=(2, 4, 4), codec="none", levels=1)


def half_written(path, format_in_head):
    """Begin a store, finish one of its shards, and change the format in its head."""
    with StoreWriter.create_or_resume(path, SPEC, fingerprint={"made": "here"}, overwrite=False) as writer:
        writer.write((0, 0, 0), np.ones((2, 4, 4), "f4"))
        writer.mark_done((0, 0, 0))
    ledger = Path(f"{path}.partial") / "ledger.jsonl"
    head, *rest = ledger.read_text().splitlines()
    values = json.loads(head)
    assert values.pop("format") == 1
    ledger.write_text("\n".join([json.dumps(values if format_in_head is None else {"format": format_in_head} | values), *rest]) + "\n")


def test_a_half_written_store_of_a_later_version_is_neither_read_nor_cleared(tmp_path):
    path = tmp_path / "t.ome.zarr"
    half_written(path, 7)
    ledger = tmp_path / "t.ome.zarr.partial" / "ledger.jsonl"
    with ledger.open("a") as file:
        file.write("a line of another kind\n")
    before = ledger.read_bytes()
    with pytest.raises(InputError, match=f"ledger.jsonl {REFUSED}"):
        half_written_head(path)
    with pytest.raises(InputError, match=f"ledger.jsonl {REFUSED}"):
        StoreWriter.create_or_resume(path, SPEC, fingerprint={"made": "here"}, overwrite=False)
    assert (tmp_path / "t.ome.zarr.partial/0/c/0/0/0").is_file()
    assert ledger.read_bytes() == before
    ledger.write_text(ledger.read_text().replace('"format": 7', '"format": 1'))
    with StoreWriter.create_or_resume(path, SPEC, fingerprint={"made": "here"}, overwrite=False) as writer:  # nothing stayed locked
        assert list(writer.pending()) == [(1, 0, 0)]


def test_a_half_written_store_of_version_0_1_is_resumed(tmp_path):
    path = tmp_path / "t.ome.zarr"
    half_written(path, None)
    with StoreWriter.create_or_resume(path, SPEC, fingerprint={"made": "here"}, overwrite=False) as writer:
        assert list(writer.pending()) == [(1, 0, 0)]
