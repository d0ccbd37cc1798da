"""What the tests of the workbench share: small tomograms of dark balls, a server in a process of its own, a headless Chromium."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ball_tomograms import ball_positions, ball_volume, write_mrc
from running_view import Running, started

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


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
def serve(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start `tomostream view ARGUMENTS` in a folder (default: a temporary one)."""
    with contextlib.ExitStack() as running:

        def start(*arguments: str | Path, cwd: Path | None = None, **variables: str) -> Running:
            return running.enter_context(started(*arguments, cwd=cwd or tmp_path, **variables))

        yield start


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
