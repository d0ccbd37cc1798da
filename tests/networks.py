"""Networks for the tests of inference."""

import torch

from tomostream.learn.folding import deployed
from tomostream.learn.resunet import ResidualUNet


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
