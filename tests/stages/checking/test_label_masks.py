"""`check --repair` paints damaged shards of label masks again, from the table of their points: the same bytes, or nothing and a sentence that says why."""

import json
import os
import shutil

import numpy as np
import pytest
from cli_runner import tomostream
from small_project import make_project
from store_files import noise, tree, write_foreign, write_store

from tomostream.stages.labels import painted_points, stage
from tomostream.store.omezarr import StoreSpec
from tomostream.store.seals import sealed_group

pytestmark = pytest.mark.slow

HEAD = "tomogram,species,x_angstrom,y_angstrom,z_angstrom\n"


def rows(seed=3, count=12, of=13.48 * 48):
    """Points of two species whose balls overlap and cross the faces of shards."""
    draw = np.random.default_rng(seed)
    return [f"t1,{'ab'[number % 2]},{x!r},{y!r},{z!r}" for number, (x, y, z) in enumerate(draw.uniform(0, of - 14, (count, 3)).tolist())]


def labels(folder, *more, name="mask", table="points.csv"):
    done = tomostream(
        "labels", folder / "t1.ome.zarr", "--points", folder / table, "--radius", "6vox", "-o", folder / f"{name}.ome.zarr", *more
    )
    assert done.code == 0, done.err
    return folder / f"{name}.ome.zarr"


@pytest.fixture
def mask(tmp_path, monkeypatch):
    """A mask of 3 x 3 x 3 shards, beside its tomogram and its table."""
    monkeypatch.setattr(stage, "StoreSpec", lambda **values: StoreSpec(**values | {"chunk": (8, 8, 8), "shard": (16, 16, 16)}))
    write_store(tmp_path / "t1.ome.zarr", noise(48, 48, 48), levels=1)
    (tmp_path / "points.csv").write_text(HEAD + "\n".join(rows()) + "\n")
    return labels(tmp_path)


def shards(mask):
    return sorted(file for file in (mask / "0" / "c").rglob("*") if file.is_file())


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file):
    file.write_bytes(file.read_bytes()[:-7])


DAMAGES = {
    "a flipped byte": flip,
    "a shard that is gone": os.unlink,
    "a shard that is cut": cut,
    "an empty shard": lambda file: file.write_bytes(b""),
}


def repaired(*paths):
    """The exit code of `check --repair`, and what it says."""
    done = tomostream("check", *paths, "--repair")
    assert "Traceback" not in done.err
    return done.code, done.out + done.err


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_any_damaged_shard_is_found_and_painted_again_with_the_same_bytes(mask, damage):
    before = tree(mask)
    assert len(shards(mask)) == 27
    for number, shard in enumerate(shards(mask)):
        if number % 2 == 0:
            damage(shard)
    done = tomostream("check", mask, "--json")
    assert (done.code, len(done.json)) == (2, 14)
    code, said = repaired(mask)
    assert (code, said.count("made again")) == (0, 14), said
    assert tree(mask) == before
    assert tomostream("check", mask).code == 0


@pytest.mark.parametrize("shape", ["sphere", "gaussian", "cube"])
def test_every_shape_of_labels_is_painted_again_after_all_shards_are_lost(mask, shape, tmp_path):
    other = labels(tmp_path, "--shape", shape, name=shape)
    before = tree(other)
    shutil.rmtree(other / "0" / "c")
    assert repaired(other)[0] == 0
    assert tree(other) == before


