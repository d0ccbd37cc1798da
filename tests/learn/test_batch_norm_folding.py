"""The network as deployed is the network as validated."""

import copy

import pytest
import torch
from torch import nn

from tomostream.learn.batch_norm_folding import deployed
from tomostream.strategies.unet.network import ResidualUNet


@pytest.fixture
def trained() -> ResidualUNet:
    """A network whose batch-norms are far from the identity."""
    network = ResidualUNet((4, 8, 16), 2, seed=3)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.weight, 1, 0.3, generator=generator)
            nn.init.normal_(module.bias, 0, 0.3, generator=generator)
    with torch.no_grad():
        for _ in range(20):
            network(2 * torch.randn(2, 1, 12, 12, 12, generator=generator) + 0.5)
    return network


def image() -> torch.Tensor:
    return torch.randn(1, 1, 16, 12, 20, generator=torch.Generator().manual_seed(1))


def test_folded_network_equals_the_evaluation_network(trained):
    folded = deployed(trained)
    with torch.no_grad():
        expected = trained.eval()(image())
        assert (folded(image()) - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))
    assert not any(isinstance(module, nn.BatchNorm3d) for module in folded.modules())


def test_folding_leaves_the_network_as_it_was(trained):
    before, mode = copy.deepcopy(trained.state_dict()), trained.training
    deployed(trained)
    assert trained.training is mode
    assert all(torch.equal(before[name], value) for name, value in trained.state_dict().items())


def test_folding_twice_changes_nothing(trained):
    once = deployed(trained)
    with torch.no_grad():
        assert torch.equal(once(image()), deployed(once)(image()))


def test_folded_network_runs_in_bf16_and_channels_last(trained):
    folded = deployed(trained)
    fast = copy.deepcopy(folded).to(torch.bfloat16).to(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        exact, rounded = folded(image()), fast(image().to(torch.bfloat16)).float()
    assert (rounded - exact).abs().mean() < 0.05 * exact.std()
    assert fast.stride == trained.stride
    assert fast.influence_radius == trained.influence_radius
