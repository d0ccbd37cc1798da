"""Picks against truth: both matching rules, the curve over the score, tables, species, and the form of the JSON."""

import itertools

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from tomostream.errors import InputError
from tomostream.evaluation import Scores, ScoringRules, evaluate_tables, match, precision_recall_curve
from tomostream.evaluation.tables import compared_species
from tomostream.particles import Particles

coordinate = st.one_of(st.integers(0, 12).map(float), st.floats(0, 12))


def positions(most):
    rows = st.lists(st.tuples(coordinate, coordinate, coordinate), max_size=most)
    return rows.map(lambda r: np.array(r, dtype=np.float64).reshape(-1, 3))


def distances(picks, truth):
    return np.sqrt(((picks[:, None] - truth[None]) ** 2).sum(axis=2))


def best_assignment(picks, truth, tolerance):
    """Most pairs, then least total distance, by trying everything."""
    near = distances(picks, truth)
    allowed = near <= tolerance * (1 + 1e-9)
    small, large = (near, allowed) if len(picks) <= len(truth) else (near.T, allowed.T)
    best = (0, 0.0)
    for chosen in itertools.product(range(-1, small.shape[1] if small.size else 0), repeat=len(small)):
        used = [c for c in chosen if c >= 0]
        if len(used) != len(set(used)) or not all(large[i, c] for i, c in enumerate(chosen) if c >= 0):
            continue
        best = min(best, (-len(used), sum(small[i, c] for i, c in enumerate(chosen) if c >= 0)))
    return -best[0], best[1]


# ---- counts


def test_ratios_of_the_textbook_example():
    scores = Scores(tp=30, fp=10, fn=20)
    assert (scores.precision, scores.recall) == (0.75, 0.6)
    assert scores.f1 == pytest.approx(2 / 3)
    assert scores.f_beta(2.0) == pytest.approx(5 * 0.75 * 0.6 / (4 * 0.75 + 0.6))


def test_nothing_to_find_and_nothing_picked_is_perfect_but_no_pick_of_something_is_zero():
    assert [Scores(0, 0, 0).precision, Scores(0, 0, 0).recall, Scores(0, 0, 0).f1] == [1.0, 1.0, 1.0]
    assert [Scores(0, 0, 5).precision, Scores(0, 0, 5).recall, Scores(0, 0, 5).f1] == [0.0, 0.0, 0.0]
    assert [Scores(0, 5, 0).precision, Scores(0, 5, 0).recall, Scores(0, 5, 0).f1] == [0.0, 0.0, 0.0]


# ---- matching


@examples(150)
@given(positions(12), positions(12), st.floats(0.1, 8))
def test_any_counts_as_the_paper_says(picks, truth, tolerance):
    near = distances(picks, truth) <= tolerance * (1 + 1e-9)
    found = match(picks, truth, tolerance=tolerance, matching="any")
    assert found.scores == Scores(int(near.any(axis=0).sum()), int((~near.any(axis=1)).sum()), int((~near.any(axis=0)).sum()))
    for i, j in enumerate(found.truth_of_pick):
        assert j < 0 or near[i, j]


@examples(150)
@given(positions(4), positions(4), st.floats(0.5, 12))
def test_one_to_one_has_most_pairs_and_of_those_the_least_distance(picks, truth, tolerance):
    pairs, total = best_assignment(picks, truth, tolerance)
    found = match(picks, truth, tolerance=tolerance, matching="one-to-one")
    assert found.scores == Scores(pairs, len(picks) - pairs, len(truth) - pairs)
    matched = np.flatnonzero(found.truth_of_pick >= 0)
    assert distances(picks, truth)[matched, found.truth_of_pick[matched]].sum() == pytest.approx(total, abs=1e-6)
    np.testing.assert_array_equal(found.pick_of_truth[found.truth_of_pick[matched]], matched)


def test_number_of_pairs_comes_before_their_distance():
    # the nearest pair alone (distance 1) would leave the others unmatched
    picks, truth = np.array([[0.0, 0, 0], [0, 0, 9]]), np.array([[0.0, 0, -9], [0, 0, 1]])
    found = match(picks, truth, tolerance=9.0, matching="one-to-one")
    assert found.truth_of_pick.tolist() == [0, 1]


