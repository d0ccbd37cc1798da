"""A headless Chromium, and what axe finds in the page that it shows."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from repository import REPOSITORY

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
AXE = REPOSITORY / "tomostream" / "view" / "web" / "node_modules" / "axe-core" / "axe.min.js"


def needed(message: str) -> None:
    """Skip for want of something; fail where TOMOSTREAM_NEEDS_BROWSER says that it must be there."""
    if os.environ.get("TOMOSTREAM_NEEDS_BROWSER"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def browser() -> Iterator[Callable[..., Any]]:
    """Open a headless Chromium of a size; skips where there is none, unless TOMOSTREAM_NEEDS_BROWSER says that there must be."""
    if CHROMIUM is None or DRIVER is None:
        needed("Chromium and its driver are needed (Debian: chromium, chromium-driver)")
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
        resize(driver, width, height)
        opened.append(driver)
        return driver

    yield open_window
    for driver in opened:
        driver.quit()
    for profile in profiles:
        shutil.rmtree(profile, ignore_errors=True)


def resize(driver: Any, width: int, height: int) -> None:
    """Give the page another size."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    )


def serious_findings(driver: Any) -> list[str]:
    """What axe calls serious or critical in the page that is shown."""
    if not AXE.is_file():
        needed(f"axe-core is needed: (cd {AXE.parents[2]} && npm ci)")
    driver.execute_script(AXE.read_text())
    found = driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    return [
        f"{one['id']}: {one['help']} {[node['html'][:120] for node in one['nodes']]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def faults(driver: Any) -> list[str]:
    """What the browser's console holds that is no mere message."""
    return [one["message"] for one in driver.get_log("browser") if one["level"] == "SEVERE"]
