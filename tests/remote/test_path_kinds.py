"""A path that was given for something else is named as what it is, and the message says what to do."""

import json

import pytest
from cli_runner import tomostream

from tomostream.remote.path_kinds import _MAY_BE, Kind, Wanted, instead, is_project, kind_at

pytestmark = pytest.mark.slow


@pytest.fixture
def here(tmp_path, monkeypatch):
    """One path of each kind."""
    monkeypatch.chdir(tmp_path)
    for name, files in {
        "project": ["resolved.yaml", "log.jsonl"],
        "model": ["resolved.yaml", "model.json"],
        "halftrained": ["resolved.yaml", "training.json"],
        "store.ome.zarr": ["zarr.json"],
        "bare": ["zarr.json"],
        "folder": [],
    }.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("{}")
    (tmp_path / "t.mrc").write_bytes(bytes(2000))
    (tmp_path / "stamped").write_bytes(bytes(208) + b"MAP " + bytes(900))
    (tmp_path / "packed.rec.gz").write_bytes(b"\x1f\x8b\x00")
    (tmp_path / "empty.mrc").touch()
    (tmp_path / "run.yaml").write_text("project: p\n")
    (tmp_path / "clicks.csv").write_text("x,y,z\n")
    (tmp_path / "text.txt").write_text("hello\n")
    return tmp_path


KINDS = {
    "nothing": Kind.MISSING,
    "empty.mrc": Kind.EMPTY,
    "t.mrc": Kind.MRC,
    "stamped": Kind.MRC,
    "packed.rec.gz": Kind.MRC,
    "run.yaml": Kind.CONFIGURATION,
    "clicks.csv": Kind.TABLE,
    "text.txt": Kind.FILE,
    "store.ome.zarr": Kind.STORE,
    "bare": Kind.STORE,
    "model": Kind.MODEL,
    "halftrained": Kind.MODEL,
    "project": Kind.PROJECT,
    "folder": Kind.FOLDER,
}


def test_each_path_is_what_it_is(here):
    assert {name: kind_at(name) for name in KINDS} == KINDS
    assert kind_at("s3://bucket/t.mrc") is None
    assert is_project(here / "project")
    assert not is_project(here / "model")


@pytest.mark.parametrize("wanted", Wanted)
def test_every_message_names_the_path_what_is_wanted_and_what_to_do(here, wanted):
    for name, kind in KINDS.items():
        said = instead(name, wanted)
        if kind.name == wanted.name or (wanted, kind) in _MAY_BE:
            assert said is None
        else:
            assert said is not None
            assert said.startswith(f"{name} ")
            assert "; " in said
            assert "{" not in said


COMMANDS = {
    "configuration": [("run", "@"), ("run", "@", "--dry-run"), ("train", "@")],
    "project": [("status", "@"), ("report", "@", "-o", "r.html")],
    "store": [("stats", "@"), ("pick", "@", "--radius", "5vox", "--count", "3", "-o", "o"), ("suggest", "@", "-o", "s.csv", "--radius", "5vox", "--count", "3")],
    "mrc": [("convert", "@", "-o", "o")],
    "table": [("import", "@", "-o", "o.csv"), ("evaluate", "--picks", "@", "--truth", "@")],
}  # fmt: skip
RIGHT = {
    "configuration": ("run.yaml",),
    "project": ("project", "folder", "run.yaml"),
    "store": ("store.ome.zarr", "bare"),
    "mrc": ("t.mrc", "stamped", "packed.rec.gz"),
    "table": ("clicks.csv",),
}


@pytest.mark.parametrize("wanted", COMMANDS)
def test_no_command_answers_a_wrong_path_in_pythons_words(here, wanted):
    for arguments in COMMANDS[wanted]:
        for name in KINDS:
            if name in RIGHT[wanted]:
                continue
            done = tomostream(*(name if one == "@" else one for one in arguments))
            assert done.code == 2, (arguments, name)
            assert name in done.message
            assert not any(word in done.message for word in ("Errno", "codec", "KeyError", "NoneType")), done.message


@pytest.mark.parametrize("path", ["nothere", "t.mrc", "clicks.csv"])
def test_suggest_says_first_that_a_path_is_no_project(here, path):
    assert tomostream("suggest", path, "-o", "s.csv").message == f"tomostream: error: {instead(path, Wanted.PROJECT)}"


def test_the_message_for_a_tomogram_in_the_place_of_a_configuration(here):
    assert tomostream("run", "t.mrc").message == (
        "tomostream: error: t.mrc is an MRC file, not a configuration (a YAML file); to write one for the tomograms there: `tomostream init .`"
    )
    assert "tomostream status project" in tomostream("run", "project").message
    assert "its model is project/model" in tomostream("predict", "store.ome.zarr", "--model", "project", "-o", "o").message
    (here / "listed.yaml").write_text(
        "project: p\ntomograms: [folder]\nspecies: [{name: a, radius: 5vox}]\nlabels: {train: [clicks.csv]}\n"
    )
    assert (
        "folder is a folder, not a tomogram (an MRC file or an OME-Zarr store); name what is in it: folder/*.mrc"
        in tomostream("run", "listed.yaml").message
    )
    assert json.dumps(tomostream("status", "model").message).find("model folder, not the project folder of a run") > 0
