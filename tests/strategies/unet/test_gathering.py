"""Left-out clicks decide what joins the network, the wider model is one like the others, and they tell the number of particles."""

import json

import pytest
import yaml
from small_project import make_project

from tomostream.config import configuration_from
from tomostream.pipeline.execution import run_project
from tomostream.pipeline.training import train_model
from tomostream.progress import Progress
from tomostream.strategies.unet import gathering
from tomostream.strategies.unet.model import load_model
from tomostream.strategies.unet.pretrained import evidence
from tomostream.strategies.unet.pretrained.evidence import JOINING
from tomostream.strategies.unet.pretrained.settings import CHANNELS

pytestmark = pytest.mark.slow
STEPS = {"steps": 20, "steps_per_epoch": 10, "crop": 16, "batch": 4, "precision": "float32"}


def values_of(folder, **values):
    return yaml.safe_load(make_project(folder, **({"train": STEPS, "network": {"channels": [4, 8, 16]}} | values)).read_text())


def trained(values, out):
    train_model(configuration_from(values, "test"), out=out, overwrite=False, progress=Progress())
    return load_model(out)


@pytest.fixture(scope="module")
def wider(tmp_path_factory):
    """A run whose network has the pretrained one beside it: only such ways are offered."""
    folder = tmp_path_factory.mktemp("wider")
    values = values_of(folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gathering, "JOINING", tuple(way for way in JOINING if way.shrinkage is not None))
        run_project(configuration_from(values, "test"), stages=[], overwrite=False, progress=Progress())
    return folder, values


def test_the_wider_model_finds_the_particles(wider):
    folder, _ = wider
    found = json.loads((folder / "project" / "evaluation.json").read_text())["pooled"]
    assert found["f1"] > 0.8


def test_the_wider_model_says_what_it_is(wider):
    folder, values = wider
    model = load_model(folder / "project" / "model")
    own = tuple(values["network"]["channels"])
    assert model.settings.learnt_channels == own
    assert model.settings.channels == tuple(a + b for a, b in zip(own, CHANNELS, strict=True))
    assert model.summary.chosen_ways[0].startswith("head")
    assert model.summary.look_alikes == [model.settings.lookalikes is not None]


def test_training_goes_on_from_the_part_that_was_trained(wider, tmp_path):
    folder, values = wider
    model = folder / "project" / "model"
    again = trained(
        values | {"train": STEPS | {"steps": 1, "steps_per_epoch": 1, "learning_rate": 1e-9, "start": str(model)}}, tmp_path / "again"
    )
    before = load_model(model).network.encoders[0].first.conv.weight
    after = again.network.encoders[0].first.conv.weight
    own = after.shape[0] if again.settings.learnt_channels is None else again.settings.learnt_channels[0]
    assert (after[:own] - before[:own]).abs().max() < 1e-6


def test_where_clicks_rank_alike_the_cheapest_way_is_taken(tmp_path):
    model = trained(values_of(tmp_path), tmp_path / "model")
    assert model.settings.learnt_channels is None  # round particles: the filter alone finds them
    assert list(model.summary.evidence[0]) == [str(way) for way in JOINING]


@pytest.mark.parametrize("network", [{"channels": [8, 16, 32], "backbone": "none"}, {"channels": [8, 16]}])
def test_without_a_backbone_only_filters_are_compared(tmp_path, network):
    model = trained(values_of(tmp_path, network=network), tmp_path / "model")
    assert list(model.summary.evidence[0]) == ["discriminant", "average"]


def test_too_few_clicks_compare_nothing_and_still_train(tmp_path):
    values = values_of(tmp_path)
    path = tmp_path / "one.csv"
    path.write_text("\n".join((tmp_path / "train.csv").read_text().splitlines()[:2]) + "\n")
    del values["species"][0]["expected"]
    model = trained(values | {"labels": {"train": [str(path)]}, "pick": {"count": 3}}, tmp_path / "model")
    assert model.summary.evidence == [{}]
    assert model.summary.expected_numbers[0][0] >= 2


def test_nothing_joins_the_network_where_even_the_best_way_is_blind(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "BLIND", -1.0)  # every way is
    model = trained(values_of(tmp_path), tmp_path / "model")
    assert model.settings.matched.weight == (0.0,)
    assert model.settings.learnt_channels is None
    assert model.summary.chosen_ways == ["the network alone"]


@pytest.mark.parametrize(
    ("number", "expected", "trust"), [(90.0, 100.0, 1.0), (300.0, 100.0, 0.5), (9999.0, None, 1.0), (None, 100.0, 1.0)]
)
def test_a_filter_is_trusted_as_far_as_it_ranks_left_out_clicks_within_the_number_expected(number, expected, trust):
    assert gathering.trust_in(evidence.Verdict(JOINING, (), JOINING[0], number), expected) == pytest.approx(trust)


def test_a_blind_filter_is_not_trusted():
    assert gathering.trust_in(evidence.Verdict(JOINING, (), JOINING[0], 100.0, is_blind=True), 1000.0) == 0
