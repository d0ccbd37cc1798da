"""The regions in which validation clicks count: tomograms take turns, and what fits is as it was for one tomogram alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tomostream.strategies.validation import TOTAL_VOX, boxes_around, boxes_in_turns

LARGE = (100, 300, 300)  # four regions of 2.25 million voxels


def clicks(shape, count, seed):
    return np.random.default_rng(seed).uniform(0, np.array(shape) - 1, (count, 3))


def test_a_tomogram_with_many_clicks_leaves_regions_to_the_others():
    shapes = [(60, 300, 300)] * 3  # regions of 1.35 million voxels
    points = [clicks(shapes[0], count, seed) for seed, count in enumerate((90, 8, 6))]
    chosen = boxes_in_turns(shapes, points, seed=0)
    assert [len(boxes) for boxes in chosen] == [1, 1, 0]
    assert all(boxes == boxes_around(shape, own)[: len(boxes)] for boxes, shape, own in zip(chosen, shapes, points, strict=True))
    small = [(60, 300, 300), (20, 100, 100), (20, 100, 100)]
    assert [len(boxes) for boxes in boxes_in_turns(small, [clicks(s, 9, 1) for s in small], seed=0)] == [1, 1, 1]


def test_where_one_region_is_all_it_is_the_one_with_most_clicks():
    shapes = [LARGE, LARGE, LARGE]
    points = [clicks(LARGE, count, seed) for seed, count in enumerate((3, 40, 5))]
    assert boxes_in_turns(shapes, points, seed=0) == [[], boxes_around(LARGE, points[1])[:1], []]


def test_the_seed_decides_between_tomograms_with_as_many_clicks():
    shapes, points = [LARGE] * 2, [clicks(LARGE, 1, 0)] * 2
    found = {str(boxes_in_turns(shapes, points, seed=seed)) for seed in range(8)}
    assert len(found) == 2
    assert boxes_in_turns(shapes, points, seed=5) == boxes_in_turns(shapes, points, seed=5)


@given(st.integers(0, 99), st.integers(1, 60), st.sampled_from([LARGE, (40, 400, 300), (319, 161, 170)]))
def test_one_tomogram_gives_its_fullest_regions_until_the_next_is_too_much(seed, count, shape):
    points = clicks(shape, count, seed)
    expected, total = [], 0
    for box in boxes_around(shape, points):
        if expected and total + box.size > TOTAL_VOX:
            break
        total += box.size
        expected.append(box)
    assert boxes_in_turns([shape], [points], seed) == [expected]


@given(st.integers(0, 99), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_clicks_that_fit_all_count_in_the_order_of_their_tomograms(seed, counts):
    shape = (20, 170, 170)
    points = [clicks(shape, count, seed + number) for number, count in enumerate(counts)]
    assert boxes_in_turns([shape] * len(counts), points, seed) == [boxes_around(shape, own) for own in points]
