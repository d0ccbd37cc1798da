"""Networks for the tests of inference."""

import torch

from tomostream.learn.batch_norm_folding import deployed
from tomostream.strategies.deepetpicker.network import CoordinateUNet
from tomostream.strategies.unet.network import ResidualUNet


def network_of(channels, species=1, seed=0):
    """A network with lively batch statistics and biases, folded."""
    network = ResidualUNet(channels, species, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean = 0.3 * torch.randn(module.num_features, generator=generator)
            module.running_var = 0.5 + torch.rand(module.num_features, generator=generator)
            module.bias.data = 0.3 * torch.randn(module.num_features, generator=generator)
    network.head.weight.data *= 10
    return deployed(network)


def lively(channels=(2, 3, 4), species=1):
    """A network of deepetpicker with batch statistics that are not those of its making."""
    network = CoordinateUNet(channels, species, seed=1)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean = 0.3 * torch.randn(module.num_features, generator=generator)
            module.running_var = 0.5 + torch.rand(module.num_features, generator=generator)
    return network.eval()
