"""Strategies that are not the U-Net go through the same commands: train, predict, pick, evaluate."""

import json

import numpy as np
import pytest
import yaml
from density_files import density_file
from model_records import rewrite_record
from small_project import make_project, make_volume, tree_bytes

import tomostream as ts
from tomostream.config import configuration_from, load_configuration
from tomostream.errors import BudgetError, ConfigurationError, ExistsError, InputError
from tomostream.pipeline.dry_run import plan_run
from tomostream.pipeline.execution import STAGES, run_project
from tomostream.progress import Progress

# the balls of the small project look larger than the radius that it names, which a training tells
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*the clicked particles have a radius of about")]

STRATEGIES = ("average", "template", "tensor")  # the last is `template` with another search


def project_of(folder, strategy, **values):
    template = {"density": density_file(folder), "angle_step": 120, "tilt_range": [-90, 90]}
    if strategy == "tensor":
        template |= {"angle_step": 60, "search": "tensor"}
    given = {"objective": {"name": strategy}} if strategy == "average" else {"objective": {"name": "template"}, "template": template}
    given["network"] = {"level": 0}
    return make_project(folder, **(given | values))


def run(path, stages=(), overwrite=False):
    told = []

    class Told(Progress):
        def say(self, text):
            told.append(text)

        def warn(self, text):
            told.append(text)

    run_project(load_configuration(path), stages=list(stages), overwrite=overwrite, progress=Told())
    return told


