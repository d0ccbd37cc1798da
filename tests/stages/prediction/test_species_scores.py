"""The scores of a species depend on its own model alone: what changes others leaves them as they are."""

import hashlib
import shutil

import pytest
from cli_runner import tomostream
from species_project import SPECIES, run, two_species, with_fewer_clicks

from tomostream.strategies.several_models import files_in

pytestmark = pytest.mark.slow  # each trains


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    values = two_species(folder)
    run(values)
    return folder / "project", values


def stamps(project):
    """When the score maps of each species were made."""
    return {species: {path.name: path.stat().st_mtime_ns for path in (project / "scores" / species).glob("*.zarr")} for species in SPECIES}


@pytest.mark.parametrize("keep", ["scores", "candidates"])
def test_only_the_species_that_changed_is_scored_again(finished, tmp_path, keep):
    project, values = finished
    shutil.copytree(project, tmp_path / "project")
    values = values | {"project": str(tmp_path / "project"), "predict": {"keep": keep}}
    if keep == "candidates":
        shutil.rmtree(tmp_path / "project" / "scores")
    run(values)
    before = stamps(tmp_path / "project")
    fas = with_fewer_clicks(values, "fas", tmp_path / "fewer.csv")
    wider = {**fas, "species": [fas["species"][0], fas["species"][1] | {"radius": "5vox"}]}
    run(wider, overwrite=True)
    after = stamps(tmp_path / "project")
    assert after["ribosome"] == before["ribosome"]
    assert len(after["fas"]) == 2
    assert all(after["fas"][name] != stamp for name, stamp in before["fas"].items())


def test_a_model_in_a_folder_of_several_has_the_files_of_its_own_folder(finished):
    model = finished[0] / "model"
    packed = files_in(model)
    assert [one.species for one in packed] == [(name,) for name in SPECIES]
    for one in packed:
        part = model / "parts" / one.species[0]
        assert one.weights == (part / "model.safetensors").read_bytes()
        assert one.record == (part / "model.json").read_bytes()
        hashes = tuple(hashlib.sha256((part / name).read_bytes()).hexdigest() for name in ("model.safetensors", "model.json"))
        assert files_in(part)[0].identity == one.identity == hashes


def test_scores_of_one_of_several_are_made_again_with_the_same_bytes(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "project")
    for species in SPECIES:
        [shard] = [path for path in (tmp_path / "project" / "scores" / species / "t2.ome.zarr" / "0" / "c").rglob("*") if path.is_file()]
        whole = shard.read_bytes()
        shard.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
        done = tomostream("check", "--repair", tmp_path / "project")
        assert done.code == 0, done.out
        assert shard.read_bytes() == whole
