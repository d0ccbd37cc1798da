"""A tomogram's batch-norm statistics come from crops that span it, are the same whoever asks, and are those of its own features."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tomostream.inference.batch_statistics import LEAST_VOX, Sampling, adapted, statistics_of, with_statistics
from tomostream.strategies.unet.model import unet_sampling
from tomostream.strategies.unet.network import ResidualUNet

CPU = torch.device("cpu")
edges = st.integers(1, 100)


def volume_of(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def reader(volume):
    return lambda box: volume[box.slices]


def network_of(channels=(3, 4), seed=0):
    return ResidualUNet(channels, 1, seed=seed).eval()


@given(shape=st.tuples(edges, edges, edges), stride=st.sampled_from([1, 2, 4, 8]), count=st.integers(1, 30))
def test_crops_begin_inside_and_end_at_most_a_stride_beyond_the_volume(shape, stride, count):
    sampling = Sampling((16, 24, 40), (stride,) * 3, count)
    boxes = sampling.boxes(shape)
    assert boxes == sampling.boxes(shape)
    assert len(boxes) <= count
    assert len({box.start for box in boxes}) == len(boxes)
    for box in boxes:
        for a, b, n, edge in zip(box.start, box.stop, shape, sampling.crop, strict=True):
            assert 0 <= a < n
            assert b <= n or (a == 0 and b - n < stride)
            assert (b - a) % stride == 0
            assert b - a == min(edge, -(-n // stride) * stride)
    assert bool(boxes) == (np.prod(shape) >= max(LEAST_VOX, 8 * stride**3))


@given(shape=st.tuples(st.integers(20, 100), st.integers(20, 100), st.integers(20, 100)))
def test_enough_crops_hold_every_voxel(shape):
    seen = np.zeros(shape, dtype=bool)
    for box in Sampling((16, 24, 40), (1, 1, 1), count=10**6).boxes(shape):
        seen[box.slices] = True
    assert seen.all()


def test_few_crops_of_a_large_volume_are_spread_over_it():
    starts = np.array([box.start for box in unet_sampling(4).boxes((500, 1000, 1000))])
    assert len(starts) == 32
    for axis, n in enumerate((500, 1000, 1000)):
        counts, _ = np.histogram(starts[:, axis], bins=2, range=(0, n))
        assert counts.min() >= 8


def test_features_of_the_tomogram_are_standardised_by_its_own_statistics():
    volume = 3 * volume_of((40, 40, 80)) + 1
    sampling = Sampling((40, 40, 40), (2, 2, 2), count=2, batch=2)
    network = adapted(network_of(), sampling.images(reader(volume), volume.shape), device=CPU)
    found = []
    norm = network.decoders[0].second.norm  # the last one: it sees what all others made
    norm.register_forward_hook(
        lambda module, _, output: found.append((output - module.bias[:, None, None, None]) / module.weight[:, None, None, None])
    )
    [batch] = sampling.images(reader(volume), volume.shape)
    with torch.no_grad():
        network(batch)
    features = found[0].transpose(0, 1).flatten(1)
    torch.testing.assert_close(features.mean(1), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(features.std(1), torch.ones(3), atol=1e-3, rtol=0)


def test_statistics_alone_make_the_adapted_network_again():
    network, volume = network_of(), volume_of((30, 40, 50))
    before = copy.deepcopy(network.state_dict())
    own = adapted(network, unet_sampling(2).images(reader(volume), volume.shape), device=CPU)
    again = with_statistics(network, statistics_of(own))
    image = torch.from_numpy(volume[:16, :16, :16].copy())[None, None]
    with torch.no_grad():
        assert torch.equal(again(image), own(image))
        assert not torch.allclose(network(image), own(image), atol=1e-3)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not own.training
    assert not again.training


def test_amid_training_in_bf16_the_statistics_are_the_same():
    network, volume = network_of(), volume_of((30, 40, 50))
    images = list(unet_sampling(2).images(reader(volume), volume.shape))
    plain = statistics_of(adapted(network, images, device=CPU))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = statistics_of(adapted(network.train(), images, device=CPU))
    assert found.keys() == plain.keys()
    for name, value in plain.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 600, 4), (19, 20, 21)])
def test_a_volume_that_is_too_small_keeps_the_networks_statistics(shape):
    network, volume = network_of(), volume_of(shape)
    own = adapted(network, unet_sampling(2).images(reader(volume), shape), device=CPU)
    assert all(torch.equal(value, own.state_dict()[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("shape", [(1, 100, 80), (2, 63, 64), (20, 20, 20)])
@pytest.mark.parametrize("channels", [(2,), (2, 2, 2, 2), (2, 2, 2, 2, 2)])
def test_thin_volumes_and_deep_networks_have_finite_statistics(shape, channels):
    network, volume = network_of(channels), volume_of(shape)
    found = statistics_of(adapted(network, unet_sampling(network.stride).images(reader(volume), shape), device=CPU))
    assert all(np.isfinite(value).all() for value in found.values())
