"""Rejected places add a term to every objective that equals its formula, whatever the sampling; without them nothing changes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tomostream.learn.batch import Batch
from tomostream.learn.objectives import KnownNegatives, make_objective

NAMES = ("pn", "nnpu", "kl", "ge_binomial")
PI, EXPECTED = 0.1, 0.3
LOGITS = np.array([[1.5, -0.5, 0.2, -2.0, 3.0], [0.1, 0.3, -1.0, 2.0, -3.0]])
POSITIVE = np.array([[1, 0, 0, 0, 1], [0, 0, 1, 0, 0]], dtype=bool)
NEGATIVE = np.array([[0, 1, 0, 0, 0], [0, 0, 0, 1, 1]], dtype=bool)
WEIGHT = np.array([[0.5, 1.0, 2.0, 0.25, 1.0], [1.0, 3.0, 0.5, 1.0, 0.2]])


def tensor(values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    return torch.tensor(values[:, None, None, None, :], dtype=dtype)


def batch_of(positive: np.ndarray, weight: np.ndarray) -> Batch:
    n, x = positive.shape
    return Batch(torch.zeros(n, 1, 1, 1, x), tensor(positive, torch.bool), tensor(weight, torch.float32), torch.zeros(n, dtype=torch.bool))


def corrected(positive: np.ndarray, negative: np.ndarray, weight: np.ndarray) -> Batch:
    return batch_of(positive, weight).corrected(tensor(negative, torch.bool))


def make(name: str, negatives: list[KnownNegatives] | None):
    species = 1 if negatives is None else len(negatives)
    return make_objective(
        name,
        weight=10.0,
        order="prior_to_pu",
        labelled_fraction=[PI] * species,
        expected_fraction=[EXPECTED] * species,
        particle_voxels=[2.0] * species,
        negatives=negatives,
    )


def positive_factor(name: str) -> float:
    """The factor of E_P[L(f,1)] in each objective's formula."""
    return {"pn": PI, "nnpu": EXPECTED, "kl": 1.0, "ge_binomial": 1.0}[name]


def oracle(logits: np.ndarray, negative: np.ndarray, weight: np.ndarray, fraction: float) -> float:
    """E_N[L(f,0)] in float64: the mean of weight * L over the voxels in N, of all voxels, over the fraction of N."""
    return float((weight * np.log1p(np.exp(logits)) * negative).mean() / fraction)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per_click", [0.3, 1.0])
def test_the_term_is_added_with_the_weight_of_a_click_each(name, per_click):
    plain = make(name, None)(tensor(LOGITS, torch.float32), batch_of(POSITIVE, WEIGHT))
    both = make(name, [KnownNegatives(per_click, 0.05)])(tensor(LOGITS, torch.float32), corrected(POSITIVE, NEGATIVE, WEIGHT))
    expected = oracle(LOGITS, NEGATIVE, WEIGHT, 0.05)
    assert float(both.terms["rejected_negative"]) == pytest.approx(expected, rel=1e-5)
    added = per_click * positive_factor(name) * expected
    assert both.total.item() == pytest.approx(plain.total.item() + added, rel=1e-5)
    assert "rejected_negative" not in plain.terms


@given(st.data())
def test_the_term_equals_its_formula_on_any_input(data):
    rows = st.lists(st.tuples(st.floats(-20, 20), st.booleans(), st.floats(0.1, 10)), min_size=3, max_size=12)
    values = data.draw(rows)
    logits, negative, weight = (np.array([v[i] for v in values])[None] for i in range(3))
    loss = make("nnpu", [KnownNegatives(1.0, 0.02)])(tensor(logits, torch.float32), corrected(np.zeros_like(negative), negative, weight))
    assert float(loss.terms["rejected_negative"]) == pytest.approx(oracle(logits, negative, weight, 0.02), rel=1e-4, abs=1e-6)


def test_many_rejected_places_weigh_at_most_as_much_as_the_clicks():
    totals = [
        make("nnpu", [KnownNegatives(per_click, 0.05)])(tensor(LOGITS, torch.float32), corrected(POSITIVE, NEGATIVE, WEIGHT)).total.item()
        for per_click in (0.5, 1.0, 7.0)
    ]
    assert totals[0] < totals[1] == totals[2]


@pytest.mark.parametrize("name", NAMES)
def test_without_rejected_places_the_loss_is_bit_for_bit_the_same(name):
    losses = [
        make(name, negatives)(tensor(LOGITS, torch.float32), batch)
        for negatives, batch in (
            (None, batch_of(POSITIVE, WEIGHT)),
            (None, corrected(POSITIVE, NEGATIVE, WEIGHT)),
            ([KnownNegatives(0.0, 0.0)], corrected(POSITIVE, np.zeros_like(NEGATIVE), WEIGHT)),
            ([KnownNegatives(1.0, 0.1)], batch_of(POSITIVE, WEIGHT)),  # validation crops of tomograms without them
        )
    ]
    assert len({loss.total.item() for loss in losses}) == 1
    assert all(loss.terms.keys() == losses[0].terms.keys() for loss in losses)


