import copy

import numpy as np
import pytest
import torch
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from networks import network_of

from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.streaming import slab_planes, stream_logits


def streamed(network, image, planes):
    slabs = (image[:, :, first : first + planes] for first in range(0, image.shape[2], planes))
    with torch.inference_mode():
        return list(stream_logits(copy.deepcopy(network), slabs, network.head))


@examples(20)
@given(
    channels=st.sampled_from([(4,), (3, 5), (4, 6, 8), (2, 3, 4, 5)]),
    units=st.tuples(*[st.integers(1, 3)] * 3),
    planes=st.integers(1, 9),
    species=st.integers(1, 2),
)
def test_streamed_logits_are_those_of_the_plain_forward_pass_for_any_slabs(channels, units, planes, species):
    network = network_of(channels, species)
    shape = [u * network.stride for u in units]
    image = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(1))
    result = torch.cat(streamed(network, image, planes), dim=2)
    with torch.inference_mode():
        expected = network(image)
    assert result.shape == expected.shape
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)


def test_few_planes_are_alive_however_deep_the_block_is():
    network = network_of((4, 6, 8))
    taken = given_ = 0
    most = 0

    def slabs():
        nonlocal taken
        for _ in range(0, 400, 4):
            taken += 4
            yield torch.zeros(1, 1, 4, 8, 8)

    with torch.inference_mode():
        for logits in stream_logits(network, slabs(), network.head):
            given_ += logits.shape[2]
            most = max(most, taken - given_)
    assert given_ == taken == 400
    # two convolutions before the finest level's pooling and two at its end, and the lag of 16 in between, in slabs of 4
    assert most <= 2 + 16 + 2 + 2 * 4


def test_an_unfolded_network_is_refused_not_wrong():
    network = ResidualUNet((2, 3), 1, seed=0).eval()
    with pytest.raises(TypeError, match="batch-norm must be folded"):
        streamed(network, torch.zeros(1, 1, 4, 4, 4), 4)


def test_slabs_are_multiples_of_the_stride_and_never_empty():
    assert slab_planes(1000, 4, 17_000) == 16
    assert slab_planes(10**9, 4, 17_000) == 4
    assert np.all([slab_planes(p, 8, 10**6) % 8 == 0 for p in (1, 10**3, 10**5)])
