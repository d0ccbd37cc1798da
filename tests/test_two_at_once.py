"""Two commands on one output: the first stands still somewhere in its work while the second runs.  Each ends well or with the other's name; nothing mixes."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.ground import COMMANDS, Ground, Outcome, differing, forked, quiet_main, tree
from bench.kills import EVENTS, Calls
from bench.power import is_final
from tomostream.errors import BusyError
from tomostream.remote import atomic_files
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.lock_holders import holder_of
from tomostream.store.locks import exclusive

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

OTHERS = {
    "convert anew": ["convert", "t1.mrc", "t2.mrc", "-o", "out", "--shard", "16", "--chunk", "16", "--overwrite"],
    "pick others": ["pick", "base/scores/t1.ome.zarr", "base/scores/t2.ome.zarr", "--radius", "4vox", "--count", "5", "-o", "out"],
}
OTHERS |= {
    "check project": ["check", "out/project"],
    "predict project": ["predict", "base/tomograms/t1.ome.zarr", "--model", "base/model", "-o", "out/project/scores", "--device", "cpu", "--threads", "1"],
    "pick project": ["pick", "base/scores/t1.ome.zarr", "--radius", "4vox", "--count", "9", "-o", "out/project/picks"],
    "train project": ["train", "run.yaml", "-o", "out/project/model"],
    "report project": ["report", "out/project", "-o", "out/report.html"],
}  # fmt: skip
# the first stands still, the second comes
CHOSEN = [
    *((name, name) for name in COMMANDS if name not in ("inspect", "status", "evaluate", "init")),
    ("convert", "convert anew"), ("pick", "pick others"), ("run", "status"), ("run", "check project"), ("run", "predict project"),
    ("run", "pick project"), ("run", "train project"), ("run", "report project"),
]  # fmt: skip
REPLACING = (
    "train anew",
    "train one of several anew",
    "check",
)  # change what others read: these then make other files, or say that theirs are old
SEED = os.environ.get("TOMOSTREAM_SEED", "1")


def pairs():
    """Those chosen, and as many of all others as TOMOSTREAM_PAIRS says, drawn by the seed."""
    others = [pair for pair in itertools.product(COMMANDS, [*COMMANDS, *OTHERS]) if pair not in CHOSEN]
    wanted = min(len(others), int(os.environ.get("TOMOSTREAM_PAIRS", "0")))
    return CHOSEN + random.Random(SEED).sample(others, wanted)


def parts_of(files):
    """Files as they are read: each with its final name, and each store as one."""
    found = {}
    for name, content in files.items():
        steps = Path(name).parts
        if any(step.startswith(".") or ".partial" in step or ".replaced" in step for step in steps):
            continue
        store = next((number for number, step in enumerate(steps) if step.endswith(".ome.zarr")), None)
        if store is not None:
            found.setdefault("/".join(steps[: store + 1]), {})[name] = content
        elif is_final(name):
            found[name] = content
    return found


@pytest.fixture(scope="module")
def calls():
    return Calls()


@pytest.fixture(scope="module")
def ground(tmp_path_factory, calls):
    return Ground(tmp_path_factory.mktemp("ground"), Outcome(0), before=calls.watch, count=lambda: calls.count)


def standing_still(arguments, folder, log, at):
    """Start a command that stops itself (SIGSTOP) before its n-th file-system call; its process, once it stands or has ended."""
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        count = 0

        def hook(event, _):
            nonlocal count
            if event in EVENTS:
                count += 1
                if count == at:
                    os.kill(os.getpid(), signal.SIGSTOP)

        code = 1
        try:
            sys.addaudithook(hook)
            code = quiet_main(arguments, log)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, os.WUNTRACED)
    return child, None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), pairs())
def test_of_two_commands_at_once_each_ends_well_or_names_the_other(ground, first, second, monkeypatch):
    monkeypatch.setattr(atomic_files, "_WAIT_SECONDS", 0.3)
    arguments = COMMANDS.get(second) or OTHERS[second]
    ground.prepare(first)
    at = random.Random(f"{SEED} {first} {second}").randint(1, max(1, ground.outcome.calls[first]))
    trial = ground.copy()
    first_log, second_log = ground.folder / "first.txt", ground.folder / "second.txt"
    for log in (first_log, second_log):
        log.write_text("")
    child, ended = standing_still(COMMANDS[first], trial, first_log, at)
    code, _ = forked(arguments, trial, second_log)
    if ended is None:
        os.kill(child, signal.SIGCONT)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    told = f"seed {SEED}: {first} stood before call {at}: {first_log.read_text()[-600:]}\n{second}: {second_log.read_text()[-600:]}"
    assert "Traceback" not in told, told
    assert "internal fault" not in told, told
    assert ended in (0, 2), told
    assert code in (0, 2), told
    for said, pid in ((second_log.read_text(), child),):
        if "in use by" in said or "being written by" in said or "is decompressing" in said:
            assert f"pid {pid}" in said or f"process {pid}" in said, told
    for name in sorted({first, second} - {"check project", "status"}):  # each again: at its own settings, or told of the other's
        forked(COMMANDS.get(name) or OTHERS[name], trial, ground.log)
    if first == second:
        assert forked(COMMANDS[first], trial, ground.log)[0] == 0, told + ground.log.read_text()
        assert differing(tree(trial), ground.expected[first]) == [], told
    elif second in COMMANDS and not {first, second} & set(REPLACING):  # nothing mixes: each file and store is that of one of them
        ground.prepare(second)
        versions = [parts_of(files) for files in (tree(ground.fresh), ground.expected[first], ground.expected[second])]
        found = parts_of(tree(trial))
        assert [name for name, content in found.items() if all(content != one.get(name) for one in versions)] == [], told


def held(path, script):
    """A process that holds a lock on a file."""
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "held"
    return process


FLOCK = "import fcntl, sys, time\nf = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"


def test_the_holder_of_a_lock_is_named_by_the_kernel_and_not_by_an_old_text(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_files, "_WAIT_SECONDS", 0.1)
    lock, table = tmp_path / "lock", tmp_path / ".t.csv.tmp"
    lock.write_text("process 1 on a machine of long ago")
    holders = [held(lock, FLOCK), held(table, FLOCK)]
    try:
        with (
            pytest.raises(BusyError, match=rf"the run is in use by another process \(pid {holders[0].pid} on "),
            exclusive(lock, "the run"),
        ):
            pass
        with pytest.raises(BusyError, match=rf"being written by another process \(pid {holders[1].pid} on "):
            write_atomically(tmp_path / "t.csv", "x")
    finally:
        for process in holders:
            process.kill()
            process.wait()
            process.stdout.close()
    deadline = time.monotonic() + 5
    with lock.open() as file:
        while holder_of(file.fileno()) != "another process" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert holder_of(file.fileno()) == "another process"
