"""Names that lead elsewhere: in a stranger's model, in a store's metadata, as links; and YAML that grows without end."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from cli_runner import tomostream
from fuzzing import limited
from mrc_files import write_mrc
from small_project import make_project
from store_files import noise, write_foreign, write_store

from tomostream.config import load_configuration
from tomostream.errors import ConfigurationError, InputError
from tomostream.remote.atomic_files import write_atomically
from tomostream.strategies.unet.model import UNetSettings, save_model
from tomostream.strategies.unet.network import ResidualUNet

OUTSIDE = ["../../evil", "..", "/tmp/evil", "a/b", "a\\b", "a\0b", "", "."]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_species_of_a_stranger_s_model_never_becomes_a_folder_elsewhere(tmp_path, name):
    settings = UNetSettings(
        channels=(4,), species=("a", "b"), radius_ang=(40.0, 40.0), level=0, spacing=10.0, clip_sigma=3.0, label_shape="sphere",
        objective={"name": "nnpu"}, precision="float32", trained_on=(), version="0", batch_statistics="tomogram",
    )  # fmt: skip
    save_model(tmp_path / "model", ResidualUNet((4,), 2, seed=0), settings)
    path = tmp_path / "model" / "model.json"
    values = json.loads(path.read_text())
    values["settings"]["species"][0] = name
    del values["seal"]  # as who forged it would
    path.write_text(json.dumps(values))
    store = write_store(tmp_path / "t.ome.zarr", noise(16, 16, 16))
    done = tomostream("predict", store, "--model", tmp_path / "model", "-o", tmp_path / "deep" / "er" / "out", "--device", "cpu")
    assert (done.code, "must be valid folder names" in done.message) == (2, True)
    assert not (tmp_path / "deep" / "evil").exists()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("name", ["../other.zarr/0", "..", "0/../../other.zarr/0", "/etc", "file:///etc", "a\\..\\b"])
def test_a_level_outside_of_its_store_is_refused(tmp_path, version, name):
    write_foreign(tmp_path / "other.zarr", [noise(8, 8, 8)], version=version)
    path = write_foreign(tmp_path / "t.zarr", [noise(8, 8, 8)], version=version)
    file = path / (".zattrs" if version == "0.4" else "zarr.json")
    values = json.loads(file.read_text())
    image = values if version == "0.4" else values["attributes"]["ome"]
    image["multiscales"][0]["datasets"][0]["path"] = name
    file.write_text(json.dumps(values))
    for command in (
        ("inspect", path),
        ("check", path),
        ("stats", path),
        ("pick", path, "--radius", "2vox", "--count", 1, "-o", tmp_path / "p"),
    ):
        done = tomostream(*command)
        assert (done.code, "outside of itself" in done.out + done.err) == (2, True), done.err


def test_a_link_where_a_temporary_file_would_lie_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".t.csv.tmp").symlink_to(tmp_path / "mine")
    write_atomically(tmp_path / "t.csv", "new")
    assert (tmp_path / "t.csv").read_text() == "new"
    assert (tmp_path / "mine").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "t.csv"]


def test_a_link_in_the_place_of_a_result_is_replaced_and_its_target_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "t.csv").symlink_to(tmp_path / "mine")
    write_atomically(tmp_path / "t.csv", "new")
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "t.csv").is_symlink()


@pytest.mark.parametrize("tomogram", ["../x", "/x", "..", "a\\b"])
def test_a_tomogram_of_a_table_never_becomes_a_file_elsewhere(tmp_path, tomogram):
    table = tmp_path / "t.csv"
    table.write_text(f"tomogram,species,x_angstrom,y_angstrom,z_angstrom\n{tomogram},a,100,100,100\nother,a,100,100,100\n")
    done = tomostream("export", table, "-o", tmp_path / "in" / "out" / "", "--format", "cmm")
    done = tomostream("export", table, "-o", f"{tmp_path}/in/out/", "--format", "cmm")
    assert done.code == 2, done.err
    assert not list(tmp_path.rglob("*.cmm"))


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "words"),
    [(BOMB + "tomograms: *a11\n", "expand to"), ("a: &a {b: *a}\n", "without end"), ("&a [1, *a]", "without end"), (BOMB, "expand to")],
)
def test_aliases_that_blow_up_are_refused_at_once(tmp_path, text, words):
    (tmp_path / "c.yaml").write_text(text)
    start = time.process_time()
    with limited(30), pytest.raises(ConfigurationError, match=words) as raised:
        load_configuration(tmp_path / "c.yaml")
    assert len(str(raised.value)) < 1000
    assert time.process_time() - start < 5


def test_an_alias_or_two_are_read(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "project: out\ntomograms: &t [a.mrc]\nspecies: [{name: a, radius: 135A, expected: 9}]\nlabels: {train: &c [c.csv], validate: *c}\n"
    )
    found = load_configuration(tmp_path / "c.yaml")
    assert found.labels.validate_ == found.labels.train == ["c.csv"]


def test_a_long_value_is_cut_in_the_message(tmp_path):
    (tmp_path / "c.yaml").write_text(f"project: out\ntomograms: [a.mrc]\nspecies: {'x' * 100_000}\nlabels: {{train: [c.csv]}}\n")
    with pytest.raises(ConfigurationError, match=r"species: .* \.\.\.") as raised:
        load_configuration(tmp_path / "c.yaml")
    assert len(str(raised.value)) < 1000


def test_a_store_s_array_is_read_where_it_is(tmp_path):
    path = write_foreign(tmp_path / "t.zarr", [noise(8, 8, 8)])
    import tomostream as ts

    np.testing.assert_array_equal(np.asarray(ts.open(path).array), noise(8, 8, 8))
    with pytest.raises(InputError):
        ts.open(tmp_path / "t.zarr" / ".." / "nothing.zarr")


@pytest.mark.parametrize("name", ["", ".", "..", "/"])
def test_a_path_without_a_name_is_one_message(tmp_path, monkeypatch, name):
    store = write_store(tmp_path / "stores" / "t.ome.zarr", noise(8, 8, 8))
    (tmp_path / "c.csv").write_text("x_voxel,y_voxel,z_voxel\n1,1,1\n")
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    for command in (
        ("inspect", name), ("stats", name), ("pick", name, "--radius", "2vox", "--count", 1, "-o", "p"), ("labels", store, "--points", "../c.csv", "--radius", "2vox", "-o", name),
        ("report", name, "-o", "r.html"),
    ):  # fmt: skip
        done = tomostream(*command)
        assert done.code == 2, (command, done.err)
        assert "Traceback" not in done.err
        assert "internal fault" not in done.err


def test_a_tomogram_of_no_name_in_a_configuration_is_one_message(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "project: out\ntomograms: ['']\nspecies: [{name: a, radius: 135A, expected: 9}]\nlabels: {train: [c.csv]}\n"
    )
    assert tomostream("run", tmp_path / "c.yaml", "--dry-run").code == 2


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_table_is_not_written_over_a_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is a folder, not a file"):
        write_atomically(Path(name), "text")


@pytest.mark.parametrize("command", [("check",), ("init", "--species", "a", "--radius", "40A", "--expected", "5")])
def test_links_that_lead_back_are_entered_once(tmp_path, monkeypatch, command):
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    for name in ("a", "b", "c"):
        Path(name).symlink_to(".")
    Path("up").symlink_to("..")
    write_store("t.ome.zarr", noise(16, 16, 16))
    with limited(20):
        done = tomostream(command[0], tmp_path, *command[1:], *(("-o", tmp_path / "c.yaml") if command[0] == "init" else ()))
    assert done.code == 0, done.err


@pytest.mark.parametrize("link", [".", "ledger.jsonl", "0", "zarr.json"])
def test_a_half_written_store_is_never_written_through_a_link(tmp_path, link):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "kept").write_text("mine")
    source = write_mrc(tmp_path / "t.mrc", noise(16, 16, 16))
    partial = tmp_path / "out" / "t.ome.zarr.partial"
    (partial if link != "." else partial.parent).mkdir(parents=True)
    (partial / link if link != "." else partial).symlink_to(mine / "kept" if "json" in link else mine)
    done = tomostream("convert", source, "-o", tmp_path / "out")
    assert (done.code, "is a link to another place" in done.message) == (2, True)
    assert [(path.name, path.read_text()) for path in mine.iterdir()] == [("kept", "mine")]


@pytest.mark.slow
@pytest.mark.parametrize("link", ["next", "parts", "parts/ribosome", "next/parts"])
def test_a_model_is_never_written_through_a_link(tmp_path, link):
    path = make_project(tmp_path / "data", species=2, objective={"name": "average"}, train={})
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "model.safetensors").write_text("mine")
    (tmp_path / "model" / link).parent.mkdir(parents=True)
    (tmp_path / "model" / link).symlink_to(mine)
    done = tomostream("train", path, "-o", tmp_path / "model", "--overwrite")
    assert (done.code, "is a link to another place" in done.message) == (2, True)
    assert [(path.name, path.read_text()) for path in mine.iterdir()] == [("model.safetensors", "mine")]


@pytest.mark.parametrize("file", ["t.ome.zarr/zarr.json", "t.ome.zarr/0/zarr.json", "model/model.json", "model/training.json"])
def test_records_of_gigabytes_are_refused_unread(tmp_path, monkeypatch, file):
    monkeypatch.chdir(tmp_path)
    write_store("t.ome.zarr", noise(16, 16, 16))
    Path("model").mkdir()
    Path("model/model.json").write_text("{}")
    Path("model/model.safetensors").write_bytes(b"")
    with Path(file).open("wb") as handle:
        handle.truncate(2**40)  # takes no space
    with limited(20):
        done = tomostream("check", file.partition("/")[0])
    assert (done.code, "bytes is not read" in done.out + done.err) == (2, True), done.out + done.err
