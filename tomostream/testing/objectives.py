"""Tests that every objective must pass: the properties that the training loop relies on."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomostream.errors import InputError
from tomostream.learn.batch import Batch
from tomostream.learn.objectives import Kind, Loss, Objective, make_objective

_SHAPE = (3, 2, 3, 4)  # crops, z, y, x
_VOXELS = math.prod(_SHAPE)
_LABELLED, _EXPECTED = 0.1, 0.3  # fractions of the voxels

_any_batch = given(
    logits=st.lists(st.floats(-1e4, 1e4, width=32), min_size=_VOXELS, max_size=_VOXELS),
    labels=st.one_of(st.just([False] * _VOXELS), st.just([True] * _VOXELS), st.lists(st.booleans(), min_size=_VOXELS, max_size=_VOXELS)),
    weights=st.lists(st.sampled_from([0.0, 0.05, 1.0, 40.0]), min_size=_VOXELS, max_size=_VOXELS).filter(any),
)
_quick = settings(
    max_examples=min(40, settings().max_examples),
    deadline=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


class ObjectiveTests:
    """Tests of an objective.  Subclass it as `TestMine`, and set `kind`.

    Attributes
    ----------
    kind
        The kind of objective.
    settings
        Further parameters of `make_objective` that it needs.
    """

    kind: ClassVar[Kind]
    settings: ClassVar[dict[str, Any]] = {}

    @classmethod
    def _objective(cls, *, species: int = 1, **changed: Any) -> Objective:
        usual: dict[str, Any] = {
            "weight": 2.0,
            "order": "prior_to_pu",
            "labelled_fraction": [_LABELLED] * species,
            "expected_fraction": [_EXPECTED] * species,
            "particle_voxels": [5.0] * species,
        }
        return make_objective(cls.kind, **(usual | cls.settings | changed))

    # its attributes

    def test_it_is_a_kind_with_a_name(self) -> None:
        assert isinstance(self.kind, Kind)
        assert self.kind.name
        assert self._objective().name == self.kind.name

    def test_a_prior_is_asked_for_where_it_is_needed(self) -> None:
        if self.kind.needs_prior:
            with pytest.raises(InputError, match="expected number"):
                self._objective(expected_fraction=None)
            with pytest.raises(InputError, match="between 0 and 1"):
                self._objective(expected_fraction=[1.5])
            # fewer particles are expected than are labelled, so there is nothing unlabelled to find; a note says so
            assert self.kind.name in self._objective(expected_fraction=[_LABELLED / 2]).notes[0]
        else:
            assert self._objective(expected_fraction=None).notes == ()

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"order": "both"}, r"order.*both"),
            ({"weight": 0.0}, r"weight.*0"),
            ({"weight": math.nan}, r"weight.*nan"),
            ({"labelled_fraction": [1.0]}, r"labelled fraction.*1\.0"),
            ({"labelled_fraction": []}, "labelled fraction"),
        ],
    )
    def test_impossible_settings_are_refused(self, changed: dict[str, Any], said: str) -> None:
        with pytest.raises(InputError, match=said):
            self._objective(**changed)

    # the loss of a batch

    @_any_batch
    @_quick
    def test_loss_terms_and_gradient_are_finite_for_any_batch(self, logits: list[float], labels: list[bool], weights: list[float]) -> None:
        given_logits = _logits(logits)
        loss = self._objective()(given_logits, _batch(labels, weights))
        gradient = _gradient(loss, given_logits)
        assert torch.isfinite(loss.total)
        assert torch.isfinite(gradient).all()
        for name, term in loss.terms.items():
            assert torch.isfinite(term), name
            assert term.shape == (), name
            assert not term.requires_grad, name
        assert loss.terms["loss"].item() == loss.total.item()

    @_any_batch
    @_quick
    def test_a_voxel_of_no_weight_does_not_matter(self, logits: list[float], labels: list[bool], weights: list[float]) -> None:
        given_logits, batch = _logits(logits), _batch(labels, weights)
        loss = self._objective()(given_logits, batch)
        left_out = batch.weight == 0
        assert (_gradient(loss, given_logits)[left_out] == 0).all()
        changed = torch.where(left_out, -given_logits.detach(), given_logits.detach())
        flipped = batch._replace(positive=batch.positive ^ left_out)
        assert self._objective()(changed, flipped).total.item() == loss.total.item()

    @pytest.mark.parametrize("factor", [1 / 64, 32.0])
    def test_weights_count_relative_to_each_other(self, factor: float) -> None:
        logits, labels, weights = _made_up()
        expected = self._objective()(_logits(logits), _batch(labels, weights)).total
        found = self._objective()(_logits(logits), _batch(labels, [factor * weight for weight in weights])).total
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)

    def test_the_order_of_the_voxels_does_not_matter(self) -> None:
        logits, labels, weights = _made_up()
        expected = self._objective()(_logits(logits), _batch(labels, weights)).total
        found = self._objective()(_logits(logits[::-1]), _batch(labels[::-1], weights[::-1])).total
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)

    def test_logits_of_bf16_are_computed_on_in_float32(self) -> None:
        logits, labels, weights = _made_up()
        rounded = _logits(logits).detach().to(torch.bfloat16).requires_grad_()
        loss = self._objective()(rounded, _batch(labels, weights))
        assert loss.total.dtype == torch.float32
        assert loss.total.item() == self._objective()(rounded.detach().float(), _batch(labels, weights)).total.item()
        assert torch.isfinite(_gradient(loss, rounded)).all()

    def test_species_are_added(self) -> None:
        logits, labels, weights = _made_up()
        one, other = _logits(logits), _logits(logits[::-1])
        batches = [_batch(labels, weights), _batch(labels[3:] + labels[:3], weights)]
        both = self._objective(species=2)(
            torch.cat([one, other], dim=1), batches[0]._replace(positive=torch.cat([batch.positive for batch in batches], dim=1))
        )
        alone = [self._objective()(*pair).total for pair in zip((one, other), batches, strict=True)]
        torch.testing.assert_close(both.total, alone[0] + alone[1])

    # learning

    def test_a_batch_that_is_learnt_has_a_lower_loss_and_tells_particles_from_background(self) -> None:
        """Fit a logistic regression to bright particles, of which every third is labelled."""
        generator = torch.Generator().manual_seed(0)
        is_particle = torch.arange(400) < round(400 * _EXPECTED)
        image = (is_particle * 4.0 - 2.0 + torch.randn(400, generator=generator)).reshape(1, 1, 1, 1, 400)
        is_labelled = (is_particle & (torch.arange(400) % 3 == 0)).reshape(image.shape)
        batch = Batch(image, is_labelled, torch.ones(image.shape), torch.ones(1, dtype=torch.bool))
        factor, offset = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
        optimiser = torch.optim.Adam([factor, offset], lr=0.05)
        objective = self._objective(labelled_fraction=[_LABELLED], expected_fraction=[_EXPECTED])
        losses = []
        for _ in range(150):
            loss = objective(factor * image + offset, batch)
            losses.append(loss.total.item())
            optimiser.zero_grad()
            loss.total.backward()
            optimiser.step()
        assert min(losses[-10:]) < losses[0]
        scores = torch.sigmoid(factor * image + offset).detach().flatten()
        assert scores[is_particle].mean() > scores[~is_particle].mean() + 0.1


def _made_up() -> tuple[list[float], list[bool], list[float]]:
    generator = torch.Generator().manual_seed(1)
    logits = (3 * torch.randn(_VOXELS, generator=generator)).tolist()
    labels = (torch.rand(_VOXELS, generator=generator) < 0.3).tolist()
    weights = (0.2 + torch.rand(_VOXELS, generator=generator)).tolist()
    return logits, labels, weights


def _logits(values: list[float]) -> torch.Tensor:
    crops, *zyx = _SHAPE
    return torch.tensor(values, dtype=torch.float32).reshape(crops, 1, *zyx).requires_grad_()


def _batch(labels: list[bool], weights: list[float]) -> Batch:
    crops, *zyx = _SHAPE
    shape = (crops, 1, *zyx)
    return Batch(
        image=torch.zeros(shape),
        positive=torch.tensor(labels).reshape(shape),
        weight=torch.tensor(weights, dtype=torch.float32).reshape(shape),
        is_labelled=torch.zeros(crops, dtype=torch.bool),
    )


def _gradient(loss: Loss, logits: torch.Tensor) -> torch.Tensor:
    (gradient,) = torch.autograd.grad(loss.total, [logits], allow_unused=True)
    return torch.zeros_like(logits) if gradient is None else gradient
