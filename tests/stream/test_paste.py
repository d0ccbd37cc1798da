"""Copies of clicked particles in uniform crops: whole, labelled, turned, nowhere else, and the same in every run."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stream_volumes import ArrayVolume
from torch.utils.data import DataLoader

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.geometry import Box
from tomostream.masks import mask_of_box
from tomostream.stream.augment import ORIENTATIONS, oriented
from tomostream.stream.dataset import SubtomogramDataset
from tomostream.stream.paste import Pasting, copied, paste
from tomostream.stream.plan import Rejected

SHAPE = (40, 44, 48)
EDGE = 20
POINTS = [[np.array([[12.3, 20.0, 30.4], [28.0, 25.5, 11.0]]), np.array([[20.0, 11.2, 20.0]])]]
RADIUS = [3.0, 2.0]


def dataset(**changes) -> SubtomogramDataset:
    settings = {
        "tomograms": [ArrayVolume(SHAPE, (8, 8, 8))],
        "points": POINTS,
        "radius": RADIUS,
        "buffer_bytes": 4 * SHAPE[0] * SHAPE[1] * SHAPE[2],
        "crop": EDGE,
        "stride": 4,
        "batch": 4,
        "batches_per_epoch": 6,
        "seed": 3,
    }
    return SubtomogramDataset(**{**settings, **changes})


def ball(centre, radius: float) -> np.ndarray:
    box = Box.whole((EDGE, EDGE, EDGE))
    return mask_of_box(box, np.array([centre]), radius=radius, shape="sphere", volume=box.stop).astype(bool)


@given(
    centre=st.tuples(*[st.floats(4.0, EDGE - 5.0)] * 3),
    radius=st.floats(1.0, 4.0),
    orientation=st.integers(0, ORIENTATIONS - 1),
    seed=st.integers(0, 2**32),
)
def test_a_copy_replaces_its_ball_and_is_labelled_there(centre, radius, orientation, seed):
    rng = np.random.default_rng(seed)
    source, image = rng.normal(size=(2, EDGE, EDGE, EDGE)).astype(np.float32)
    before, positive = image.copy(), np.zeros((2, EDGE, EDGE, EDGE), dtype=bool)
    label = ball(centre, radius)
    weights, weight = np.arange(EDGE**3, dtype=np.float32).reshape(image.shape) + 2, np.ones(image.shape, dtype=np.float32)
    copy = copied(source, label, weights, np.array(centre), radius=radius, species=1, orientation=orientation)
    assert copy is not None
    changed = paste(copy, image, positive, weight, rng)
    assert changed is not None
    assert not positive[0].any()
    # the label is the source's, turned and moved as a whole
    assert positive[1].sum() == label.sum()
    found, wanted = image[positive[1]], oriented(source, orientation)[oriented(label, orientation)]
    contrast = found / wanted
    assert np.ptp(contrast) < 1e-3 * abs(contrast).max()
    assert defaults.PASTED_CONTRAST[0] - 1e-4 < np.median(contrast) < defaults.PASTED_CONTRAST[1] + 1e-4
    # its voxels weigh as they did where they come from, and no others change
    np.testing.assert_array_equal(weight[positive[1]], oriented(weights, orientation)[oriented(label, orientation)])
    assert (weight[~positive[1]] == 1).all()
    # nothing changes farther than the rim
    centre_there = np.argwhere(positive[1]).mean(axis=0)
    distance = np.linalg.norm(np.moveaxis(np.indices(image.shape), 0, -1) - centre_there, axis=-1)
    far = distance > radius + 2 + 1
    np.testing.assert_array_equal(image[far], before[far])
    outside = np.ones_like(far)
    outside[changed.slices] = False
    np.testing.assert_array_equal(image[outside], before[outside])


def test_a_particle_that_is_cut_is_not_copied():
    image, label = np.zeros((EDGE,) * 3, dtype=np.float32), np.zeros((EDGE,) * 3, dtype=bool)
    for centre, is_whole in (((2.9, 9.0, 9.0), False), ((3.0, 9.0, 9.0), True), ((9.0, 16.1, 9.0), False), ((9.0, 16.0, 9.0), True)):
        copy = copied(image, label, image, np.array(centre), radius=3.0, species=0, orientation=0)
        assert (copy is not None) == is_whole, centre


def test_nothing_is_pasted_onto_a_label_or_into_too_small_a_crop():
    rng = np.random.default_rng(0)
    source = rng.normal(size=(EDGE,) * 3).astype(np.float32)
    copy = copied(source, ball((9.0, 9.0, 9.0), 3.0), source, np.array([9.0, 9.0, 9.0]), radius=3.0, species=0, orientation=0)
    image, weight = source.copy(), np.ones_like(source)
    everywhere, nowhere = np.ones((1, EDGE, EDGE, EDGE), dtype=bool), np.zeros((1, EDGE, EDGE, EDGE), dtype=bool)
    assert paste(copy, image, everywhere, weight, rng) is None
    assert paste(copy, image[:6], nowhere[:, :6], weight[:6], rng) is None
    np.testing.assert_array_equal(image, source)
    assert paste(copy, image[:7], nowhere[:, :7], weight[:7], rng) is not None


def test_only_uniform_crops_change_and_each_gets_a_whole_copy():
    pasted = 0
    for plain, changed in zip(dataset(), dataset(pasting=Pasting(1.0, RADIUS)), strict=True):
        labelled = plain.is_labelled
        for before, after in zip(plain, changed, strict=True):
            assert torch.equal(before[labelled], after[labelled])
        assert torch.equal(
            plain.weight[~changed.positive.any(dim=1, keepdim=True)], changed.weight[~changed.positive.any(dim=1, keepdim=True)]
        )
        for i in np.flatnonzero(~labelled):
            new = changed.positive[i] & ~plain.positive[i]
            assert not (plain.positive[i] & ~changed.positive[i]).any()
            if not new.any():  # would have touched a label
                assert torch.equal(plain.image[i], changed.image[i])
                continue
            pasted += 1
            (species,) = np.flatnonzero(new.any(dim=(1, 2, 3)))
            voxels = round(float(new.sum()))
            assert voxels == pytest.approx(4 / 3 * np.pi * RADIUS[species] ** 3, rel=0.25)
            assert not torch.equal(plain.image[i], changed.image[i])
    assert pasted >= 8


def test_a_share_of_nothing_changes_nothing_and_half_is_about_half():
    for plain, changed in zip(dataset(), dataset(pasting=Pasting(0.0, RADIUS)), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(plain, changed, strict=True))
    many = {"batches_per_epoch": 60}
    pairs = zip(dataset(**many), dataset(**many, pasting=Pasting(0.5, RADIUS)), strict=True)
    count = sum((a.image != b.image).flatten(1).any(dim=1).sum() for a, b in pairs)
    assert 0.3 < float(count) / 120 < 0.6


@pytest.mark.slow
def test_the_same_seed_gives_the_same_copies_in_every_run():
    pasting = Pasting(0.7, RADIUS)
    first = list(dataset(pasting=pasting))
    assert all(torch.equal(p, q) for a, b in zip(first, dataset(pasting=pasting), strict=True) for p, q in zip(a, b, strict=True))
    other = list(dataset(pasting=pasting, epoch=1))
    assert not all(torch.equal(a.image, b.image) for a, b in zip(first, other, strict=True))
    loaders = [DataLoader(dataset(pasting=pasting), batch_size=None, num_workers=2, multiprocessing_context="spawn") for _ in range(2)]
    assert all(torch.equal(p, q) for a, b in zip(*loaders, strict=True) for p, q in zip(a, b, strict=True))


def test_a_copy_is_a_particle_even_where_a_place_was_rejected():
    everywhere = [[np.argwhere(np.ones((4, 4, 4))) * 10.0 + 3, np.empty((0, 3))]]
    settings = {"rejected": Rejected(everywhere, [9.0, 9.0], 0.0)}
    for batch in dataset(pasting=Pasting(1.0, RADIUS), **settings):
        assert not (batch.negative & batch.positive).any()


def test_wrong_pasting_is_refused():
    with pytest.raises(InputError, match=r"between 0 and 1, found 1\.5"):
        Pasting(1.5, RADIUS)
    with pytest.raises(InputError, match=r"above 0, found \[3\.0, 0\.0\]"):
        Pasting(0.5, [3.0, 0.0])
    with pytest.raises(InputError, match="a radius for each of the 2 species, found 1"):
        dataset(pasting=Pasting(0.5, [3.0]))
