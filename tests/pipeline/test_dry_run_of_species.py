"""The dry run tells for each species what training will do with its model, and why."""

import json
import shutil
from pathlib import Path

import pytest
from cli_runner import tomostream
from species_project import Heard, run, two_species, with_fewer_clicks

from tomostream.config import configuration_from
from tomostream.pipeline.dry_run import plan_run

pytestmark = pytest.mark.slow  # each trains


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    values = two_species(folder, truth=None, pick={"count": 12})
    return folder, values, planned(values), (run(values, "convert", "stats", "train"), planned(values))[1]


def planned(values):
    """The states and works of the training's steps, and what was warned."""
    steps = plan_run(configuration_from(values, "test"), ["train"], heard := Heard())
    return [(step.state, *step.work.split(": ", 1)) for step in steps], heard.warned


def only(values, tmp_path, *, change):
    """The configuration with other training clicks."""
    lines = Path(values["labels"]["train"][0]).read_text().splitlines()
    (tmp_path / "changed.csv").write_text("\n".join(filter(None, map(change, lines))) + "\n")
    return values | {"labels": values["labels"] | {"train": [str(tmp_path / "changed.csv")]}}


def test_before_there_is_a_model_and_after(made):
    _, _, (first, _), (last, _) = made
    assert [step[:2] for step in first] == [("to do", "ribosome"), ("to do", "fas")]
    assert not any("trained" in step[2].partition(";")[0] for step in first)
    assert [step[:2] for step in last] == [("done", "ribosome"), ("done", "fas")]
    assert all(step[2].startswith("kept, it is trained with these settings; ") for step in last)


def test_the_one_that_changed_says_why_and_the_other_is_kept(made, tmp_path):
    _, values, _, _ = made
    steps, warned = planned(with_fewer_clicks(values, "fas", tmp_path / "fewer.csv"))
    assert [step[:2] for step in steps] == [("done", "ribosome"), ("other settings", "fas")]
    assert steps[1][2].startswith("trained anew (labels: clicks of it are new, changed or gone); ")
    assert any("--overwrite" in text for text in warned)
    wider = [values["species"][0] | {"radius": "5vox"}, values["species"][1]]
    steps, _ = planned(values | {"species": wider})
    assert [step[0] for step in steps] == ["other settings", "done"]
    assert "radius 4vox, now 5vox" in steps[0][2].partition(";")[0]


def test_new_ones_and_those_that_leave(made, tmp_path):
    _, values, _, _ = made
    renamed = [values["species"][0], values["species"][1] | {"name": "synthase"}]
    validate = Path(values["labels"]["validate"][0]).read_text().replace(",fas,", ",synthase,")
    (tmp_path / "validate.csv").write_text(validate)
    given = only(values, tmp_path, change=lambda line: line.replace(",fas,", ",synthase,")) | {"species": renamed}
    given["labels"] |= {"validate": [str(tmp_path / "validate.csv")]}
    steps, _ = planned(given)
    assert [(state, name, words.partition(";")[0]) for state, name, words in steps] == [
        ("done", "ribosome", "kept, it is trained with these settings"),
        ("other settings", "synthase", "new"),
        ("other settings", "fas", "is none of the species now: its model is removed"),
    ]


def test_a_training_that_was_stopped_goes_on(made, tmp_path):
    folder, values, _, _ = made
    shutil.copytree(folder / "project", tmp_path / "project")
    values = values | {"project": str(tmp_path / "project")}
    model = tmp_path / "project" / "model"
    for name in ("model.json", "parts/fas/model.json"):
        (model / name).unlink()
    steps, _ = planned(values)
    assert [(state, words.partition(";")[0]) for state, _, words in steps] == [
        ("done", "kept, it is trained with these settings"),
        ("to do", "goes on where it stopped"),
    ]
    run(values, "train")
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(values))
    done = tomostream("run", path, "--dry-run", "--stage", "train")
    assert "kept" in done.out


def test_minutes_are_told(made):
    _, values, _, _ = made
    kl = values | {"objective": {"name": "kl"}, "train": {"minutes": 10}, "project": str(made[0] / "other")}
    steps, _ = planned(kl)
    assert all("at most 5 minutes of 10" in step[2] for step in steps)
    [(_, *words)] = planned(kl | {"train": {"minutes": 10, "together": True}})[0]
    assert "at most 10 minutes" in ": ".join(words)


def test_scores_of_a_model_that_will_be_trained_are_to_do(made, tmp_path):
    folder, values, _, _ = made
    shutil.copytree(folder / "project", tmp_path / "project")
    values = values | {"project": str(tmp_path / "project")}
    run(values, "predict")
    for given, expected in ((values, "done"), (with_fewer_clicks(values, "fas", tmp_path / "fewer.csv"), "to do")):
        steps = plan_run(configuration_from(given, "test"), ["train", "predict"], Heard())
        assert {step.state for step in steps if step.stage == "predict"} == {expected}
