"""`check` finds what is wrong with the models of species, and `--repair` makes them again from those that are packed, or these from them."""

import shutil

import pytest
from cli_runner import tomostream
from small_project import tree_bytes
from species_project import run, two_species

pytestmark = pytest.mark.slow  # each trains

FILES = "model.json, model.safetensors"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    run(two_species(folder), "convert", "stats", "train")
    return folder / "project" / "model"


@pytest.fixture
def model(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "model")
    return tmp_path / "model"


def found(*arguments):
    done = tomostream("check", *arguments, "--json")
    assert done.code == (2 if done.json else 0), done.err
    return [(damage["path"], damage["part"], damage["problem"]) for damage in done.json]


def lose(path):
    path.unlink()


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "names", "words"),
    [
        (lose, ["parts/fas/model.json"], "model.json is missing: the next training would train this species again"),
        (lose, ["parts/fas/model.safetensors"], "model.safetensors is missing"),
        (
            lose,
            ["parts/fas/model.json", "parts/fas/model.safetensors", "parts/fas/training.json"],
            "model.json and model.safetensors are missing",
        ),
        (flip, ["parts/fas/model.safetensors"], "does not belong to model.json"),
        (flip, ["parts/fas/model.json"], "model.json"),
        (lose, ["model.json"], "lacks model.json"),
        (flip, ["model.safetensors"], "does not belong to model.json"),
    ],
)
def test_damage_is_found_and_made_again_with_the_same_bytes(model, damage, names, words):
    whole = tree_bytes(model)
    for name in names:
        damage(model / name)
    [(path, part, problem)] = found(model)
    assert (path, part) == (str((model / names[0]).parent), FILES)
    assert words in problem
    assert found(model, "--repair") == []
    assert tree_bytes(model) == whole


def test_a_model_of_another_training_is_found(model):
    shutil.copytree(model / "parts" / "ribosome", model / "other")
    for name in ("model.json", "model.safetensors"):
        shutil.copy(model / "other" / name, model / "parts" / "fas" / name)
    shutil.rmtree(model / "other")
    [(path, _, problem)] = found(model)
    assert path == str(model / "parts" / "fas")
    assert "is not the model of fas that is packed" in problem
    assert found(model, "--repair") == []


def test_what_can_not_be_made_again_says_why(model):
    flip(model / "model.safetensors")
    flip(model / "parts" / "fas" / "model.safetensors")
    problems = [problem for _, _, problem in found(model, "--repair")]
    assert len(problems) == 2
    assert all("not made again" in problem for problem in problems)


def test_a_model_that_was_copied_without_those_of_its_species_is_whole(model, tmp_path):
    (tmp_path / "copy").mkdir()
    for name in ("model.json", "model.safetensors"):
        shutil.copy(model / name, tmp_path / "copy" / name)
    assert found(tmp_path / "copy") == []


def test_a_model_in_the_making_is_no_damage_of_the_one_that_serves(model):
    (model / "next").mkdir()
    shutil.copy(model / "training.json", model / "next")
    done = tomostream("check", model)
    assert done.code == 0
    assert "it goes on where it stopped" in done.err.replace("\n", " ")
