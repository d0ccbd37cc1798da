"""A project of `init` keeps its score maps at the network's level: every strategy and every later command takes them as scores of the tomogram's grid."""

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import yaml
from cli_runner import tomostream
from small_project import SHAPE, SPACING, make_project, make_volume, tree_bytes

import tomostream as ts
from tomostream.geometry import Box
from tomostream.tomogram import open_tomogram
from tomostream.view.volumes import Cut, Pictures

pytestmark = pytest.mark.slow

SHORT = {"network": {"channels": [4, 8]}, "train": {"steps": 20, "steps_per_epoch": 10, "crop": 16, "batch": 2, "precision": "float32"}}


def first_project(folder: Path, *, radius: str, species: int = 1, **values) -> Path:
    """Run what `init` writes for two tomograms, with little training; return the project."""
    make_project(folder / "data", species=species)
    done = tomostream(
        "init", folder / "data", "--radius", radius, "--expected", 20, "--clicks", folder / "data" / "train.csv",
        "--project", folder / "my-project", "-o", folder / "first.yaml",
    )  # fmt: skip
    assert done.code == 0, done.err
    written = yaml.safe_load((folder / "first.yaml").read_text())
    assert written["predict"] == {"grid": "network"}
    for one in written["species"]:
        if one["name"] == "fas":  # as a user corrects it by hand
            one["radius"] = "4vox"
    (folder / "first.yaml").write_text(yaml.safe_dump(written | SHORT | {"labels": {**written["labels"], "check": "warn"}} | values))
    done = tomostream("run", folder / "first.yaml")
    assert done.code == 0, done.err
    return folder / "my-project"


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """A project of the default strategy, whose network reads level 1."""
    return first_project(tmp_path_factory.mktemp("default"), radius="8vox")


def assert_same_scores(project: Path, out: Path, *, coarse: dict[str, bool]) -> None:
    """Compare all score maps of a project with those that its model writes on the tomogram's grid."""
    done = tomostream("predict", *sorted((project / "tomograms").glob("*.zarr")), "--model", project / "model", "-o", out)
    assert done.code == 0, done.err
    maps = sorted(path.relative_to(out) for path in out.rglob("*.ome.zarr"))
    assert len(maps) == 2 * len(coarse)
    for path in maps:
        one, other = open_tomogram(project / "scores" / path), open_tomogram(out / path)
        is_coarse = "grid" in json.loads((project / "scores" / path / "zarr.json").read_text())["attributes"]["tomostream"]
        assert is_coarse == coarse[str(path.parent)]
        np.testing.assert_array_equal(one.read(Box.whole(SHAPE)).view(np.uint32), other.read(Box.whole(SHAPE)).view(np.uint32))


def test_the_default_strategys_maps_are_the_same_scores(default, tmp_path):
    assert_same_scores(default, tmp_path, coarse={".": True})


def test_the_maps_of_a_matched_filter_are_the_same_scores(tmp_path):
    project = first_project(tmp_path, radius="8vox", objective={"name": "average"}, network={"level": 1})  # by itself it reads level 0
    assert_same_scores(project, tmp_path / "whole", coarse={".": True})


def test_each_of_several_species_has_the_grid_of_its_own_level(tmp_path):
    """At level 0 that is the tomogram's: nothing is saved there."""
    project = first_project(tmp_path, radius="8vox", species=2)
    assert_same_scores(project, tmp_path / "whole", coarse={"ribosome": True, "fas": False})
    assert tomostream("check", project).code == 0


def test_a_region_with_a_mask_is_picked_too(default, tmp_path):
    """`predict` alone can't restrict such a map to a mask; a run does not need to."""
    mask = np.zeros(SHAPE, np.int8)
    mask[:20] = 1
    with mrcfile.new(tmp_path / "mask.mrc") as file:
        file.set_data(mask)
        file.voxel_size = SPACING
    values = yaml.safe_load((default.parent / "first.yaml").read_text()) | {
        "project": str(tmp_path / "masked"), "region": {"mask": str(tmp_path / "mask.mrc")}, "objective": {"name": "average"},
    }  # fmt: skip
    (tmp_path / "masked.yaml").write_text(yaml.safe_dump(values))
    done = tomostream("run", tmp_path / "masked.yaml")
    assert done.code == 0, done.err
    picks = [ts.read_particles(path) for path in sorted((tmp_path / "masked" / "picks").glob("*.csv"))]
    assert all(len(one) and (one.position_zyx[:, 0] < 20 * SPACING).all() for one in picks)