def test_two_picks_on_one_particle_cost_nothing_under_any_and_one_under_one_to_one():
    picks, truth = np.array([[0.0, 0, 0], [0, 0, 2]]), np.array([[0.0, 0, 1]])
    assert match(picks, truth, tolerance=10.0, matching="any").scores == Scores(1, 0, 0)
    assert match(picks, truth, tolerance=10.0, matching="one-to-one").scores == Scores(1, 1, 0)


@pytest.mark.parametrize("matching", ["any", "one-to-one"])
def test_a_pair_at_exactly_the_tolerance_matches_in_voxels_and_in_angstrom(matching):
    steps = np.array([[0.0, 6, 8], [0, 0, 10], [10, 0, 0]])
    corners = np.arange(300, dtype=np.float64).reshape(100, 1, 3) * 7
    for step in steps:
        for spacing in (1.0, 13.48, 1 / 3):
            picks, truth = corners.reshape(-1, 3) * spacing, (corners.reshape(-1, 3) + step) * spacing
            for i in range(0, 100, 9):
                assert match(picks[i : i + 1], truth[i : i + 1], tolerance=10 * spacing, matching=matching).scores == Scores(1, 0, 0)
    assert match(np.zeros((1, 3)), np.array([[0, 0, 10.00001]]), tolerance=10.0, matching=matching).scores == Scores(0, 1, 1)


def test_one_to_one_of_thousands_agrees_with_a_dense_assignment():
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(0)
    picks, truth = rng.uniform(0, 60, (400, 3)), rng.uniform(0, 60, (350, 3))
    near = distances(picks, truth)
    rows, columns = linear_sum_assignment(np.where(near <= 6, near, 1e5))
    kept = near[rows, columns] <= 6
    found = match(picks, truth, tolerance=6.0, matching="one-to-one")
    matched = np.flatnonzero(found.truth_of_pick >= 0)
    assert matched.size == kept.sum()
    assert near[matched, found.truth_of_pick[matched]].sum() == pytest.approx(near[rows[kept], columns[kept]].sum())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"matching": "best"}, "'best' is unknown; choose one of any, one-to-one"),
        ({"tolerance": 0.0}, "above zero and finite, found 0"),
        ({"tolerance": float("nan")}, "above zero and finite"),
        ({"picks_zyx": np.array([[0.0, 0, 0], [0, np.nan, 0]])}, r"1 of 2 positions of the picks .* row 1"),
        ({"truth_zyx": np.array([[np.inf, 0, 0]])}, "1 of 1 positions of the truth"),
    ],
)
def test_what_cannot_be_matched_is_refused(arguments, message):
    usual = {"picks_zyx": np.zeros((1, 3)), "truth_zyx": np.zeros((1, 3)), "tolerance": 1.0, "matching": "any"}
    with pytest.raises(InputError, match=message):
        match(**(usual | arguments))


def test_a_tolerance_that_pairs_all_with_all_is_refused_with_the_number():
    many = np.random.default_rng(0).uniform(0, 100, (5000, 3))
    with pytest.raises(InputError, match="25000000 pairs of 5000 picks and 5000 truths"):
        match(many, many, tolerance=1000.0, matching="one-to-one")


# ---- the curve


@examples(120)
@given(positions(14), positions(10), st.floats(0.5, 8), st.sampled_from(["any", "one-to-one"]), st.data())
def test_curve_equals_counting_again_at_each_threshold(picks, truth, tolerance, matching, data):
    values = data.draw(st.lists(st.integers(-3, 3), min_size=len(picks), max_size=len(picks)))
    scores = np.array(values, dtype=np.float64)
    curve = precision_recall_curve(picks, scores, truth, tolerance=tolerance, matching=matching)
    assert curve.threshold.tolist() == sorted(set(values), reverse=True)
    for i, threshold in enumerate(curve.threshold):
        expected = match(picks[scores >= threshold], truth, tolerance=tolerance, matching=matching).scores
        assert curve.scores_at(i) == expected
        assert (curve.precision[i], curve.recall[i]) == (expected.precision, expected.recall)


def test_average_precision_and_best_threshold_of_a_worked_example():
    truth = np.array([[0.0, 0, 0], [0, 0, 100]])
    picks = np.array([[0.0, 0, 1], [0, 50, 0], [0, 0, 99], [0, 70, 0]])
    curve = precision_recall_curve(picks, np.array([0.9, 0.8, 0.7, 0.1]), truth, tolerance=5.0, matching="any")
    assert curve.precision.tolist() == [1.0, 0.5, 2 / 3, 0.5]
    assert curve.recall.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert curve.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert curve.best == (0.7, pytest.approx(0.8))


