import json
import os
import subprocess
import sys

import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from tomostream.errors import BusyError
from tomostream.store.ledger import Ledger, read_head

HEAD = {"fingerprint": {"a": 1}, "layout": {}}


def begun(path, *shards):
    ledger = Ledger(path)
    ledger.begin(HEAD)
    for shard in shards:
        ledger.mark_done(shard)
    return ledger


def test_a_reopened_ledger_knows_what_is_done(tmp_path):
    begun(tmp_path / "l", (0, 0, 0), (0, 1, 2)).close()
    ledger = Ledger(tmp_path / "l")
    assert ledger.head == HEAD
    assert ledger.done == {(0, 0, 0), (0, 1, 2)}
    ledger.close()


def test_the_first_line_is_the_head_and_each_shard_has_one_line(tmp_path):
    begun(tmp_path / "l", (0, 0, 0), (0, 0, 1), (0, 0, 1)).close()
    lines = [json.loads(line) for line in (tmp_path / "l").read_text().splitlines()]
    assert lines[0] == HEAD
    assert [line["shard"] for line in lines if "shard" in line] == [[0, 0, 0], [0, 0, 1]]


@examples(40)
@given(st.integers(0, 400))
def test_a_file_cut_anywhere_gives_a_prefix_and_can_be_continued(tmp_path_factory, length):
    path = tmp_path_factory.mktemp("ledger") / "l"
    shards = [(0, 0, i) for i in range(8)]
    begun(path, *shards).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    ledger = Ledger(path)
    if ledger.head is None:
        ledger.begin(HEAD)
    known = sorted(ledger.done)
    assert known == shards[: len(known)]
    ledger.mark_done((9, 9, 9))
    ledger.close()
    again = Ledger(path)
    assert again.done == {*known, (9, 9, 9)}
    again.close()


def test_notes_outlive_their_writer_and_end_with_what_they_are_about(tmp_path):
    ledger = begun(tmp_path / "l", (0, 0, 0))
    for note in ({"a": 1}, {"b": [2]}, {"a": 1}):
        ledger.add_note(note)
    ledger.close()
    again = Ledger(tmp_path / "l")
    assert again.notes == [{"a": 1}, {"b": [2]}]
    assert again.done == {(0, 0, 0)}
    again.clear()
    assert again.notes == []
    again.close()


def test_lines_after_damage_are_not_believed(tmp_path):
    begun(tmp_path / "l", (0, 0, 0)).close()
    with (tmp_path / "l").open("ab") as handle:
        handle.write(b"\0\0\0\n" + b'{"shard": [1, 1, 1]}\n')
    ledger = Ledger(tmp_path / "l")
    assert ledger.done == {(0, 0, 0)}
    ledger.close()


def test_a_second_writer_is_told_who_holds_the_ledger(tmp_path):
    ledger = begun(tmp_path / "l")
    with pytest.raises(BusyError, match=rf"{tmp_path}.*pid {os.getpid()}"):
        Ledger(tmp_path / "l")
    ledger.close()
    Ledger(tmp_path / "l").close()


def test_a_second_process_is_refused(tmp_path):
    ledger = begun(tmp_path / "l")
    code = f"from pathlib import Path; from tomostream.store.ledger import Ledger; Ledger(Path({str(tmp_path / 'l')!r}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"BusyError: {tmp_path}" in result.stderr
    assert f"pid {os.getpid()}" in result.stderr
    ledger.close()


def test_a_cleared_ledger_knows_nothing(tmp_path):
    ledger = begun(tmp_path / "l", (0, 0, 0))
    ledger.clear()
    assert read_head(tmp_path / "l") is None
    ledger.begin(HEAD)
    ledger.close()
    again = Ledger(tmp_path / "l")
    assert again.done == set()
    again.close()


def test_the_head_is_read_without_the_lock(tmp_path):
    assert read_head(tmp_path / "none") is None
    ledger = begun(tmp_path / "l")
    assert read_head(tmp_path / "l") == HEAD
    ledger.close()


def test_a_full_disk_leaves_no_torn_line(tmp_path, monkeypatch):
    ledger = begun(tmp_path / "l", (0, 0, 0))
    before = (tmp_path / "l").read_bytes()
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:5]))
    with pytest.raises(OSError, match="No space"):
        ledger.mark_done((0, 0, 1))
    assert (tmp_path / "l").read_bytes() == before
    assert ledger.done == {(0, 0, 0)}
    ledger.close()
