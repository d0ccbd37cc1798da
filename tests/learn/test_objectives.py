"""Objectives equal their formulae, whatever the sampling; and never give NaN."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from tomostream.errors import InputError
from tomostream.learn.batch import Batch
from tomostream.learn.objectives import make_objective
from tomostream.learn.objectives.risk import Kind


def batch_of(positive: np.ndarray, weight: np.ndarray | None = None) -> Batch:
    """A batch of one-row crops: positive (n, s, x), weight (n, x)."""
    n, _, x = positive.shape
    weight = np.ones((n, x)) if weight is None else weight
    return Batch(
        image=torch.zeros(n, 1, 1, 1, x),
        positive=torch.tensor(positive[:, :, None, None, :], dtype=torch.bool),
        weight=torch.tensor(weight[:, None, None, None, :], dtype=torch.float32),
        is_labelled=torch.zeros(n, dtype=torch.bool),
    )


def logits_of(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values[:, :, None, None, :], dtype=torch.float32, requires_grad=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def kl(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def make(name, *, pi=0.1, expected=0.3, weight=10.0, order="prior_to_pu", species=1):
    return make_objective(name, weight=weight, order=order, labelled_fraction=[pi] * species, expected_fraction=[expected] * species)


class Reference:
    """The risks in float64 numpy, from the formulae."""

    def __init__(self, logits, positive, weight):
        f, in_p = sigmoid(logits.astype(np.float64)), positive.astype(bool)
        self.positive = np.average(-np.log(f), weights=weight * in_p) if in_p.any() else None
        self.negative = np.average(-np.log(1 - f), weights=weight * in_p) if in_p.any() else None
        self.unlabelled = np.average(-np.log(1 - f), weights=weight * ~in_p)
        self.score = np.average(f, weights=weight * ~in_p)


LOGITS = np.array([[[1.5, -0.5, 0.2, -2.0, 3.0]], [[0.1, 0.3, -1.0, 2.0, -3.0]]])
POSITIVE = np.array([[[1, 0, 0, 0, 1]], [[0, 0, 1, 0, 0]]])
WEIGHT = np.array([[0.5, 1.0, 2.0, 0.25, 1.0], [1.0, 3.0, 0.5, 1.0, 0.0]])


def expected_of(name, order, reference, *, pi=0.1, expected=0.3, weight=10.0):
    prior = (expected - pi) / (1 - pi)
    if name == "pn":
        return pi * reference.positive + (1 - pi) * reference.unlabelled
    if name == "nnpu":
        background = (1 - pi) * reference.unlabelled - (expected - pi) * reference.negative
        return expected * reference.positive + background if background >= 0 else -background
    divergence = kl(prior, reference.score) if order == "prior_to_pu" else kl(reference.score, prior)
    return reference.positive + weight * divergence


@pytest.mark.parametrize(("name", "order"), [("pn", "prior_to_pu"), ("nnpu", "prior_to_pu"), ("kl", "prior_to_pu"), ("kl", "pu_to_prior")])
def test_objective_equals_its_formula(name, order):
    loss = make(name, order=order)(logits_of(LOGITS), batch_of(POSITIVE, WEIGHT))
    reference = Reference(LOGITS[:, 0], POSITIVE[:, 0], WEIGHT)
    assert loss.total.item() == pytest.approx(expected_of(name, order, reference), rel=1e-5)
    assert float(loss.terms["loss"]) == loss.total.item()
    assert not loss.terms["loss"].requires_grad


@examples(60)
@given(st.data(), st.sampled_from([("pn", "prior_to_pu"), ("nnpu", "prior_to_pu"), ("kl", "prior_to_pu"), ("kl", "pu_to_prior")]))
def test_objective_equals_its_formula_on_any_input(data, which):
    name, order = which
    values = data.draw(st.lists(st.tuples(st.floats(-8, 8), st.booleans(), st.floats(0.1, 10)), min_size=3, max_size=12))
    logits = np.array([v[0] for v in values])[None, None]
    positive = np.array([v[1] for v in values])[None, None]
    weight = np.array([v[2] for v in values])[None]
    positive[0, 0, 0], positive[0, 0, 1] = True, False
    loss = make(name, order=order)(logits_of(logits), batch_of(positive, weight))
    expected = expected_of(name, order, Reference(logits[:, 0], positive[:, 0], weight))
    assert loss.total.item() == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_hand_worked_example():
    # logits 0: f = 1/2, every cross-entropy is log 2
    batch, logits = batch_of(np.array([[[1, 0, 0]]])), logits_of(np.zeros((1, 1, 3)))
    assert make("pn", pi=0.25)(logits, batch).total.item() == pytest.approx(math.log(2))
    assert make("nnpu", expected=0.4)(logits, batch).total.item() == pytest.approx(math.log(2))  # 0.4 log 2 + 0.9 log 2 - 0.3 log 2
    half = make("kl", pi=0.2, expected=0.6)(logits, batch)  # pi'' = 0.4 / 0.8 = 1/2: no divergence
    assert half.total.item() == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("clicked", [1, 5, 9])
def test_nnpu_from_a_part_of_the_labels_is_the_risk_with_all_of_them(clicked):
    # ten particle voxels of one score each, 40 of background: which of the former are labelled does not change their mean loss
    logits = np.concatenate([np.full(10, 1.5), np.linspace(-4, 1, 40)])[None, None]
    all_labels = (np.arange(50) < 10)[None, None]
    supervised = make("pn", pi=0.2)(logits_of(logits), batch_of(all_labels)).total.item()
    part = (np.arange(50) < clicked)[None, None]
    assert make("nnpu", pi=clicked / 50, expected=0.2)(logits_of(logits), batch_of(part)).total.item() == pytest.approx(
        supervised, rel=1e-5
    )


def test_species_are_added_each_with_its_own_prior():
    both = make_objective("kl", weight=3.0, order="prior_to_pu", labelled_fraction=[0.1, 0.02], expected_fraction=[0.3, 0.05])
    positive = np.concatenate([POSITIVE, 1 - POSITIVE], axis=1)
    logits = np.concatenate([LOGITS, LOGITS[:, :, ::-1]], axis=1)
    loss = both(logits_of(logits), batch_of(positive, WEIGHT))
    singles = [
        make_objective("kl", weight=3.0, order="prior_to_pu", labelled_fraction=[pi], expected_fraction=[expected])(
            logits_of(logits[:, s : s + 1]), batch_of(positive[:, s : s + 1], WEIGHT)
        )
        for s, (pi, expected) in enumerate([(0.1, 0.3), (0.02, 0.05)])
    ]
    assert loss.total.item() == pytest.approx(sum(single.total.item() for single in singles), rel=1e-6)
    assert loss.terms["divergence_1"] == singles[1].terms["divergence"]


@pytest.mark.parametrize("name", ["pn", "nnpu"])
def test_a_rare_species_pulls_as_strongly_as_a_frequent_one(name):
    # the same voxels in the same places for both; one is expected, and labelled, a tenth as often
    both = make_objective(name, weight=1.0, order="prior_to_pu", labelled_fraction=[0.1, 0.01], expected_fraction=[0.3, 0.03])
    alone = make_objective(name, weight=1.0, order="prior_to_pu", labelled_fraction=[0.01], expected_fraction=[0.03])
    logits = logits_of(np.concatenate([LOGITS, LOGITS], axis=1))
    both(logits, batch_of(np.concatenate([POSITIVE, POSITIVE], axis=1), WEIGHT)).total.backward()
    single = logits_of(LOGITS)
    alone(single, batch_of(POSITIVE, WEIGHT)).total.backward()
    torch.testing.assert_close(logits.grad[:, 1], 10 * single.grad[:, 0])
    assert not torch.equal(logits.grad[:, 0], logits.grad[:, 1])  # each has its own prior


@pytest.mark.parametrize("name", ["pn", "nnpu", "kl"])
def test_batch_without_labels_has_no_labelled_terms_and_finite_gradients(name):
    logits = logits_of(LOGITS)
    loss = make(name)(logits, batch_of(np.zeros_like(POSITIVE), WEIGHT))
    loss.total.backward()
    assert math.isfinite(loss.total.item())
    assert torch.isfinite(logits.grad).all()
    assert not any("labelled_positive" in term for term in loss.terms)


@pytest.mark.parametrize("name", ["pn", "nnpu", "kl"])
@pytest.mark.parametrize("order", ["prior_to_pu", "pu_to_prior"])
@pytest.mark.parametrize("value", [-1e4, -200.0, -30.0, 30.0, 200.0, 1e4])
def test_saturated_logits_give_finite_losses_and_gradients(name, order, value):
    logits = logits_of(np.full_like(LOGITS, value))
    loss = make(name, order=order)(logits, batch_of(POSITIVE, WEIGHT))
    loss.total.backward()
    assert math.isfinite(loss.total.item())
    assert torch.isfinite(logits.grad).all()


def test_batch_of_labels_only_is_finite():
    for name in ("pn", "nnpu", "kl"):
        logits = logits_of(LOGITS)
        loss = make(name)(logits, batch_of(np.ones_like(POSITIVE), WEIGHT))
        loss.total.backward()
        assert torch.isfinite(logits.grad).all()


def test_nnpu_steps_up_the_violated_constraint():
    # unlabelled voxels look like background, labelled ones like particles: the negative risk is below zero
    logits, positive = np.array([[[4.0, -6.0, -6.0]]]), np.array([[[1, 0, 0]]])
    reference = Reference(logits[:, 0], positive[:, 0], np.ones((1, 3)))
    background = 0.9 * reference.unlabelled - 0.2 * reference.negative
    assert background < 0
    tensor = logits_of(logits)
    loss = make("nnpu")(tensor, batch_of(positive))
    loss.total.backward()
    assert float(loss.terms["violated"]) == 1
    assert loss.total.item() == pytest.approx(-background, rel=1e-5)
    gradient = tensor.grad[0, 0, 0, 0]
    assert gradient[0] > 0  # a step lowers the labelled voxel's score
    assert (gradient[1:] < 0).all()  # and raises the unlabelled ones': away from overfitting


def test_nnpu_steps_on_the_risk_where_the_constraint_holds():
    loss = make("nnpu")(logits_of(LOGITS), batch_of(POSITIVE, WEIGHT))
    assert float(loss.terms["violated"]) == 0


@pytest.mark.parametrize("order", ["prior_to_pu", "pu_to_prior"])
def test_kl_gradient_pulls_the_mean_score_to_the_prior(order):
    objective = make("kl", order=order, pi=0.0, expected=0.2)
    for start, sign in ((-4.0, -1), (2.0, 1)):
        logits = logits_of(np.full((1, 1, 6), start))
        objective(logits, batch_of(np.zeros((1, 1, 6)))).total.backward()
        assert (torch.sign(logits.grad) == sign).all()
    # at the prior itself there is no gradient
    logits = logits_of(np.full((1, 1, 6), math.log(0.2 / 0.8)))
    objective(logits, batch_of(np.zeros((1, 1, 6)))).total.backward()
    assert logits.grad.abs().max() < 1e-5


def crops_around_labels(
    rng: np.random.Generator, volume: np.ndarray, labels: np.ndarray, width: int, count: int
) -> tuple[list[int], np.ndarray]:
    """Half of the crops uniform (periodic, so that every voxel is equally likely), half around a labelled voxel; and 1 / inclusions."""
    n = len(volume)
    labelled = np.flatnonzero(labels)
    starts = [int(rng.integers(n)) for _ in range(count // 2)]
    starts += [int(rng.choice(labelled)) - int(rng.integers(width)) for _ in range(count - count // 2)]
    inclusions = np.full(n, (count // 2) * width / n)
    for label in labelled:
        for offset in range(width):
            inclusions[(label - offset + np.arange(width)) % n] += (count - count // 2) / len(labelled) / width
    return starts, ((count // 2) * width / n) / inclusions


@pytest.mark.parametrize(("name", "order"), [("pn", "prior_to_pu"), ("nnpu", "prior_to_pu"), ("kl", "prior_to_pu"), ("kl", "pu_to_prior")])
def test_risks_from_crops_around_labels_estimate_those_of_the_volume(name, order):
    """Trap (a): half of the crops are drawn around labels, where scores are high; the weights undo it, for every term."""
    rng = np.random.default_rng(0)
    n, width = 400, 16
    labels = np.zeros(n, dtype=bool)
    for centre in (50, 57, 210):
        labels[centre - 2 : centre + 3] = True
    near = np.exp(-((np.minimum.reduce([abs(np.arange(n) - c) for c in (50, 57, 210)]) / 12.0) ** 2))
    volume = -3 + 5 * near + rng.normal(size=n) * 0.5
    objective = make(name, order=order, pi=labels.mean(), expected=0.1)
    whole = objective(logits_of(volume[None, None]), batch_of(labels[None, None]))
    sums: dict[str, float] = {}
    plain: dict[str, float] = {}
    repeats = 300
    for _ in range(repeats):
        starts, weight = crops_around_labels(rng, volume, labels, width, 32)
        index = np.array([(start + np.arange(width)) % n for start in starts])
        for into, w in ((sums, weight[index]), (plain, np.ones(index.shape))):
            terms = objective(logits_of(volume[index][:, None]), batch_of(labels[index][:, None], w)).terms
            for key, value in terms.items():
                into[key] = into.get(key, 0.0) + float(value) / repeats
    for key in {"labelled_positive", "labelled_negative", "unlabelled_negative", "unlabelled_score"} & set(sums):
        assert sums[key] == pytest.approx(float(whole.terms[key]), rel=0.04), key
    unweighted = "unlabelled_score" if name == "kl" else "unlabelled_negative"
    assert plain[unweighted] > 1.3 * float(whole.terms[unweighted])  # without the weights the test would fail by far


def test_prior_below_the_labelled_fraction_falls_back_to_pn_and_says_so():
    for name in ("nnpu", "kl"):
        objective = make_objective(name, weight=10.0, order="prior_to_pu", labelled_fraction=[0.1, 0.1], expected_fraction=[0.3, 0.1])
        assert len(objective.notes) == 1
        assert "species 2" in objective.notes[0]
        assert "pn" in objective.notes[0]
        fallen = make_objective(name, weight=10.0, order="prior_to_pu", labelled_fraction=[0.1], expected_fraction=[0.05])
        same = make("pn")(logits_of(LOGITS), batch_of(POSITIVE, WEIGHT))
        assert fallen(logits_of(LOGITS), batch_of(POSITIVE, WEIGHT)).total.item() == same.total.item()


@pytest.mark.parametrize("voxels", [1.0, 2.5, 100.0])
def test_ge_binomial_is_the_cross_entropy_of_the_count_with_a_binomial(voxels):
    pi, expected, weight = 0.1, 0.3, 4.0
    objective = make_objective(
        "ge_binomial", weight=weight, order="prior_to_pu", labelled_fraction=[pi], expected_fraction=[expected], particle_voxels=[voxels]
    )
    logits = logits_of(LOGITS)
    loss = objective(logits, batch_of(POSITIVE, WEIGHT))
    loss.total.backward()
    assert torch.isfinite(logits.grad).all()
    f, unlabelled = sigmoid(LOGITS[:, 0]), WEIGHT * (1 - POSITIVE[:, 0])
    mean, spread = np.average(f, weights=unlabelled), np.average(f * (1 - f), weights=unlabelled)
    draws = max(1, round(np.count_nonzero(unlabelled) / voxels))
    k = np.arange(draws + 1)
    posterior = np.exp(-((k - draws * mean) ** 2) / (2 * draws * spread))
    prior = (expected - pi) / (1 - pi)
    entropy = -(posterior / posterior.sum() * scipy.stats.binom.logpmf(k, draws, prior)).sum() / draws
    positive = Reference(LOGITS, POSITIVE, WEIGHT[:, None]).positive
    assert loss.total.item() == pytest.approx(positive + weight * entropy, rel=1e-4)


def test_ge_binomial_is_least_where_the_mean_score_is_the_prior():
    objective = make_objective(
        "ge_binomial", weight=1.0, order="prior_to_pu", labelled_fraction=[0.0], expected_fraction=[0.25], particle_voxels=[10.0]
    )
    # scores of 0 and 1 only, so that the count has no spread of its own
    values = np.full((1, 1, 2000), -12.0)
    entropies = {}
    for share in (0.1, 0.2, 0.25, 0.3, 0.5):
        values[:] = -12.0
        values[..., : int(2000 * share)] = 12.0
        loss = objective(logits_of(values), batch_of(np.zeros((1, 1, 2000))))
        entropies[share] = loss.terms["count_entropy"].item()
    assert min(entropies, key=entropies.get) == 0.25


def test_bf16_logits_are_computed_on_in_float32():
    logits = logits_of(LOGITS).to(torch.bfloat16)
    loss = make("kl")(logits, batch_of(POSITIVE, WEIGHT))
    assert loss.total.dtype == torch.float32
    assert loss.total.item() == make("kl")(logits.float(), batch_of(POSITIVE, WEIGHT)).total.item()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "dice"}, "pn, nnpu, kl, ge_binomial.*dice"),
        ({"kind": "ge_binomial"}, "volume of a particle"),
        ({"order": "both"}, "prior_to_pu or pu_to_prior.*both"),
        ({"weight": 0.0}, "weight.*0"),
        ({"weight": math.nan}, "weight.*nan"),
        ({"labelled_fraction": [1.0]}, r"labelled fraction.*1\.0"),
        ({"labelled_fraction": []}, "labelled fraction"),
        ({"expected_fraction": None}, "needs the expected number"),
        ({"expected_fraction": [1.5]}, r"between 0 and 1.*1\.5"),
        ({"expected_fraction": [0.1, 0.2]}, "1 species"),
    ],
)
def test_impossible_objectives_are_refused(change, said):
    usual = {"kind": "kl", "weight": 10.0, "order": "prior_to_pu", "labelled_fraction": [0.1], "expected_fraction": [0.3]}
    with pytest.raises(InputError, match=said):
        make_objective(**(usual | change))


def test_pn_needs_no_prior():
    make_objective("pn", weight=1.0, order="prior_to_pu", labelled_fraction=[0.1], expected_fraction=None)


def test_a_rare_species_weighs_as_much_whatever_the_names_of_a_risks_fields():
    def risk(prior):
        return lambda crop, processes: crop.sum()  # has no field at all

    kind = Kind("other", needs_prior=True, is_proportional=True, risk=risk)
    made = make_objective(kind, weight=1.0, order="prior_to_pu", labelled_fraction=[0.001, 0.001], expected_fraction=[0.1, 0.01])
    assert made.factors == pytest.approx(
        make_objective("nnpu", weight=1.0, order="prior_to_pu", labelled_fraction=[0.001, 0.001], expected_fraction=[0.1, 0.01]).factors
    )
    assert made.factors == pytest.approx((1, 10))
