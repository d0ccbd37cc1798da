"""What the tests of the workbench share: small tomograms of dark balls, a server in a process of its own, a headless Chromium."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ball_tomograms import ball_positions, ball_volume, write_mrc
from headless_browser import browser  # noqa: F401 (a fixture)
from running_view import Running, started


@pytest.fixture(scope="session")
def mrc_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two MRC files, `ball_1` and `ball_2`; copied by whoever changes it."""
    folder = tmp_path_factory.mktemp("mrc")
    for n in (1, 2):
        write_mrc(folder / f"ball_{n}.mrc", ball_volume(ball_positions(n), n))
    return folder


@pytest.fixture(scope="session")
def stores(mrc_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, converted."""
    import tomostream as ts

    folder = tmp_path_factory.mktemp("stores")
    for path in sorted(mrc_folder.glob("*.mrc")):
        ts.convert(path, folder)
    return folder


@pytest.fixture
def read_only(stores: Path, mrc_folder: Path, tmp_path: Path) -> Iterator[Path]:
    """A disk on which nothing can be written, with the converted tomograms in `stores` and the MRC files in `mrc`."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], check=False, capture_output=True).returncode:
        pytest.skip("mounting a disk needs root")
    try:
        shutil.copytree(stores, disk / "stores")
        shutil.copytree(mrc_folder, disk / "mrc")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start `tomostream view ARGUMENTS` in a folder (default: a temporary one)."""
    with contextlib.ExitStack() as running:

        def start(*arguments: str | Path, cwd: Path | None = None, **others: Any) -> Running:
            return running.enter_context(started(*arguments, cwd=cwd or tmp_path, **others))

        yield start
