"""How fast does `tomostream view` open a tomogram and scroll through it, and how much memory does its server take?

    python bench/view_speed.py STORE... [--memory 2GB]

For each store: the seconds from opening a new page until the first slice is fully drawn; the fully drawn slices per second, through z at
the fitted zoom and at one pixel per voxel, and through y; and the peak resident memory of the server.
Needs Chromium and its driver.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "tests" / "support")]

import psutil  # noqa: E402 (after the path)
from running_view import started  # noqa: E402 (likewise)
from selenium import webdriver  # noqa: E402 (likewise)
from selenium.webdriver.chrome.service import Service  # noqa: E402 (likewise)
from workbench_page import Page  # noqa: E402 (likewise)

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
)
# take each step when the slice before is fully drawn
SCROLL = """
const [axis, steps, done] = arguments;
const canvas = document.querySelector(`canvas[data-axis=${axis}]`);
const bench = tomostream.bench;
const start = performance.now();
let left = steps;
const next = () => {
  if (canvas.dataset.whole === "true" && Number(canvas.dataset.index) === Math.round(bench.at[axis])) {
    if (left-- === 0) return done(steps / ((performance.now() - start) / 1000));
    bench.step(axis, 1);
  }
  requestAnimationFrame(next);
};
next();
"""


def browser() -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={tempfile.mkdtemp()}", "--window-size=1400,900"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_script_timeout(300)
    return driver


def measure(store: Path, memory: str) -> None:
    with tempfile.TemporaryDirectory() as folder, started(store, "--memory", memory, cwd=Path(folder)) as server:
        process = psutil.Process(server.process.pid)
        driver = browser()
        try:
            page = Page(driver)
            driver.get("about:blank")
            began = time.perf_counter()
            driver.get(server.address)
            while not driver.execute_script("return document.querySelector('canvas[data-axis=z]')?.dataset.whole === 'true'"):
                time.sleep(0.005)
            first = time.perf_counter() - began
            page.js("tomostream.bench.step('z', -1e6)")
            page.wait_for_slice()
            peak = process.memory_info().rss
            rates = {}
            for what, axis, prepare in (
                ("z, fitted", "z", "tomostream.bench.fit()"),
                ("z, one pixel a voxel", "z", "tomostream.bench.isFitted = false; tomostream.bench.zoom = 1"),
                ("y, fitted", "y", "tomostream.bench.fit()"),
            ):
                page.js(prepare + "; tomostream.bench.at = {...tomostream.bench.at, [arguments[0]]: 100}", axis)
                time.sleep(0.5)
                rates[what] = driver.execute_async_script(SCROLL, axis, 150)
                peak = max(peak, process.memory_info().rss)
            print(
                f"{store.name}: first slice {first:.2f} s; " + "; ".join(f"{what} {rate:.0f}/s" for what, rate in rates.items()), end="; "
            )
            print(f"server {peak / 1e6:.0f} MB of {memory}")
        finally:
            driver.quit()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stores", type=Path, nargs="+")
    parser.add_argument("--memory", default="2GB")
    arguments = parser.parse_args()
    for path in arguments.stores:
        measure(path.resolve(), arguments.memory)
