"""Score maps at the network's level: what is read back is the map that would have been written on the tomogram's grid, bit for bit."""

import json
import math
import zlib

import numpy as np
import pytest
import yaml
import yaozarrs
import zarr
from cli_runner import tomostream
from example_counts import examples
from hypothesis import HealthCheck, assume, given
from hypothesis import strategies as st
from small_project import make_project, tree_bytes

import tomostream as ts
from tomostream.cluster import Resources
from tomostream.coarse_grid import CoarseGrid
from tomostream.errors import DeviceMemoryError, InputError
from tomostream.geometry import Box, triple
from tomostream.inference.level_scoring import grid_of, level_shard
from tomostream.inference.plan import PredictionPlan
from tomostream.inference.region_scoring import score_region
from tomostream.picking.how_many import Above, Best
from tomostream.progress import Progress
from tomostream.score_map import ScoreMapAttributes, open_score_map
from tomostream.stages.picks.stage import PickSettings, pick_map
from tomostream.stages.prediction.network_grid import at_network_level, map_bytes
from tomostream.stages.prediction.shard_task import PredictSettings
from tomostream.store.omezarr import StoreSpec, StoreWriter
from tomostream.tomogram import open_tomogram
from tomostream.units import Length

SPACING = 10.0
NETWORK = PredictSettings(grid="network")


class BlockyScorer:
    """A scorer whose logits differ from block to block in their last digits, as those of Fourier transforms do."""

    species = 2

    def __init__(self, largest=10**9):
        self.largest = largest  # voxels of a block that the "device" holds

    def read_box(self, needed, shape):
        return needed.expanded(1).clipped(Box.whole(shape))

    def block_bytes(self, needed, shape):
        return 0

    def logits(self, image, read, needed, shape):
        if needed.size > self.largest:
            raise DeviceMemoryError("the device is full")
        inner = image[needed.relative_to(read.start).slices]
        seed = zlib.crc32(repr((needed.start, needed.stop)).encode())
        noise = np.random.default_rng(seed).normal(size=(self.species, *needed.shape)).astype(np.float32)
        return 3 * inner[None] * np.float32([1, -0.5]).reshape(2, 1, 1, 1) + np.float32(1e-5) * noise