@pytest.fixture(scope="module", params=STRATEGIES)
def finished(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    run(project_of(folder, request.param))
    return folder


def test_five_clicks_find_the_other_particles(finished):
    assert json.loads((finished / "project" / "evaluation.json").read_text())["pooled"]["f1"] >= 0.95


def test_model_folder_is_like_any_other(finished):
    model = finished / "project" / "model"
    for name in ("model.safetensors", "model.json", "metrics.csv", "training.json", "resolved.yaml"):
        assert (model / name).exists(), name
    loaded = ts.load_model(model)
    assert loaded.kind == json.loads((model / "model.json").read_text())["strategy"]
    assert loaded.settings.species == ("ribosome",)
    assert (finished / "project" / "report.html").exists()


def test_score_map_says_whose_it_is_and_how_it_is_picked(finished):
    attributes = ts.open(finished / "project" / "scores" / "t1.ome.zarr").attributes
    assert attributes["strategy"] in STRATEGIES
    assert attributes["pick_method"] == "greedy"


def test_half_is_between_background_and_clicks(finished):
    scores = np.asarray(ts.open(finished / "project" / "scores" / "t2.ome.zarr").array)
    assert scores.min() >= 0 <= scores.max() <= 1
    picks = ts.read_particles(finished / "project" / "picks" / "t2.csv")
    assert np.median(picks.score) > 0.7
    assert np.median(scores) < 0.3


def test_a_second_run_computes_nothing_again(finished):
    before = tree_bytes(finished / "project")
    told = run(finished / "run.yaml")
    for done in ("model", "t1: scores", "t2: scores", "t1: picks", "t2: picks"):
        assert any(done in text and "already" in text for text in told), told
    assert tree_bytes(finished / "project") == before


def test_the_same_training_gives_the_same_bytes(finished, tmp_path):
    ts.train(finished / "run.yaml", out=tmp_path / "model")
    for name in ("model.safetensors", "model.json", "metrics.csv"):
        assert (tmp_path / "model" / name).read_bytes() == (finished / "project" / "model" / name).read_bytes()


@pytest.mark.parametrize("block", [17, (64, 24, 40)])
def test_scores_do_not_depend_on_the_block_size(finished, tmp_path, block):
    tomogram, model = finished / "project" / "tomograms" / "t1.ome.zarr", finished / "project" / "model"
    whole = ts.predict(tomogram, model, out=tmp_path / "whole", logits=True)
    blocks = ts.predict(tomogram, model, out=tmp_path / "blocks", logits=True, block_size=block)
    assert np.abs(np.asarray(ts.open(whole).array) - np.asarray(ts.open(blocks).array)).max() < 1e-4


def test_scores_of_a_store_and_of_an_array_agree(finished):
    stored = np.asarray(ts.open(finished / "project" / "scores" / "t1.ome.zarr").array)
    scored = ts.predict(make_volume(0)[0], finished / "project" / "model", threads=1)
    assert np.abs(scored - stored).max() < 1e-5


def test_other_settings_are_refused_without_overwrite_and_those_that_do_not_matter_are_not(finished, tmp_path):
    values = yaml.safe_load((finished / "run.yaml").read_text())
    configuration = configuration_from(values | {"train": {"steps": 5}}, "c")
    run_project(configuration, stages=["train"], overwrite=False, progress=Progress())
    changed = values | {"train": {"seed": 5}}
    with pytest.raises(ExistsError, match=r"made with other settings.*overwrite"):
        run_project(configuration_from(changed, "c"), stages=["train"], overwrite=False, progress=Progress())


def test_gpu_and_bf16_are_refused_before_work(finished, tmp_path):
    tomogram, model = finished / "project" / "tomograms" / "t1.ome.zarr", finished / "project" / "model"
    with pytest.raises(InputError, match="float32 only"):
        ts.predict(tomogram, model, out=tmp_path, precision="bf16")
    with pytest.raises(BudgetError, match="but the memory budget is 1 MB"):
        ts.predict(tomogram, model, out=tmp_path, memory="1MB")
    assert not (tmp_path / "t1.ome.zarr").exists()


def test_changed_scale_is_recognised(finished, tmp_path):
    model = tmp_path / "model"
    ts.train(finished / "run.yaml", out=model)
    tomogram = finished / "project" / "tomograms" / "t1.ome.zarr"
    ts.predict(tomogram, model, out=tmp_path)
    rewrite_record(model, lambda values: values["settings"]["scales"][0].update(clicks=values["settings"]["scales"][0]["clicks"] + 0.1))
    with pytest.raises(ExistsError, match=r"made with other settings.*overwrite"):
        ts.predict(tomogram, model, out=tmp_path)


@pytest.mark.parametrize("change", [{"scales": []}, {"scales": None}, {"support_vox": [-1.0]}, {"scales": [{"clicks": "many"}]}])
def test_broken_options_are_one_clear_error(finished, tmp_path, change):
    model = tmp_path / "model"
    ts.train(finished / "run.yaml", out=model)
    rewrite_record(model, lambda values: values["settings"].update(change))
    with pytest.raises(InputError, match="broken"):
        ts.predict(np.zeros((8, 8, 8), dtype=np.float32) + np.arange(8, dtype=np.float32), model)


def test_two_species_have_kernels_of_their_own(tmp_path):
    run(project_of(tmp_path, "average", species=2))
    scores = json.loads((tmp_path / "project" / "evaluation.json").read_text())
    assert set(scores["species"]) == {"ribosome", "fas"}
    assert [len(part.arrays) for part in ts.load_model(tmp_path / "project" / "model").parts] == [1, 1]


def test_two_species_need_two_densities(tmp_path):
    path = make_project(tmp_path, species=2, objective={"name": "template"}, template={"density": density_file(tmp_path)})
    with pytest.raises(ConfigurationError, match="a file for each species"):
        load_configuration(path)
    with pytest.raises(ConfigurationError, match=r"template\.density is missing for ribosome"):
        load_configuration(make_project(tmp_path, objective={"name": "template"}))


def test_density_that_is_not_there_is_refused_before_work(tmp_path):
    path = make_project(tmp_path, objective={"name": "template"}, template={"density": str(tmp_path / "none.mrc")})
    with pytest.raises(InputError, match=r"none\.mrc can't be read"):
        run(path, ["train"])
    assert not (tmp_path / "project" / "model").exists()


def test_dry_run_plans_strategies_too(tmp_path):
    steps = plan_run(load_configuration(project_of(tmp_path, "average")), list(STAGES))
    assert next(step.work for step in steps if step.stage == "predict").startswith("1 shards of 40 x 64 x 56, level 0")
    work = next(step.work for step in steps if step.stage == "train")
    assert work.partition(";")[0] == "strategy average, level 0"  # what the clicks lie on follows
    assert not (tmp_path / "project").exists()


def test_unknown_strategy_of_a_model_is_refused(finished, tmp_path):
    ts.train(finished / "run.yaml", out=tmp_path / "model")
    rewrite_record(tmp_path / "model", lambda values: values.update(strategy="magic"))
    with pytest.raises(InputError, match="kind 'magic'; the installed kinds are average, deepetpicker, slices2d, template, unet"):
        ts.load_model(tmp_path / "model")
