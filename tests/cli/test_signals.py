"""A signal at any moment ends a command with 130 or 143 and at most one line, never a traceback; what can't be removed harms nothing that is done."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_runner import tomostream
from mrc_files import random_volume, write_mrc
from store_files import tree

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_any_moment_leaves_no_traceback(tmp_path, number):
    source = write_mrc(tmp_path / "t.mrc", random_volume((64, 128, 128), "f4"), spacing=10.0)
    draw = random.Random(int(number))
    codes = set()
    for _ in range(6):
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tomostream",
                "convert",
                source,
                "-o",
                tmp_path / "out",
                "--shard",
                "32",
                "--chunk",
                "16",
                "--overwrite",
            ],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        time.sleep(draw.uniform(0.02, 2.0))
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert "Traceback" not in err or "KeyboardInterrupt" in err.splitlines()[-1], (
            err
        )  # before the program's first line Python's own handler speaks
        codes.add(process.returncode)
    assert codes <= {0, 128 + number, -number}


def test_a_signal_that_an_object_s_end_swallows_ends_the_program_all_the_same():
    script = """
import os, signal, sys
from tomostream.cli import main as program
import tomostream.cli.program
class Ends:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000): pass
def app(arguments):
    Ends()
    print("went on")
tomostream.cli.program.app = app
program.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 143
    assert "Traceback" not in done.stderr
    assert "went on" not in done.stdout


@pytest.mark.parametrize(
    "caught", ["raise", "raise InputError('f: a package fails to load')", "sys.exit(2)"]
)  # as a loader, and as the commands' parser
def test_a_signal_that_python_turns_into_another_error_is_no_fault_of_the_program(caught):
    script = f"""
import os, signal, sys
from tomostream.cli import main as program
from tomostream.errors import InputError
import tomostream.cli.program
class Ends:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000): pass
def app(arguments):
    try:
        class Named:
            attribute = Ends()
    except RuntimeError:
        {caught}
tomostream.cli.program.app = app
program.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 130
    assert done.stderr == "tomostream: error: interrupted; run the same command again to go on\n"


def test_a_signal_while_libraries_take_themselves_down_is_silent():
    script = """
import atexit, os, signal, sys
sys.argv = ["tomostream", "--version"]
atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))
from tomostream.cli.main import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 143
    assert done.stderr == ""


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_temporary_file_that_can_not_be_removed_does_not_fail_what_is_done(tmp_path, monkeypatch, suffix):
    source = write_mrc(tmp_path / "t.mrc", random_volume((8, 16, 16), "f4"), spacing=10.0)
    if suffix:
        import gzip

        (tmp_path / "t.mrc.gz").write_bytes(gzip.compress(source.read_bytes()))
        source = tmp_path / "t.mrc.gz"
    assert tomostream("convert", source, "-o", tmp_path / "calm").code == 0

    def refused(self, missing_ok=False):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refused)
        done = tomostream("convert", source, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert tomostream("convert", source, "-o", tmp_path / "out").code == 0  # tidies up
    assert tree(tmp_path / "out" / "t.ome.zarr") == tree(tmp_path / "calm" / "t.ome.zarr")
