"""Where the thread of zarr's loop can't start, a store is refused at once, and opened once it can; nothing waits for ever."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from store_files import noise, write_store
from zarr.core import sync as zarr_sync

from tomostream.errors import MachineError
from tomostream.store.zarr_loop import start_loop
from tomostream.tomogram import open_tomogram

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def no_loop():
    """As in a new process; the loop that other tests use comes back."""
    kept = zarr_sync.loop[0], zarr_sync.iothread[0]
    zarr_sync.loop[0] = zarr_sync.iothread[0] = None
    yield
    zarr_sync.cleanup_resources()
    zarr_sync.loop[0], zarr_sync.iothread[0] = kept


class Refused(threading.Thread):
    def start(self):
        raise RuntimeError("can't start new thread")


class Dying(threading.Thread):
    """Starts, and ends before it runs the loop, as one does that gets no memory."""

    def run(self):
        del self._target


class Slow(threading.Thread):
    def start(self):
        time.sleep(0.05)
        super().start()


def test_threads_that_open_at_the_same_time_share_one_loop(monkeypatch, no_loop):
    zarr_sync.cleanup_resources()
    monkeypatch.setattr(zarr_sync.threading, "Thread", Slow)
    ready = threading.Barrier(6)

    def start(number):
        ready.wait()
        time.sleep(0.01 * number)  # while the first one's thread is being started
        start_loop()
        return zarr_sync.loop[0]

    with ThreadPoolExecutor(6) as pool:
        loops = [one.result() for one in [pool.submit(start, number) for number in range(6)]]
    assert len(set(map(id, loops))) == 1
    assert loops[0].is_running()


@pytest.mark.parametrize("thread", [Refused, Dying])
def test_a_thread_that_cannot_start_is_told_and_tried_again(tmp_path, monkeypatch, no_loop, thread):
    path = tmp_path / "t.ome.zarr"
    write_store(path, noise(8, 8, 8))
    zarr_sync.cleanup_resources()
    with monkeypatch.context() as patched:
        patched.setattr(zarr_sync.threading, "Thread", thread)
        for _ in range(2):  # zarr itself waits for ever at the second time
            with pytest.raises(MachineError, match=r"can't start.*ulimit -v"):
                open_tomogram(path)
    assert open_tomogram(path).shape == (8, 8, 8)


OPENING = """
import os, resource, signal, sys
import tomostream.tomogram, tomostream.store.zarr_opening as opening
from tomostream.errors import TomostreamError
if sys.argv[2:]:
    opening.start_loop = lambda: None
hung = []
for megabytes in range(0, 16, 3):
    child = os.fork()
    if not child:
        signal.alarm(15)
        pages = int(open("/proc/self/statm").read().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + megabytes * 2**20,) * 2)
        try:
            tomostream.tomogram.open_tomogram(sys.argv[1])
        except (TomostreamError, MemoryError):
            os._exit(2)
        os._exit(0)
    if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        hung.append(megabytes)
print(hung)
"""


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_process_without_memory_for_the_thread_ends(tmp_path):
    write_store(tmp_path / "t.ome.zarr", noise(8, 8, 8))
    done = subprocess.run([sys.executable, "-c", OPENING, tmp_path / "t.ome.zarr"], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