@st.composite
def plans(draw):
    """The arguments of a plan: built in the test, because the checks of types draw numbers of their own."""
    level = draw(st.integers(1, 3))
    step = 2**level
    volume = draw(st.tuples(*[st.integers(2, 40)] * 3))
    chunk = tuple(step * draw(st.integers(1, max(1, 16 // step))) for _ in range(3))
    shard = tuple(c * draw(st.integers(1, 3)) for c in chunk)
    core = draw(st.tuples(*[st.integers(1, 24)] * 3))
    assume(math.prod(-(-n // s) * -(-min(s, n) // c) for n, s, c in zip(volume, shard, core, strict=True)) < 800)
    return volume, level, 1, 0, chunk, shard, core, 2, 0


def level_volume(plan, seed=0):
    return np.random.default_rng(seed).normal(size=plan.level_shape).astype(np.float32)


def written(folder, plan, volume, *, scorer=None, settings=NETWORK, logits=False, box=None):
    """Write the coarse map of the second species, as `predict` does."""
    attributes = ScoreMapAttributes(kind="scores", species="ribosome", tomogram="t", logits=logits)
    spec = StoreSpec("t", plan.volume, np.dtype(np.float32), SPACING, plan.chunk, plan.shard, "none", 1, attributes.to_json())
    spec = at_network_level(spec, plan, settings)
    target = folder / "t.ome.zarr"
    with StoreWriter.create_or_resume(target, spec, fingerprint={"a": 1}, overwrite=True) as writer:
        for index in writer.pending():
            values, rows = level_shard(lambda b: volume[b.slices], plan, index, scorer or BlockyScorer(), note=lambda _: None)
            writer.write(index, values[1], seams=rows[1] if rows.size else None)
            writer.mark_done(index)
        writer.finish()
    return target


def whole_map(plan, volume, *, as_logits=False):
    """The map on the tomogram's grid, as `predict` makes it shard by shard."""
    result = np.empty((2, *plan.volume), dtype=np.float32)
    for core in plan.shards.cores():
        region = score_region(lambda b: volume[b.slices], plan, core, BlockyScorer(), as_logits=as_logits, note=pytest.fail)
        result[(slice(None), *core.slices)] = region
    return result[1]


def assert_same_bits(one, other):
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans(), as_logits=st.booleans(), data=st.data())
def test_any_box_has_the_bits_of_the_map_on_the_tomograms_grid(tmp_path, plan, as_logits, data):
    plan = PredictionPlan(*plan)
    volume = level_volume(plan)
    whole = whole_map(plan, volume, as_logits=as_logits)
    tomogram = open_tomogram(written(tmp_path, plan, volume, logits=as_logits))
    assert (tomogram.shape, tomogram.dtype, tomogram.spacing) == (plan.volume, np.float32, SPACING)
    assert_same_bits(tomogram.read(Box.whole(plan.volume)), whole)
    for _ in range(3):
        start = triple([data.draw(st.integers(0, n - 1)) for n in plan.volume])
        stop = triple([data.draw(st.integers(a + 1, n)) for a, n in zip(start, plan.volume, strict=True)])
        box = Box(start, stop)
        assert_same_bits(np.ascontiguousarray(tomogram.read(box)), np.ascontiguousarray(whole[box.slices]))


@examples(30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans(), radius=st.floats(1.0, 6.0), edge=st.integers(8, 40), is_count=st.booleans())
def test_picks_are_those_of_the_map_on_the_tomograms_grid(tmp_path, plan, radius, edge, is_count):
    plan = PredictionPlan(*plan)
    volume = level_volume(plan)
    store = written(tmp_path, plan, volume)
    how_many = Best(7) if is_count else Above(0.6)
    settings = PickSettings(radius=Length(radius, is_voxels=True), how_many=how_many, block_size=triple(edge))
    found = pick_map(open_score_map(store), settings, resources=Resources(), progress=Progress())
    expected = ts.pick(whole_map(plan, volume), radius=radius, **({"count": 7} if is_count else {"threshold": 0.6}))
    np.testing.assert_array_equal(np.rint(found.position_zyx / SPACING).astype(int), expected.index_zyx)
    np.testing.assert_array_equal(found.score, expected.score)


@examples(100)
@given(plans())
def test_every_coarse_voxel_is_owned_once_and_seams_fill_the_rest(plan):
    plan = PredictionPlan(*plan)
    grid = grid_of(plan)
    owned = np.zeros(plan.level_shape, dtype=int)
    longest = 0
    for index in grid.shards.indices():
        inside = grid.owned(grid.shards.core(index))
        first = 0
        for block in grid.blocks(index):
            owned[block.owned.slices] += 1
            assert inside.contains(block.owned)
            assert block.needed.contains(block.owned)
            covered = np.zeros(block.needed.shape, dtype=int)
            covered[block.owned.relative_to(block.needed.start).slices] += 1
            for slab, place in block.seams:
                assert place == first
                first += slab.size
                covered[slab.relative_to(block.needed.start).slices] += 1
            np.testing.assert_array_equal(covered, 1)
        longest = max(longest, first)
    np.testing.assert_array_equal(owned, 1)
    assert grid.seam_values == longest


def test_a_single_block_has_no_seams_and_takes_an_eighth():
    plan = PredictionPlan((72, 256, 256), 1, 1, 0, (72, 64, 64), (72, 256, 256), (72, 256, 256), 1, 0)
    assert CoarseGrid(plan.volume, 1, plan.shard, plan.core).seam_values == 0
    assert map_bytes(plan, NETWORK) * 8 == map_bytes(plan, PredictSettings())
    large = PredictionPlan((500, 1000, 1000), 1, 1, 0, (72, 72, 72), (504, 504, 504), (504, 504, 504), 1, 0)
    assert map_bytes(large, NETWORK) < 0.137 * map_bytes(large, PredictSettings())


def test_scores_outside_a_box_are_missing(tmp_path):
    plan = PredictionPlan((20, 24, 24), 1, 1, 0, (8, 8, 8), (8, 16, 16), (8, 8, 8), 2, 0)
    box = Box((3, 2, 0), (11, 20, 9))
    settings = PredictSettings(grid="network", box=box)
    volume = level_volume(plan)
    found = open_tomogram(written(tmp_path, plan, volume, settings=settings)).read(Box.whole(plan.volume))
    expected = np.full(plan.volume, np.nan, dtype=np.float32)
    expected[box.slices] = whole_map(plan, volume)[box.slices]
    assert_same_bits(found, expected)


def test_other_software_sees_an_image_of_the_right_scale(tmp_path):
    plan = PredictionPlan((20, 24, 24), 1, 1, 0, (8, 8, 8), (8, 16, 16), (8, 8, 8), 2, 0)
    volume = level_volume(plan)
    store = written(tmp_path, plan, volume)
    [image] = zarr.open_group(store, mode="r").attrs["ome"]["multiscales"]
    [dataset] = image["datasets"]
    assert dataset["path"] == "0"
    assert [one.get("scale", one.get("translation")) for one in dataset["coordinateTransformations"]] == [[20.0] * 3, [5.0] * 3]
    logits = np.asarray(zarr.open_group(store, mode="r")["0"])
    np.testing.assert_allclose(logits, -1.5 * volume, atol=1e-4)
    yaozarrs.validate_zarr_store(str(store))


def test_a_block_that_a_gpu_does_not_hold_is_halved():
    plan = PredictionPlan((20, 24, 24), 1, 1, 0, (24, 24, 24), (24, 24, 24), (24, 24, 24), 2, 0)
    notes = []
    read = level_volume(plan)
    values, _ = level_shard(lambda b: read[b.slices], plan, (0, 0, 0), BlockyScorer(largest=400), note=notes.append)
    whole, _ = level_shard(lambda b: read[b.slices], plan, (0, 0, 0), BlockyScorer(), note=notes.append)
    np.testing.assert_allclose(values, whole, atol=1e-3)
    assert notes
    assert "half the block" in notes[0]


def test_an_earlier_version_refuses_such_a_store(tmp_path):
    plan = PredictionPlan((8, 8, 8), 1, 1, 0, (8, 8, 8), (8, 8, 8), (8, 8, 8), 2, 0)
    store = written(tmp_path, plan, level_volume(plan))
    assert json.loads((store / "zarr.json").read_text())["attributes"]["tomostream"]["format"] == 2  # they read 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"score_dtype": "int8"}, "score_dtype int8"),
        ({"mask": "m.zarr"}, "a mask"),
        ({"candidates": (("a", Length(10.0, is_voxels=False)),)}, "keep"),
    ],
)
def test_what_contradicts_it_is_refused(more, words):
    with pytest.raises(InputError, match=f"grid network with {words}"):
        PredictSettings(grid="network", **more).check()


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    """The same run, its maps on the tomogram's grid and at the network's level."""
    folder = tmp_path_factory.mktemp("grids")
    configuration = make_project(folder, network={"channels": [4, 8], "level": 1})
    done = tomostream("run", configuration)
    assert done.code == 0, done.err
    values = yaml.safe_load(configuration.read_text())
    (folder / "coarse.yaml").write_text(
        yaml.safe_dump(values | {"project": str(folder / "coarse"), "predict": values.get("predict", {}) | {"grid": "network"}})
    )
    return folder


@pytest.fixture(scope="module")
def coarse(projects):
    done = tomostream("run", projects / "coarse.yaml")
    assert done.code == 0, done.err
    return projects / "coarse"


@pytest.mark.slow
def test_a_run_gives_the_same_picks_in_an_eighth_of_the_bytes(projects, coarse):
    for name in ("t1", "t2"):
        assert (projects / "project" / "picks" / f"{name}.csv").read_bytes() == (coarse / "picks" / f"{name}.csv").read_bytes()
        one, other = (open_tomogram(folder / "scores" / f"{name}.ome.zarr") for folder in (projects / "project", coarse))
        assert_same_bits(one.read(Box.whole(one.shape)), other.read(Box.whole(one.shape)))
        assert_same_bits(one.at_level(1).read(Box((0, 0, 0), (8, 8, 8))), other.at_level(1).read(Box((0, 0, 0), (8, 8, 8))))
        full, small = (sum(len(data) for data in tree_bytes(folder / "scores").values()) for folder in (projects / "project", coarse))
    assert small < 0.15 * full
    assert (projects / "project" / "evaluation.json").read_bytes() == (coarse / "evaluation.json").read_bytes()


@pytest.mark.slow
def test_blocks_and_seams_give_the_same_bits_too(projects, tmp_path):
    model, store = projects / "project" / "model", projects / "project" / "tomograms" / "t1.ome.zarr"
    for block in ("24,40,40", "33,27,64"):
        out = [tmp_path / f"{block}-{grid}" for grid in ("tomogram", "network")]
        for folder, grid in zip(out, ("tomogram", "network"), strict=True):
            done = tomostream("predict", store, "--model", model, "-o", folder, "--block-size", block, "--grid", grid)
            assert done.code == 0, done.err
        one, other = (open_tomogram(folder / "t1.ome.zarr") for folder in out)
        assert_same_bits(one.read(Box.whole(one.shape)), other.read(Box.whole(one.shape)))


@pytest.mark.slow
def test_check_finds_and_mends_damage_of_level_and_seams(projects, tmp_path):
    model, store = projects / "project" / "model", projects / "project" / "tomograms" / "t1.ome.zarr"
    out = tmp_path / "scores"
    assert tomostream("predict", store, "--model", model, "-o", out, "--block-size", "24", "--grid", "network").code == 0
    scores = out / "t1.ome.zarr"
    assert tomostream("check", scores).code == 0
    before = tree_bytes(scores)
    for part in ("0/c/0/0/0", "seams/c/0/0/0"):
        file = scores / part
        data = bytearray(file.read_bytes())
        data[57] ^= 4
        file.write_bytes(data)
        [found] = tomostream("check", scores, "--json").json
        assert (found["path"], found["part"]) == (str(scores), part)
        done = tomostream("check", scores, model, store, "--repair")
        assert done.code == 0, done.out
        assert tree_bytes(scores) == before
    metadata = scores / "seams" / "zarr.json"
    metadata.write_text(metadata.read_text().replace("float32", "float64"))
    assert "seams/zarr.json" in tomostream("check", scores).out


@pytest.mark.slow
def test_other_readers_take_it(coarse, tmp_path):
    scores = coarse / "scores" / "t1.ome.zarr"
    assert tomostream("export", scores, "-o", tmp_path / "s.mrc", "--format", "mrc").code == 0
    import mrcfile

    whole = open_tomogram(scores)
    np.testing.assert_array_equal(mrcfile.read(tmp_path / "s.mrc"), whole.read(Box.whole(whole.shape)))
    np.testing.assert_array_equal(np.asarray(ts.open(scores).array), whole.read(Box.whole(whole.shape)))
    with pytest.raises(InputError, match=r"use `.array`"):
        _ = whole.zarr
    assert tomostream("suggest", coarse, "-o", tmp_path / "next.csv").code == 0
    assert tomostream("status", coarse).code == 0
    assert tomostream("check", coarse).code == 0
    again = tomostream("run", coarse.parent / "coarse.yaml")
    assert again.code == 0
    assert "already made" in again.err


@pytest.mark.slow
def test_another_grid_is_another_map(projects, coarse):
    values = yaml.safe_load((projects / "coarse.yaml").read_text())
    values["predict"]["grid"] = "tomogram"
    (projects / "other.yaml").write_text(yaml.safe_dump(values))
    done = tomostream("run", projects / "other.yaml", "--stage", "predict")
    assert done.code == 2
    assert "--overwrite" in done.err


@pytest.mark.slow
def test_a_model_of_level_0_writes_as_ever(tmp_path):
    configuration = make_project(tmp_path, network={"channels": [4], "level": 0}, predict={"grid": "network"})
    assert tomostream("run", configuration, "--stage", "convert", "--stage", "train", "--stage", "predict").code == 0
    store = tmp_path / "project" / "scores" / "t1.ome.zarr"
    assert "grid" not in json.loads((store / "zarr.json").read_text())["attributes"]["tomostream"]
