"""A model folder of several species on an object store holds what the local one does, and serves on another machine."""

import shutil

import pytest
from small_project import tree_bytes
from species_project import SPECIES, Heard, run, two_species, with_fewer_clicks

from tomostream.config import configuration_from
from tomostream.pipeline.training import train_model

pytestmark = pytest.mark.slow
TOLD = "already trained with these settings"


def trained(values, folder, *, overwrite=False):
    train_model(configuration_from(values, "test"), out=folder, overwrite=overwrite, progress=(heard := Heard()))
    return heard.said


def contents(folder):
    return {name: (folder / name).read_bytes() for name in folder.below() if not name.endswith((".lease.json", "resolved.yaml"))}


def test_the_models_of_all_species_are_uploaded_used_elsewhere_and_removed_with_their_species(bucket, tmp_path):
    values = two_species(tmp_path / "data")
    run(values, "convert", "stats")
    local = tmp_path / "local"
    trained(values, local)
    model = bucket / "model"
    trained(values, model)
    whole = {name: content for name, content in tree_bytes(local).items() if not name.endswith("resolved.yaml")}
    assert contents(model) == whole
    for lost in ("parts/fas/model.json", "model.safetensors"):  # as a version that did not upload the models of species left it
        (model / lost).unlink()
        trained(values, model)
        assert contents(model) == whole

    shutil.rmtree(tmp_path / "cache")  # another machine
    fewer = with_fewer_clicks(values, "fas", tmp_path / "fewer.csv")
    assert f"ribosome: model 1 of 2: {TOLD}" in trained(fewer, model, overwrite=True)
    found = contents(model)
    assert {name: found[name] for name in whole if "ribosome" in name} == {name: whole[name] for name in whole if "ribosome" in name}
    assert found["parts/fas/training.json"] != whole["parts/fas/training.json"]

    one = values | {"species": values["species"][:1], "truth": None, "pick": {"count": 3}}
    lines = (tmp_path / "data" / "train.csv").read_text().splitlines()
    (tmp_path / "one.csv").write_text("\n".join(line for line in lines if ",fas," not in line) + "\n")
    trained(one | {"labels": {"train": [str(tmp_path / "one.csv")]}}, model, overwrite=True)
    assert not [name for name in contents(model) if "parts/" in name]
    assert SPECIES[1].encode() not in contents(model)["model.json"]