def test_every_later_command_takes_such_a_project(default, tmp_path):
    scores, stores = sorted((default / "scores").glob("*.zarr")), sorted((default / "tomograms").glob("*.zarr"))
    table = tmp_path / "oriented.csv"
    for arguments in (
        ("check", default),
        ("status", default),
        ("report", default, "-o", tmp_path / "report.html"),
        ("suggest", default, "-o", tmp_path / "next.csv"),
        ("inspect", *scores),
        ("stats", *scores, "-o", tmp_path / "stats"),
        ("pick", *scores, "--radius", "8vox", "--count", 5, "-o", tmp_path / "picks"),
        ("evaluate", "--picks", default / "picks", "--truth", default.parent / "data" / "truth.csv", "--tolerance", "8vox", "--voxel-size", SPACING),
        ("export", default / "picks", "-o", tmp_path / "p.star", "--format", "star-relion5", "--tomograms", default / "tomograms"),
        ("export", scores[0], "-o", tmp_path / "s.zarr"),
        ("orient", default / "picks", "--clicks", default.parent / "data" / "truth.csv", "--species", "ribosome", "--tomograms", *stores[:1], *stores[1:], "--radius", "8vox", "-o", table),
    ):  # fmt: skip
        done = tomostream(*arguments)
        assert done.code == 0, (arguments, done.err)
    assert [len(ts.read_particles(path)) for path in (tmp_path / "picks").glob("*.csv")] == [5, 5]
    before = tree_bytes(default)
    again = tomostream("run", default.parent / "first.yaml")
    assert again.code == 0, again.err
    assert tree_bytes(default) == before


def test_the_workbench_shows_the_same_pictures(default, tmp_path):
    store = default / "tomograms" / "t1.ome.zarr"
    done = tomostream("predict", store, "--model", default / "model", "-o", tmp_path)
    assert done.code == 0, done.err
    coarse, whole = open_tomogram(default / "scores" / "t1.ome.zarr"), open_tomogram(tmp_path / "t1.ome.zarr")
    for axis in ("z", "y", "x"):
        cut = Cut(axis, 0, (8, 12), (0, 40), (0, 40))
        np.testing.assert_array_equal(Pictures(800_000_000).grey(coarse, cut), Pictures(800_000_000).grey(whole, cut))


def test_a_project_of_8_bits_is_small(tmp_path):
    """At most 2.2 times the tomograms, apart from the model, whose size does not depend on them."""
    (tmp_path / "data").mkdir()
    for number in range(2):
        volume = np.tile(make_volume(number)[0], (1, 2, 2))
        with mrcfile.new(tmp_path / "data" / f"t{number + 1}.mrc") as file:
            file.set_data(np.clip(np.rint(volume * 25), -127, 127).astype(np.int8))
            file.voxel_size = SPACING
    rows = [f"t1,{x:.1f},{y:.1f},{z:.1f}" for z, y, x in make_volume(0)[1][0][:8]]
    (tmp_path / "clicks.csv").write_text("\n".join(["tomogram,x_voxel,y_voxel,z_voxel", *rows]) + "\n")
    configuration = tmp_path / "first.yaml"
    done = tomostream(
        "init", tmp_path / "data", "--species", "ball", "--radius", "8vox", "--expected", 200, "--clicks", tmp_path / "clicks.csv",
        "--project", tmp_path / "my-project", "-o", configuration,
    )  # fmt: skip
    assert done.code == 0, done.err
    configuration.write_text(configuration.read_text() + yaml.safe_dump({"objective": {"name": "average"}, "network": {"level": 1}}))
    done = tomostream("run", configuration)
    assert done.code == 0, done.err
    files = {
        path.relative_to(tmp_path / "my-project"): path.stat().st_size for path in (tmp_path / "my-project").rglob("*") if path.is_file()
    }
    by_folder = {name: sum(size for path, size in files.items() if path.parts[0] == name) for name in ("tomograms", "scores")}
    data = sum(path.stat().st_size for path in (tmp_path / "data").glob("*.mrc"))
    assert by_folder["tomograms"] + by_folder["scores"] <= 1.75 * data  # 2.2 leaves the rest to model, report and picks
