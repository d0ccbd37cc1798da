import itertools
from collections import Counter

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from tomostream.errors import InputError
from tomostream.stream.crop_positions import uniform_range
from tomostream.stream.plan import UNIFORM, Crop, Design, Rejected, draw_epoch, draw_uniform, fitted_crop, inclusion_weights, make_design


def all_crops(design: Design):
    """Every crop that can be drawn, with its expected number in an epoch."""
    for t, shape in enumerate(design.shapes):
        axes = []
        for d, c in zip(shape, design.crop, strict=True):
            low, high = uniform_range(d, c)
            axes.append(Counter(min(max(k, 0), d - c) for k in range(low, high + 1)))
        total = np.prod([sum(axis.values()) for axis in axes])
        for corner in itertools.product(*axes):
            chance = np.prod([axis[k] for axis, k in zip(axes, corner, strict=True)]) / total
            yield Crop(t, corner, 0, UNIFORM), design.n_uniform * design.tomogram_share[t] * chance
    for i, t in enumerate(design.point_tomogram.tolist()):
        corners = list(
            itertools.product(*(range(a, b + 1) for a, b in zip(design.point_low[i].tolist(), design.point_high[i].tolist(), strict=True)))
        )
        for corner in corners:
            yield Crop(t, corner, 0, i), design.n_labelled * design.point_share[i] / len(corners)


def two_volumes(n_uniform: int, n_labelled: int, seed: int = 0, crop=(3, 4, 2), radius=(1.0, 1.6)) -> Design:
    rng = np.random.default_rng(seed)
    shapes = [(5, 7, 6), (4, 9, 3)]
    points = [[rng.random((n, 3)) * (np.array(shape) - 1) for n in counts] for shape, counts in zip(shapes, [(2, 1), (0, 3)], strict=True)]
    return make_design(
        shapes=shapes, points=points, radius=radius, crop=crop, n_uniform=n_uniform, n_labelled=n_labelled, orientations=(0,)
    )


@examples(12)
@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 1000))
def test_expected_weighted_sum_over_crops_is_proportional_to_the_sum_over_the_volumes(n_uniform, n_labelled, seed):
    design = two_volumes(n_uniform, n_labelled, seed)
    summed = [np.zeros(shape) for shape in design.shapes]
    for crop, expected in all_crops(design):
        summed[crop.tomogram][design.box(crop).slices] += expected * inclusion_weights(design, crop).astype(np.float64)
    voxels = sum(np.prod(shape) for shape in design.shapes)
    constant = (n_uniform + n_labelled) * np.prod(design.crop) / voxels
    # every voxel gets the same: so any g is summed without bias
    for total in summed:
        np.testing.assert_allclose(total, constant, rtol=1e-6)


def test_mean_weight_over_an_epoch_of_crops_is_one():
    for n_uniform, n_labelled in [(40, 0), (20, 20), (4, 36)]:
        design = two_volumes(n_uniform, n_labelled)
        mean = sum(expected * inclusion_weights(design, crop).mean(dtype=np.float64) for crop, expected in all_crops(design)) / 40
        assert mean == pytest.approx(1, rel=1e-6)


def with_rejected(share: float, n_uniform: int = 10, n_labelled: int = 30, seed: int = 0) -> tuple[Design, Design]:
    """Designs of the same clicks, without and with rejected places in both volumes."""
    rng = np.random.default_rng(seed)
    shapes = [(5, 7, 6), (4, 9, 3)]
    points, places = (
        [[rng.random((n, 3)) * (np.array(shape) - 1) for n in counts] for shape, counts in zip(shapes, [(2, 1), (0, 3)], strict=True)]
        for _ in range(2)
    )
    made = (
        make_design(
            shapes=shapes, points=points, radius=(1.0, 1.6), crop=(3, 4, 2), n_uniform=n_uniform, n_labelled=n_labelled, orientations=(0,),
            rejected=rejected,
        )
        for rejected in (None, Rejected(places, (0.5, 0.8), share))
    )  # fmt: skip
    return next(made), next(made)


@examples(8)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 1), st.integers(0, 1000))
def test_crops_around_rejected_places_leave_the_sums_without_bias(n_uniform, n_labelled, share, seed):
    design = with_rejected(share, n_uniform, n_labelled, seed)[1]
    summed = [np.zeros(shape) for shape in design.shapes]
    for crop, expected in all_crops(design):
        summed[crop.tomogram][design.box(crop).slices] += expected * inclusion_weights(design, crop).astype(np.float64)
    constant = (n_uniform + n_labelled) * np.prod(design.crop) / sum(np.prod(shape) for shape in design.shapes)
    for total in summed:
        np.testing.assert_allclose(total, constant, rtol=1e-6)


def test_rejected_places_take_their_share_of_the_labelled_crops_and_no_more():
    plain, design = with_rejected(1 / 3)
    clicks = len(plain.point_share)
    np.testing.assert_allclose(design.point_share[:clicks], 2 / 3 * plain.point_share)
    np.testing.assert_allclose(design.point_share[clicks:].sum(), 1 / 3)
    assert len(design.point_share) == 2 * clicks
    drawn = [sum(crop.point >= clicks for crop in draw_epoch(design, seed=1, epoch=epoch)[0]) for epoch in range(20)]
    assert set(drawn) <= {9, 10, 11}


