"""Boxes in which networks and filters are measured: at most so many voxels in all, most of them where clicks tell the number of particles."""

import inspect
from types import SimpleNamespace

import pytest

from tomostream.strategies.sample_boxes import MEASURED_VOX
from tomostream.strategies.unet.sampled_logits import random_boxes


def training_of(count, clicked, shape):
    tomograms = [SimpleNamespace(name=f"t{number}", shape=shape) for number in range(count)]
    names = [one.name for one in tomograms]
    labelled = SimpleNamespace(tomograms=tomograms, names=names, clicked=SimpleNamespace(names=names[:clicked]))
    return SimpleNamespace(labelled=labelled, settings=SimpleNamespace(train=SimpleNamespace(seed=0)))


@pytest.mark.parametrize(("count", "clicked"), [(1, 1), (4, 1), (4, 4), (20, 1), (20, 3), (5, 4)])
def test_clicked_tomograms_get_at_least_half_of_the_voxels(count, clicked, monkeypatch):
    seen = []
    monkeypatch.setattr("tomostream.strategies.unet.sampled_logits.box_within", lambda one, most, rng: seen.append((one.name, most)))
    inspect.unwrap(random_boxes)(training_of(count, clicked, (100, 200, 200)))  # without the check of types
    voxels = [most for _, most in seen]
    assert sum(voxels) <= MEASURED_VOX
    assert sum(voxels[:clicked]) >= min(MEASURED_VOX // 2, MEASURED_VOX * clicked // count) - clicked
    assert min(voxels) > 0
    assert max(voxels[:clicked]) == min(voxels[:clicked]) >= max(voxels[clicked:], default=0)
