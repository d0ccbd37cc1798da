"""A tomogram that can't be read is left out: of the plan, of training, of the run; the others are done.  Clicks in it are told before any work."""

import numpy as np
import pytest
import yaml
from cli_runner import tomostream
from small_project import make_project

pytestmark = pytest.mark.slow


def with_broken(folder, *, species=1, **values):
    """A project with a third tomogram, which is truncated and not clicked."""
    values = {"train": {"steps": 4, "steps_per_epoch": 2, "crop": 16, "batch": 2, "precision": "float32"}, "pick": {"count": 5}} | values
    path = make_project(folder, species=species, **values)
    (folder / "t3.mrc").write_bytes((folder / "t1.mrc").read_bytes()[:5000])
    return path


@pytest.mark.parametrize("species", [1, 2])
def test_the_others_are_done_where_the_strategy_learns_from_tomograms_without_clicks(tmp_path, species):
    path = with_broken(tmp_path, species=species)
    config = yaml.safe_load(path.read_text())
    for one in config["species"]:
        del one["expected"]  # then training learns from tomograms without clicks too
    config["labels"]["validate"] = []
    path.write_text(yaml.safe_dump(config))
    plan = tomostream("run", path, "--dry-run")
    assert plan.code == 0, plan.message
    assert "t3 is left out" in plan.err
    assert "truncated" in plan.err
    assert "t3" not in plan.out
    done = tomostream("run", path)
    assert done.code == 3, done.message
    assert "t3" in done.message
    assert "truncated" in done.message
    assert sorted(table.name for table in (tmp_path / "project" / "picks").glob("*.csv")) == ["t1.csv", "t2.csv"]
    assert tomostream("train", path).code == 0  # as the run trained it


def test_clicks_in_it_are_told_before_anything_is_converted(tmp_path):
    path = with_broken(tmp_path)
    with (tmp_path / "train.csv").open("a") as table:
        table.write("t3,ribosome,10,20,30\n")
    for command in (["run", path, "--dry-run"], ["run", path], ["train", path]):
        done = tomostream(*command)
        assert done.code == 2
        assert "labels.train has clicks in 't3', which can't be read" in done.message
        assert "truncated" in done.message
    assert not list(tmp_path.glob("project/tomograms/*"))


def test_a_clicked_tomogram_that_fails_later_is_told(tmp_path):
    path = make_project(tmp_path)
    volume = np.memmap(tmp_path / "t1.mrc", mode="r+", offset=1024, dtype=np.float32)
    volume[:] = np.nan  # the head is sound
    volume.flush()
    done = tomostream("run", path)
    assert done.code == 2
    assert "t1" in done.message


def test_if_none_can_be_read_the_reason_is_told(tmp_path):
    path = with_broken(tmp_path, tomograms=[str(tmp_path / "t3.mrc")])
    done = tomostream("run", path, "--dry-run", "--stage", "convert")
    assert done.code == 2
    assert "truncated" in done.message
