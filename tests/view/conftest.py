"""What the tests of the workbench share: small tomograms of dark balls, a server in a process of its own, a headless Chromium."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest

SPACING = 10.0
RADIUS_VOX = 6.0
SHAPE = (48, 160, 160)
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def ball_positions(seed: int, number: int = 14) -> np.ndarray:
    """Centres (z y x, voxels) that lie two radii apart."""
    rng = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    while len(found) < number:
        point = rng.uniform([8, 10, 10], [40, 150, 150])
        if all(np.linalg.norm(point - other) > 2.2 * RADIUS_VOX for other in found):
            found.append(point)
    return np.array(found)


def ball_volume(positions: np.ndarray, seed: int) -> np.ndarray:
    """Noise with dark balls."""
    rng = np.random.default_rng(seed)
    volume = rng.normal(scale=1.0, size=SHAPE).astype(np.float32)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    for point in positions:
        volume[((grid - point) ** 2).sum(axis=-1) < RADIUS_VOX**2] -= 1.5
    return volume


def write_mrc(path: Path, volume: np.ndarray, spacing: float = SPACING) -> None:
    with mrcfile.new(path) as file:
        file.set_data(volume)
        file.voxel_size = spacing


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
    ts.convert([str(path) for path in sorted(mrc_folder.glob("*.mrc"))], folder)
    return folder


@dataclass
class Running:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    address: str
    stderr: Path
    folder: Path
    ended: list[int] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(re.match(r"http://127\.0\.0\.1:(\d+)/\?token=", self.address)[1])  # type: ignore[index]

    @property
    def token(self) -> str:
        return self.address.partition("token=")[2]

    def end(self, number: int = 15) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


def environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TOMOSTREAM_DEBUG": ""}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start `tomostream view ARGUMENTS` in a folder (default: a temporary one)."""
    running: list[Running] = []

    def start(*arguments: str | Path, cwd: Path | None = None, **variables: str) -> Running:
        stderr = tmp_path / f"view-{len(running)}.err"
        with stderr.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tomostream", "view", "--no-browser", *map(str, arguments)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=cwd or tmp_path, env=environment() | variables,
            )  # fmt: skip
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, stderr.read_text()
        running.append(Running(process, address, stderr, cwd or tmp_path))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.terminate()
            one.process.wait(timeout=30)
        assert one.process.stdout is not None
        one.process.stdout.close()


@pytest.fixture
def browser() -> Iterator[Callable[..., Any]]:
    """Open a headless Chromium of a size; skips where there is none, unless TOMOSTREAM_NEEDS_BROWSER says that there must be."""
    if CHROMIUM is None or DRIVER is None:
        message = "Chromium and its driver are needed (Debian: chromium, chromium-driver)"
        if os.environ.get("TOMOSTREAM_NEEDS_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    selenium = (
        pytest.importorskip("selenium.webdriver")
        if not os.environ.get("TOMOSTREAM_NEEDS_BROWSER")
        else __import__("selenium.webdriver").webdriver
    )
    from selenium.webdriver.chrome.service import Service

    opened: list[Any] = []
    profiles: list[str] = []

    def open_window(width: int = 1400, height: int = 900) -> Any:
        options = selenium.ChromeOptions()
        options.binary_location = CHROMIUM
        profiles.append(tempfile.mkdtemp(prefix="tomostream-browser-"))
        for flag in (*FLAGS, f"--window-size={width},{height}", f"--user-data-dir={profiles[-1]}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = selenium.Chrome(options=options, service=Service(DRIVER))
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        )
        opened.append(driver)
        return driver

    yield open_window
    for driver in opened:
        driver.quit()
    for profile in profiles:
        shutil.rmtree(profile, ignore_errors=True)
