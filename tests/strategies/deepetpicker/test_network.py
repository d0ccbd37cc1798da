"""DeepETPicker's network: what goes in where, folding, and what it learns from."""

import numpy as np
import pytest
import torch
from networks import lively

from tomostream.errors import InputError
from tomostream.learn.batch_norm_folding import deployed
from tomostream.learn.objectives import Expectations
from tomostream.strategies.deepetpicker.loss import Dice
from tomostream.strategies.deepetpicker.network import CoordinateUNet

pytestmark = pytest.mark.slow


def test_one_logit_a_voxel_and_species():
    assert lively(species=2)(torch.zeros(3, 1, 8, 12, 16)).shape == (3, 2, 8, 12, 16)


def test_the_place_in_the_patch_matters():
    with torch.inference_mode():
        logits = lively()(torch.zeros(1, 1, 32, 32, 32))[0, 0]
    # far from the faces a plain U-Net gives one value for a constant image
    middle = logits[12:20:4, 12:20:4, 12:20:4]
    assert middle.max() - middle.min() > 1e-4


def test_every_scale_sees_the_density_itself():
    network = lively()
    assert len(network.pyramid) == 2
    image = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        before = network(image)
        for level in range(2):
            changed = lively()
            changed.pyramid[level].weight.zero_()
            assert not torch.equal(changed(image), before)


def test_folding_keeps_the_function():
    network = lively()
    image = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        torch.testing.assert_close(deployed(network)(image), network(image), rtol=1e-4, atol=1e-5)


def test_equal_seeds_give_equal_weights_and_leave_the_global_state_alone():
    state = torch.random.get_rng_state()
    a, b = CoordinateUNet((2, 3), 1, seed=5), CoordinateUNet((2, 3), 1, seed=5)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(("channels", "species"), [((), 1), ((0, 2), 1), ((2, 3), 0)])
def test_impossible_networks_are_refused(channels, species):
    with pytest.raises(InputError):
        CoordinateUNet(channels, species, seed=0)


def test_edges_off_the_stride_are_refused():
    with pytest.raises(InputError, match="stride 4"):
        lively()(torch.zeros(1, 1, 8, 10, 8))


def means(logits, positive, weight=None):
    weight = torch.ones_like(logits) if weight is None else weight
    return Expectations(logits, weight * positive, weight - weight * positive)


def test_dice_is_one_minus_the_overlap():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    positive = rng.random(logits.shape) < 0.2
    p, y = 1 / (1 + np.exp(-logits)), positive.astype(float)
    wanted = 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
    loss = Dice()(means(torch.from_numpy(logits), torch.from_numpy(positive)))
    assert float(loss.total) == pytest.approx(wanted, rel=1e-5)
    assert float(loss.terms["dice"]) == pytest.approx(1 - wanted, rel=1e-5)


def test_dice_takes_crops_as_they_come_and_leaves_padding_out():
    logits = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    positive = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(1)) < 0.3
    weight = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(2)) + 0.1
    plain = Dice()(means(logits, positive)).total
    torch.testing.assert_close(Dice()(means(logits, positive, weight)).total, plain)
    # one more plane of weight 0 changes nothing
    padded = [torch.cat([a, a[:, :1]], dim=1) for a in (logits, positive, torch.ones_like(logits))]
    padded[2][:, -1] = 0
    torch.testing.assert_close(Dice()(means(*padded)).total, plain)


def test_a_batch_without_label_has_a_finite_loss_and_gradient():
    logits = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = Dice()(means(logits, torch.zeros(1, 3, 4, 5, dtype=torch.bool))).total
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_it_learns_to_mark_blobs():
    generator = torch.Generator().manual_seed(0)
    network = CoordinateUNet((4, 6), 1, seed=0)
    image = 0.3 * torch.randn(1, 1, 16, 16, 16, generator=generator)
    positive = torch.zeros(1, 16, 16, 16, dtype=torch.bool)
    for z, y, x in [(4, 4, 4), (11, 10, 5), (6, 12, 12)]:
        positive[0, z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = True
    image[:, 0] += 2 * positive
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.01)
    for _ in range(60):
        optimiser.zero_grad()
        loss = Dice()(means(network(image)[:, 0], positive)).total
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.2
