"""`--overwrite`: the old model serves until the new one is whole, whenever a kill comes; the next training finishes it."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest
from cli_runner import tomostream
from small_project import tree_bytes
from species_project import SPECIES, Heard, elsewhere, run, two_species, with_fewer_clicks

from tomostream.config import configuration_from
from tomostream.errors import ExistsError, InputError
from tomostream.pipeline.training import train_model
from tomostream.progress import Progress
from tomostream.stages.training import replacing, stage
from tomostream.strategies.loading import load_model

pytestmark = pytest.mark.slow  # each trains

IGNORED = (".lock", "resolved.yaml")  # the last names the project


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Converted tomograms, and the models of four configurations: all, fewer clicks of one species, only one species, one renamed."""
    folder = tmp_path_factory.mktemp("replacing")
    values = two_species(folder)
    values |= {"pick": {"count": 12}, "truth": None}
    run(values, "convert", "stats")
    fewer = with_fewer_clicks(values, "fas", folder / "fewer.csv")
    lines = Path(values["labels"]["train"][0]).read_text().splitlines()
    (folder / "one.csv").write_text("\n".join(line for line in lines if ",fas," not in line) + "\n")
    (folder / "renamed.csv").write_text("\n".join(lines).replace(",fas,", ",synthase,") + "\n")
    renamed = [one | {"name": one["name"].replace("fas", "synthase")} for one in values["species"]]
    given = {
        "all": values,
        "fewer": fewer,
        "one": elsewhere(values, Path(values["project"]), ["ribosome"]) | {"labels": {"train": [str(folder / "one.csv")]}},
        "renamed": values | {"species": renamed, "labels": {"train": [str(folder / "renamed.csv")]}},
    }
    for name, one in given.items():
        train(one, folder / name)
    return folder, given


def train(values, folder, *, overwrite=False, progress=None):
    train_model(configuration_from(values, "test"), out=folder, overwrite=overwrite, progress=progress or Progress())


@contextlib.contextmanager
def killed_in(species):
    """Interrupt the training of a species when it begins."""
    named = stage.strategy_named

    class Killed:
        def __init__(self, name):
            self._strategy = named(name)

        def train(self, training, *more):
            if training.settings.species[0].name == species:
                raise KeyboardInterrupt
            self._strategy.train(training, *more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stage, "strategy_named", Killed)
        with pytest.raises(KeyboardInterrupt):
            yield


@pytest.mark.parametrize(
    ("old", "new", "killed"), [("all", "fewer", "fas"), ("all", "one", "ribosome"), ("one", "all", "fas"), ("all", "renamed", "synthase")]
)
def test_the_old_model_serves_until_the_new_one_is_whole(made, tmp_path, old, new, killed):
    folder, given = made
    model = tmp_path / "model"
    shutil.copytree(folder / old, model)
    before = tree_bytes(model)
    with pytest.raises(ExistsError, match="--overwrite"):
        train(given[new], model)
    with killed_in(killed):
        train(given[new], model, overwrite=True)
    assert {name: content for name, content in tree_bytes(model).items() if not name.startswith("next")} == before
    assert load_model(model).settings.species == load_model(folder / old).settings.species
    train(given[new], model)  # it was allowed once
    assert tree_bytes(model, ignore=IGNORED) == tree_bytes(folder / new, ignore=IGNORED)
    assert not (model / "next").exists()


def test_a_replacement_that_was_given_up_leaves_nothing(made, tmp_path):
    folder, given = made
    model = tmp_path / "model"
    shutil.copytree(folder / "all", model)
    with killed_in("fas"):
        train(given["fewer"], model, overwrite=True)
    train(given["all"], model)
    assert tree_bytes(model) == tree_bytes(folder / "all")
    with pytest.raises(ExistsError, match="fas: labels"):
        train(given["fewer"], model)


def promoted_until(folder, number):
    """Promote, and be killed at a call that changes the disk; returns whether there were so many."""
    done = 0

    def killing(whole):
        def call(*arguments, **more):
            nonlocal done
            done += 1
            if done == number:
                raise KeyboardInterrupt
            return whole(*arguments, **more)

        return call

    with pytest.MonkeyPatch.context() as patched:
        for where, name in ((Path, "unlink"), (Path, "rename"), (Path, "replace"), (shutil, "rmtree")):
            patched.setattr(where, name, killing(getattr(where, name)))
        try:
            replacing.promote(folder)
        except KeyboardInterrupt:
            return True
    return False


def test_a_kill_at_any_file_leaves_the_old_model_or_none_and_the_next_training_the_new_one(made, tmp_path):
    folder, given = made
    old, new = (tree_bytes(folder / name, ignore=IGNORED) for name in ("all", "fewer"))
    number, is_killed = 0, True
    while is_killed:
        number += 1
        model = tmp_path / str(number)
        shutil.copytree(folder / "all", model)
        shutil.copytree(folder / "fewer", model / "next")
        shutil.rmtree(model / "next" / "parts" / "ribosome")
        is_killed = promoted_until(model, number)
        if not (model / "model.json").exists():
            with pytest.raises(InputError, match=r"lacks model\.json; did training finish"):
                load_model(model)
        else:
            serves = {name: (model / name).read_bytes() for name in ("model.json", "model.safetensors")}
            assert serves in [{name: whole[name] for name in serves} for whole in (old, new)]
        if number == 5:  # the others are finished by the same call
            assert tomostream("predict", folder / "project/tomograms/t1.ome.zarr", "--model", model, "-o", tmp_path / "scores").code == 2
            train(given["fewer"], model)
        elif (model / "next" / "model.json").exists():
            replacing.promote(model)
        replacing.tidy(model, SPECIES)
        assert tree_bytes(model, ignore=IGNORED) == new
    assert number > 10


def test_only_what_changed_is_trained_and_told(made, tmp_path):
    folder, given = made
    shutil.copytree(folder / "all", tmp_path / "model")
    stamp = os.stat(tmp_path / "model/parts/ribosome/model.json").st_mtime_ns
    train(given["fewer"], tmp_path / "model", overwrite=True, progress=(heard := Heard()))
    assert os.stat(tmp_path / "model/parts/ribosome/model.json").st_mtime_ns == stamp
    assert "ribosome: model 1 of 2: already trained with these settings" in heard.said
    assert any("stays as it is until the new one is whole" in text for text in heard.said)


def test_a_whole_project_goes_from_two_species_to_one_and_back(made, tmp_path):
    _, given = made
    project = tmp_path / "project"
    shutil.copytree(given["all"]["project"], project)
    for name, kinds in (("all", set(SPECIES)), ("one", {"ribosome"}), ("all", set(SPECIES)), ("renamed", {"ribosome", "synthase"})):
        values = given[name] | {"project": str(project)}
        run(values, overwrite=True)
        rows = (project / "picks" / "t1.csv").read_text().splitlines()[1:]
        assert {row.split(",")[1] for row in rows} == kinds
        assert {path.name for path in (project / "model").glob("parts/*")} == (kinds if len(kinds) > 1 else set())
        assert tomostream("check", project / "model").code == 0
