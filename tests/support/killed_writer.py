"""Kill a writer at each of its file system calls, resume, and compare; run by test_store_omezarr.py in a process of its own."""

import os
import shutil
import signal
import sys
from pathlib import Path

from store_files import noise, spec_of, tree, write_store

from tomostream.store.omezarr import StoreWriter, store_state
from tomostream.tomogram import open_tomogram

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree", "fcntl.flock")


def run_and_die(work, at_event):
    """Whether a child that kills itself at its n-th call died (else it came to its end)."""
    child = os.fork()
    if child == 0:
        count = 0

        def hook(event, _):
            nonlocal count
            if event in EVENTS:
                count += 1
                if count == at_event:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        work()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def main(folder, with_old):
    old, new = noise(20, 9, 9, seed=1), noise(20, 10, 9, seed=2)
    new_fingerprint = {"seed": 2}
    settings = {"shard": (16, 16, 16), "levels": 2}
    expected = tree(write_store(folder / "reference.ome.zarr", new, fingerprint=new_fingerprint, **settings))
    path = folder / "t.ome.zarr"
    old_tree = write_store(folder.with_name("old.ome.zarr"), old, fingerprint={"seed": 1}, **settings)
    at_event = 0
    while True:
        at_event += 1
        if with_old:
            shutil.copytree(old_tree, path)
        died = run_and_die(lambda: write_store(path, new, fingerprint=new_fingerprint, overwrite=with_old, **settings), at_event)
        if path.exists():
            volume = open_tomogram(path).zarr[...]
            if not (volume.shape == new.shape and (volume == new).all()):
                assert with_old, f"call {at_event}: a half-written store can be opened"
                assert (volume == old).all(), f"call {at_event}: the old store is damaged"
        elif with_old:
            with StoreWriter.create_or_resume(path, spec_of(new, **settings), fingerprint=new_fingerprint, overwrite=True) as writer:
                assert writer.pending() == [], f"call {at_event}: the old store is gone before the new one is whole"
        if store_state(path, new_fingerprint) != "done":
            write_store(path, new, fingerprint=new_fingerprint, overwrite=with_old, **settings)
        assert tree(path) == expected, f"call {at_event}: another tree after the resumption"
        assert sorted(p.name for p in folder.iterdir()) == ["reference.ome.zarr", "t.ome.zarr"], (
            f"call {at_event}: something is left behind"
        )
        shutil.rmtree(path)
        if not died:
            print(at_event)
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "overwrite")
