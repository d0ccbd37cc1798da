"""A run that keeps candidates gives the picks of one that keeps the maps, and says what it can't do."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from small_project import make_project

from tomostream.config import load_configuration
from tomostream.errors import InputError
from tomostream.pipeline import execution
from tomostream.pipeline.dry_run import plan_run
from tomostream.pipeline.execution import run_project
from tomostream.pipeline.status import read_status
from tomostream.progress import Progress
from tomostream.stages.prediction import candidates

pytestmark = pytest.mark.slow


def run(path: Path, *stages: str) -> None:
    run_project(load_configuration(path), stages=list(stages), overwrite=False, progress=Progress())


def changed(path: Path, project: Path, **sections: dict[str, object]) -> Path:
    values = yaml.safe_load(path.read_text()) | {"project": str(project)} | sections
    other = path.with_name(f"{project.name}.yaml")
    other.write_text(yaml.safe_dump(values))
    return other


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_project(tmp_path_factory.mktemp("keep"), pick={"count": 10})
    run(path)
    return path


def test_picks_are_those_of_the_maps_and_a_kill_changes_nothing(trained, monkeypatch):
    project = trained.parent / "few"
    shutil.copytree(trained.parent / "project", project, ignore=shutil.ignore_patterns("scores", "picks", ".run.lock"))
    path = changed(trained, project, predict={"keep": "candidates"})
    whole = candidates.least_radii

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(candidates, "least_radii", killed)
    with pytest.raises(KeyboardInterrupt):
        run(path)
    assert read_status(project).tomograms["t1"]["predict"].state == "stopped"
    monkeypatch.setattr(candidates, "least_radii", whole)
    run(path)
    for name in ("t1", "t2"):
        picks = (trained.parent / "project" / "picks" / f"{name}.csv").read_bytes()
        assert (project / "picks" / f"{name}.csv").read_bytes() == picks
        attributes = json.loads((project / "scores" / f"{name}.ome.zarr" / "zarr.json").read_text())["attributes"]["tomostream"]
        assert attributes["candidates"]["least"] == 4.0
    assert not (project / "scores" / ".in-work").exists()
    assert read_status(project).tomograms["t1"]["predict"].state == "done"
    before = (project / "scores" / "t1.ome.zarr" / "zarr.json").stat().st_mtime_ns
    run(path)
    assert (project / "scores" / "t1.ome.zarr" / "zarr.json").stat().st_mtime_ns == before


def test_the_dry_run_projects_a_hundredth_of_the_disk(trained):
    disk = {}
    for keep in ("scores", "candidates"):
        steps = plan_run(load_configuration(changed(trained, trained.parent / keep, predict={"keep": keep})), ["predict"])
        disk[keep] = steps[0].disk_bytes
    assert disk["candidates"] <= disk["scores"] / 100 + 1


@pytest.mark.parametrize("pick", [{"count": 5, "smooth": "2vox"}, {"count": 5, "border": "3vox"}, {"count": 5, "method": "mean-pool"}])
def test_what_needs_the_whole_map_is_refused_before_any_work(trained, pick, monkeypatch):
    path = changed(trained, trained.parent / "none", predict={"keep": "candidates"}, pick=pick)
    monkeypatch.setattr(execution, "_run_stages", lambda _: pytest.fail("it began"))
    with pytest.raises(InputError, match="keep: "):
        run(path)
