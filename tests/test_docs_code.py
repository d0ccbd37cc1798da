"""The code of the pages runs as it stands there, page by page, each in a folder that holds what the pages speak of."""

import shutil
from pathlib import Path

import pytest
from documented import PAGES, is_run, make_world, name_of, needs_data, run_page

RUN = [page for page in PAGES if is_run(page) and not needs_data(page)]
RUN_ON_DATA = [page for page in PAGES if is_run(page) and needs_data(page)]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages") / "world"
    make_world(folder)
    return folder


RUN = [page for page in PAGES if is_run(page) and not needs_data(page)]
RUN_ON_DATA = [page for page in PAGES if is_run(page) and needs_data(page)]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_the_pages_code_runs(page, world, tmp_path):
    shutil.copytree(world, tmp_path / "here")
    run_page(page, tmp_path / "here")


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", RUN_ON_DATA, ids=name_of)
def test_the_code_of_pages_on_real_data_runs(page, data_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TOMOSTREAM_DATA", str(data_folder))
    run_page(page, tmp_path)
