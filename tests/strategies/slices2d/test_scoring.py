"""The slice detector: what its parts say one by one, blocks that equal the whole, and training that finds bright discs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from stream_volumes import ArrayVolume

from tomostream.errors import InputError
from tomostream.geometry import Box, Triple
from tomostream.inference.protocol import BlockScorer
from tomostream.inference.region_scoring import read_extended
from tomostream.learn.batch import Batch
from tomostream.learn.batch_norm_folding import deployed
from tomostream.strategies.slices2d.detector import CENTRE_X, CENTRE_Y, OBJECT, SliceDetector, confidence_logits
from tomostream.strategies.slices2d.painting import painted, window_cells
from tomostream.strategies.slices2d.scoring import SliceScorer
from tomostream.strategies.slices2d.single_shot import SingleShot, cell_targets
from tomostream.strategies.slices2d.slabs import SlabDataset, centres_of_box, slab_layout


def detector(channels: tuple[int, ...] = (3, 4, 5), species: int = 1) -> SliceDetector:
    """A network with random weights and batch statistics, so that its numbers vary."""
    network = SliceDetector(channels, species, seed=3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        network.head.weight.mul_(30)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    return network.eval()


# --- network


def test_a_slice_does_not_see_other_slices():
    network, rng = detector(), np.random.default_rng(0)
    image = torch.tensor(rng.normal(size=(1, 1, 3, 16, 24)), dtype=torch.float32)
    changed = image.clone()
    changed[:, :, 1] += 1
    with torch.no_grad():
        before, after = network(image), network(changed)
    assert torch.equal(before[:, :, [0, 2]], after[:, :, [0, 2]])
    assert not torch.equal(before[:, :, 1], after[:, :, 1])
    assert before.shape == (1, 3, 3, 4, 6)


@pytest.mark.parametrize("channels", [(3,), (2, 3), (2, 3, 4)])
def test_the_reach_is_the_largest_distance_at_which_a_pixel_changes_a_cell(channels):
    network = detector(channels)
    stride, edge = network.stride, 64
    image = torch.tensor(np.random.default_rng(0).normal(size=(1, 1, 1, edge, stride)), dtype=torch.float32)
    cell = edge // stride // 2
    farthest = 0
    with torch.no_grad():
        before = network(image)[..., cell, :]
        for y in range(edge):
            changed = image.clone()
            changed[..., y, :] += 1e4
            if not torch.equal(network(changed)[..., cell, :], before):
                farthest = max(farthest, cell * stride - y, y - (cell * stride + stride - 1))
    assert farthest == network.reach


def test_folding_keeps_the_numbers():
    network = detector()
    image = torch.tensor(np.random.default_rng(0).normal(size=(2, 1, 2, 16, 16)), dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(deployed(network)(image), network(image), atol=1e-4, rtol=1e-4)


def test_confidence_is_the_product_of_object_and_class():
    numbers = torch.tensor(np.random.default_rng(0).normal(size=(2, 5, 1, 3, 3)) * 3, dtype=torch.float32)
    expected = torch.sigmoid(numbers[:, :1]) * torch.softmax(numbers[:, 3:], dim=1)
    torch.testing.assert_close(torch.sigmoid(confidence_logits(numbers)), expected)
    assert torch.equal(confidence_logits(numbers[:, :3]), numbers[:, :1])
    certain = torch.full((1, 5, 1, 1, 1), 200.0)
    certain[0, 4] = -200
    assert torch.isfinite(confidence_logits(certain)).all()


def test_wrong_networks_and_slices_are_refused():
    with pytest.raises(InputError, match=r"network\.channels.*found \[\]"):
        SliceDetector((), 1, seed=0)
    with pytest.raises(InputError, match="at least one species, found 0"):
        SliceDetector((2,), 0, seed=0)
    with pytest.raises(InputError, match=r"stride 4 \(3 levels\), found \(16, 18\)"):
        detector()(torch.zeros(1, 1, 2, 16, 18))


# --- loss


def batch_with(marked: np.ndarray) -> Batch:
    positive = torch.from_numpy(marked)
    n = positive.shape[0]
    one = torch.ones(n, 1, *positive.shape[2:])
    return Batch(one, positive, one, torch.ones(n, dtype=torch.bool))


def test_the_cell_that_holds_a_centre_answers_for_it():
    marked = np.zeros((1, 2, 3, 8, 12), dtype=bool)
    marked[0, 1, 2, 5, 8] = True
    targets = cell_targets(torch.from_numpy(marked), 4)
    assert targets.has_box.nonzero().tolist() == [[0, 1, 2, 1, 2]]
    assert targets.centre[0, :, 2, 1, 2].tolist() == [1.5 / 4, 0.5 / 4]
    assert float(targets.centre.sum()) == pytest.approx(0.5)


def test_the_loss_is_its_formula_on_a_small_grid():
    rng = np.random.default_rng(1)
    marked = np.zeros((1, 2, 2, 8, 8), dtype=bool)
    marked[0, 0, 0, 1, 6] = marked[0, 1, 1, 7, 2] = True
    numbers = rng.normal(size=(1, 5, 2, 2, 2)) * 2
    box, weights = 9.0, (5.0, 0.7, 2.0, 3.0)
    expected = dict.fromkeys(("object", "background", "centre", "class"), 0.0)
    truth = {(0, 0, 1): (0, 1.5 / 4, 2.5 / 4), (1, 1, 0): (1, 3.5 / 4, 2.5 / 4)}  # slice, cell: class, centre
    for z, v, u in itertools.product(range(2), repeat=3):
        o, y, x, *classes = numbers[0, :, z, v, u]
        y, x = 1 / (1 + math.exp(-y)), 1 / (1 + math.exp(-x))
        if (z, v, u) in truth:
            kind, ty, tx = truth[z, v, u]
            expected["object"] += math.log1p(math.exp(-o))
            expected["centre"] += (y - ty) ** 2 + (x - tx) ** 2
            expected["class"] += math.log(sum(math.exp(c) for c in classes)) - classes[kind]
            continue
        overlaps = []
        for (tz, tv, tu), (_, ty, tx) in truth.items():
            shared = max(0, 1 - abs(tv + ty - v - y) * 4 / box) * max(0, 1 - abs(tu + tx - u - x) * 4 / box)
            overlaps += [shared / (2 - shared)] if tz == z else []
        if max(overlaps) <= 0.5:
            expected["background"] += math.log1p(math.exp(o))
    loss = SingleShot(4, (box, box), *weights)(torch.tensor(numbers, dtype=torch.float32), batch_with(marked))
    for (name, value), weight in zip(expected.items(), weights, strict=True):
        assert float(loss.terms[name]) == pytest.approx(weight * value / 2, rel=1e-5), name
    assert float(loss.total) == pytest.approx(sum(w * v for w, v in zip(weights, expected.values(), strict=True)) / 2, rel=1e-5)


def test_a_cell_whose_box_covers_a_true_one_is_let_off():
    marked = np.zeros((1, 1, 1, 8, 8), dtype=bool)
    marked[0, 0, 0, 3, 3] = True  # at the corner where four cells meet
    numbers = torch.zeros(1, 3, 1, 2, 2)
    numbers[0, CENTRE_Y, 0, 1, 0], numbers[0, CENTRE_X, 0, 1, 0] = -6, 2  # its box, in the cell below, is centred just there
    loss = SingleShot(4, (10.0,), 1.0, 1.0, 1.0, 1.0)
    silent = float(loss(numbers, batch_with(marked)).terms["background"])
    numbers[0, OBJECT, 0, 1, 0] = 9
    assert float(loss(numbers, batch_with(marked)).terms["background"]) == pytest.approx(silent)
    numbers[0, OBJECT, 0, 1, 1] = 9  # its box is too far
    assert float(loss(numbers, batch_with(marked)).terms["background"]) > silent + 8


# --- slabs


def test_boxes_lie_on_the_slices_near_the_centre_and_parts_agree_with_the_whole():
    points = np.array([[3.4, 2.6, 1.2], [7.0, 0.0, 5.0], [1.0, -2.0, 3.0]])
    whole = centres_of_box(Box.whole((9, 4, 6)), points, half_height=1.5)
    assert np.argwhere(whole).tolist() == [[2, 3, 1], [3, 3, 1], [4, 3, 1], [6, 0, 5], [7, 0, 5], [8, 0, 5]]
    part = Box((3, 1, 1), (8, 4, 6))
    np.testing.assert_array_equal(centres_of_box(part, points, half_height=1.5), whole[part.slices])


def test_slabs_are_as_high_as_a_label_in_whole_strides():
    usual = {"half_height": 5.0, "edge": 64, "stride": 4, "symmetry": "cube"}
    assert slab_layout([(50, 90, 90)], **usual) == ((12, 64, 64), "cube")
    assert slab_layout([(50, 90, 90), (9, 90, 90)], **usual) == ((8, 64, 64), "cube")
    assert slab_layout([(3, 90, 90)], **usual) == ((4, 64, 64), "cube")
    assert slab_layout([(50, 14, 90)], **usual) == ((12, 64, 64), "wedge")


@pytest.mark.parametrize(("edge", "symmetry"), [(24, "cube"), (12, "cube"), (24, "none")])
def test_slabs_are_never_turned_out_of_their_plane(edge, symmetry):
    volume = ArrayVolume((16, 40, 40), (8, 16, 16))
    crop, kept = slab_layout([volume.shape], half_height=5.0, edge=edge, stride=4, symmetry=symmetry)
    dataset = SlabDataset(
        tomograms=[volume],
        points=[[np.array([[8.0, 20.0, 21.0]])]],
        radius=[5.0],
        buffer_bytes=10**8,
        crop=crop,
        stride=4,
        batch=2,
        batches_per_epoch=12,
        labelled_fraction=0.5,
        seed=0,
        symmetry=kept,
    )
    seen = set()
    for batch in dataset:
        for image, positive in zip(batch.image[:, 0].numpy(), batch.positive[:, 0].numpy(), strict=True):
            assert image.shape == (12, edge, edge)
            z = image.astype(int) // 1600
            assert (z == z[:, :1, :1]).all()  # slices are slices of the volume
            y, x = image.astype(int) % 1600 // 40, image.astype(int) % 40
            np.testing.assert_array_equal(positive, (y == 20) & (x == 21) & (abs(z - 8) <= 5))
            seen.add(np.sign([z[1, 0, 0] - z[0, 0, 0], y[0, 1, 0] - y[0, 0, 0], x[0, 0, 1] - x[0, 0, 0]]).tobytes())
    assert len(seen) > 1 or symmetry == "none"


# --- painting and scoring


def test_painted_pixels_are_the_highest_flank():
    rng = np.random.default_rng(2)
    confidence, centre = rng.normal(size=(2, 3, 4)) * 3, rng.random((2, 3, 4))
    radius, stride = (3.0, 2.0), 4
    got = painted(torch.tensor(confidence, dtype=torch.float32), torch.tensor(centre, dtype=torch.float32), radius=radius, stride=stride)
    window = window_cells(radius, stride)
    assert window == 2
    for s, y, x in itertools.product(range(2), range(12), range(16)):
        near = [
            confidence[s, v, u]
            - 4 / radius[s] ** 2 * (((v + centre[0, v, u]) * 4 - 0.5 - y) ** 2 + ((u + centre[1, v, u]) * 4 - 0.5 - x) ** 2)
            for v, u in itertools.product(range(3), range(4))
            if abs(v - y // 4) <= window and abs(u - x // 4) <= window
        ]
        assert float(got[s, y, x]) == pytest.approx(max(near), abs=1e-4)


@pytest.mark.parametrize("place", [(0.05, 0.95), (0.5, 0.5), (0.9, 0.3)])
def test_a_box_peaks_at_its_centre_with_its_confidence(place):
    confidence = torch.full((1, 9, 9), -6.0)
    centre = torch.full((2, 9, 9), 0.5)
    confidence[0, 4, 5], centre[:, 4, 5] = 2.0, torch.tensor(place)
    scores = painted(confidence, centre, radius=(5.0,), stride=4)[0].numpy()
    y, x = np.unravel_index(scores.argmax(), scores.shape)
    assert (abs(y - (4 + place[0]) * 4 + 0.5), abs(x - (5 + place[1]) * 4 + 0.5)) <= (0.51, 0.51)
    assert 2.0 - 0.1 < scores.max() <= 2.0


def scored(scorer: SliceScorer, volume: np.ndarray, needed: Box) -> np.ndarray:
    shape: Triple = volume.shape
    read = scorer.read_box(needed, shape)
    return scorer.logits(read_extended(lambda box: volume[box.slices], read, shape), read, needed, shape)


@examples(25)
@given(data=st.data())
def test_a_block_has_the_logits_of_the_whole_volume(data):
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(5, 70), st.integers(5, 70)))
    start = [data.draw(st.integers(0, n - 1)) for n in shape]
    stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)]
    volume = np.random.default_rng(data.draw(st.integers(0, 2**32))).normal(size=shape).astype(np.float32)
    scorer = SliceScorer(detector(species=2), radius=[3.0, 2.0], device="cpu", precision="float32", threads=None)
    box = Box(tuple(start), tuple(stop))
    whole = scored(scorer, volume, Box.whole(shape))
    np.testing.assert_allclose(scored(scorer, volume, box), whole[(slice(None), *box.slices)], atol=1e-4)
    np.testing.assert_array_equal(scored(scorer, volume, box), scored(scorer, volume, box))


def test_a_scorer_is_what_predict_asks_for_and_says_what_it_costs():
    scorer = SliceScorer(detector(), radius=[3.0], device="cpu", precision="float32", threads=None)
    assert isinstance(scorer, BlockScorer)
    assert scorer.species == 1
    read = scorer.read_box(Box((2, 40, 0), (5, 44, 200)), (9, 99, 201))
    assert (read.start[0], read.stop[0]) == (2, 5)
    assert read == Box((2, 16, 0), (5, 68, 204))
    small, large = (scorer.block_bytes(Box.whole((n, 100, 100)), (50, 100, 100)) for n in (1, 40))
    assert large - small == 39 * 100 * 100 * 8  # image and logits; a slice at a time in the network


def test_bf16_is_close_and_other_precisions_are_refused():
    volume = np.random.default_rng(0).normal(size=(2, 32, 32)).astype(np.float32)
    exact, rough = (
        scored(SliceScorer(detector(), radius=[3.0], device="cpu", precision=p, threads=None), volume, Box.whole((2, 32, 32)))
        for p in ("float32", "bf16")
    )
    assert 0 < np.abs(exact - rough).mean() < 0.2
    with pytest.raises(InputError, match="must be float32 or bf16, found 'int8'"):
        SliceScorer(detector(), radius=[3.0], device="cpu", precision="int8", threads=None)
    with pytest.raises(InputError, match=r"each of its 1 species, found \[3.0, 2.0\]"):
        SliceScorer(detector(), radius=[3.0, 2.0], device="cpu", precision="float32", threads=None)
