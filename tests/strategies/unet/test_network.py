"""The residual U-Net: its reach is what it says, and its start is what was asked."""

import pytest
import torch

from tomostream.errors import InputError
from tomostream.strategies.unet.network import ResidualUNet


def linear(network: ResidualUNet) -> ResidualUNet:
    """The same layers in float64 with positive weights and images: no rectifier cuts a path, so every dependence shows."""
    network = network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_().add_(0.01)
    return network


def influence(network: ResidualUNet, edge: int, voxel: int, axis: int) -> int:
    """How far along `axis` a change of one input voxel reaches."""
    shape = [4 * network.stride] * 3
    shape[axis] = edge
    image = torch.ones(1, 1, *shape, dtype=torch.float64)
    centre = [2 * network.stride] * 3
    centre[axis] = voxel
    changed = image.clone()
    changed[0, 0, centre[0], centre[1], centre[2]] += 1e3
    with torch.no_grad():
        difference = (network(changed) - network(image))[0].abs().sum(0)
    found = difference.nonzero()[:, axis] - voxel
    return int(found.abs().max())


@pytest.mark.parametrize("channels", [(2,), (2, 3), (2, 3, 2)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_influence_of_a_voxel_is_the_radius_at_worst_and_never_more(channels, axis):
    network = linear(ResidualUNet(channels, 1, seed=1))
    stride, radius = network.stride, network.influence_radius
    edge = (2 * radius // stride + 4) * stride
    middle = edge // 2 // stride * stride
    # an input voxel's reach over the phases of the input covers every phase of the output
    reaches = [influence(network, edge, middle + phase, axis) for phase in range(stride)]
    assert max(reaches) <= radius
    assert max(reaches) > radius - stride


@pytest.mark.parametrize("channels", [(2,), (2, 3), (2, 3, 2)])
def test_padding_at_a_blocks_edge_reaches_no_further_than_the_radius(channels):
    network = linear(ResidualUNet(channels, 1, seed=2))
    stride, radius = network.stride, network.influence_radius
    halo = -(-radius // stride) * stride
    whole = torch.rand(1, 1, 2 * halo + 8 * stride, 2 * stride, 2 * stride, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = network(whole)
        wrong = []
        for cut in range(stride, 5 * stride, stride):  # the block begins inside the volume, on a multiple of the stride
            difference = (network(whole[:, :, cut:]) - expected[:, :, cut:]).abs().amax(dim=(0, 1, 3, 4))
            wrong.append(int((difference > 1e-9 * expected.max()).nonzero().max()) + 1)
    assert max(wrong) <= radius
    assert max(wrong) > radius - 2 * stride
    cut = whole.shape[2] - 2 * stride  # and at the far end
    with torch.no_grad():
        difference = (network(whole[:, :, :cut]) - expected[:, :, :cut]).abs().amax(dim=(0, 1, 3, 4))
    assert cut - int((difference > 1e-9 * expected.max()).nonzero().min()) <= radius


@pytest.mark.parametrize(("channels", "stride", "radius"), [((4,), 1, 2), ((4, 4), 2, 9), ((8, 16, 32), 4, 23), ((4, 4, 4, 4), 8, 51)])
def test_stride_and_radius_of_known_depths(channels, stride, radius):
    network = ResidualUNet(channels, 1, seed=0)
    assert (network.stride, network.influence_radius) == (stride, radius)


def test_output_has_one_channel_a_species_on_the_inputs_grid():
    network = ResidualUNet((2, 4), 3, seed=0)
    assert network(torch.zeros(2, 1, 4, 6, 8)).shape == (2, 3, 4, 6, 8)


@pytest.mark.parametrize("shape", [(7, 8, 8), (8, 10, 8), (8, 8, 9)])
def test_edge_that_is_no_multiple_of_the_stride_is_refused(shape):
    with pytest.raises(InputError, match=r"multiples of its stride 4 .*found \(.*\)"):
        ResidualUNet((2, 2, 2), 1, seed=0)(torch.zeros(1, 1, *shape))


def test_first_scores_are_near_the_prior():
    network = ResidualUNet((8, 16), 2, prior=[0.02, 0.3], seed=0)
    scores = torch.sigmoid(network(torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0)))).mean(dim=(0, 2, 3, 4)).detach()
    assert scores[0] == pytest.approx(0.02, rel=0.5)
    assert scores[1] == pytest.approx(0.3, rel=0.3)


def test_same_seed_gives_the_same_weights_and_leaves_the_global_state_alone():
    before = torch.get_rng_state()
    first, second, other = (ResidualUNet((4, 8), 1, seed=seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(before, torch.get_rng_state())


def test_parameters_are_counted():
    # 3x3x3 convolutions, batch-norm's pairs, the skip from one channel, the head with bias
    assert ResidualUNet((2,), 1, seed=0).parameters_count == (27 * 2 + 27 * 4) + 4 * 2 + (2 + 2) + (2 + 1)


@pytest.mark.parametrize(
    ("channels", "species", "prior", "said"),
    [
        ((), 1, None, "channels"),
        ((0, 4), 1, None, "channels"),
        ((4,), 0, None, "species"),
        ((4,), 2, [0.1], "2 species"),
        ((4,), 1, [1.0], "prior"),
    ],
)
def test_impossible_networks_are_refused(channels, species, prior, said):
    with pytest.raises(InputError, match=said):
        ResidualUNet(channels, species, prior=prior, seed=0)


def test_a_network_sees_shifts_by_its_stride_as_shifts():
    network = ResidualUNet((2, 2, 2), 1, seed=4).double().eval()
    stride, radius = network.stride, network.influence_radius
    edge = 2 * (-(-radius // stride)) * stride + 4 * stride
    image = torch.rand(1, 1, edge, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, shifted = network(image), network(image[:, :, stride:])
    inner = slice(radius, -radius)
    assert torch.allclose(whole[:, :, stride:][:, :, inner], shifted[:, :, inner], atol=1e-12)
