"""Maps of candidates: picks are those of the whole map, or it is said that they can't be known; a hundredth of the bytes."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picking_oracle import VOLUMES, greedy_loop
from scipy import ndimage

from tomostream.cluster import Resources
from tomostream.errors import InputError
from tomostream.geometry import Box, triple
from tomostream.picking.best_first import GreedyPicker
from tomostream.picking.how_many import Above, AsManyAs, Best
from tomostream.picking.protocol import Execution, PickRequest, Source
from tomostream.progress import Progress
from tomostream.score_map import ScoreMapAttributes, open_score_map
from tomostream.stages.picks.stage import PickSettings, pick_map
from tomostream.stages.prediction import candidates
from tomostream.stages.prediction.candidates import MOST_SHARE, Reduction, reduced, thinned, work_place
from tomostream.store.omezarr import StoreSpec, StoreWriter
from tomostream.units import Length

SPACING = 10.0
MEMORY = 2 * 10**9
INT8 = {"score_scale": 1 / 254, "score_offset": 0.5, "score_missing": -128}


def make(folder: Path, scores: np.ndarray, radius: float, *, shard: int, searched: int | None = None, name: str = "t") -> Path:
    """Take scores through what `predict` does with them, shard by shard; the search goes in blocks of a shard's voxels, or of `searched`."""
    target = folder / f"{name}.ome.zarr"
    attributes = ScoreMapAttributes(kind="scores", species="ribosome", tomogram=name, **(INT8 if scores.dtype == np.int8 else {}))
    edges = triple(shard), triple(shard)
    spec = StoreSpec(name, triple(scores.shape), scores.dtype, SPACING, *edges, candidates.CODEC, 1, attributes.to_json())
    missing = -128.0 if scores.dtype == np.int8 else math.nan
    floors = []
    with StoreWriter.create_or_resume(work_place(target), spec, fingerprint={"a": 1}, overwrite=False) as writer:
        for index in writer.pending():
            block = scores[writer.shards.core(index).slices].copy()
            floors.append(thinned(block, missing))
            writer.write(index, block)
            writer.mark_done(index)
        known = [floor for floor in floors if floor is not None]
        writer.finish({"floor": max(known)} if known else None)
    work = str(work_place(target))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(candidates, "_BLOCK_VOX", searched or math.prod(triple(shard)))
        reduced(Reduction(work=work, target=str(target), spec=spec, radius=radius, fingerprint={"a": 1}, overwrite=False, memory=MEMORY))
    return target


def picked(store: Path, radius: float, how_many: object, **given: object) -> tuple[np.ndarray, np.ndarray]:
    wanted = PickSettings(radius=Length(radius, is_voxels=True), how_many=how_many, **given)
    found = pick_map(open_score_map(store), wanted, resources=Resources(memory=MEMORY), progress=Progress())
    return np.rint(found.position_zyx / SPACING).astype(np.int64), found.score


def assert_same_or_refused(store: Path, decoded: np.ndarray, radius: float, how_many: Best | Above) -> bool:
    """Compare with the loop over the whole map; whether it was answered."""
    try:
        place, score = picked(store, radius, how_many)
    except InputError as error:
        if "keep: scores" not in str(error):
            raise
        return False
    threshold = -np.inf if how_many.above is None else how_many.above
    expected = greedy_loop(decoded, radius, threshold, how_many.most)
    np.testing.assert_array_equal(place, expected[0])
    np.testing.assert_array_equal(score, expected[1])
    return True


def particles(shape: tuple[int, int, int], count: int, seed: int) -> np.ndarray:
    """Probabilities: peaks on noise that is correlated as a network's is."""
    rng = np.random.default_rng(seed)
    logits = ndimage.gaussian_filter(rng.normal(size=shape), 2.0) * 30 - 6
    centres = np.zeros(shape)
    centres[tuple(rng.integers(0, n, count) for n in shape)] = 1
    logits += ndimage.gaussian_filter(centres, 2.5) * 2500
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


@pytest.fixture(scope="module")
def realistic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    scores = particles((40, 64, 64), 8, 0)
    return make(tmp_path_factory.mktemp("candidates"), scores, 8.0, shard=32), scores


def chunk_bytes(store: Path) -> int:
    return sum(file.stat().st_size for file in (store / "0" / "c").rglob("*") if file.is_file())