@pytest.mark.slow
def test_drawn_epochs_estimate_the_volume_mean_without_bias():
    design = two_volumes(12, 12)
    truth = [np.random.default_rng(5).random(shape) for shape in design.shapes]
    estimates = []
    for epoch in range(150):
        crops = itertools.chain(*draw_epoch(design, seed=3, epoch=epoch))
        sums = np.sum(
            [[(w := inclusion_weights(design, c)).sum(), (w * truth[c.tomogram][design.box(c).slices]).sum()] for c in crops], axis=0
        )
        estimates.append(sums[1] / (24 * np.prod(design.crop)))
    mean = np.concatenate([t.ravel() for t in truth]).mean()
    assert np.mean(estimates) == pytest.approx(mean, abs=4 * np.std(estimates) / np.sqrt(150))
    assert np.std(estimates) / np.sqrt(150) < 0.02


def test_voxels_that_no_crop_can_hold_have_no_weight():
    design = make_design(
        shapes=[(20, 20, 20)],
        points=[[np.array([[3.0, 3, 3]])]],
        radius=[1.0],
        crop=(6, 6, 6),
        n_uniform=0,
        n_labelled=4,
        orientations=(0,),
    )
    assert not inclusion_weights(design, Crop(0, (14, 14, 14), 0, UNIFORM)).any()
    assert (inclusion_weights(design, Crop(0, (0, 0, 0), 0, 0)) > 0).all()


def test_drawn_crops_are_among_the_possible_ones_and_the_same_for_the_same_seed_and_epoch():
    design = two_volumes(200, 200)
    possible = {(c.tomogram, c.start, c.point) for c, _ in all_crops(design)}
    labelled, uniform = draw_epoch(design, seed=7, epoch=2)
    assert (len(labelled), len(uniform)) == (200, 200)
    assert all(c.is_labelled for c in labelled)
    assert not any(c.is_labelled for c in uniform)
    assert {(c.tomogram, c.start, c.point) for c in (*labelled, *uniform)} <= possible
    assert draw_epoch(design, seed=7, epoch=2) == (labelled, uniform)
    assert draw_epoch(design, seed=7, epoch=3) != (labelled, uniform)
    assert draw_epoch(design, seed=8, epoch=2) != (labelled, uniform)


def test_corners_have_the_frequencies_that_the_weights_assume():
    design = make_design(
        shapes=[(6, 3, 3)],
        points=[[np.array([[2.2, 1, 1]])]],
        radius=[1.0],
        crop=(4, 3, 3),
        n_uniform=6000,
        n_labelled=6000,
        orientations=(0,),
    )
    expected = Counter()
    for crop, number in all_crops(design):
        expected[crop.is_labelled, crop.start] += number
    found = Counter((c.is_labelled, c.start) for c in itertools.chain(*draw_epoch(design, seed=0, epoch=0)))
    assert found.keys() == expected.keys()
    for key, number in expected.items():
        assert abs(found[key] - number) < 5 * np.sqrt(number)


def test_each_species_gets_the_same_share_and_each_point_of_it_too_to_within_one_crop():
    design = two_volumes(0, 60)
    found = Counter(c.point for c in draw_epoch(design, seed=1, epoch=0)[0])
    # species 0 has 2 points in the first volume, species 1 has 1 there and 3 in the second
    for point, share in zip(range(6), [15, 15, 7.5, 7.5, 7.5, 7.5], strict=True):
        assert abs(found[point] - share) <= 1


def test_volumes_get_uniform_crops_in_proportion_to_their_voxels():
    design = two_volumes(1000, 0)
    share = 5 * 7 * 6 / (5 * 7 * 6 + 4 * 9 * 3)
    found = sum(c.tomogram == 0 for c in draw_uniform(design, 1000, np.random.default_rng(0)))
    assert abs(found - 1000 * share) <= 1


def test_orientations_are_drawn_alike():
    design = make_design(
        shapes=[(6, 6, 6)],
        points=[[np.empty((0, 3))]],
        radius=[1.0],
        crop=(3, 3, 3),
        n_uniform=4800,
        n_labelled=0,
        orientations=tuple(range(48)),
    )
    found = Counter(c.orientation for c in draw_epoch(design, seed=0, epoch=0)[1])
    assert len(found) == 48
    assert max(abs(n - 100) for n in found.values()) < 50


def test_a_global_random_state_is_neither_read_nor_changed():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (the global state is what is tested)
    draw_epoch(two_volumes(5, 5), seed=0, epoch=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002 (as above)


def test_a_crop_longer_than_a_volume_becomes_the_largest_multiple_of_the_stride():
    assert fitted_crop((48, 48, 48), [(30, 100, 100), (60, 45, 100)], 4) == (28, 44, 48)


def test_a_crop_that_the_network_cannot_take_is_refused():
    with pytest.raises(InputError, match=r"crop \(48, 50, 48\).*multiples of the network's stride, 4; for example \(48, 48, 48\)"):
        fitted_crop((48, 50, 48), [(100, 100, 100)], 4)


def test_a_volume_thinner_than_the_stride_is_refused():
    with pytest.raises(InputError, match="3 voxels along z, but the network needs at least its stride, 4"):
        fitted_crop((48, 48, 48), [(3, 100, 100)], 4)


def test_labelled_crops_without_a_point_are_refused():
    with pytest.raises(InputError, match="no labelled point"):
        make_design(
            shapes=[(9, 9, 9)], points=[[np.empty((0, 3))]], radius=[2.0], crop=(3, 3, 3), n_uniform=1, n_labelled=1, orientations=(0,)
        )


def test_points_far_outside_of_their_volume_are_refused_with_the_first_of_them():
    points = np.array([[1.0, 2, 3], [30, 4, 5]])
    with pytest.raises(InputError, match=r"1 of 2 points lie outside of tomogram 0 \(shape \(9, 9, 9\).*the first is \(30.0, 4.0, 5.0\)"):
        make_design(shapes=[(9, 9, 9)], points=[[points]], radius=[2.0], crop=(3, 3, 3), n_uniform=1, n_labelled=1, orientations=(0,))
