"""Around a command: faults of the disk, signals, little memory, folders that can't be written, no home, other locales, clocks that jump.

Each trial ends with a message and no traceback, or well; and a second run on a machine that is well leaves the files of an undisturbed run.
"""

import itertools
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time

import pytest
from repository import REPOSITORY

from bench.ground import COMMANDS, Ground, Outcome, differing, forked, tree
from tomostream.errors import InputError
from tomostream.geometry import Box
from tomostream.pipeline.journal import Journal, read_journal
from tomostream.remote.home import cache_folder, expanded
from tomostream.store.mrc_voxels import MrcReader

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    return Ground(tmp_path_factory.mktemp("ground"), Outcome(0))


@pytest.fixture
def mounted():
    """Mounts, and takes down at the end."""
    if os.getuid() or shutil.which("mount") is None:
        pytest.skip("a mount of its own needs root, and mount")
    folders = []

    def mount(folder, *options):
        folder.mkdir(exist_ok=True)
        done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no mounts here: {done.stderr.strip()}")
        folders.append(folder)

    yield mount
    for folder in reversed(folders):
        subprocess.run(["umount", str(folder)], check=True)


def strange():
    """A home that is not there, private files, a clock that jumps to and fro, nothing on standard input, no folder for temporary files named."""
    os.environ.pop("TMPDIR", None)
    os.environ["HOME"] = "/nonexistent/home"
    os.umask(0o077)
    jumps = itertools.cycle((0.0, -86400.0, 5.0, 3e8, -3e8))
    real = time.time
    time.time = lambda: real() + next(jumps)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_strange_surroundings_change_nothing(ground, command):
    ground.prepare(command)
    trial = ground.copy()
    code, _ = forked(COMMANDS[command], trial, ground.log, before=strange)
    assert code == 0, ground.log.read_text()
    assert differing(tree(trial), ground.expected[command]) == []
    made = [path for path in (trial / "out").rglob("*") if path.stat().st_mode & 0o077]
    assert made == []  # who asks for private files gets them


@pytest.mark.slow
@pytest.mark.parametrize("command", ["convert", "train", "pick", "export parquet", "export napari", "report"])
def test_results_can_be_read_by_whom_the_umask_lets(ground, command):
    trial = ground.copy()
    assert forked(COMMANDS[command], trial, ground.log, before=lambda: os.umask(0o022) and None)[0] == 0
    closed = [path for path in (trial / "out").rglob("*") if path.name != ".lock" and path.stat().st_mode & 0o044 != 0o044]
    assert closed == []


REPLACERS = ("train anew", "train one of several anew")  # they write where they find a model, and not below out
WRITERS = [name for name in COMMANDS if name not in ("inspect", "status", "check", *REPLACERS)]


@pytest.mark.slow
@pytest.mark.parametrize("command", WRITERS)
def test_a_folder_that_can_not_be_written_is_told_and_left_alone(ground, mounted, command):
    trial = ground.copy()
    mounted(trial / "out", "-t", "tmpfs", "-o", "ro", "tmpfs")
    code, _ = forked(COMMANDS[command], trial, ground.log)
    said = ground.log.read_text()
    assert (code, said.count("tomostream: error: "), "Traceback" in said) == (2, 1, False), said
    assert "out" in said.partition("tomostream: error: ")[2]


@pytest.mark.slow
@pytest.mark.parametrize("command", [name for name in WRITERS if name != "convert gz"])
def test_inputs_that_can_not_be_written_are_read_all_the_same(ground, mounted, command):
    ground.prepare(command)
    trial = ground.copy()
    mounted(trial / "base", "--bind", str(trial / "base"))
    subprocess.run(["mount", "-o", "remount,bind,ro", str(trial / "base")], check=True)
    code, _ = forked(COMMANDS[command], trial, ground.log)
    assert code == 0, ground.log.read_text()
    assert differing(tree(trial), ground.expected[command]) == []


@pytest.mark.slow
def test_a_damaged_store_that_can_not_be_written_is_told_by_repair(ground, mounted):
    trial = ground.copy()
    mounted(trial / "damaged", "--bind", str(trial / "damaged"))
    subprocess.run(["mount", "-o", "remount,bind,ro", str(trial / "damaged")], check=True)
    code, _ = forked(COMMANDS["check"], trial, ground.log)
    assert code == 2
    assert "not made again" in ground.log.read_text()
    assert "Traceback" not in ground.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_folder_of_temporary_files_stops_nobody(ground, mounted, tmp_path, command):
    """On local paths nothing is written there; what a library wants of it is not needed."""
    ground.prepare(command)
    trial = ground.copy()
    mounted(tmp_path / "full", "-t", "tmpfs", "-o", "size=4k", "tmpfs")
    (tmp_path / "full" / "fill").write_bytes(bytes(4096))

    def full():
        os.environ["TMPDIR"] = str(tmp_path / "full")
        tempfile.tempdir = None

    code, _ = forked(COMMANDS[command], trial, ground.log, before=full)
    assert code == 0, ground.log.read_text()
    assert differing(tree(trial), ground.expected[command]) == []


