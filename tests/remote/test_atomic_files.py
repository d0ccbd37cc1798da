"""Small files are the old or the new one: after a kill, a power loss, with two writers."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from power_loss import ForgetfulDisk, PowerLoss

from tomostream.errors import BusyError, InputError
from tomostream.remote import atomic_files
from tomostream.remote.atomic_files import replacing, write_atomically


def test_what_a_killed_process_left_is_written_over_and_not_collected(tmp_path):
    target = tmp_path / "t.csv"
    target.write_text("old")
    script = (
        "import os, signal, sys; from pathlib import Path; from tomostream.remote.atomic_files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half of a longer new text'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", script, str(target)], check=False).returncode == -9
        assert target.read_text() == "old"
        assert sorted(path.name for path in tmp_path.iterdir()) == [".t.csv.tmp", "t.csv"]
    write_atomically(target, "new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("loss_at", range(3))
def test_a_power_loss_leaves_the_old_or_the_new_content(tmp_path, loss_at):
    folder = tmp_path / "disk"
    folder.mkdir()
    write_atomically(folder / "t.json", "old " * 1000)
    disk = ForgetfulDisk(folder)
    disk.loss_at = loss_at
    try:
        with disk.watched():
            write_atomically(folder / "t.json", "new " * 2000)
    except PowerLoss:
        assert loss_at < 2
    found = (disk.after_loss(tmp_path / "after") / "t.json").read_text()
    assert found == ("new " * 2000 if loss_at == 2 else "old " * 1000)
    disk.close()


def _write(path, letter, rounds):
    for _ in range(rounds):
        write_atomically(path, letter * 200_000)


def test_two_writers_of_one_file_never_mix(tmp_path):
    target = tmp_path / "t"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(target, letter, 60)) for letter in "ab"]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        if target.exists():
            text = target.read_text()
            assert text in ("a" * 200_000, "b" * 200_000)
            seen.add(text[0])
        time.sleep(0.001)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert list(tmp_path.iterdir()) == [target]
    assert seen == {"a", "b"}


def test_a_writer_that_never_ends_is_named_as_busy(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_files, "_WAIT_SECONDS", 0.1)
    with replacing(tmp_path / "t") as temporary:
        temporary.write_text("first")
        with pytest.raises(BusyError, match="being written by another process"):
            write_atomically(tmp_path / "t", "second")
    assert (tmp_path / "t").read_text() == "first"


def test_a_failure_within_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "t") as temporary:
        temporary.write_bytes((tmp_path / "missing").read_bytes())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_refused_with_its_path(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/t can't be written: "):
        write_atomically(tmp_path / "file" / "t", "text")


def test_text_is_written_as_utf_8_whatever_the_locale(tmp_path):
    script = "import sys; from pathlib import Path; from tomostream.remote.atomic_files import write_atomically; write_atomically(Path(sys.argv[1]), chr(197))"
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "t")], check=True, env=environment)
    assert Path(tmp_path / "t").read_bytes() == "Å".encode()
