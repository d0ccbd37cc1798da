from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from example_counts import drawn
from peak_memory import PEAK
from picking_oracle import VOLUMES, greedy_loop
from picking_requests import asked, volume

from tomostream.budget import LIBRARIES_BYTES
from tomostream.errors import BudgetError, InputError
from tomostream.geometry import Box
from tomostream.picking.blocks import pick_array, pick_volume
from tomostream.picking.how_many import Above
from tomostream.picking.planning import plan_blocks, window_bytes
from tomostream.picking.protocol import Picks, Source

MEMORY = 10**9
RADII = (0.5, 1.0, 1.5, 2.0, 2.9, 4.0, 7.3, 30.0)
VOLUMES_A_KIND = drawn(65)


def pick(scores: np.ndarray, **settings: object) -> Picks:
    return pick_volume(volume(scores), *asked(**{"radius": 2.0, "memory": MEMORY, **settings}))


def assert_same(picks: Picks, expected: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_array_equal(picks.index_zyx, expected[0])
    np.testing.assert_array_equal(picks.score, expected[1])


def random_block(rng: np.random.Generator) -> tuple[int, int, int]:
    z, y, x = rng.integers(3, 10, 3)
    return (int(z), int(y), int(x))


@pytest.mark.parametrize("kind", VOLUMES)
def test_picks_are_those_of_the_sequential_loop_for_any_block_and_halo(kind):
    rng = np.random.default_rng(list(kind.encode()))
    for _ in range(VOLUMES_A_KIND):
        scores = VOLUMES[kind](rng, tuple(rng.integers(1, 12, 3)))
        radius = float(rng.choice(RADII))
        threshold = float(rng.choice([-np.inf, 0.0, 0.25, 0.7, 1.0]))
        expected = greedy_loop(scores, radius, threshold)
        assert_same(pick(scores, radius=radius, threshold=threshold, block=random_block(rng)), expected)
        assert_same(pick(scores, radius=radius, threshold=threshold, block=random_block(rng), halo=int(rng.integers(0, 6))), expected)


@pytest.mark.parametrize("kind", VOLUMES)
def test_a_count_gives_the_first_of_the_loop_without_a_threshold(kind):
    rng = np.random.default_rng(list(kind.encode()))
    for _ in range(drawn(20)):
        scores = VOLUMES[kind](rng, tuple(rng.integers(1, 12, 3)))
        radius, count = float(rng.choice(RADII)), int(rng.choice([1, 2, 5, 20, 10_000]))
        assert_same(pick(scores, radius=radius, count=count, block=random_block(rng)), greedy_loop(scores, radius, count=count))
        both = greedy_loop(scores, radius, 0.5, count)
        assert_same(pick(scores, radius=radius, count=count, threshold=0.5, block=random_block(rng)), both)


@pytest.mark.parametrize("voxel", [(4, 2, 2), (3, 4, 2), (4, 4, 3), (4, 4, 4), (3, 3, 3), (0, 0, 0), (7, 7, 7)])
def test_pick_on_shared_face_edge_or_corner_is_found_once(voxel):
    scores = np.zeros((8, 8, 8), dtype=np.float32)
    scores[voxel] = 1
    picks = pick(scores, threshold=0.5, block=(4, 4, 4))
    assert picks.index_zyx.tolist() == [list(voxel)]


def test_a_pick_suppresses_at_exactly_the_radius_and_not_beyond():
    scores = np.zeros((1, 8, 8), dtype=np.float32)
    scores[0, 1, 1], scores[0, 4, 5] = 2, 1  # 5 voxels apart, across a block's corner
    assert len(pick(scores, radius=5.0, threshold=0.5, block=(1, 4, 4))) == 1
    assert len(pick(scores, radius=np.nextafter(5.0, 0), threshold=0.5, block=(1, 4, 4))) == 2


def test_a_chain_of_suppressions_through_many_blocks_is_followed():
    # on a descending line each voxel waits for the one before: the first decides all others
    scores = np.arange(64, 0, -1, dtype=np.float32).reshape(64, 1, 1)
    for block in (3, 4, 5, 64):
        picks = pick(scores, radius=2.0, threshold=0.0, block=(block, 1, 1))
        assert picks.index_zyx[:, 0].tolist() == list(range(0, 64, 3))


def test_scores_are_compared_with_the_threshold_in_float64():
    above = np.float32(0.1)  # 0.100000001..., which float32 can't tell from 0.1
    scores = np.full((1, 1, 3), above)
    assert len(pick(scores, threshold=0.1)) == 1
    assert len(pick(scores, threshold=float(above))) == 0
    assert len(pick(scores.astype(np.float16), threshold=0.1)) == 0  # 0.09998 in half precision
    assert len(pick(np.full((1, 1, 1), 3, dtype=np.int8), threshold=2.9)) == 1


@pytest.mark.parametrize("kind", VOLUMES)
def test_one_block_gives_the_loop_too(kind):
    scores = VOLUMES[kind](np.random.default_rng(5), (10, 11, 9))
    assert_same(pick(scores, radius=2.5, threshold=0.1), greedy_loop(scores, 2.5, 0.1))


def test_a_nan_or_negative_infinity_is_never_picked_and_infinity_is():
    scores = np.array([np.nan, -np.inf, np.inf, 0.0], dtype=np.float32).reshape(1, 1, 4)
    assert_same(pick(scores, radius=0.5, count=9), (np.array([[0, 0, 2], [0, 0, 3]]), np.array([np.inf, 0.0])))
    assert len(pick(np.full((3, 3, 3), np.nan), count=9)) == 0


@pytest.mark.slow
def test_only_voxels_in_box_and_mask_and_off_the_border_are_candidates():
    rng = np.random.default_rng(0)
    for _ in range(5):
        scores = rng.integers(0, 4, (11, 10, 12)).astype(np.float32)
        allowed = rng.random(scores.shape) < 0.7
        box = Box((1, 0, 2), (9, 10, 9))
        inside = np.zeros(scores.shape, dtype=bool)
        inside[box.slices] = True
        off_border = np.zeros(scores.shape, dtype=bool)
        off_border[2:-2, 2:-2, 2:-2] = True
        block = random_block(rng)
        settings = {"threshold": 0.0, "block": block}

        def mask(part: Box, allowed: np.ndarray = allowed) -> np.ndarray:
            return allowed[part.slices]

        for given, keep in [
            ({"box": box}, inside),
            ({"mask": mask}, allowed),
            ({"border": 1.5}, off_border),
            ({"box": box, "mask": mask, "border": 2.0}, inside & allowed & off_border),
        ]:
            expected = greedy_loop(np.where(keep, scores, -np.inf), 2.0, 0.0)
            assert_same(pick(scores, **settings, **given), expected)
            assert_same(pick(scores, count=5, block=block, **given), greedy_loop(np.where(keep, scores, -np.inf), 2.0, count=5))


def test_smoothed_picks_do_not_depend_on_blocks():
    rng = np.random.default_rng(1)
    for kind in ("plateaus", "NaN and infinities", "half precision"):
        scores = VOLUMES[kind](rng, (12, 11, 13))
        whole = pick(scores, threshold=0.2, smooth=2.3)
        assert len(whole) > 0
        for block in [(5, 4, 6), (12, 3, 13), (1, 11, 7)]:
            assert_same(pick(scores, threshold=0.2, smooth=2.3, block=block), (whole.index_zyx, whole.score))


def test_smoothing_centres_the_pick_of_a_plateau():
    grid = np.indices((15, 15, 15)) - 7
    scores = ((grid**2).sum(axis=0) <= 16).astype(np.float32)
    assert pick(scores, radius=8.0, count=1).index_zyx.tolist() == [[3, 7, 7]]
    assert pick(scores, radius=8.0, count=1, smooth=4.0).index_zyx.tolist() == [[7, 7, 7]]


def test_workers_and_the_order_in_which_blocks_run_do_not_matter():
    scores = VOLUMES["plateaus"](np.random.default_rng(2), (12, 12, 12))
    expected = greedy_loop(scores, 2.0, 0.1)

    def backwards(function: Callable[[Box], object], blocks: Iterable[Box]) -> list[object]:
        return [function(block) for block in reversed(list(blocks))][::-1]

    assert_same(pick(scores, threshold=0.1, block=(5, 5, 5), workers=3), expected)
    assert_same(pick(scores, threshold=0.1, block=(5, 5, 5), map_blocks=backwards), expected)
    assert_same(pick(scores, count=len(expected[0]) - 1, block=(5, 5, 5), workers=2), (expected[0][:-1], expected[1][:-1]))


def test_each_voxel_is_read_once_but_for_halos_and_empty_cores_cost_no_second_look():
    read: list[Box] = []

    def spy(box: Box) -> np.ndarray:
        read.append(box)
        return np.zeros(box.shape, dtype=np.float32)

    pick_volume(Source(spy, (20, 20, 20)), *asked(radius=3.0, threshold=0.5, block=(10, 10, 10), memory=MEMORY))
    assert len(read) == 8
    assert max(box.size for box in read) == 13**3


@pytest.mark.slow
def test_picks_that_outgrow_the_memory_are_refused_with_a_threshold_that_fits():
    scores = np.random.default_rng(3).random((40, 40, 40))
    small = LIBRARIES_BYTES + 2 * 300_000  # some 2500 points
    with pytest.raises(BudgetError, match=r"picks and undecided voxels.* can hold only 2500 of them") as refusal:
        pick(scores, radius=1.0, threshold=0.1, block=(8, 8, 8), memory=small)
    threshold = float(re.search(r"with the threshold ([0-9.]+)", str(refusal.value))[1])
    number = int(re.search(r"they fit \((\d+) picks\)", str(refusal.value))[1])
    fitting = pick(scores, radius=1.0, threshold=threshold, block=(8, 8, 8), memory=small)
    assert len(fitting) == number > 500
    ample = pick(scores, radius=1.0, threshold=0.1)
    assert_same(fitting, (ample.index_zyx[:number], ample.score[:number]))


def test_a_count_is_served_although_all_picks_would_not_fit():
    scores = np.random.default_rng(4).random((40, 40, 40))
    small = LIBRARIES_BYTES + 2 * 300_000
    ample = pick(scores, radius=1.0, threshold=0.1)
    assert_same(
        pick(scores, radius=1.0, threshold=0.1, count=300, block=(8, 8, 8), memory=small), (ample.index_zyx[:300], ample.score[:300])
    )
    with pytest.raises(BudgetError, match="5000 picks need"):
        pick(scores, radius=1.0, count=5000, memory=small)


def test_a_count_beyond_the_peaks_of_an_empty_volume_is_refused_with_the_threshold_that_leaves_the_background():
    scores = np.zeros((40, 40, 40), dtype=np.int8)
    scores[5, 5, 5] = 1
    with pytest.raises(BudgetError, match=r"picking the best 50 found .* with the threshold 0.0 they fit \(1 picks\)"):
        pick(scores, count=50, block=(8, 8, 8), memory=LIBRARIES_BYTES + 2 * 300_000)
    assert len(pick(scores, count=50)) == 50


@pytest.mark.parametrize("memory", [400 * 10**6, 10**9, 4 * 10**9])
@pytest.mark.parametrize("radius", [1.0, 10.0, 60.0])
@pytest.mark.parametrize("smooth", [0.0, 5.0])
def test_planned_blocks_fit_half_of_what_the_libraries_leave(memory, radius, smooth):
    domain = (500, 1000, 1000)
    plan = plan_blocks(domain, block=None, halo=None, radius=radius, smooth=smooth, memory=memory, libraries=LIBRARIES_BYTES, workers=1)
    assert window_bytes(plan.block, halo=plan.halo, radius=radius, smooth=smooth, domain=domain) <= (memory - LIBRARIES_BYTES) // 2
    assert plan.halo <= radius


def test_a_memory_below_the_smallest_block_is_refused_before_reading():
    def read(box: Box) -> np.ndarray:
        raise AssertionError(f"read {box}")

    with pytest.raises(BudgetError, match=r"even in blocks of 7 voxels.*budget is 150 MB"):
        pick_volume(Source(read, (100, 100, 100)), *asked(radius=5.0, threshold=0.5, memory=LIBRARIES_BYTES))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.5, "radius": 0.0}, "radius: 0 voxels must be above zero"),
        ({"threshold": 0.5, "radius": float("nan")}, "radius: nan"),
        ({}, "how many picks"),
        ({"threshold": float("nan")}, "threshold: .* found nan"),
        ({"count": 0}, "count: .* found 0"),
        ({"count": 1, "block": (0, 4, 4)}, "block: .* found 0,4,4"),
        ({"count": 1, "smooth": -1.0}, "smooth: -1 voxels"),
        ({"count": 1, "border": -1.0}, "border: -1 voxels"),
        ({"count": 1, "border": 2.0}, "no voxel is left to pick from: .* 4,4,4"),
        ({"count": 1, "box": Box((0, 0, 0), (5, 4, 4))}, "leaves the volume, whose shape is z,y,x = 4,4,4"),
        ({"count": 1, "mask": lambda box: np.ones(box.shape)}, "mask: .* must be boolean"),
        ({"count": 1, "mask": lambda box: np.ones((1, 1, 1), dtype=bool)}, "mask: .* must be boolean of shape"),
    ],
)
def test_impossible_settings_are_refused_with_the_value_found(settings, message):
    with pytest.raises(InputError, match=message):
        pick(np.zeros((4, 4, 4)), **settings)