def test_only_rejected_voxels_are_pushed_down_by_the_term():
    gradients = []
    for negatives in (None, [KnownNegatives(1.0, 0.05)]):
        logits = tensor(LOGITS, torch.float32).requires_grad_()
        make("nnpu", negatives)(logits, corrected(POSITIVE, NEGATIVE, WEIGHT)).total.backward()
        gradients.append(logits.grad[:, 0, 0, 0].numpy())
    difference = gradients[1] - gradients[0]
    assert (difference[NEGATIVE] > 0).all()
    assert difference[~NEGATIVE] == pytest.approx(0, abs=1e-7)


def test_a_rare_species_has_a_term_as_large_as_a_frequent_ones():
    both = make_objective(
        "nnpu",
        weight=1.0,
        order="prior_to_pu",
        labelled_fraction=[0.1, 0.01],
        expected_fraction=[0.3, 0.03],
        negatives=[KnownNegatives(1.0, 0.05)] * 2,
    )
    logits = tensor(LOGITS, torch.float32).repeat(1, 2, 1, 1, 1).requires_grad_()
    one = batch_of(POSITIVE, WEIGHT)
    repeated = [values.repeat(1, 2, 1, 1, 1) for values in (one.positive, tensor(NEGATIVE, torch.bool))]
    twice = one._replace(positive=repeated[0]).corrected(repeated[1])
    plain = make_objective("nnpu", weight=1.0, order="prior_to_pu", labelled_fraction=[0.1, 0.01], expected_fraction=[0.3, 0.03])
    (with_term,) = torch.autograd.grad(both(logits, twice).total, [logits])
    (without,) = torch.autograd.grad(plain(logits, twice).total, [logits])
    term = (with_term - without).numpy()
    np.testing.assert_allclose(term[:, 0], term[:, 1], atol=1e-6)
    assert abs(term).max() > 0.01


def test_the_term_of_crops_estimates_that_of_the_volume_though_most_batches_have_no_rejected_voxel():
    """Crops uniform (periodic), around clicks and around rejected places, two of them to a batch; the weights undo the mixture."""
    rng = np.random.default_rng(0)
    n, width = 400, 16
    marks = {"click": np.array([50, 57, 210]), "rejected": np.array([120, 300])}
    drawn = {"uniform": 0.4, "click": 0.4, "rejected": 0.2}
    negative = np.zeros(n, dtype=bool)
    for centre in marks["rejected"]:
        negative[centre - 2 : centre + 3] = True
    volume = rng.normal(size=n) - 1 + 3 * negative
    covered = np.full(n, drawn["uniform"] * width / n)
    for kind, places in marks.items():
        for place in places:
            for offset in range(width):
                covered[(place - offset + np.arange(width)) % n] += drawn[kind] / len(places) / width
    objective = make("nnpu", [KnownNegatives(1.0, negative.mean())])
    values, empty = [], 0
    for _ in range(3000):
        index = []
        for kind in rng.choice(list(drawn), size=2, p=list(drawn.values())):
            start = rng.integers(n) if kind == "uniform" else rng.choice(marks[kind]) - rng.integers(width)
            index.append((start + np.arange(width)) % n)
        index = np.array(index)
        loss = objective(
            tensor(volume[index], torch.float32),
            corrected(np.zeros_like(negative[index]), negative[index], (width / n) / covered[index]),
        )
        values.append(float(loss.terms["rejected_negative"]))
        empty += not negative[index].any()
    whole = np.log1p(np.exp(volume))[negative].mean()
    assert empty > 1000
    assert np.mean(values) == pytest.approx(whole, abs=4 * np.std(values) / np.sqrt(len(values)))
    assert 4 * np.std(values) / np.sqrt(len(values)) < 0.15 * whole  # so a mean over the other batches alone would fail by far


def test_a_corrected_batch_survives_pickling_and_the_loader():
    import pickle

    from torch.utils.data import DataLoader

    batch = corrected(POSITIVE, NEGATIVE, WEIGHT)
    for other in (pickle.loads(pickle.dumps(batch)), batch.to("cpu"), *DataLoader([batch], batch_size=None)):
        assert torch.equal(other.negative, batch.negative)
        assert torch.equal(other.weight, batch.weight)
        assert len(other) == 5