def changing(path, change, after):
    """In this process: change a file after it was read so many times."""
    real, calls = MrcReader.read, itertools.count(1)

    def read(self, box: Box):
        found = real(self, box)
        if next(calls) == after:
            change(path)
        return found

    MrcReader.read = read


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda path: os.truncate(path, 1024 + 4 * 64 * 56 * 20), "ended"),
        (lambda path: path.write_bytes(path.read_bytes()[:-4] + b"abcd"), "changed while it was being converted"),
        (lambda path: path.unlink(), "changed while it was being converted"),
        (lambda path: os.replace(path.with_name("t2.mrc"), path), "changed while it was being converted"),
    ],
)
def test_a_volume_that_changes_while_it_is_read_becomes_no_store(ground, change, word):
    command = ["convert", "t1.mrc", "-o", "out", "--shard", "16", "--chunk", "16", "--memory", "330MB"]
    trial = ground.copy()
    whole = (trial / "t1.mrc").read_bytes()

    def before():
        changing(trial / "t1.mrc", change, 1)

    code, _ = forked(command, trial, ground.log, before=before)
    said = ground.log.read_text()
    assert (code, word in said, "Traceback" in said) == (2, True, False), said
    assert not (trial / "out" / "t1.ome.zarr").exists()
    (trial / "t1.mrc").write_bytes(whole)
    assert forked([*command, "--overwrite"], trial, ground.log)[0] == 0, ground.log.read_text()
    assert forked([*command[:3], "calm", *command[4:]], trial, ground.log)[0] == 0
    assert differing(tree(trial / "out"), tree(trial / "calm")) == []


NAMES = "TS_Ångström 日本.mrc"
SCRIPT = """
import json, os, sys
from tomostream.cli.main import main
for arguments in json.loads(sys.stdin.read()):
    sys.argv = ["tomostream", *(os.fsdecode(one.encode()) for one in arguments)]  # as the interpreter itself decodes them
    try:
        main()
    except SystemExit as leaving:
        print("CODE", leaving.code or 0, arguments, file=sys.stderr)
"""


@pytest.mark.slow
def test_names_of_any_script_work_in_the_plainest_locale(ground):
    trial = ground.copy()
    (trial / "t1.mrc").rename(trial / NAMES)
    name = NAMES.removesuffix(".mrc")
    (trial / "picks.csv").write_text(
        f"tomogram,species,x_angstrom,y_angstrom,z_angstrom,score\n{name},ribosome é,200,200,200,0.5\n", encoding="utf-8"
    )
    commands = [
        ["inspect", NAMES], ["convert", NAMES, "-o", "out", "--shard", "32", "--chunk", "16"], ["stats", f"out/{name}.ome.zarr"],
        ["labels", f"out/{name}.ome.zarr", "--points", "picks.csv", "--radius", "4vox", "-o", "out/mask é.ome.zarr"],
        ["pick", f"out/{name}.ome.zarr", "--radius", "4vox", "--count", "3", "--species", "é", "-o", "out/picks"],
        ["evaluate", "--picks", "picks.csv", "--truth", "picks.csv", "--tolerance", "4vox", "--voxel-size", "10"],
        ["export", "picks.csv", "-o", "out/p.star", "--format", "star-relion5", "--tomograms", f"out/{name}.ome.zarr"],
        ["import", "out/p.star", "--format", "star-relion5", "--tomograms", f"out/{name}.ome.zarr", "-o", "out/back.csv"],
        ["check", "out"], ["inspect", "no such Ω.mrc"],
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHONUTF8", "PYTHONIOENCODING"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(commands).encode(),
        cwd=trial,
        env=environment | {"LC_ALL": "C", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        check=False,
        timeout=250,
    )
    said = done.stderr.decode(errors="replace")
    assert "Traceback" not in said
    assert "internal fault" not in said
    codes = [int(line.split()[1]) for line in said.splitlines() if line.startswith("CODE")]
    assert codes == [0] * (len(commands) - 1) + [2], said + done.stdout.decode(errors="replace")
    assert name in (trial / "out" / "picks" / f"{name}.csv").read_text(encoding="utf-8")
    assert name in (trial / "out" / "back.csv").read_text(encoding="utf-8")


def test_a_home_that_is_not_known_is_told(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(InputError, match="home folder that ~ stands for"):
        expanded("~no-such-user/x")

    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(InputError, match="set HOME, or XDG_CACHE_HOME"):
        cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert str(cache_folder()) == "/c/tomostream"


def test_a_line_of_the_log_that_does_not_fit_the_disk_leaves_no_torn_line(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "log.jsonl")
    journal.write("first")
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda descriptor, data: write(descriptor, data[: len(data) // 2]))
        with pytest.raises(OSError, match="No space left"):
            journal.write("second")
    journal.write("third")
    assert [event["event"] for event in read_journal(tmp_path / "log.jsonl")] == ["first", "third"]
