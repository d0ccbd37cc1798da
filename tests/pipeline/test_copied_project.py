"""A finished project is the same wherever it lies and from wherever it is run: nothing is done again, nothing refused."""

import shutil
import subprocess

import pytest
import yaml
from cli_runner import tomostream
from small_project import make_project, make_volume
from store_files import tree, write_foreign

pytestmark = pytest.mark.slow

IGNORED = ("log.jsonl", "report.html", "resolved.yaml", ".run.lock")


def lasting(folder):
    return {name: data for name, data in tree(folder).items() if not name.endswith(IGNORED)}


def configure(path, folder, *, foreign=False):
    """The same configuration with paths that are relative to another working folder."""
    values = yaml.safe_load(path.read_text())
    prefix = f"{folder}/" if folder else ""
    values["project"] = f"{prefix}project"
    values["tomograms"] = [f"{prefix}t*.zarr" if foreign else f"{prefix}t*.mrc"]
    values["labels"] = {purpose: [f"{prefix}{purpose}.csv"] for purpose in ("train", "validate")}
    values["truth"] = f"{prefix}truth.csv"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("foreign", [False, True], ids=["mrc", "foreign stores"])
def test_a_copied_project_run_from_another_folder_does_nothing_again(tmp_path, monkeypatch, foreign):
    here = tmp_path / "here"
    configuration = make_project(here)
    if foreign:
        for number, name in enumerate(("t1", "t2")):
            write_foreign(here / f"{name}.zarr", [make_volume(number)[0]])
    configure(configuration, "", foreign=foreign)
    monkeypatch.chdir(here)
    first = tomostream("run", "run.yaml")
    assert first.code == 0, first.err
    there = tmp_path / "far" / "away"
    there.parent.mkdir()
    subprocess.run(["cp", "-r", str(here), str(there)], check=True)
    shutil.rmtree(here)
    before = lasting(there / "project")
    configure(there / "run.yaml", "away", foreign=foreign)
    monkeypatch.chdir(there.parent)  # the parent folder
    again = tomostream("run", "away/run.yaml")
    assert again.code == 0, again.err
    assert lasting(there / "project") == before
    for words in ("is already trained", "scores are already made", "picks are already made"):
        assert words in again.err, again.err
    assert "training on" not in again.err
