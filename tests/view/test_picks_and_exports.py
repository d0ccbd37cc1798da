"""Picks, candidates and truth beside them; exports of every format; the gallery's rejections."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import tomostream as ts
from tomostream.errors import InputError
from tomostream.formats.registry import FORMATS, Conversion, read_table
from tomostream.particles import Particles
from tomostream.pipeline.journal import Journal
from tomostream.stages.shared.sidecar import record_made_by
from tomostream.view.clicks import Click
from tomostream.view.exports import ExportWish, export, exported, packed
from tomostream.view.picks import PickTables
from tomostream.view.workspace import Workspace, open_workspace

SPACING = 10.0


@pytest.fixture
def project(stores: Path, tmp_path: Path) -> Path:
    """A project as `run` leaves it, less model and scores: two tomograms, 20 picks each, truth of the first."""
    folder = tmp_path / "project"
    (folder / "picks").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("ball_1", "ball_2"):
        picks = Particles.build(
            rng.integers(5, 45, size=(20, 3)) * SPACING, unit="angstrom", tomogram=name, species="ball", score=np.linspace(0.9, 0.5, 20)
        )
        ts.write_particles(folder / "picks" / f"{name}.csv", picks)
    truth = read_table(folder / "picks" / "ball_1.csv")
    ts.write_particles(tmp_path / "truth.csv", truth.select(np.array([0, 1, 3, 9])))
    configuration = {
        "project": str(folder), "tomograms": [str(stores / "*.ome.zarr")], "species": [{"name": "ball", "radius": "60A"}],
        "labels": {"train": [str(tmp_path / "clicks.csv")]}, "truth": str(tmp_path / "truth.csv"), "tolerance": "2vox",
    }  # fmt: skip
    (folder / "resolved.yaml").write_text(yaml.safe_dump(configuration))
    return folder


def opened(project: Path) -> tuple[Workspace, PickTables]:
    workspace = open_workspace([str(project)], project=None, clicks=None)
    return workspace, PickTables(workspace)


def test_a_run_folder_opens_with_its_tomograms_species_and_clicks(project, tmp_path):
    workspace, tables = opened(project)
    assert list(workspace.entries) == ["ball_1", "ball_2"]
    assert workspace.species() == ["ball"]
    assert workspace.clicks == tmp_path / "clicks.csv"
    assert tables.counts("ball_1") == {"ball": 20}


def test_precision_and_recall_are_the_evaluations_own(project, tmp_path):
    _, tables = opened(project)
    found = tables.picks("ball_1", "ball")
    assert found is not None
    assert found.curve is not None
    for count in (1, 4, 10, 20):
        threshold = found.particles.score[count - 1]
        index = max(i for i, value in enumerate(found.curve["threshold"]) if value >= threshold)
        kept = found.particles.select(np.arange(count))
        scores = ts.evaluate(kept, str(tmp_path / "truth.csv"), tolerance="2vox", voxel_size=SPACING).to_json()["pooled"]
        assert (found.curve["tp"][index], found.curve["fp"][index]) == (scores["tp"], scores["fp"])
    assert tables.picks("ball_2", "ball").curve is None  # no truth of it


def test_what_is_expected_of_picks_comes_from_the_run_that_chose_them(project):
    _, tables = opened(project)
    journal = Journal(project / "log.jsonl")
    assert tables.picks("ball_1", "ball").expected is None
    for name, picks, precision in (("ball_1", 20, 0.8), ("ball_1", 20, 0.9), ("ball_2", 19, 0.9)):
        journal.write("chosen", map=name, picks=picks, f1=0.7, precision=precision, doubt=None)
    assert tables.picks("ball_1", "ball").expected == {"f1": 0.7, "precision": 0.9, "doubt": None}  # what it said last
    assert tables.picks("ball_2", "ball").expected is None  # it chose others


def test_candidates_that_begin_with_the_picks_let_the_slider_reach_further(project):
    _, tables = opened(project)
    picks = read_table(project / "picks" / "ball_1.csv")
    more = Particles.build(np.full((5, 3), 100.0) * np.arange(1, 6)[:, None], unit="angstrom", tomogram="ball_1", species="ball", score=0.4)
    path = tables.candidates_file("ball_1", "ball")
    path.parent.mkdir(parents=True)
    ts.write_particles(path, Particles.concatenate([picks, more]))
    found = tables.picks("ball_1", "ball")
    assert found is not None
    assert (len(found.particles), found.chosen, found.warnings) == (25, 20, [])
    ts.write_particles(path, Particles.concatenate([more, picks]))
    os.utime(path, (time.time() + 10, time.time() + 10))
    found = tables.picks("ball_1", "ball")
    assert found is not None
    assert len(found.particles) == 20
    assert "different settings" in found.warnings[0]


def test_picks_older_than_their_score_map_are_told(project, stores):
    _, tables = opened(project)
    shutil.copytree(stores / "ball_1.ome.zarr", project / "scores" / "ball_1.ome.zarr")
    os.utime(project / "picks" / "ball_1.csv", (1, 1))
    found = tables.picks("ball_1", "ball")
    assert found is not None
    assert "newer than these picks" in found.warnings[0]


def test_picks_of_another_score_map_are_told_whatever_their_age(project, stores):
    _, tables = opened(project)
    shutil.copytree(stores / "ball_1.ome.zarr", project / "scores" / "ball_1.ome.zarr")
    table = project / "picks" / "ball_1.csv"
    made = ts.open(project / "scores" / "ball_1.ome.zarr").attributes["fingerprint"]

    def warnings_if_made_from(fingerprint: object) -> list[str]:
        record_made_by(table, {"maps": [{"scores": {"name": "ball_1", "made_by": fingerprint}, "radius": "60A"}]})
        found = tables.picks("ball_1", "ball")
        assert found is not None
        return found.warnings

    [warning] = warnings_if_made_from(made | {"model": "another"})
    assert "made with other settings, or another model" in warning
    assert "run the configuration again" in warning
    os.utime(table, (1, 1))  # older than the map, as in a copied project: it is the same map all the same
    assert warnings_if_made_from(made) == []
    [warning] = warnings_if_made_from(None)  # nothing is recorded: age decides
    assert "newer than these picks" in warning


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_is_exported_and_reads_back(project, name):
    workspace, tables = opened(project)
    taken = {option.name for option in FORMATS[name].options if option.writes}
    options = {key: text for key, text in {"unbinned_pixel_size": "2.5", "box_size": "120A"}.items() if key in taken}
    wish = ExportWish(format_name=name, species="ball", tomograms=["ball_1", "ball_2"], options=options)
    path, count = export(workspace, tables, [], wish)
    assert count == 40
    assert path.parent == project / "export"
    assert exported(workspace)[path.name] == path
    assert packed(path, workspace).is_file()
    opened_stores = {one: workspace.tomogram(one) for one in workspace.entries}
    conversion = Conversion(
        spacings={one: tomogram.spacing for one, tomogram in opened_stores.items()},
        shapes={one: tomogram.shape for one, tomogram in opened_stores.items()},
        options={"unbinned_pixel_size": 2.5},
    )
    readable = next(path.glob(f"*{FORMATS[name].ending}")) if path.is_dir() and name == "dynamo" else path
    assert len(read_table(readable, format_name=name, conversion=conversion)) == 40


def test_threshold_count_and_rejections_decide_what_is_exported(project):
    workspace, tables = opened(project)
    first = read_table(project / "picks" / "ball_1.csv")
    apart = np.linalg.norm(first.position_zyx[:5, None] - first.position_zyx[None], axis=2) + 1e9 * np.eye(5, 20)
    alone = int(np.argmax(apart.min(axis=1)))
    assert apart[alone].min() > 45
    z, y, x = first.position_zyx[alone] + 10  # a click by hand, within half a radius (30 A) of the pick
    rejected = [Click("ball_1", "ball", x, y, z, 0)]

    def number(**wish: object) -> int:
        return export(workspace, tables, rejected, ExportWish(format_name="csv", species="ball", tomograms=["ball_1"], **wish))[1]

    assert number() == 19
    assert number(count=5) == 4
    assert number(threshold=float(first.score[9])) == 9
    assert (
        export(
            workspace,
            tables,
            [Click("ball_1", "ball", 1, 2, 3, 1)],
            ExportWish(format_name="csv", species="ball", tomograms=["ball_1"], source="clicks"),
        )[1]
        == 1
    )


def test_a_failed_export_leaves_the_last_one_whole(project):
    workspace, tables = opened(project)
    wish = ExportWish(format_name="cbox", species="ball", tomograms=["ball_1"], options={"box_size": "120A"})
    path, _ = export(workspace, tables, [], wish)
    before = path.read_bytes()
    with pytest.raises(InputError, match="box"):
        export(workspace, tables, [], ExportWish(format_name="cbox", species="ball", tomograms=["ball_1"]))
    for options, message in (({"box_size": "120"}, "--box-size"), ({"binning": "2"}, "'cbox' has no option 'binning'; it has box_size")):
        with pytest.raises(InputError, match=message):
            export(workspace, tables, [], replace(wish, options=options))
    assert path.read_bytes() == before
    assert [one.name for one in (project / "export").iterdir()] == [path.name]


def test_two_tomograms_of_one_name_are_refused(mrc_folder, stores, tmp_path):
    with pytest.raises(InputError, match="two tomograms have the name 'ball_1'"):
        open_workspace([str(mrc_folder), str(stores)], project=tmp_path / "p", clicks=None)


def test_an_mrc_file_and_its_own_store_are_one_tomogram(mrc_folder, stores, tmp_path):
    shutil.copytree(stores, tmp_path / "p" / "tomograms")
    workspace = open_workspace([str(mrc_folder), str(tmp_path / "p" / "tomograms")], project=tmp_path / "p", clicks=None)
    assert [entry.is_converted for entry in workspace.entries.values()] == [True, True]
    workspace = open_workspace([str(tmp_path / "p" / "tomograms"), str(mrc_folder)], project=tmp_path / "p", clicks=None)
    assert [entry.source for entry in workspace.entries.values()] == [str(mrc_folder / f"ball_{n}.mrc") for n in (1, 2)]


def test_a_run_whose_files_have_moved_shows_the_stores_that_it_made(project, stores):
    values = yaml.safe_load((project / "resolved.yaml").read_text())
    (project / "resolved.yaml").write_text(yaml.safe_dump(values | {"tomograms": ["/gone/*.mrc"]}))
    shutil.copytree(stores, project / "tomograms")
    workspace, _ = opened(project)
    assert list(workspace.entries) == ["ball_1", "ball_2"]


def test_a_run_that_was_started_elsewhere_finds_its_relative_paths(project, stores, tmp_path, monkeypatch):
    shutil.copytree(stores, tmp_path / "data")
    values = yaml.safe_load((project / "resolved.yaml").read_text())
    relative = {"project": "project", "tomograms": ["data/*.ome.zarr"], "labels": {"train": ["clicks.csv"]}, "truth": "truth.csv"}
    (project / "resolved.yaml").write_text(yaml.safe_dump(values | relative))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    workspace, tables = opened(project)
    assert list(workspace.entries) == ["ball_1", "ball_2"]
    assert workspace.clicks == tmp_path / "clicks.csv"
    assert tables.picks("ball_1", "ball").curve is not None