def test_curve_of_no_picks_is_empty_and_of_unscored_picks_is_refused():
    curve = precision_recall_curve(np.empty((0, 3)), np.empty(0), np.zeros((2, 3)), tolerance=1.0, matching="any")
    assert (len(curve.threshold), curve.average_precision, curve.best[1]) == (0, 0.0, 0.0)
    with pytest.raises(InputError, match="1 of 2 picks have no score"):
        precision_recall_curve(np.zeros((2, 3)), np.array([0.5, np.nan]), np.zeros((2, 3)), tolerance=1.0, matching="any")


# ---- tables


def table(rows, unit="voxel"):
    """Rows of tomogram, species, z, y, x, score."""
    return Particles.build(
        np.array([r[2:5] for r in rows], dtype=np.float64),
        unit=unit,
        tomogram=[r[0] for r in rows],
        species=[r[1] for r in rows],
        score=np.array([r[5] for r in rows], dtype=np.float64),
    )


def evaluated(picks, truth, **changes):
    usual = {
        "tolerance": 10.0,
        "tomograms": picks.tomograms(),
        "unscored": [],
        "matching": "any",
    } | changes
    compared = {key: usual.pop(key) for key in ("tomograms", "unscored")}
    return evaluate_tables(picks, truth, rules=ScoringRules(**usual), **compared)


PICKS = table(
    [
        ("a", "ribosome", 0, 0, 0, 0.9),  # finds the truth at 0, 0, 6 and the one at 0, 8, 6
        ("a", "ribosome", 0, 0, 50, 0.8),  # false: the nearest truth is 12 away
        ("b", "ribosome", 5, 5, 5, 0.7),  # exact
        ("b", "ribosome", 5, 5, 9, 0.6),  # the same particle again: no error under any
    ]
)
TRUTH = table(
    [
        ("a", "ribosome", 0, 0, 6, 1),
        ("a", "ribosome", 0, 8, 6, 1),
        ("a", "ribosome", 0, 0, 62, 1),
        ("b", "ribosome", 5, 5, 5, 1),
        ("d", "ribosome", 5, 5, 5, 1),
        ("a", "fas", 0, 0, 50, 1),
    ]
)


def test_worked_example_per_tomogram_and_pooled_in_the_form_of_the_contract():
    found = evaluated(PICKS, TRUTH, tomograms=["a", "b", "c"])
    ratio = 2 / 3
    assert found.to_json() == {
        "pooled": {"f1": 0.75, "precision": 0.75, "recall": 0.75, "tp": 3, "fp": 1, "fn": 1},
        "tomograms": {
            "a": {"f1": pytest.approx(ratio), "precision": ratio, "recall": ratio, "tp": 2, "fp": 1, "fn": 1},
            "b": {"f1": 1.0, "precision": 1.0, "recall": 1.0, "tp": 1, "fp": 0, "fn": 0},
            "c": {"f1": 1.0, "precision": 1.0, "recall": 1.0, "tp": 0, "fp": 0, "fn": 0},
        },
    }
    assert found.unscored == ("d",)
    assert found.without_truth == ("c",)


def test_worked_example_one_to_one_with_beta():
    found = evaluated(PICKS, TRUTH, matching="one-to-one", beta=2.0).to_json()
    assert found["pooled"] == {"f1": 0.5, "precision": 0.5, "recall": 0.5, "tp": 2, "fp": 2, "fn": 2, "f_beta": 0.5}
    assert found["tomograms"]["b"] == Scores(1, 1, 0).to_json(beta=2.0)


def test_tomogram_with_an_empty_table_of_picks_counts_its_misses():
    found = evaluated(PICKS, TRUTH, tomograms=["a", "b", "d"])
    assert found.to_json()["tomograms"]["d"] == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "tp": 0, "fp": 0, "fn": 1}
    assert found.pooled == Scores(3, 1, 2)
    assert found.unscored == ()


