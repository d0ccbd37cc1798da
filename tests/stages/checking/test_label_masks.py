"""`check --repair` paints damaged shards of label masks again, from the points that a mask records."""

import json

import numpy as np
import pytest
from cli_runner import tomostream
from store_files import noise, tree, write_store

from tomostream.stages.labels import stage
from tomostream.store.seals import sealed_group

HEAD = "tomogram,x_angstrom,y_angstrom,z_angstrom,species\n"


@pytest.fixture
def mask(tmp_path):
    """A mask of two species whose balls overlap and cross the faces of shards."""
    store = write_store(tmp_path / "t1.ome.zarr", noise(48, 48, 48), shard=(16, 16, 16), chunk=(16, 16, 16), levels=1)
    draw = np.random.default_rng(3)
    rows = [f"t1,{x:.4f},{y:.4f},{z:.4f},{'ab'[number % 2]}" for number, (x, y, z) in enumerate(draw.uniform(0, 470, (12, 3)))]
    table = tmp_path / "points.csv"
    table.write_text(HEAD + "\n".join(rows) + "\n")
    out = tmp_path / "labels.ome.zarr"
    done = tomostream("labels", store, "--points", table, "--radius", "6vox", "-o", out)
    assert done.code == 0, done.err
    return out


def damaged(mask):
    """Flip a byte of each shard."""
    shards = [file for file in (mask / "0" / "c").rglob("*") if file.is_file()]
    for shard in shards:
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    return len(shards)


def test_every_shard_of_a_mask_is_painted_again_with_the_same_bytes(mask):
    before = tree(mask)
    assert damaged(mask) > 0
    assert tree(mask) != before
    assert tomostream("check", mask, "--repair").code == 0
    assert tree(mask) == before
    assert tomostream("check", mask).code == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values["points"][0].__setitem__(0, 3.25),
        lambda values: values.update(points="x"),
        lambda values: values.update(labels=[[1]]),
    ],
)
def test_points_that_are_not_those_it_was_made_from_paint_nothing(mask, change):
    group = json.loads((mask / "zarr.json").read_text())
    change(group["attributes"]["tomostream"])
    (mask / "zarr.json").write_text(json.dumps(sealed_group(group)))
    damaged(mask)
    before = tree(mask)
    done = tomostream("check", mask, "--repair")
    assert done.code == 2
    assert "records other points than it was made from" in done.out + done.err
    assert tree(mask) == before


def test_many_points_are_not_recorded_and_repair_says_so(mask, monkeypatch, tmp_path):
    monkeypatch.setattr(stage, "RECORDED_POINTS", 11)
    done = tomostream(
        "labels", tmp_path / "t1.ome.zarr", "--points", tmp_path / "points.csv", "--radius", "6vox", "-o", mask, "--overwrite"
    )
    assert done.code == 0, done.err
    assert "points" not in json.loads((mask / "zarr.json").read_text())["attributes"]["tomostream"]
    damaged(mask)
    done = tomostream("check", mask, "--repair")
    assert done.code == 2
    assert "does not record its points" in done.out + done.err