def test_a_mask_in_a_project_copied_elsewhere_is_painted_again(tmp_path):
    (tmp_path / "first").mkdir()
    configuration = make_project(tmp_path / "first")
    assert tomostream("convert", tmp_path / "first" / "t1.mrc", "-o", tmp_path / "first" / "project" / "tomograms").code == 0
    (tmp_path / "first" / "project" / "labels").mkdir()
    project, out = tmp_path / "first" / "project", tmp_path / "first" / "project" / "labels" / "t1.ome.zarr"
    shutil.copy(configuration, project / "resolved.yaml")
    stored = project / "tomograms" / "t1.ome.zarr"
    done = tomostream("labels", stored, "--points", tmp_path / "first" / "train.csv", "--radius", "4vox", "-o", out)
    assert done.code == 0, done.err
    shutil.move(tmp_path / "first", tmp_path / "second")
    out = tmp_path / "second" / "project" / "labels" / "t1.ome.zarr"
    before = tree(out)
    flip(shards(out)[0])
    code, said = repaired(tmp_path / "second" / "project")
    assert code == 0, said
    assert tree(out) == before


def test_a_damaged_tomogram_and_its_mask_are_made_again_together(tmp_path):
    make_project(tmp_path)
    assert tomostream("convert", tmp_path / "t1.mrc", "-o", tmp_path).code == 0
    mask = labels(tmp_path, table="train.csv")
    before = tree(tmp_path / "t1.ome.zarr"), tree(mask)
    for store in (tmp_path / "t1.ome.zarr", mask):
        flip(shards(store)[0])
    code, said = repaired(mask, tmp_path / "t1.ome.zarr", tmp_path / "t1.mrc")
    assert code == 0, said
    assert (tree(tmp_path / "t1.ome.zarr"), tree(mask)) == before


def test_a_table_without_header_is_read_again_as_it_was(mask, tmp_path):
    (tmp_path / "bare.csv").write_text("5,6,7\n9,30,31\n")
    other = labels(tmp_path, "--columns", "z,y,x", "--unit", "vox", name="bare", table="bare.csv")
    before = tree(other)
    shards(other)[0].unlink()
    assert repaired(other)[0] == 0
    assert tree(other) == before


def test_a_table_elsewhere_under_another_name_and_in_another_order_of_columns_serves_if_it_is_given(mask, tmp_path):
    before = tree(mask)
    flip(shards(mask)[3])
    (tmp_path / "elsewhere").mkdir()
    table = tmp_path / "elsewhere" / "renamed.csv"
    (tmp_path / "points.csv").rename(table)
    code, said = repaired(mask)
    assert code == 2
    assert "the table of its points (points.csv) was not found; put it beside the mask, or give its path too" in said
    assert repaired(mask, table)[0] == 0
    assert tree(mask) == before


def changed(table):
    table.write_text(table.read_text().replace(rows()[4], rows(seed=4)[4]))


def emptied(table):
    table.write_text("")


CHANGES = {"a point": (changed, "has other points than it was painted from"), "all of it": (emptied, "points.csv")}


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES)
def test_a_table_that_changed_paints_nothing(mask, tmp_path, change, words):
    flip(shards(mask)[3])
    shards(mask)[5].unlink()
    change(tmp_path / "points.csv")
    before = tree(tmp_path)
    code, said = repaired(mask)
    assert code == 2
    assert "its table of points was changed since" in said
    assert words in said
    assert "run `tomostream labels` again with --overwrite" in said
    assert tree(tmp_path) == before


def test_another_column_or_other_tomograms_in_the_table_are_no_change(mask, tmp_path):
    before = tree(mask)
    flip(shards(mask)[3])
    with (tmp_path / "points.csv").open("a") as table:
        table.write("t2,c,1.0,2.0,3.0\n")
    assert repaired(mask)[0] == 0
    assert tree(mask) == before


def test_a_tomogram_that_is_gone_or_was_made_anew_paints_nothing(mask, tmp_path):
    flip(shards(mask)[3])
    (tmp_path / "t1.ome.zarr").rename(tmp_path / "away")
    before = tree(mask)
    code, said = repaired(mask)
    assert code == 2
    assert "the tomogram 't1' that it was made from was not found; give its store too" in said
    write_store(tmp_path / "t1.ome.zarr", noise(48, 48, 48, seed=1), levels=1, fingerprint={"made": "anew"})
    code, said = repaired(mask)
    assert code == 2
    assert f"was not found ({tmp_path / 't1.ome.zarr'} was changed or made anew since); give its store too" in said
    assert tree(mask) == before


