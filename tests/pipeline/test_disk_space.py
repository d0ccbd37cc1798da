"""A run that can't fit its disk, or whose project folder can't be made, is refused before any work, by the dry run too."""

import shutil

import pytest
import yaml
from cli_runner import tomostream
from small_project import make_project

from tomostream.errors import BudgetError
from tomostream.pipeline.disk_space import check_disk
from tomostream.project import Project

pytestmark = pytest.mark.slow


def free_bytes(monkeypatch, number):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**12, 0, number))


@pytest.mark.parametrize("arguments", [["--dry-run"], []])
def test_a_run_that_does_not_fit_the_disk_is_refused_before_any_work(tmp_path, monkeypatch, arguments):
    made = make_project(tmp_path, objective={"name": "average"}, network={})
    free_bytes(monkeypatch, 2_000_000)  # the stores fit, the score maps do not
    done = tomostream("run", made, *arguments)
    assert done.code == 2
    assert "of tomograms and" in done.message
    assert "has 2 MB free" in done.message
    assert "`predict: {grid: network}` or `predict: {keep: candidates}`" in done.message
    assert not list(tmp_path.rglob("*.zarr*"))
    free_bytes(monkeypatch, 10**9)
    assert tomostream("run", made, "--dry-run").code == 0


def test_what_is_half_written_counts_as_room(tmp_path, monkeypatch):
    begun = tmp_path / "tomograms" / "t.ome.zarr.partial" / "0" / "c"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(b"x" * 1000)
    free_bytes(monkeypatch, 500)
    check_disk(Project(tmp_path), stores=900, scores=600)
    with pytest.raises(BudgetError, match="of tomograms and"):
        check_disk(Project(tmp_path), stores=900, scores=601)


@pytest.mark.parametrize("arguments", [["--dry-run"], []])
def test_a_project_folder_below_a_file_is_refused_before_any_work(tmp_path, arguments):
    made = make_project(tmp_path, objective={"name": "average"}, network={})
    values = yaml.safe_load(made.read_text()) | {"project": str(made / "p")}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(values))
    done = tomostream("run", tmp_path / "other.yaml", *arguments)
    assert (done.code, f"{made} is no folder" in done.message) == (2, True)