@pytest.mark.slow
@settings(deadline=None, max_examples=5)
@given(st.data())
def test_picks_are_those_of_the_whole_map_for_any_radius_count_and_threshold_above_the_floors(tmp_path_factory, data):
    kind = data.draw(st.sampled_from(sorted(set(VOLUMES) - {"boolean"})))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    scores = VOLUMES[kind](rng, tuple(rng.integers(4, 24, 3)))
    scores = scores.astype("f4")  # of integers score maps know int8 alone, whose missing value is none of these volumes'
    scores[scores == np.inf] = 3  # ties
    store = make(tmp_path_factory.mktemp("c"), scores, radius := float(rng.choice([1.0, 2.0, 3.3])), shard=int(rng.choice([8, 16])))
    bounds = open_score_map(store).attributes.candidates
    for times in (1.0, 1.2, 1.9, 2.5):
        wide = times * radius
        assert_same_or_refused(store, scores, wide, Best(int(rng.integers(1, 6))))
        floor = bounds.floor_at(wide, is_whole=True)
        assert assert_same_or_refused(store, scores, wide, Above(floor))
        assert assert_same_or_refused(store, scores, wide, Best(3, floor))
        if math.isfinite(floor):
            assert not assert_same_or_refused(store, scores, wide, Above(floor - 0.5))


@pytest.mark.slow
def test_particles_are_picked_by_counts_well_beyond_their_number(realistic):
    store, scores = realistic
    for radius, count in ((8.0, 40), (8.0, 8), (9.0, 24), (10.0, 16), (14.0, 8)):
        assert assert_same_or_refused(store, scores, radius, Best(count)), (radius, count)
    place, _ = picked(store, 8.0, AsManyAs(8))
    whole = GreedyPicker().pick(
        Source.of(scores, values="probability"), PickRequest(radius=8.0, how_many=AsManyAs(8)), Execution(memory=MEMORY)
    )
    np.testing.assert_array_equal(place, whole.index_zyx)


@pytest.mark.slow
def test_candidates_take_a_hundredth_of_the_map(realistic):
    store, scores = realistic
    assert chunk_bytes(store) <= MOST_SHARE * scores.nbytes
    assert not work_place(store).parent.exists()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_other_types_hold_the_promise_too(tmp_path, dtype):
    scores = particles((32, 64, 64), 8, 1)
    stored = np.rint(scores * 254 - 127).astype(np.int8) if dtype == "int8" else scores.astype(dtype)
    decoded = stored * np.float64(1 / 254) + np.float64(0.5) if dtype == "int8" else stored.astype(np.float32)
    store = make(tmp_path, stored, 8.0, shard=32)
    assert chunk_bytes(store) <= MOST_SHARE * stored.nbytes
    for radius, count in ((8.0, 8), (9.5, 6)):
        assert assert_same_or_refused(store, decoded, radius, Best(count))


def test_what_candidates_do_not_hold_is_refused_with_what_to_do(realistic):
    store, _ = realistic
    for radius, wanted, more in (
        (8.0, Best(2000), {}),
        (30.0, Above(1e-6), {}),
        (3.0, Above(1e-6), {}),
        (8.0, Above(0.5), {"smooth": Length(2.0, is_voxels=True)}),
        (8.0, Above(0.5), {"method": "mean-pool"}),
    ):
        with pytest.raises(InputError, match="keep: scores"):
            picked(store, radius, wanted, **more)


def test_infinite_scores_without_number_are_refused(tmp_path):
    with pytest.raises(InputError, match="infinite score"):
        make(tmp_path, np.full((8, 8, 8), np.inf, dtype=np.float32), 2.0, shard=8)


def test_a_part_of_the_volume_is_picked_above_the_floor_of_any_radius(realistic):
    store, scores = realistic
    floor = open_score_map(store).attributes.candidates.floor
    box = Box((10, 20, 5), (40, 50, 60))
    place, score = picked(store, 5.0, Above(floor), box=box)
    expected = greedy_loop(scores[box.slices], 5.0, floor)
    np.testing.assert_array_equal(place - box.start, expected[0])
    np.testing.assert_array_equal(score, expected[1])


@pytest.mark.slow
def test_blocks_and_memory_change_nothing(tmp_path):
    scores = particles((32, 48, 48), 6, 2)
    given = [(16, None), (32, None), (48, 2**25)]  # the last in one block
    stores = [make(tmp_path / str(shard), scores, 6.0, shard=shard, searched=searched) for shard, searched in given]
    found = [open_score_map(store) for store in stores]
    for radius in (6.0, 7.0, 11.0):
        floor = max(one.attributes.candidates.floor_at(radius, is_whole=True) for one in found)
        assert all(assert_same_or_refused(store, scores, radius, Above(floor)) for store in stores)