def test_scores_that_are_no_real_volume_are_refused():
    with pytest.raises(InputError, match="complex128"):
        pick(np.zeros((4, 4, 4), dtype=complex), count=1)
    with pytest.raises(InputError, match="three axes"):
        pick_array(np.zeros((4, 4)), radius=1.0, how_many=Above(0.5), memory=MEMORY)
    with pytest.raises(InputError, match="must have shape"):
        pick_volume(Source(lambda box: np.zeros((1, 1, 1)), (4, 4, 4)), *asked(radius=1.0, threshold=0.5, memory=MEMORY))


def test_an_empty_volume_has_no_picks():
    assert len(pick_array(np.zeros((0, 4, 4)), radius=1.0, how_many=Above(0.5), memory=MEMORY)) == 0


_PEAK = f"""
import sys
import numpy as np
from tomostream.geometry import Box
from tomostream.picking.blocks import pick_volume
from tomostream.picking.how_many import Above
from tomostream.picking.protocol import Execution, PickRequest, Source

def read(box):
    rng = np.random.default_rng(list(box.start))
    return rng.random(box.shape, dtype=np.float32)

before = {PEAK}
source = Source(read, (int(sys.argv[1]), 160, 160))
picks = pick_volume(source, PickRequest(radius=5.0, how_many=Above(0.5)), Execution(memory=400_000_000, halo=0))
peak = {PEAK}
print(before, peak, len(picks))
"""


@pytest.mark.slow
@pytest.mark.memory
def test_resident_memory_stays_within_the_budget_when_half_of_all_voxels_are_candidates():
    done = subprocess.run([sys.executable, "-c", _PEAK, "96"], capture_output=True, text=True, check=True)
    before, peak, picks = map(int, done.stdout.split())
    assert picks > 1000
    assert peak - before < 400_000_000 - LIBRARIES_BYTES


def test_a_fault_of_the_block_that_is_read_ahead_reaches_the_caller():
    seen: list[Box] = []

    def read(box: Box) -> np.ndarray:
        seen.append(box)
        if len(seen) == 3:
            raise InputError("the third block can't be read")
        return np.zeros(box.shape, dtype=np.float32)

    with pytest.raises(InputError, match="the third block"):
        pick_volume(Source(read, (64, 8, 8)), *asked(radius=2.0, threshold=0.5, memory=MEMORY, block=(8, 8, 8), halo=0))
    assert len(seen) == 3  # and no more is read
