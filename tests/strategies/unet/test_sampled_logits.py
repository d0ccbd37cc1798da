"""Boxes in which networks and filters are measured: at most so many voxels in all, most of them where clicks tell the number of particles."""

import inspect
import math
from types import SimpleNamespace

import pytest

from tomostream.strategies.sample_boxes import MEASURED_VOX, MOST_MEASURED_VOX, box_within
from tomostream.strategies.unet.sampled_logits import MEASURED_PARTICLES, random_boxes

MANY = 10**6  # particles: so dense that small boxes hold enough


def training_of(count, clicked, shape, memory=2 * 10**9):
    tomograms = [SimpleNamespace(name=f"t{number}", shape=shape) for number in range(count)]
    names = [one.name for one in tomograms]
    labelled = SimpleNamespace(tomograms=tomograms, names=names, clicked=SimpleNamespace(names=names[:clicked]))
    return SimpleNamespace(labelled=labelled, settings=SimpleNamespace(train=SimpleNamespace(seed=0), memory=memory))


@pytest.mark.parametrize(("count", "clicked"), [(1, 1), (4, 1), (4, 4), (20, 1), (20, 3), (5, 4)])
def test_clicked_tomograms_get_at_least_half_of_the_voxels(count, clicked, monkeypatch):
    seen = []
    monkeypatch.setattr("tomostream.strategies.unet.sampled_logits.box_within", lambda one, most, rng: seen.append((one.name, most)))
    inspect.unwrap(random_boxes)(training_of(count, clicked, (100, 200, 200)), [MANY])  # without the check of types
    voxels = [most for _, most in seen]
    assert sum(voxels) <= MEASURED_VOX
    assert sum(voxels[:clicked]) >= min(MEASURED_VOX // 2, MEASURED_VOX * clicked // count) - clicked
    assert min(voxels) > 0
    assert max(voxels[:clicked]) == min(voxels[:clicked]) >= max(voxels[clicked:], default=0)


@pytest.mark.parametrize(
    ("expected", "shape", "clicked"),
    [
        ([80], (128, 360, 360), 1),
        ([MANY, 300], (128, 360, 360), 1),
        ([400], (500, 1000, 1000), 1),
        ([90], (100, 200, 200), 3),
        ([4000], (500, 1000, 1000), 2),
    ],
)
def test_where_particles_are_rare_the_boxes_of_clicked_tomograms_hold_enough_or_as_much_as_may_be_measured(
    expected, shape, clicked, monkeypatch
):
    monkeypatch.setattr("tomostream.strategies.unet.sampled_logits.box_within", inspect.unwrap(box_within))  # without the check of types
    training = training_of(5, clicked, shape)
    boxes = [box for _, box in inspect.unwrap(random_boxes)(training, expected)]
    seen = sum(box.size for box in boxes[:clicked])
    density = min(expected) / (clicked * math.prod(shape))
    whole, most = clicked * math.prod(shape), MOST_MEASURED_VOX
    assert seen * density >= MEASURED_PARTICLES or seen == whole or seen >= min(whole, most) / 2 - clicked * shape[1] * shape[2]
    assert seen <= max(MEASURED_VOX, most)
    for box in boxes:
        assert all(0 <= a < b <= n for a, b, n in zip(box.start, box.stop, shape, strict=True))


@pytest.mark.parametrize(("memory", "most"), [(2 * 10**9, MOST_MEASURED_VOX), (10**9, 10_000_000), (10**8, MEASURED_VOX)])
def test_a_small_memory_budget_measures_less(memory, most, monkeypatch):
    monkeypatch.setattr("tomostream.strategies.unet.sampled_logits.box_within", inspect.unwrap(box_within))  # without the check of types
    [(_, box)] = inspect.unwrap(random_boxes)(training_of(1, 1, (1000, 1000, 1000), memory), [10])
    assert most / 2 - 10**6 <= box.size <= most
