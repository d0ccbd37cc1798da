"""What goes wrong while the page is open: others write the table, files vanish, the server ends; the page says so and loses nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click_rows import rows_of
from headless_browser import serious_findings
from running_view import Running
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from workbench_page import Page

from tomostream.stages.shared.sidecar import record_made_by

pytestmark = [pytest.mark.browser, pytest.mark.slow]

Serve = Callable[..., Running]
Browser = Callable[..., Any]


def test_two_pages_see_each_others_clicks_and_a_program_s(serve, browser, stores, tmp_path):
    table = tmp_path / "shared.csv"
    pages = []
    for number in (1, 2):  # two servers: two people
        server = serve(stores, "-o", tmp_path / f"project{number}", "--clicks", table)
        pages.append(Page(browser(1000, 700)))
        pages[-1].open(server.address)
        pages[-1].wait_for_slice()
    for number, one in enumerate(pages):
        one.go_to(20, 60 + 40 * number, 60)
        one.click_voxel(60 + 40 * number, 60)
    for one in pages:
        one.wait(lambda one=one: len(one.clicks()) == 2, "both clicks")
    with table.open("a") as file:
        file.write("ball_1,particle,100,100,100,1\n")
    for one in pages:
        one.wait(lambda one=one: len(one.clicks()) == 3, "the third")
        assert any("changed by another program" in text for text in one.messages())
    assert len(rows_of(table)) == 3


def says(page: Page, *parts: str) -> None:
    page.wait(lambda: any(all(part in text for part in parts) for text in page.messages()), f"a message with {parts}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "project"


@pytest.fixture
def page(serve: Serve, browser: Browser, stores: Path, project: Path) -> Page:
    """The page on the project, at slice 20 of `ball_1`."""
    opened = Page(browser(1000, 700))
    opened.open(serve(stores, "-o", project).address)
    opened.wait_for_slice()
    opened.go_to(20, 60, 60)
    return opened


def test_two_tabs_of_one_server_on_one_table_lose_no_click(serve, browser, stores, project):
    page = Page(browser(1000, 700))
    address = serve(stores, "-o", project).address
    page.open(address)
    page.wait_for_slice()
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    page.open(address)
    page.wait_for_slice()
    page.go_to(20, 60, 60)
    page.click_voxel(60, 60)
    page.wait_saved()
    page.driver.switch_to.window(first)
    page.wait(lambda: len(page.clicks()) == 1, "the other tab's click")
    page.go_to(20, 90, 60)
    page.click_voxel(90, 60)
    page.wait_saved()
    assert len(rows_of(project / "clicks.csv")) == 2


def test_a_click_that_another_program_removed_is_told_and_nothing_else_is_touched(page, project):
    table = project / "clicks.csv"
    for y in (60, 90):
        page.click_voxel(y, 60)
    page.wait_saved()
    [head, first, second] = table.read_text().splitlines()
    page.js("tomostream.bench.refresh = () => Promise.resolve()")  # it asks no more by itself: it can't know
    table.write_text("\n".join([head, second, "ball_2,particle,5,5,5,1"]) + "\n")
    page.click_voxel(60, 60)  # remove what is gone
    says(page, "had been moved or removed by another page or program meanwhile; nothing was overwritten")
    says(page, "changed by another program: 1 row came, 1 went. Both are merged")
    assert table.read_text().splitlines()[1:] == [second, "ball_2,particle,5,5,5,1"]
    assert first not in table.read_text()


def test_a_table_that_is_broken_meanwhile_is_left_alone_and_the_click_is_saved_when_it_is_mended(page, project):
    table = project / "clicks.csv"
    page.click_voxel(60, 60)
    page.wait_saved()
    good = table.read_text()
    table.write_text(good + "ball_1,particle,1,2,what?,1\n")
    page.click_voxel(90, 60)
    says(page, "line 3", "what?", "is not a click; the table is left unchanged")
    assert "not saved" in page.text("#saved")
    assert table.read_text() == good + "ball_1,particle,1,2,what?,1\n"
    table.write_text(good + "ball_1,particle,1,2,3,1\n")
    page.wait_saved()
    assert len(rows_of(table)) == len(page.clicks()) == 3
    page.wait(lambda: not any("is not a click" in text for text in page.messages()), "what is mended is no longer told")


def test_a_tomogram_that_vanishes_is_told_and_opens_again_when_it_is_back(serve, browser, stores, project, tmp_path):
    shutil.copytree(stores, tmp_path / "mine")
    page = Page(browser(1000, 700))
    page.open(serve(tmp_path / "mine", "-o", project).address)
    page.wait_for_slice()
    page.go_to(20, 60, 60)
    page.click_voxel(60, 60)
    page.wait_saved()
    at = page.js("return {...tomostream.bench.at}")
    (tmp_path / "mine" / "ball_1.ome.zarr").rename(tmp_path / "away")
    page.wait(lambda: "ball_1 has vanished" in page.text("main"), "that it has vanished")
    assert "Your clicks are kept" in page.text("main")
    assert page.js("return tomostream.bench.clicks[0].x.toFixed(0)") in page.text("#panel table")
    assert "(Å)" in page.text("#panel table")
    page.chord(Keys.SPACE)  # there is nothing to click on
    page.chord("x")
    assert len(page.clicks()) == 1
    assert serious_findings(page.driver) == []
    page.js("tomostream.bench.open('ball_2')")
    page.wait_for_slice()  # the others go on
    page.js("tomostream.bench.open('ball_1')")
    page.wait(lambda: "ball_1 has vanished" in page.text("main"), "it is still away")
    (tmp_path / "away").rename(tmp_path / "mine" / "ball_1.ome.zarr")
    page.wait_for_slice()
    assert page.js("return tomostream.bench.name") == "ball_1"
    assert page.js("return {...tomostream.bench.at}") == at
    assert len(page.clicks()) == 1


def test_an_mrc_file_that_vanishes_before_it_is_converted_is_told(serve, browser, mrc_folder, project, tmp_path):
    shutil.copytree(mrc_folder, tmp_path / "mine")
    server = serve(tmp_path / "mine", "-o", project)
    (tmp_path / "mine" / "ball_1.mrc").unlink()
    page = Page(browser(1000, 700))
    page.open(server.address)
    page.wait(lambda: "ball_1 has vanished" in page.text("main"), "that it has vanished")
    assert "ball_1.mrc is not there any more" in page.text("main")
    page.wait(lambda: page.js("return tomostream.bench.state.tomograms[1].state") == "ready", "the other is converted", 120)


def test_a_broken_mrc_file_is_told_and_the_others_can_be_trained_on(serve, browser, mrc_folder, project, tmp_path):
    shutil.copytree(mrc_folder, tmp_path / "mine")
    (tmp_path / "mine" / "broken.mrc").write_bytes((mrc_folder / "ball_1.mrc").read_bytes()[:5000])
    page = Page(browser(1000, 700))
    page.open(serve(tmp_path / "mine", "-o", project).address)
    page.wait(lambda: page.js("return tomostream.bench.job('convert').state") == "partly", "the conversion ends", 120)
    says(page, "broken", "truncated")
    page.js("tomostream.bench.open('broken')")
    page.wait(lambda: "broken can’t be read" in page.text("main") and "truncated" in page.text("main"), "what is wrong")
    page.js("tomostream.bench.open('ball_1')")
    page.wait_for_slice()
    page.click_voxel(60, 60)
    page.tab("run")
    for field, value in (("name", "ball"), ("radius", "6")):
        page.fill(f"#species-{field}-0", value)
    page.element("#save-setup").click()
    page.wait(lambda: "6A is 0.6 voxels" in page.text("form .bad"), "that it is no radius in angstrom")
    page.fill("#species-radius-0", "60")
    page.element("#save-setup").click()
    page.wait(lambda: page.element("#train").is_enabled(), "that it can train on the others")
    assert "1 tomogram can’t be read; the others can be used." in page.text("#panel")


def test_a_tab_left_open_over_a_restart_says_so_and_its_clicks_are_saved_by_the_next_page(serve, browser, stores, project, tmp_path):
    server = serve(stores, "-o", project)
    page = Page(browser(1000, 700))
    page.open(server.address)
    page.wait_for_slice()
    server.end(9)  # killed, not ended
    page.go_to(20, 60, 60)
    page.click_voxel(60, 60)
    page.click_voxel(90, 60)
    says(page, "The server does not answer", "2 changes are not saved: kept in this browser", f"--port {server.port}")
    assert "not saved" in page.text("#saved")
    assert sum("does not answer" in text for text in page.messages()) == 1
    other = serve(stores, "-o", tmp_path / "other", "--port", str(server.port))
    says(page, "started again", "open the address that `tomostream view` printed last", "2 changes are not saved")
    page.open(other.address)  # another table: they are not for it
    page.wait_for_slice()
    assert page.clicks() == []
    other.end(9)
    page.open(serve(stores, "-o", project, "--port", str(server.port)).address)
    says(page, "2 changes that an earlier page could not save are saved now")
    page.wait_saved()
    assert len(rows_of(project / "clicks.csv")) == 2
    page.driver.refresh()
    page.wait(lambda: len(page.clicks()) == 2, "once, not twice")
    assert page.messages() == []


def test_where_nothing_can_be_written_the_page_says_so_and_takes_no_click(serve, browser, read_only):
    page = Page(browser(1000, 700))
    page.open(serve(read_only / "stores", "-o", read_only / "project").address)
    page.wait_for_slice()
    assert "can't be written: you can look, but not click, train or export" in page.text("#only-looking")
    page.go_to(20, 60, 60)
    page.click_voxel(60, 60)
    says(page, "can't be written")
    assert page.clicks() == []
    assert "all saved" in page.text("#saved")
    assert serious_findings(page.driver) == []


def test_picks_of_other_settings_than_the_score_map_are_told_beside_them(serve, browser, stores, tmp_path):
    folder = tmp_path / "project"
    for part in ("tomograms", "scores"):
        shutil.copytree(stores, folder / part)
    (folder / "picks").mkdir()
    (folder / "picks" / "ball_1.csv").write_text("tomogram,species,x_angstrom,y_angstrom,z_angstrom,score\nball_1,ball,600,600,200,0.9\n")
    record_made_by(folder / "picks" / "ball_1.csv", {"maps": [{"scores": {"name": "ball_1", "made_by": {"model": "another"}}}]})
    (folder / "tomostream.yaml").write_text(
        f"project: {folder}\ntomograms: ['{folder}/tomograms/*.ome.zarr']\nspecies: [{{name: ball, radius: 60A}}]\nlabels: {{train: [{folder}/clicks.csv]}}\n"
    )
    page = Page(browser(1000, 700))
    page.open(serve(folder / "tomostream.yaml").address)
    page.wait_for_slice()
    page.tab("picks")
    page.wait(lambda: "made with other settings, or another model" in page.text("#panel .warn"), "it is told beside the picks")
    assert len(page.driver.find_elements(By.CSS_SELECTOR, ".notice.warning")) == 1
