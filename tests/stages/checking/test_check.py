"""`check` finds every damage in anything that we wrote, and `--repair` makes again what can be made, with the same bytes."""

import json
import shutil

import numpy as np
import pytest
from cli_runner import tomostream
from example_counts import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from small_project import make_project
from store_files import noise, tree, write_foreign, write_store

from tomostream.store.seals import sealed_group

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished project beside its sources, its paths relative."""
    folder = tmp_path_factory.mktemp("path")
    configuration = make_project(folder)
    done = tomostream("run", configuration)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def project(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "here")
    resolved = tmp_path / "here" / "project" / "resolved.yaml"
    resolved.write_text(resolved.read_text().replace(str(finished), str(tmp_path / "here")))
    return resolved.parent


def flip(file, place, bits=1):
    data = bytearray(file.read_bytes())
    data[place] ^= bits
    file.write_bytes(data)


def meaning(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


def found(*arguments):
    done = tomostream("check", *arguments, "--json")
    assert "Traceback" not in done.err
    assert done.code == (2 if done.json else 0), done.err
    return done.json


def test_a_whole_project_is_whole_and_checking_changes_nothing(project):
    before = tree(project)
    assert found(project) == []
    done = tomostream("check", project)
    assert (done.code, done.out) == (0, "whole\n")
    assert tree(project) == before


SHARDS = ("tomograms/t1.ome.zarr/0/c/0/0/0", "scores/t2.ome.zarr/0/c/0/0/0")


@pytest.mark.parametrize("name", SHARDS)
def test_a_damaged_shard_is_named_with_its_chunk_and_made_again_with_the_same_bytes(project, name):
    before = tree(project)
    flip(project / name, 12345)
    (damage,) = found(project)
    assert project / name == project / damage["path"].removeprefix(str(project) + "/") / damage["part"]
    assert damage["problem"] == "the checksum of its chunk (0, 0, 0) is wrong"
    done = tomostream("check", project, "--repair")
    assert done.code == 0, done.out
    assert "made again" in done.err
    assert tree(project) == before


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "index"])
@pytest.mark.parametrize("name", SHARDS)
def test_shards_that_are_gone_or_cut_are_found_and_made_again(project, name, damage):
    before = tree(project)
    file = project / name
    if damage == "missing":
        file.unlink()
    elif damage == "index":
        flip(file, -10)
    else:
        file.write_bytes(file.read_bytes()[: {"empty": 0, "cut": -1}[damage]])
    assert len(found(project)) == 1
    assert found(project, "--repair") == []
    assert tree(project) == before


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_flipped_bit_in_any_store_model_or_table_is_found(finished, data):
    files = sorted(
        file
        for pattern in ("tomograms/*/**/*", "scores/*/**/*", "model/model.*", "picks/*.csv", "picks/.*.json")
        for file in (finished / "project").glob(pattern)
        if file.is_file()
    )
    file = data.draw(st.sampled_from(files))
    whole = file.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    root = next(parent for parent in file.parents if parent.parent.name == "project" or parent.name.endswith(".zarr"))
    try:
        flip(file, place, 1 << data.draw(st.integers(0, 7)))
        if file.suffix != ".json" or meaning(file.read_bytes()) != meaning(whole):  # a space for another is no damage
            assert found(root), (file, place)
    finally:
        file.write_bytes(whole)


def test_a_coarser_level_that_is_no_mean_is_found_and_made_again(tmp_path):
    store = write_store(tmp_path / "t.ome.zarr", noise(32, 32, 32), levels=2, chunk=(8, 8, 8), shard=(32, 32, 32))
    before = tree(store)
    other = write_store(tmp_path / "o.ome.zarr", noise(32, 32, 32, seed=1), levels=2, chunk=(8, 8, 8), shard=(32, 32, 32))
    shutil.copy(other / "1" / "c" / "0" / "0" / "0", store / "1" / "c" / "0" / "0" / "0")
    (damage,) = found(store)
    assert (damage["part"], damage["problem"]) == ("1/c/0/0/0", "it is not the mean of level 0")
    assert found(store, "--repair") == []
    assert tree(store) == before


def change(store, *, seals=False, **values):
    metadata = json.loads((store / "zarr.json").read_text())
    metadata["attributes"]["tomostream"] |= values
    if seals:
        metadata = sealed_group(metadata)
    (store / "zarr.json").write_text(json.dumps(metadata, indent=2) + "\n")


def test_statistics_that_contradict_the_voxels_are_found_and_measured_again(project):
    before = tree(project)
    store = project / "tomograms" / "t1.ome.zarr"
    recorded = json.loads((store / "zarr.json").read_text())["attributes"]["tomostream"]["normalisation"]
    (level, values), *_ = recorded.items()
    for key, wrong in (("mean", values["mean"] + 1e-4), ("clipped_std", values["clipped_std"] * 1.001), ("finite", values["finite"] - 1)):
        change(store, seals=True, normalisation=recorded | {level: values | {key: wrong}})
        (damage,) = found(store)
        assert damage["part"] == f"attribute tomostream.normalisation.{level}"
        assert found(store, "--repair") == []
        assert tree(project) == before


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"normalisation": {"0": "text"}}, "normalisation.0"),
        ({"normalisation": [1]}, "normalisation"),
        ({"normalisation": {"0": {"mean": 0.0, "std": -1.0, "clipped_mean": 0, "clipped_std": 1, "finite": 1, "total": 1}}}, "std"),
        ({"score_scale": "1"}, "score_scale"),
        ({"kind": "other"}, "kind"),
        ({"complete": 1}, "complete"),
        ({"fingerprint": 3}, "fingerprint"),
    ],
)
def test_attributes_of_wrong_types_are_one_clear_message_everywhere(tmp_path, values, words):
    store = write_store(tmp_path / "t.ome.zarr", noise(16, 16, 16))
    change(store, **values)
    (damage,) = found(store)
    assert damage["part"] == "metadata"
    assert words in damage["problem"]
    for command in (
        ("inspect", store),
        ("stats", store),
        ("pick", store, "--radius", "3vox", "--count", 3, "-o", tmp_path / "picks"),
    ):
        done = tomostream(*command)
        assert done.code == 2
        assert words in done.message


def test_probabilities_outside_0_to_1_and_foreign_labels_are_found(tmp_path):
    scores = np.random.default_rng(0).random((16, 16, 16)).astype(np.float32)
    scores[0, 0, 0] = np.nan
    assert found(write_store(tmp_path / "good.ome.zarr", scores, kind="scores", levels=1)) == []
    scores[1, 2, 3] = 1.37e30
    (damage,) = found(write_store(tmp_path / "bad.ome.zarr", scores, kind="scores", levels=1))
    assert "1 probabilities lie outside 0..1, the first is 1.37e+30" in damage["problem"]
    assert found(write_store(tmp_path / "logits.ome.zarr", scores, kind="scores", logits=True, levels=1)) == []
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[3, 3, 3] = 7
    (damage,) = found(write_store(tmp_path / "mask.ome.zarr", labels, kind="labels", values={"1": "ribosome"}, levels=1))
    assert "the first is 7" in damage["problem"]


def test_changed_and_lost_tables_of_picks_are_made_again(project):
    before = tree(project)
    table = project / "picks" / "t1.csv"
    table.write_text(table.read_text().replace("1", "2", 5))
    (project / "picks" / "t2.csv").unlink()
    assert {damage["path"] for damage in found(project)} == {str(table), str(project / "picks" / "t2.csv")}
    assert found(project, "--repair") == []
    assert tree(project) == before


def test_everything_at_once_is_made_again_in_order(project):
    before = tree(project)
    for name in ("tomograms/t1.ome.zarr/0/c/0/0/0", "scores/t1.ome.zarr/0/c/0/0/0"):
        flip(project / name, 100)
    (project / "picks" / "t1.csv").unlink()
    assert len(found(project)) == 3
    assert found(project, "--repair") == []
    assert tree(project) == before


def test_what_can_not_be_made_again_says_why_and_is_left_as_it_is(project):
    for source in project.parent.glob("*.mrc"):
        source.unlink()
    flip(project / SHARDS[0], 5)
    flip(project / "model" / "model.safetensors", 5000)
    before = tree(project)
    damages = {damage["path"]: damage["problem"] for damage in found(project, "--repair")}
    assert "t1.mrc was not found; give its path too" in damages[str(project / "tomograms" / "t1.ome.zarr")]
    assert "its hash differs" in damages[str(project / "model")]
    assert tree(project) == before


def test_another_file_of_the_same_name_does_not_serve_as_the_source(project):
    source = project.parent / "t1.mrc"
    flip(source, -1)
    flip(project / SHARDS[0], 5)
    (damage,) = found(project, "--repair")
    assert "was not found" in damage["problem"]


def test_a_foreign_store_is_read_wholly(tmp_path):
    path = write_foreign(tmp_path / "f.zarr", [noise(16, 16, 16)])
    assert found(path) == []
    chunk = sorted(file for file in (path / "0").rglob("*") if file.is_file() and not file.name.startswith("."))[3]
    chunk.write_bytes(chunk.read_bytes()[:5])
    damage = found(path)[0]
    assert "can't be read" in damage["problem"]


def test_a_damaged_model_is_found(project):
    before = (project / "model" / "model.json").read_text()
    for text in ("{", "[" * 10**5, before.replace('"settings"', '"setting"'), "null"):
        (project / "model" / "model.json").write_text(text)
        assert len(found(project / "model")) == 1
    (project / "model" / "model.json").unlink()
    (damage,) = found(project / "model")
    assert "lacks model.json" in damage["problem"]


@pytest.mark.parametrize("path", ["nothing.ome.zarr", "nothing", "empty"])
def test_nothing_to_check_is_told(tmp_path, path):
    (tmp_path / "empty").mkdir()
    done = tomostream("check", tmp_path / path)
    assert done.code == 2
    assert "does not exist" in done.err + done.out or "has nothing to check" in done.err


def test_a_half_written_store_in_a_folder_is_no_damage(tmp_path):
    write_store(tmp_path / "t.ome.zarr", noise(16, 16, 16))
    shutil.copytree(tmp_path / "t.ome.zarr", tmp_path / "u.ome.zarr.partial")
    done = tomostream("check", tmp_path)
    assert done.code == 0
    assert "half-written" in done.err
