"""A few-shot model is trained in one go, finds what was clicked, says how it scores and why, and is the same every time."""

import json

import numpy as np
import pytest
import yaml

import tomostream as ts
from tomostream.config import configuration_from
from tomostream.errors import BudgetError, InputError
from tomostream.geometry import Box
from tomostream.inference.region_scoring import read_extended
from tomostream.picking.blocks import pick_array
from tomostream.picking.how_many import Above
from tomostream.pipeline.execution import run_project
from tomostream.pipeline.training import train_model
from tomostream.progress import Progress
from tomostream.strategies.catalogued import strategy_named
from tomostream.strategies.loading import load_model, plan_model
from tomostream.strategies.unet.model import UNetModel
from tomostream.strategies.unet.pretrained.evidence import WAYS
from tomostream.strategies.unet.pretrained.settings import CHANNELS
from tomostream.testing.small_project import make_project

pytestmark = pytest.mark.slow


def configuration(folder, *, species=1, drop_expected=False, **values):
    text = make_project(folder, species=species, **{"objective": {"name": "few_shot"}, "network": {}, **values}).read_text()
    content = yaml.safe_load(text)
    if drop_expected:
        for one in content["species"]:
            del one["expected"]
    return configuration_from(content, "test")


class Listening(Progress):
    """Keeps what is said."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def listening():
    return Listening()


@pytest.fixture(scope="module")
def project(tmp_path_factory, listening):
    folder = tmp_path_factory.mktemp("few_shot")
    run_project(configuration(folder), stages=[], overwrite=False, progress=listening)
    return folder / "project"


def test_it_finds_the_particles_of_both_tomograms(project):
    found = json.loads((project / "evaluation.json").read_text())["tomograms"]
    assert all(one["f1"] > 0.9 for one in found.values())


def test_the_model_is_a_unet_with_a_filter_and_says_how_it_scores_and_why(project, listening):
    model = load_model(project / "model")
    assert isinstance(model, UNetModel)
    assert model.settings.channels == CHANNELS
    assert model.settings.matched is not None
    (way,), (evidence,) = model.summary.chosen_ways, model.summary.evidence
    assert list(evidence) == [str(one) for one in WAYS]
    assert evidence[way] <= min(evidence.values()) + 0.1001  # costs are rounded
    assert any(text.startswith(f"ribosome: {way}, chosen by the ranks of left-out clicks") for text in listening.said)


def test_the_training_tomogram_has_about_the_expected_number_of_peaks_above_a_half(project):
    model = load_model(project / "model")
    tomogram = ts.open(str(project / "tomograms" / "t1.ome.zarr"))
    scorer = model.scorer(device="cpu", precision="float32", threads=1)
    levelled = tomogram.at_level(model.settings.level)
    whole = Box.whole(levelled.shape)
    read = scorer.read_box(whole, levelled.shape)
    logits = scorer.logits(read_extended(levelled.read_standardised, read, levelled.shape), read, whole, levelled.shape)[0]
    picks = pick_array(logits, radius=4.0, how_many=Above(0.0), memory=2_000_000_000)
    assert 12 <= len(picks.score) <= 48  # 24 are there


def test_the_same_training_gives_the_same_bytes(project, tmp_path):
    train_model(configuration(tmp_path), out=None, overwrite=False, progress=Progress())
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "project" / "model" / name).read_bytes() == (project / "model" / name).read_bytes()


def test_several_species_have_a_head_and_evidence_each_and_numbers_are_estimated(tmp_path):
    train_model(
        configuration(tmp_path, species=2, drop_expected=True, train={"together": True}), out=None, overwrite=False, progress=Progress()
    )
    model = load_model(tmp_path / "project" / "model")
    assert len(model.summary.chosen_ways) == len(model.summary.evidence) == len(model.profiles) == 2
    assert all(numbers[0] >= 5 for numbers in model.summary.expected_numbers)
    weights = model.network.head.weight.numpy()[:, :, 0, 0, 0]
    assert not np.allclose(weights[0], weights[1])


def test_of_many_clicks_a_hundred_are_taken_and_the_log_says_so(monkeypatch, tmp_path):
    from tomostream.strategies.unet.pretrained import looking

    monkeypatch.setattr(looking, "MOST_CLICKS", 4)
    listening = Listening()
    train_model(configuration(tmp_path), out=None, overwrite=False, progress=listening)
    assert "ribosome: filters and heads learn from 4 of the 5 clicks, drawn at random from the seed" in listening.said
    assert load_model(tmp_path / "project" / "model").summary.evidence


def test_without_a_backbone_it_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"network.backbone must be auto for few_shot.*found none.*nnpu"):
        configuration(tmp_path, network={"backbone": "none"})


def test_other_channels_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"network.channels of few_shot.*24, 48, 96.*found \[8, 16\]"):
        configuration(tmp_path, network={"channels": [8, 16]})


def test_other_strategies_take_both_words(tmp_path):
    for word in ("auto", "none"):
        assert configuration(tmp_path, objective={"name": "pn"}, network={"backbone": word}).network.backbone == word


def test_an_untrained_model_plans_as_a_trained_one(project, tmp_path):
    trained = load_model(project / "model")
    sketched = strategy_named("few_shot").untrained(configuration(tmp_path).learning, 10.0)
    wanted = {"precision": "float32", "memory": 2_000_000_000, "block_size": None, "name": "t"}
    plans = [plan_model(model, (64, 128, 128), **wanted) for model in (trained, sketched)]
    assert plans[0] == plans[1]


def test_places_that_are_no_particles_are_learnt_and_those_of_other_tomograms_are_left_out(project, tmp_path):
    plain = configuration(tmp_path)
    lines = (tmp_path / "train.csv").read_text().splitlines()
    assert lines[0].split(",")[:2] == ["tomogram", "species"]
    (tmp_path / "train.csv").write_text(
        "\n".join([f"{lines[0]},label", *[f"{line},1" for line in lines[1:]], "t1,ribosome,30,40,20,0", "t2,ribosome,30,40,20,0"]) + "\n"
    )
    listening = Listening()
    train_model(plain, out=None, overwrite=False, progress=listening)
    assert "labels.train: 1 places labelled 0 are learnt as no particles" in listening.said
    assert any(text.startswith("labels.train: 1 places labelled 0 lie in tomograms without a clicked particle") for text in listening.said)
    before, after = (load_model(folder / "model").network.head.weight for folder in (project, tmp_path / "project"))
    assert not np.allclose(before, after)


def test_a_budget_that_the_features_of_the_clicks_exceed_is_refused_before_any_work(tmp_path):
    with pytest.raises(
        BudgetError, match=r"training needs at least 789 MB \(objective few_shot: .*but the memory budget is 700 MB; raise --memory to that"
    ):
        train_model(configuration(tmp_path, memory="700MB", predict={"device": "cpu"}), out=None, overwrite=False, progress=Progress())
    assert not (tmp_path / "project").exists()