def test_several_species_lie_one_level_deeper_with_their_sums_above():
    picks = Particles.concatenate([PICKS, table([("a", "fas", 0, 0, 45, 0.5)])])
    found = evaluated(picks, TRUTH).to_json()
    assert found["species"]["fas"]["pooled"] == Scores(1, 0, 0).to_json()
    assert found["species"]["ribosome"]["tomograms"]["a"] == Scores(2, 1, 1).to_json()
    assert found["pooled"] == Scores(4, 1, 1).to_json()
    assert found["tomograms"]["a"] == Scores(3, 1, 1).to_json()
    assert list(evaluated(picks, TRUTH, species=["fas"]).to_json()) == ["pooled", "tomograms"]


def test_pooled_curve_ends_at_the_pooled_counts():
    for matching in ("any", "one-to-one"):
        found = evaluated(PICKS, TRUTH, matching=matching, with_curve=True)
        curve = found.curves["ribosome"]
        assert curve.threshold.tolist() == [0.9, 0.8, 0.7, 0.6]
        assert curve.scores_at(3) == found.pooled


@pytest.mark.parametrize(
    ("in_picks", "in_truth", "requested", "expected"),
    [
        (["ribosome"], ["ribosome", "fas"], None, [("ribosome", "ribosome", "ribosome")]),
        (["ribosome", "fas"], ["fas", "ribosome"], None, [("ribosome", "ribosome", "ribosome"), ("fas", "fas", "fas")]),
        (["ribosome", "fas"], ["fas", "ribosome"], ["fas"], [("fas", "fas", "fas")]),
        (["particle"], ["ribosome"], None, [("ribosome", None, "ribosome")]),
        (["particle"], ["ribosome", "fas"], ["ribosome"], [("ribosome", None, "ribosome")]),
        ([""], ["particle"], None, [("particle", None, None)]),
        (["ribosome"], ["particle"], None, [("ribosome", "ribosome", None)]),
        (["ribosome", "fas"], [""], ["fas"], [("fas", "fas", None)]),
        ([], ["ribosome"], None, [("ribosome", None, "ribosome")]),
        (["ribosome"], [], None, [("ribosome", "ribosome", None)]),
        (["ribosome", "fas"], [], None, [("ribosome", "ribosome", None), ("fas", "fas", None)]),
        (["ribosome", "fas"], ["ribosome"], None, [("ribosome", "ribosome", "ribosome"), ("fas", "fas", "fas")]),
        (["ribosome"], ["ribosome", "fas"], ["fas"], [("fas", "fas", "fas")]),
    ],
)
def test_compared_species(in_picks, in_truth, requested, expected):
    assert compared_species(in_picks, in_truth, requested) == expected


@pytest.mark.parametrize(
    ("in_picks", "in_truth", "requested", "message"),
    [
        (["particle"], ["ribosome", "fas"], None, "truth has several .'ribosome', 'fas'.; choose one with --species"),
        ([], ["ribosome", "fas"], None, "choose one with --species"),
        (["particle"], ["ribosome", "fas"], ["ribosome", "fas"], "the picks don't say the species"),
        (["ribosome", "fas"], ["particle"], None, "the truth doesn't say the species"),
        (["ribo"], ["ribosome"], None, "truth has no species 'ribo'; it has 'ribosome', the picks have 'ribo'"),
        (["ribosome"], ["ribosome"], ["fas"], "truth has no species 'fas'"),
        (["ribosome"], ["particle"], ["fas"], "picks have no species 'fas'; they have 'ribosome'"),
    ],
)
def test_species_that_cannot_be_known_are_asked_for(in_picks, in_truth, requested, message):
    with pytest.raises(InputError, match=message):
        compared_species(in_picks, in_truth, requested)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tomograms": []}, "no tomogram is scored"),
        ({"tomograms": ["a"]}, "not scored: 'b'; scored are 'a'"),
        ({"beta": 0.0}, "beta must be above zero and finite, found 0"),
        ({"truth": table([("x", "ribosome", 0, 0, 0, 1)])}, "picked are 'a', 'b', truth is of 'x'"),
        ({"truth": table([("a", "ribosome", 0, 0, 0, 1)], unit="angstrom")}, "picks are in voxels and the truth in angstroms"),
        ({"picks": table([("a", "ribosome", 0, 0, 0, np.nan)]), "with_curve": True}, "1 of 1 picks have no score"),
    ],
)
def test_tables_that_do_not_fit_are_refused(changes, message):
    picks, truth = changes.pop("picks", PICKS), changes.pop("truth", TRUTH)
    with pytest.raises(InputError, match=message):
        evaluated(picks, truth, **changes)
