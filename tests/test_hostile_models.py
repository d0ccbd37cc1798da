"""A model folder of several species from a stranger: records that contradict each other, lead elsewhere, or are of other types."""

import json
import shutil

import pytest
from cli_runner import tomostream
from fuzzing import limited
from species_project import run, two_species

from tomostream.store.seals import sealed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("species")
    run(two_species(folder), "convert", "stats", "train")
    return folder / "project"


def part(**changes):
    """A change of the settings of the first of the two models."""
    return lambda settings: settings["parts"][0]["settings"].update(changes)


def nested(settings):
    inner = {**settings, "parts": settings["parts"][:1], "species": ["ribosome"], "radius_ang": settings["radius_ang"][:1]}
    settings["parts"][0] = {"strategy": "several", "settings": inner, "summary": {}}


def many(settings):
    settings.update(parts=settings["parts"] * 2000, species=[f"s{n}" for n in range(4000)], radius_ang=[40.0] * 4000)


CHANGES = {
    "species of no type": part(species=3), "no species": part(species=None), "species of a number": part(species=[1]), "nested": nested, "thousands": many,
    "a species twice": lambda settings: settings["species"].__setitem__(1, "ribosome"), "half a letter": part(species=["\ud800"]),
    "a long name": part(species=["x" * 300]), "no parts": lambda settings: settings.update(parts=None), "parts of letters": lambda settings: settings.update(parts="abc"),
    "a part of letters": lambda settings: settings["parts"].__setitem__(0, "a"), "no record": lambda settings: settings["parts"][0].pop("settings"),
    "one part too few": lambda settings: settings["parts"].pop(), "parts changed about": lambda settings: settings["parts"].reverse(),
}  # fmt: skip


def changed(project, folder, change):
    """A project with another record of its model, sealed as who forged it would."""
    shutil.copytree(project, folder)
    path = folder / "model" / "model.json"
    record = json.loads(path.read_text())
    del record["seal"]
    change(record["settings"])
    path.write_text(json.dumps(sealed(record)))
    return folder


@pytest.mark.parametrize("name", CHANGES)
def test_a_broken_record_of_several_models_is_one_message(project, tmp_path, name):
    broken = changed(project, tmp_path / "project", CHANGES[name])
    with limited(10):
        done = tomostream(
            "predict", broken / "tomograms" / "t1.ome.zarr", "--model", broken / "model", "-o", tmp_path / "out", "--device", "cpu"
        )
    assert done.code == 2
    assert len(done.message) < 1000
    with limited(10):
        assert tomostream("check", broken / "model").code == 2
    for command in (("report", broken, "-o", tmp_path / "r.html"), ("status", broken)):
        with limited(10):
            assert tomostream(*command).code in (0, 2)


@pytest.mark.parametrize("name", ["../../evil", "..", "", "a/b", "a\0b"])
def test_repair_never_writes_a_model_outside_of_its_folder(project, tmp_path, name):
    def change(settings):
        settings["species"][0] = name
        settings["parts"][0]["settings"]["species"] = [name]

    model = changed(project, tmp_path / "deep" / "project", change) / "model"
    record = json.loads((model / "training.json").read_text())
    record["models"][name] = record["models"].pop("ribosome")
    (model / "training.json").write_text(json.dumps(record))
    before = {path for path in tmp_path.rglob("*") if model not in path.parents}
    done = tomostream("check", model, "--repair")
    assert done.code == 2
    assert {path for path in tmp_path.rglob("*") if model not in path.parents} == before


@pytest.mark.parametrize("models", [[1, 2], {"ribosome": 3}, {"../x": {}}, {"": {}}, "abc", {"x" * 300: {}}])
def test_a_broken_record_of_their_training_is_damage(project, tmp_path, models):
    model = shutil.copytree(project / "model", tmp_path / "model")
    record = json.loads((model / "training.json").read_text()) | {"models": models}
    (model / "training.json").write_text(json.dumps(record))
    done = tomostream("check", model)
    assert (done.code, "training.json" in done.out) == (2, True)
    done = tomostream("train", project.parent / "run.yaml", "-o", model)
    assert (done.code, "training.json is damaged" in done.message) == (2, True)
