"""From scores that can't tell two kinds of particles apart, their radial profiles can; nothing is added where there is one kind."""

import numpy as np
import pytest
from padded_volume import reader_of

import tomostream as ts
from tomostream.geometry import Box
from tomostream.strategies.unet import lookalike_fit
from tomostream.strategies.unet.lookalike_fit import Part, settings_of, split_picks, tell_apart

SHAPE, RADIUS = (40, 110, 110), 4.0
MEMORY = 10**9


def sample(*, kinds=2, number=60, seed=0):
    """A volume of `number` filled balls and as many shells (`kinds` 1: balls only), the logits that hardly tell them apart, and their places."""
    rng = np.random.default_rng(seed)
    volume = rng.standard_normal(SHAPE).astype(np.float32)
    logits = rng.standard_normal(SHAPE).astype(np.float32)
    grid = np.array([(z, y, x) for z in range(7, 33, 9) for y in range(7, 104, 9) for x in range(7, 104, 9)])
    places = rng.permutation(grid)[: 2 * number]
    distance = np.sqrt((np.stack(np.mgrid[-6:7, -6:7, -6:7]) ** 2).sum(axis=0))
    ball, shell = (distance <= RADIUS) * 1.2, ((distance > 2) & (distance <= RADIUS + 0.5)) * 1.4
    for place, is_ball in zip(places, np.arange(2 * number) < number, strict=True):
        around = tuple(slice(c - 6, c + 7) for c in place)
        volume[around] += ball if is_ball or kinds == 1 else shell
        logits[tuple(place)] = rng.normal(14 if is_ball else 11, 1.6)
    return volume, logits, places[:number]


def part(volume, logits, places, expected=60.0, clicks=None):
    """A part with clicks near ten of the balls."""
    near = places[::6] + np.array([0.5, -1.0, 0.3]) if clicks is None else clicks
    return Part(reader_of(volume), SHAPE, Box.whole(SHAPE), logits, near, expected)


def right(logits, places):
    """How many of the highest places are balls."""
    best = np.argsort(logits, axis=None)[::-1][: len(places)]
    return len({tuple(map(int, np.unravel_index(one, SHAPE))) for one in best} & {tuple(map(int, one)) for one in places})


def split(*parts, weight=1.0):
    return split_picks(parts, radius=RADIUS, weight=weight, memory=MEMORY)


def test_the_kind_of_the_best_half_is_preferred():
    volume, logits, places = sample()
    found = split(part(volume, logits, places))
    assert found is not None
    scaled, (told,) = tell_apart(found, [part(volume, logits, places)], radius=RADIUS, memory=MEMORY)
    before = right(logits, places)
    assert before < 55
    assert right(told, places) >= before + 4
    assert 0 < scaled.scale < 1
    best = ts.pick(told, radius=RADIUS, count=120)
    assert np.std([one.score for one in best]) == pytest.approx(found.spread, rel=1e-3)  # as before: no probability saturates


def test_picks_of_one_kind_are_left_as_they_are():
    for seed in range(3):
        assert split(part(*sample(kinds=1, number=110, seed=seed))) is None  # of 220, at most 180 are looked at


@pytest.mark.parametrize(("expected", "weight"), [(60.0, 0.0), (0.0, 1.0), (1.0, 1.0), (5.0, 1.0), (15.0, 1.0)])
def test_without_weight_or_particles_nothing_is_split(expected, weight):
    assert split(part(*sample(), expected), weight=weight) is None


def test_an_expected_number_that_is_too_small_is_tried_larger(monkeypatch):
    """With 30 of 60 particles expected, those beyond the 30th are particles too, and the split means nothing."""
    volume, logits, places = sample()
    found = split(part(volume, logits, places, 30.0))
    assert found is not None
    told = tell_apart(found, [part(volume, logits, places, 30.0)], radius=RADIUS, memory=MEMORY)[1][0]
    assert right(told, places) >= right(logits, places) + 4
    monkeypatch.setattr(lookalike_fit, "FACTORS", (1.0,))
    assert split(part(volume, logits, places, 30.0)) is None


def test_clicks_contradict_a_split():
    """The clicks are on the kind that the scores do not prefer, or on nothing."""
    volume, logits, places = sample()
    everything = {tuple(one) for one in np.argwhere(logits > 6).tolist()}
    shells = np.array(sorted(everything - {tuple(one) for one in places.tolist()}))
    assert len(shells) > 50
    high = shells[np.argsort(-logits[tuple(shells.T)])][:12]
    assert split(part(volume, logits, places, clicks=high.astype(float))) is None
    assert split(part(volume, logits, places, clicks=np.full((3, 3), -50.0))) is None
    assert split(part(volume, logits, places, clicks=np.empty((0, 3)))) is None
    assert split(part(volume, logits, places, clicks=np.concatenate([places[:8], high[:4]]).astype(float))) is not None


def test_a_box_whose_number_is_guessed_has_no_say():
    own, other = sample(), sample(kinds=1, seed=9)
    alone, both = split(part(*own)), split(part(*own), part(*other, 0.0))
    np.testing.assert_array_equal(both.populations.weights, alone.populations.weights)
    assert both.weight == alone.weight


def test_boxes_are_taken_together_by_rank():
    samples = [sample(number=35, seed=seed) for seed in (0, 1)]
    parts = [part(*one, 35.0) for one in samples]
    found = split(*parts)
    assert found is not None
    for (_, logits, places), told in zip(samples, tell_apart(found, parts, radius=RADIUS, memory=MEMORY)[1], strict=True):
        assert right(told, places) >= right(logits, places)
    assert split(part(*samples[0], 15.0)) is None  # too few, even twice as many


def test_a_model_gets_settings_only_for_species_that_are_split():
    found = split(part(*sample()))
    assert settings_of([None, None]) is None
    settings = settings_of([None, found])
    assert settings.shells[0] == ()
    assert settings.weight == (0.0, found.weight)
    assert settings.scale == (1.0, 1.0)
    assert settings.most == (0.0, found.most)
    np.testing.assert_array_equal(settings.shells[1], found.populations.weights)