def test_the_mask_of_a_store_of_other_software_is_painted_again_while_that_is_as_it_was(tmp_path):
    write_foreign(tmp_path / "t1.ome.zarr", [noise(24, 24, 24)])
    (tmp_path / "points.csv").write_text(HEAD + "\n".join(rows(of=240)) + "\n")
    mask = labels(tmp_path)
    before = tree(mask)
    flip(shards(mask)[0])
    assert repaired(mask)[0] == 0
    assert tree(mask) == before
    flip(next(file for file in (tmp_path / "t1.ome.zarr" / "0").rglob("*") if file.is_file() and not file.name.startswith(".")))
    flip(shards(mask)[0])
    assert repaired(mask)[0] == 2


def rewrite(mask, change):
    group = json.loads((mask / "zarr.json").read_text())
    change(group["attributes"]["tomostream"])
    (mask / "zarr.json").write_text(json.dumps(sealed_group(group), indent=2) + "\n")


def test_a_mask_of_an_earlier_version_that_names_no_table_is_painted_again_from_one_that_is_given(mask, tmp_path):
    rewrite(mask, lambda ours: ours.pop("points_table"))
    before = tree(mask)
    flip(shards(mask)[3])
    code, said = repaired(mask)
    assert code == 2
    assert "the table of its points was not found" in said
    assert repaired(mask, tmp_path / "points.csv")[0] == 0
    assert tree(mask) == before


@pytest.mark.parametrize("name", ["../points.csv", "/dev/zero", "..", ".", "", "a\0b", "x" * 5000])
def test_a_name_that_leads_elsewhere_is_not_followed(mask, tmp_path, name):
    (tmp_path / "deep").mkdir()
    mask = mask.rename(tmp_path / "deep" / mask.name)
    (tmp_path / "points.csv").rename(tmp_path.parent / f"{tmp_path.name}.csv")
    rewrite(mask, lambda ours: ours["points_table"].update(table=name))
    flip(shards(mask)[3])
    before = tree(tmp_path)
    code, said = repaired(mask)
    assert code == 2
    assert "was not found" in said
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "values",
    [{"radius": "6"}, {"radius": -1.0}, {"radius": 1e300}, {"shape": "ring"}, {"points": 3}, {"species": [3]}, {"tomogram": []}, {"radius": None}],
)  # fmt: skip
def test_a_record_that_is_none_or_of_another_radius_paints_nothing_or_says_why(mask, values):
    rewrite(mask, lambda ours: ours["fingerprint"].update(values))
    shards(mask)[3].unlink()
    code, said = repaired(mask)
    assert code == (0 if values == {"radius": 1e300} else 2), said  # then one label fills the volume


def test_a_named_pipe_in_the_place_of_the_table_is_not_waited_for(mask, tmp_path):
    (tmp_path / "points.csv").unlink()
    os.mkfifo(tmp_path / "points.csv")
    flip(shards(mask)[3])
    code, said = repaired(mask)
    assert code == 2
    assert "points.csv" in said


def test_points_that_do_not_fit_into_the_memory_are_told_and_paint_nothing(mask, monkeypatch):
    monkeypatch.setattr(stage, "POINT_BYTES", 10**9)
    flip(shards(mask)[3])
    before = tree(mask)
    code, said = repaired(mask)
    assert code == 2
    assert "labelling t1 needs 12." in said
    assert "12 points" in said
    assert tree(mask) == before


def test_the_table_is_read_once_for_all_shards(mask, monkeypatch):
    for shard in shards(mask):
        flip(shard)
    read = []
    inner = painted_points.read_table
    monkeypatch.setattr(painted_points, "read_table", lambda path, **others: read.append(path) or inner(path, **others))
    assert repaired(mask)[0] == 0
    assert len(read) == 1
