"""A person at the page: Chromium opens, scrolls, clicks, trains, corrects, exports, and finds everything again after a reload."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ball_tomograms import ball_positions
from click_rows import rows_of
from headless_browser import resize, serious_findings
from repository import REPOSITORY
from running_view import Running
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from workbench_page import Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

Serve = Callable[..., Running]
Browser = Callable[..., Any]


@pytest.fixture
def page(serve: Serve, browser: Browser, stores: Path, tmp_path: Path) -> Page:
    """The page on two converted tomograms, the first of which is open."""
    server = serve(stores, "-o", tmp_path / "project")
    opened = Page(browser())
    opened.open(server.address)
    opened.wait_for_slice()
    return opened


def test_scrolling_shows_other_slices_and_keeps_up(page):
    start = page.js("return tomostream.bench.at.z")
    page.wheel(3)
    page.wait(lambda: page.js("return tomostream.bench.at.z") == start + 3, "three slices on")
    page.keys(Keys.PAGE_UP, Keys.PAGE_UP, Keys.PAGE_DOWN)
    page.wait(lambda: page.js("return tomostream.bench.at.z") == start + 4, "one more")
    page.wait_for_slice()
    assert page.canvas().get_attribute("data-index") == str(start + 4)
    before = page.js("return tomostream.bench.zoom")
    page.keys("+", "+")
    page.wait(lambda: page.js("return tomostream.bench.zoom") > before, "nearer")
    page.wait_for_slice()
    assert page.faults() == []


def test_click_again_removes_drag_moves_and_everything_is_saved_at_once(page, tmp_path):
    table = tmp_path / "project" / "clicks.csv"
    page.go_to(20, 60, 70)
    page.click_voxel(60, 70)
    page.wait_saved()
    [row] = rows_of(table)
    assert (row["tomogram"], row["label"]) == ("ball_1", "1")
    assert np.allclose([float(row["x_angstrom"]), float(row["y_angstrom"]), float(row["z_angstrom"])], [700, 600, 200], atol=10)
    page.drag_voxel((60, 70), (90, 100))
    page.wait(lambda: len(page.clicks()) == 1 and abs(page.clicks()[0]["x"] - 1000) < 12, "it is moved")
    page.click_voxel(30, 30)
    page.wait(lambda: len(page.clicks()) == 2, "a second")
    page.click_voxel(90, 100)
    page.wait(lambda: len(page.clicks()) == 1, "the first is gone")
    page.undo()
    page.wait(lambda: len(page.clicks()) == 2, "it is back")
    page.undo()
    page.undo()
    page.wait(lambda: [round(one["x"], -1) for one in page.clicks()] == [700], "all as after the first click")
    page.chord(Keys.CONTROL, "y")
    page.wait(lambda: abs(page.clicks()[0]["x"] - 1000) < 12, "moved again")
    page.wait_saved()
    assert len(rows_of(table)) == 1


def test_everything_goes_by_keyboard(page, tmp_path):
    page.go_to(20, 60, 70)
    page.js("tomostream.bench.pointer = null")
    page.keys(Keys.SPACE)  # a particle at the cross
    page.keys(*[Keys.ARROW_RIGHT] * 30, "x")  # none, thirty voxels on
    page.wait(lambda: [one["label"] for one in page.clicks()] == [1, 0], "a particle and a place that is none")
    page.keys("n")
    page.chord(Keys.ALT, Keys.PAGE_UP)
    page.wait(lambda: page.js("return tomostream.bench.selected")["z"] == pytest.approx(210), "moved up by a voxel")
    page.wait_saved()
    page.keys("t")
    page.wait(lambda: page.js("return tomostream.bench.name") == "ball_2", "the next tomogram")
    page.wait_for_slice()
    page.keys("?")
    page.wait(lambda: page.element("dialog").is_displayed(), "help")
    page.chord(Keys.ESCAPE)
    page.wait(lambda: not page.driver.find_elements(By.CSS_SELECTOR, "dialog"), "closed")
    page.chord(Keys.ALT, "4")
    assert page.element("#tab-run").get_attribute("aria-selected") == "true"
    assert [row["label"] for row in sorted(rows_of(tmp_path / "project" / "clicks.csv"), key=lambda row: row["label"])] == ["0", "1"]


@pytest.mark.parametrize("size", [(1400, 900), (900, 700)])
def test_axe_has_no_serious_finding(page, size):
    resize(page.driver, *size)
    page.js("window.dispatchEvent(new Event('resize'))")
    page.go_to(20, 60, 70)
    page.click_voxel(60, 70)
    for tab in ("clicks", "picks", "gallery", "run"):
        page.tab(tab)
        time.sleep(0.2)
        assert serious_findings(page.driver) == []
    page.element("[aria-label^=Help]").click()
    time.sleep(0.2)
    assert serious_findings(page.driver) == []


def test_the_form_says_what_is_wrong_beside_the_field_and_the_circles_follow_what_is_typed(page, tmp_path):
    page.go_to(20, 60, 70)
    page.click_voxel(60, 70)
    page.tab("run")
    assert not page.element("#export").is_enabled()
    assert "no picks of particle yet" in page.text("#export-hint")
    page.fill("#species-radius-0", "6")
    page.wait(lambda: "0.6 voxels, 1.2 nm across: very small. Is it in angstrom?" in page.text("#radius-hint-0"), "the hint")
    page.fill("#species-radius-0", "80")
    page.wait(lambda: page.js("return tomostream.bench.radius") == 8, "the circle that is typed")
    page.fill("#species-name-0", "80S ribosome")
    page.element("#save-setup").click()
    page.wait(lambda: "The name must be letters" in page.text("fieldset .bad"), "what is wrong, beside the field")
    page.fill("#species-name-0", "ribosome")
    page.element("#save-setup").click()
    page.wait(lambda: page.js("return tomostream.bench.state.config"), "the configuration is written")
    page.driver.find_element(By.XPATH, "//button[text()='Change']").click()
    assert page.element("#species-name-0").get_attribute("value") == "ribosome"
    page.fill("#species-radius-0", "20")
    page.driver.find_element(By.XPATH, "//button[text()='Cancel']").click()
    page.wait(lambda: page.js("return tomostream.bench.radius") == 8, "the circle as it was")
    assert "radius: 80A" in (tmp_path / "project" / "tomostream.yaml").read_text()


def test_a_count_of_picks_is_kept_for_these_picks_and_forgotten_for_those_of_another_round(serve, browser, stores, tmp_path):
    folder = tmp_path / "project"
    head = "tomogram,species,x_angstrom,y_angstrom,z_angstrom,score\n"

    def picked(scores: list[float]) -> None:
        (folder / "picks").mkdir(parents=True, exist_ok=True)
        rows = [f"ball_1,ball,{400 + 100 * n},600,200,{score}\n" for n, score in enumerate(scores)]
        (folder / "picks" / "ball_1.csv").write_text(head + "".join(rows))

    picked([0.9, 0.8, 0.7, 0.6])
    (folder / "tomostream.yaml").write_text(
        f"project: {folder}\ntomograms: ['{stores}/*.ome.zarr']\nspecies: [{{name: ball, radius: 60A}}]\nlabels: {{train: [{folder}/clicks.csv]}}\n"
    )
    page = Page(browser())
    page.open(serve(folder / "tomostream.yaml").address)
    page.wait(lambda: page.text("#tab-picks") == "Picks 4", "all of them")
    page.tab("picks")
    page.element("#pick-slider").send_keys(Keys.ARROW_LEFT)
    page.wait(lambda: page.text("#tab-picks") == "Picks 3", "one fewer")
    page.driver.refresh()
    page.wait(lambda: page.text("#tab-picks") == "Picks 3", "the same after a reload")
    picked([0.95, 0.85, 0.7, 0.6, 0.5])
    page.driver.refresh()
    page.wait(lambda: page.text("#tab-picks") == "Picks 5", "all of the next round")


class Walk:
    """From a folder of MRC files to exported picks, and all of it again after a reload.

    Parameters
    ----------
    page
        Opened on the folder.
    project
        The project folder.
    shots
        Where the pictures go.
    """

    def __init__(self, page: Page, project: Path, shots: Path) -> None:
        self.page, self.project, self.shots = page, project, shots

    def wait_for_conversion(self) -> None:
        self.page.wait_for_slice(300)
        states = "return tomostream.bench.state.tomograms.map((one) => one.state)"
        self.page.wait(lambda: set(self.page.js(states)) == {"ready"}, "all are converted", 300)

    def name_it(self, form: dict[str, str]) -> None:
        self.page.tab("run")
        self.page.element("summary").click()
        for name, value in form.items():
            self.page.fill(f"#{name}", value)
        self.page.element("#save-setup").click()
        self.page.wait(lambda: self.page.js("return tomostream.bench.state.config"), "the configuration is written")

    def click(self, particles: list[tuple[float, float, float]]) -> None:
        self.page.tab("clicks")
        for z, y, x in particles:
            self.page.go_to(z, y, x)
            self.page.wait_for_slice()
            self.page.click_voxel(y, x)
        self.page.wait(lambda: len(self.page.clicks()) == len(particles), "all clicks")
        self.page.wait_saved()
        self.page.shot(self.shots / "clicks.png")

    def train(self) -> None:
        page = self.page
        page.tab("run")
        page.element("#train").click()
        page.wait(lambda: page.js("return tomostream.bench.job('run').progress.stage") == "train", "it trains", 300)
        page.wait(lambda: page.text("li.now").startswith("train"), "the page says so")
        state, line = "tomostream.bench.job('run').state", "tomostream.bench.job('run').lines.at(-1)"
        page.wait(lambda: page.js(f"return {state} !== 'running' || {line}?.startsWith('train: ')"), "how many steps are done", 300)
        time.sleep(0.5)
        page.shot(self.shots / "training.png")
        page.wait(lambda: page.js("return tomostream.bench.job('run').state") != "running", "it ends", 900)
        assert page.js("return tomostream.bench.job('run').state") == "done", page.js("return tomostream.bench.job('run').lines")

    def choose_fewer(self) -> int:
        """Two fewer picks than were chosen; returns their number."""
        page = self.page
        page.tab("picks")
        page.wait(lambda: page.js("return tomostream.bench.picks !== null"), "the picks")
        every = page.js("return tomostream.bench.picks.x.length")
        assert every > 2
        page.js("tomostream.bench.look.overlay = 0.5")
        page.element("#pick-slider").send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
        page.wait(lambda: page.text("#pick-count") == str(every - 2), "two fewer")
        time.sleep(1)
        page.shot(self.shots / "picks.png")
        return int(every) - 2

    def verdicts(self) -> list[int]:
        return [len(self.page.driver.find_elements(By.CSS_SELECTOR, f".card.{what}")) for what in ("kept", "rejected", "unsure")]

    def judge(self) -> None:
        page = self.page
        page.tab("gallery")
        page.wait(lambda: len(page.driver.find_elements(By.CSS_SELECTOR, ".card canvas")) >= 3, "thumbnails")
        assert self.verdicts()[0] > 0  # what was clicked before is there already
        page.element("#undecided").click()
        page.wait(lambda: self.verdicts() == [0, 0, 0], "undecided only")
        page.js("document.activeElement.blur()")
        before = len(page.clicks())
        for key in "kru":
            page.chord(key)
        page.wait(lambda: self.verdicts() == [1, 1, 1], "three verdicts")
        page.wait_saved()
        assert len(page.clicks()) == before + 2
        assert sum(row["label"] == "0" for row in rows_of(self.project / "clicks.csv")) == 1
        time.sleep(0.5)
        page.shot(self.shots / "gallery.png")

    def export(self) -> None:
        page = self.page
        page.tab("run")
        assert not page.element("#export").is_enabled()
        assert "Choose a format" in page.text("#export-hint")
        Select(page.element("#format")).select_by_value("star-relion5")
        page.element("#export").click()
        page.wait(lambda: page.driver.find_elements(By.ID, "exported"), "the export")
        [exported] = (self.project / "export").iterdir()
        assert exported.name.endswith(".star")
        assert "rlnCenteredCoordinateXAngst" in exported.read_text()
        page.shot(self.shots / "export.png")

    def ask_for_more(self) -> None:
        """More candidates begin with the picks; places to look at next come from the model."""
        page = self.page
        page.tab("picks")
        chosen = page.js("return tomostream.bench.picks.chosen")
        page.element("#more").click()
        page.wait(lambda: page.js("return tomostream.bench.picks.x.length") > chosen, "more candidates than picks", 120)
        assert page.js("return tomostream.bench.picks.chosen") == chosen
        assert page.js("return tomostream.bench.picks.warnings") == []
        page.tab("gallery")
        Select(page.element("#source")).select_by_value("suggested")
        page.element("#suggest").click()
        page.wait(lambda: page.js("return tomostream.bench.suggested.length") > 0, "places to look at", 120)
        page.wait(lambda: page.driver.find_elements(By.CSS_SELECTOR, ".card canvas"), "their pictures")

    def reload(self, count: int) -> None:
        page = self.page
        clicks = page.clicks()
        page.driver.refresh()
        page.wait(lambda: page.js("return tomostream.bench.picks !== null"), "the picks, again")
        page.wait_for_slice()
        assert page.text("#tab-run[aria-selected=true]") == "Run"
        assert page.element("#format").get_attribute("value") == "star-relion5"  # the format of the last export
        assert page.js("return tomostream.bench.count") == count
        assert page.text("#tab-picks") == f"Picks {count}"
        assert page.clicks() == clicks
        assert len(page.js("return tomostream.bench.unsure")) == 1
        page.tab("gallery")
        page.wait(lambda: self.verdicts()[1:] == [1, 1], "the verdicts, again")
        resize(page.driver, 900, 700)
        time.sleep(1)
        page.shot(self.shots / "small.png")
        assert page.faults() == []


def walk(page: Page, folder: Path, particles: list[tuple[float, float, float]], form: dict[str, str], shots: Path) -> None:
    """All of the walk."""
    walking = Walk(page, folder / "project", shots)
    walking.wait_for_conversion()
    walking.name_it(form)
    walking.click(particles)
    walking.train()
    count = walking.choose_fewer()
    walking.judge()
    walking.export()
    walking.ask_for_more()
    page.tab("run")
    walking.reload(count)


def test_from_a_folder_of_mrc_files_to_exported_picks_without_yaml(serve, browser, mrc_folder, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(mrc_folder, folder)
    server = serve(folder, "-o", folder / "project")
    particles = [(float(round(z)), y, x) for z, y, x in ball_positions(1)[:10]]
    form = {"species-name-0": "ball", "species-radius-0": "60", "species-expected-0": "14", "minutes": "0.1"}
    page = Page(browser())
    page.open(server.address)
    walk(page, folder, particles, form, tmp_path / "shots")


@pytest.mark.skipif(
    not os.environ.get("TOMOSTREAM_WRITE_DOCS"), reason="TOMOSTREAM_WRITE_DOCS=1 makes the pictures of docs/view.md anew (minutes)"
)
@pytest.mark.data
@pytest.mark.timeout(1500)  # it trains
def test_the_walk_of_the_docs(serve, browser, data_folder, tmp_path):
    from PIL import Image

    folder = Path(tempfile.mkdtemp(prefix="pombe-"))  # its name is in the pictures
    for name in ("VPP_01", "VPP_02"):
        shutil.copy(data_folder / "pombe_sim" / f"{name}.mrc", folder)
    server = serve(folder, "-o", folder / "project")
    clicked = rows_of(data_folder / "pombe_sim" / "clicks_VPP_01_train_10.csv")
    particles = [(float(row["z_voxel"]), float(row["y_voxel"]), float(row["x_voxel"])) for row in clicked]
    form = {"species-name-0": "ribosome", "species-radius-0": "135", "species-expected-0": "180", "minutes": "1"}
    page = Page(browser())
    page.open(server.address)
    walk(page, folder, particles, form, tmp_path / "shots")
    out = REPOSITORY / "docs" / "view"
    out.mkdir(exist_ok=True)
    for shot in sorted((tmp_path / "shots").glob("*.png")):
        if shot.stem == "small":  # looked at, not shown
            continue
        with Image.open(shot) as picture:
            small = picture.convert("RGB").resize((round(picture.width * 0.72), round(picture.height * 0.72)), Image.Resampling.LANCZOS)
            small.quantize(160, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(out / shot.name, optimize=True)
    shutil.rmtree(folder)
