"""A region of the configuration: picks, counts and the evaluation come from inside alone."""

import csv
import json

import mrcfile
import numpy as np
import pytest
import yaml
from cli_runner import tomostream
from hypothesis import given
from hypothesis import strategies as st
from small_project import SHAPE, SPACING, make_project
from store_files import write_store

from tomostream.config import load_configuration
from tomostream.errors import InputError
from tomostream.geometry import Box, triple
from tomostream.pipeline.dry_run import plan_run
from tomostream.stages.shared.region_of_interest import Restriction, mask_in


def write_mask(path, values, spacing=SPACING):
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(values.astype(np.int8))
        file.voxel_size = spacing
    return str(path)


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """The same label volume as MRC and as OME-Zarr, and its values."""
    folder = tmp_path_factory.mktemp("masks")
    values = (np.random.default_rng(0).random((9, 12, 11)) < 0.03) * np.random.default_rng(1).integers(1, 4, (9, 12, 11))
    store = write_store(folder / "m.ome.zarr", values.astype(np.int8), levels=1, spacing=SPACING)
    return write_mask(folder / "m.mrc", values), str(store), values


@pytest.mark.slow
@given(st.data())
def test_labels_with_distances_are_those_of_the_whole_volume_in_any_box(masks, data):
    mrc, store, values = masks
    labels = tuple(data.draw(st.dictionaries(st.integers(1, 4), st.floats(0, 6), max_size=3)).items())
    start = triple([data.draw(st.integers(0, n - 1)) for n in values.shape])
    box = Box(start, triple([data.draw(st.integers(a + 1, n)) for a, n in zip(start, values.shape, strict=True)]))
    expected = values != 0 if not labels else np.zeros(values.shape, dtype=bool)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in values.shape), indexing="ij"), axis=-1)
    for label, distance in labels:
        for voxel in np.argwhere(values == label):
            expected |= ((grid - voxel) ** 2).sum(axis=-1) <= distance**2 + 1e-9
    for path in (mrc, store):
        np.testing.assert_array_equal(mask_in(path, box, labels=labels), expected[box.slices])
    inside = Restriction(None, mrc, labels).holds(grid.reshape(-1, 3)[::7] + 0.2, values.shape)
    np.testing.assert_array_equal(inside, expected.ravel()[::7])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project that is picked everywhere."""
    folder = tmp_path_factory.mktemp("regions")
    path = make_project(folder, objective={"name": "average"})
    done = tomostream("run", path, "--stage", "convert", "--stage", "stats", "--stage", "train", "--stage", "predict", "--stage", "pick")
    assert done.code == 0, done.err
    return path


def with_region(path, **region):
    values = yaml.safe_load(path.read_text()) | {"region": region}
    changed = path.with_name("changed.yaml")
    changed.write_text(yaml.safe_dump(values))
    return changed


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def voxels(rows):
    return np.array([[round(float(row[f"{axis}_angstrom"]) / SPACING) for axis in "zyx"] for row in rows]).reshape(-1, 3)


@pytest.mark.slow
def test_picks_counts_and_evaluation_come_from_inside_alone(project):
    folder = project.parent
    mask = np.zeros(SHAPE)
    mask[:, 40:, :] = 2
    paths = {name: write_mask(folder / f"mask_{name}.mrc", mask) for name in ("t1", "t2")}
    path = with_region(project, z={"t1": [0, 20], "t2": [20, 40]}, mask=paths, labels={2: "20A"})
    done = tomostream("run", path, "--stage", "pick", "--stage", "evaluate")
    assert done.code == 0, done.err
    found = json.loads((folder / "project" / "evaluation.json").read_text())["tomograms"]
    truth = rows(folder / "truth.csv")
    for name, (first, stop) in {"t1": (0, 20), "t2": (20, 40)}.items():
        true = [
            row
            for row in truth
            if row["tomogram"] == name and first <= round(float(row["z_voxel"])) < stop and round(float(row["y_voxel"])) >= 38
        ]
        picks = voxels(rows(folder / "project" / "picks" / f"{name}.csv"))
        assert len(picks) == len(true) > 0
        assert ((picks[:, 0] >= first) & (picks[:, 0] < stop) & (picks[:, 1] >= 38)).all()
        assert found[name]["tp"] + found[name]["fn"] == len(true)
        assert found[name]["tp"] + found[name]["fp"] == len(picks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"z": [0, 41]}, "leaves tomogram 't1'"),
        ({"z": [5, 5]}, "the first slice and the one after the last"),
        ({"z": {"t1": [0, 9]}}, "region.z has no entry for tomogram 't2'; it names t1"),
        ({"z": [0, 9], "box": "20:30,0:9,0:9"}, "z and box have nothing in common"),
        ({"box": "0:9"}, "must be z0:z1,y0:y1,x0:x1"),
        ({"labels": {1: "3vox"}}, "give it as region.mask"),
        ({"mask": "none.mrc"}, "none.mrc"),
    ],
)
def test_a_region_that_can_not_be_meant_is_refused_before_work(project, region, message):
    with pytest.raises(InputError, match=message):
        plan_run(load_configuration(with_region(project, **region)), ["pick"])


@pytest.mark.slow
def test_a_mask_of_another_spacing_or_shape_is_refused(project):
    folder = project.parent
    binned = write_mask(folder / "binned.mrc", np.ones(SHAPE), spacing=2 * SPACING)
    with pytest.raises(InputError, match="has voxels of 20 A, tomogram 't1' of 10 A; they must be equal"):
        plan_run(load_configuration(with_region(project, mask=binned)), ["pick"])
    other = write_mask(folder / "other.mrc", np.ones((4, 5, 6)))
    with pytest.raises(InputError, match="has shape z,y,x = 4,5,6"):
        plan_run(load_configuration(with_region(project, mask=other)), ["pick"])
    done = tomostream("pick", folder / "project/scores/t1.ome.zarr", "--radius", "4vox", "--count", 3, "-o", folder / "p", "--mask", binned)
    assert (done.code, "20 A" in done.message) == (2, True)
