"""Two networks side by side give the weighted sum of their logits, in one pass, and the first can be taken out again."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tomostream.learn.batch_norm_folding import deployed
from tomostream.strategies.unet.joined_channels import are_joinable, joined_channels
from tomostream.strategies.unet.joining import first_of, join
from tomostream.strategies.unet.network import ResidualUNet


def network(channels, species, seed):
    """A network with batch statistics of its own."""
    result = ResidualUNet(channels, species, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        result.head.weight.mul_(30)
        for name, buffer in result.named_buffers():
            if name.endswith("mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
            elif name.endswith("var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return result.eval()


@pytest.mark.parametrize("species", [1, 3])
@pytest.mark.parametrize(("one", "two"), [((4, 6, 8), (3, 5, 7)), ((2, 2), (2, 2)), ((2, 2), (3, 4)), ((5,), (1,))])
def test_the_joined_logits_are_the_weighted_sum(one, two, species):
    first, second = network(one, species, 1), network(two, species, 2)
    weights = np.linspace(0.3, 2, species).tolist()
    joined = join(first, second, weights)
    assert joined.channels == joined_channels(one, two)
    image = torch.randn(1, 1, 16, 12, 8, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        bias = second.head.bias.reshape(-1, 1, 1, 1)
        wanted = first(image)[0] + torch.tensor(weights, dtype=torch.float32).reshape(-1, 1, 1, 1) * (second(image)[0] - bias)
        for found in (joined(image)[0], deployed(joined)(image)[0]):
            torch.testing.assert_close(found, wanted, atol=2e-4, rtol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(1, 3), st.integers(0, 9))
def test_the_first_comes_out_bit_for_bit(channels, species, seed):
    first, second = network(channels, species, seed), network([c + 1 for c in channels], species, seed + 1)
    found = first_of(join(first, second, [0.7] * species), channels)
    for name, value in first.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


def test_which_networks_can_be_joined():
    assert are_joinable((8, 16, 32), (24, 48, 96))
    assert are_joinable((4, 4), (3, 3))
    assert not are_joinable((8, 16), (24, 48, 96))
    assert not are_joinable((4, 6), (4, 2))  # both change their channels, their sum does not
