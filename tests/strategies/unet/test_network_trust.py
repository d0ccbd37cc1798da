"""A network that ranks even its own clicks low weighs less, and a training can start from it nevertheless."""

import json

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from small_project import make_project

from tomostream.config import configuration_from
from tomostream.pipeline.execution import run_project
from tomostream.progress import Progress
from tomostream.strategies.unet.joining import join, scaled
from tomostream.strategies.unet.model import load_model
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.network_trust import LEAST, share_of

UNTRAINED = {"steps": 1, "steps_per_epoch": 1, "crop": 16, "batch": 4, "learning_rate": 1e-9, "precision": "float32"}


@pytest.mark.parametrize(
    ("ranks", "expected", "share"),
    [
        ([9.0] * 5, 20.0, 1.0),  # 20 particles by the ranks, 20 expected
        ([13.0] * 5, 20.0, 1.0),  # 28
        ([59.0] * 5, 20.0, 0.25),  # 120
        ([9999.0] * 5, 20.0, LEAST),
        ([9999.0] * 4, 20.0, 1.0),  # too few clicks tell
        ([9999.0] * 5, None, 1.0),
    ],
)
def test_a_network_keeps_its_weight_as_far_as_its_clicks_rank_within_the_expected_number(ranks, expected, share):
    assert share_of(ranks, expected) == share


@given(st.lists(st.floats(0, 1e6), min_size=5, max_size=30), st.floats(1, 1e5), st.floats(0, 1e4))
def test_worse_ranks_never_give_a_larger_share_and_shares_are_powers_of_two(ranks, expected, worse):
    share = share_of(ranks, expected)
    assert LEAST <= share <= 1
    assert np.frexp(share)[0] == 0.5
    assert share_of([rank + worse for rank in ranks], expected) <= share


def test_scaled_logits_are_exact_and_the_weights_can_be_restored():
    network = ResidualUNet((4, 8), 2, seed=3).eval()
    image = torch.randn(1, 1, 8, 8, 8)
    half = scaled(network, [0.5, 1.0])
    with torch.no_grad():
        wanted = network(image) * torch.tensor([0.5, 1.0]).reshape(1, 2, 1, 1, 1)
        assert torch.equal(half(image), wanted)
    again = scaled(half, [2.0, 1.0])
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())
    assert scaled(network, [1.0, 1.0]) is network


def test_a_scaled_network_joins_another_whose_weight_stays():
    one, two = ResidualUNet((4, 8), 1, seed=3).eval(), ResidualUNet((8, 16), 1, seed=4).eval()
    image = torch.randn(1, 1, 8, 8, 8)
    both = join(scaled(one, [0.25]), two, [3.0])
    with torch.no_grad():
        second = two(image) - two.state_dict()["head.bias"].reshape(1, 1, 1, 1, 1)
        torch.testing.assert_close(both(image), 0.25 * one(image) + 3.0 * second, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A run with a good filter and a network that has learnt nothing."""
    folder = tmp_path_factory.mktemp("untrained")
    values = yaml.safe_load(make_project(folder, train=UNTRAINED, network={"channels": [4, 8], "backbone": "none"}).read_text())
    said: list[str] = []

    class Listening(Progress):
        def say(self, text: str) -> None:
            said.append(text)
            super().say(text)

    run_project(configuration_from(values, "test"), stages=[], overwrite=False, progress=Listening())
    return folder, values, said


@pytest.mark.slow
def test_a_network_that_learnt_nothing_hardly_disturbs_a_good_filter(untrained):
    folder, _, said = untrained
    (share,) = load_model(folder / "project" / "model").settings.network_shares
    assert share < 0.5
    assert any("the network weighs" in text and f"1/{round(1 / share)} of what it usually does" in text for text in said)
    assert json.loads((folder / "project" / "evaluation.json").read_text())["pooled"]["f1"] > 0.9


@pytest.mark.slow
def test_training_starts_from_the_weights_that_were_learnt(untrained):
    from tomostream.strategies.unet.starting import load_start

    folder, values, _ = untrained
    start = folder / "project" / "model"
    settings = configuration_from(values | {"train": UNTRAINED | {"start": str(start)}}, "test").learning
    network = ResidualUNet((4, 8), 1, seed=99)
    load_start(settings, network)
    (share,) = load_model(start).settings.network_shares
    assert torch.equal(network.head.weight * share, load_model(start).network.head.weight)
    assert torch.equal(network.encoders[0].first.conv.weight, load_model(start).network.encoders[0].first.conv.weight)
