"""A person at the report: slices, circles, slider, gallery, and clean words where something is missing."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from headless_browser import faults, resize, serious_findings
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tomostream.pipeline.report_page import write_report

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Browser = Callable[..., Any]


def opened(driver: Any, page: Path) -> Any:
    driver.get(page.as_uri())
    return driver


def waits(is_so: Callable[[], Any], what: str) -> None:
    until = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def text(driver: Any, selector: str) -> str:
    return str(driver.find_element(By.CSS_SELECTOR, selector).text)


def slice_is_whole(driver: Any) -> bool:
    return bool(driver.execute_script("return document.querySelector('#slices canvas')?.dataset.whole === 'true'"))


@pytest.fixture
def driver(picked: Path, browser: Browser, tmp_path: Path) -> Any:
    """The report of the project, opened."""
    assert write_report(picked, tmp_path / "report.html") == []
    page = opened(browser(), tmp_path / "report.html")
    waits(lambda: slice_is_whole(page), "the first slice")
    return page


def test_counts_precision_and_circles_follow_the_slider(driver):
    assert text(driver, "#total") == text(driver, "#pick-count") == "48"
    assert text(driver, "#own-count") == "24"
    before = float(text(driver, "#precision"))
    slider = driver.find_element(By.ID, "pick-slider")
    slider.send_keys(*[Keys.ARROW_LEFT] * 10)
    waits(lambda: text(driver, "#pick-count") == "38", "ten fewer")
    assert text(driver, "#own-count") == "19"
    assert float(text(driver, "#precision")) != before
    rows = [row.text.split() for row in driver.find_elements(By.CSS_SELECTOR, "section.list tbody tr")]
    assert [row[:2] for row in rows] == [["t1", "19"], ["t2", "19"]]
    assert rows[0][2] == "1.000"  # every pick of t1 is true
    assert "--threshold" in text(driver, ".work code")
    command = text(driver, ".work code")
    threshold = float(command.split("--threshold")[1].split()[0])
    assert 0.15 < threshold < 0.95
    assert faults(driver) == []


def test_precision_is_the_evaluations_own(driver, picked):
    from tomostream.evaluation import match
    from tomostream.formats.registry import read_table

    tp = fp = truths = 0
    truth = read_table(picked.parent / "truth.csv")
    for name in ("t1", "t2"):
        picks = read_table(picked / "picks" / f"{name}.csv").in_unit("voxel", 10.0).position_zyx
        found = match(picks, truth.of(tomogram=name).position_zyx, tolerance=4.0, matching="any").scores
        tp, fp, truths = tp + found.tp, fp + found.fp, truths + found.tp + found.fn
    assert text(driver, "#precision") == f"{tp / (tp + fp):.3f}"
    assert text(driver, "#recall") == f"{tp / truths:.3f}"


def test_the_precision_that_is_to_be_expected_is_told_beside_the_true_one(driver):
    assert "Of the 24 that were chosen in t1, about 90 % are expected to be right (precision 0.90, F1 0.85)" in text(driver, "#expected")
    driver.find_elements(By.CSS_SELECTOR, "section.list button")[1].click()
    waits(lambda: not driver.find_elements(By.ID, "expected"), "of the other it can't be told")
    assert not driver.find_elements(By.ID, "no-truth")  # the truth tells more


def test_slices_scroll_and_a_pick_of_the_gallery_is_shown_on_its_slice(driver):
    canvas = driver.find_element(By.CSS_SELECTOR, "#slices canvas")
    first = canvas.get_attribute("data-index")
    driver.find_element(By.ID, "slice").send_keys(Keys.ARROW_RIGHT)
    waits(lambda: canvas.get_attribute("data-index") != first and slice_is_whole(driver), "the next slice")
    waits(lambda: len(driver.find_elements(By.CSS_SELECTOR, ".card canvas")) == 24, "three rows of pictures")
    card = driver.find_elements(By.CSS_SELECTOR, ".card")[0]
    card.click()
    waits(lambda: card.get_attribute("aria-pressed") == "true", "it is marked")
    bright = "const c=document.querySelector('#slices canvas');const d=c.getContext('2d').getImageData(0,0,c.width,c.height).data;let n=0;for(let i=0;i<d.length;i+=4)if(d[i]>250&&d[i+1]>250&&d[i+2]>250)n++;return n"
    waits(lambda: driver.execute_script(bright) > 30, "a white circle")


def test_meaning_of_circles_is_written_beside_them(driver):
    assert "the particle’s radius, 4 voxels" in text(driver, "#meaning")
    driver.find_element(By.ID, "by-truth").click()
    waits(lambda: "a false pick" in text(driver, "#meaning"), "what the colours mean")


@pytest.mark.parametrize("size", [(1400, 900), (900, 700)])
def test_axe_has_no_serious_finding_and_nothing_is_cut_off(driver, size, tmp_path):
    resize(driver, *size)
    driver.find_element(By.ID, "by-truth").click()
    driver.find_element(By.CSS_SELECTOR, "summary").click()
    time.sleep(0.3)
    assert serious_findings(driver) == []
    assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    if folder := os.environ.get("TOMOSTREAM_SHOTS"):
        driver.save_screenshot(str(Path(folder) / f"report_{size[0]}.png"))


def test_failures_are_told(driver):
    assert text(driver, "#failures") == "tomogram why it failed\nt3 predict: its shard 0,0,0 is damaged"
    assert "1 failed" in text(driver, "header")
    assert "no finished model" in driver.page_source


def test_no_truth_no_picks_and_a_damaged_store_have_clean_words(picked, browser, tmp_path):
    shutil.copytree(picked, tmp_path / "project")
    project = tmp_path / "project"
    configuration = (project / "resolved.yaml").read_text()
    changed = configuration.replace(f"truth: {picked.parent / 'truth.csv'}", "truth: null").replace("count: truth", "count: 24")
    assert changed.count("truth: null") == 1
    (project / "resolved.yaml").write_text(changed)
    write_report(project, tmp_path / "doubt.html")
    page = opened(browser(), tmp_path / "doubt.html")
    page.find_elements(By.CSS_SELECTOR, "section.list button")[1].click()
    waits(lambda: "are right can’t be told: its noise is not as in the others" in text(page, "#no-truth"), "why it can't be told")
    (project / "picks" / "t1.csv").unlink()
    (project / "log.jsonl").unlink()
    for path in sorted((project / "tomograms" / "t2.ome.zarr").rglob("c/*/*/*")):
        content = bytearray(path.read_bytes())
        content[len(content) // 3 : len(content) // 3 + 40] = b"x" * 40
        path.write_bytes(content)
    [problem] = write_report(project, tmp_path / "report.html")
    assert problem.startswith("t2: no pictures: ")
    page = opened(browser(), tmp_path / "report.html")
    waits(lambda: "not picked yet" in text(page, "#slices"), "no picks")
    assert "nobody knows the precision" in text(page, "#no-truth")
    assert "no log" in page.page_source
    page.find_elements(By.CSS_SELECTOR, "section.list button")[1].click()
    waits(lambda: "can’t be shown" in text(page, "#slices"), "the damage")
    assert serious_findings(page) == []
    assert faults(page) == []
    for table in (project / "picks").glob("*.csv"):
        table.unlink()
    write_report(project, tmp_path / "none.html")
    page.get((tmp_path / "none.html").as_uri())
    waits(lambda: "Nothing was picked yet" in text(page, ".work"), "no picks at all")
    assert serious_findings(page) == []
