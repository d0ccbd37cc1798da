"""Batch-norm statistics become those of the given images, on a copy."""

import copy

import pytest
import torch

from tomostream.errors import TomostreamError
from tomostream.learn.recalibration import recalibrated
from tomostream.strategies.unet.network import ResidualUNet

CPU = torch.device("cpu")


def images(count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 1, 8, 8, 8, generator=generator) * (i + 1) + i for i in range(count)]


def test_first_layers_statistics_are_the_average_over_the_images():
    network = ResidualUNet((2, 4), 1, seed=0)
    layer = recalibrated(network, images(), device=CPU).encoders[0].first
    with torch.no_grad():
        outputs = [layer.conv(image).transpose(0, 1).flatten(1) for image in images()]
    assert torch.allclose(layer.norm.running_mean, torch.stack([o.mean(1) for o in outputs]).mean(0), atol=1e-5)
    assert torch.allclose(layer.norm.running_var, torch.stack([o.var(1) for o in outputs]).mean(0), rtol=1e-4)


def test_network_is_left_as_it_was_and_the_copy_is_for_evaluation():
    network = ResidualUNet((2, 4), 1, seed=0)
    before = copy.deepcopy(network.state_dict())
    result = recalibrated(network, images(), device=CPU)
    assert network.training
    assert not result.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert result.encoders[0].first.norm.momentum == network.encoders[0].first.norm.momentum


def test_earlier_statistics_do_not_matter():
    network, other = ResidualUNet((2, 4), 1, seed=0), ResidualUNet((2, 4), 1, seed=0)
    other.train()(100 + torch.zeros(1, 1, 8, 8, 8))
    first, second = (recalibrated(n, images(), device=CPU).state_dict() for n in (network, other))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_no_image_is_an_error():
    with pytest.raises(TomostreamError, match="at least one batch"):
        recalibrated(ResidualUNet((2,), 1, seed=0), [], device=CPU)
