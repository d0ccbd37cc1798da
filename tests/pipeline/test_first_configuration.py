"""`tomostream init`: what it writes is a configuration that runs as it is, or says what is left to fill in."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from cli_runner import tomostream
from mrc_files import random_volume, write_mrc
from store_files import noise, write_store

from tomostream.config import load_configuration

pytestmark = pytest.mark.slow

ANSWERS = ("--species", "ribosome", "--radius", "135A", "--expected", 20)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two MRC files, one of them packed into a folder of its own, a store, a score map, and clicks."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    for path in (folder / "TS_01.mrc", folder / "more" / "TS_02.mrc"):
        write_mrc(path, random_volume((20, 30, 40), np.float32), spacing=13.48)
    write_store(folder / "TS_03.ome.zarr", noise(20, 30, 40), spacing=13.48)
    (folder / "notes.txt").write_text("nothing")
    (folder / "tilts.st").write_bytes(b"nothing")
    Path("clicks.csv").write_text("tomogram,x_voxel,y_voxel,z_voxel\nTS_01,30,20,10\nTS_01,5,25,15\n")
    return folder


@pytest.mark.slow
def test_with_all_answers_it_runs_as_it_is(data):
    done = tomostream("init", "data", *ANSWERS, "--clicks", "clicks.csv")
    assert done.code == 0, done.err
    assert "2 in TS_01" in done.err
    configuration = load_configuration(Path("tomostream.yaml"))
    assert configuration.tomograms == ["data/TS_01.mrc", "data/TS_03.ome.zarr", "data/more/TS_02.mrc"]
    assert [(one.name, str(one.radius), one.expected) for one in configuration.species] == [("ribosome", "135A", 20)]
    assert configuration.labels.train == ["clicks.csv"]
    assert str(configuration.tolerance) == "135A"  # the radius: a pick further off is on no particle of that size
    plan = tomostream("run", "tomostream.yaml", "--dry-run", "--json")
    assert plan.code == 0, plan.err
    assert {step["tomogram"] for step in plan.json} >= {"TS_01", "TS_02", "TS_03"}


def test_without_answers_what_is_missing_is_told_and_stands_in_the_file(data):
    done = tomostream("init", "data", "--json")
    assert done.code == 0
    assert [text.split(" ")[0] for text in done.json["missing"]] == ["species.name", "species.radius", "labels.train"]
    text = Path("tomostream.yaml").read_text()
    assert "--clicks TABLE" in text
    assert yaml.safe_load(text)["tomograms"]
    assert tomostream("run", "tomostream.yaml", "--dry-run").code == 2  # never half a configuration that runs


def test_many_tomograms_are_named_by_a_pattern(data):
    for number in range(4, 9):
        write_mrc(data / f"TS_{number:02}.mrc", random_volume((8, 9, 10), np.float32), spacing=13.48)
    (data / "TS_03.ome.zarr").rename(data / "more" / "TS_03.ome.zarr")
    assert tomostream("init", "data", *ANSWERS, "--clicks", "clicks.csv").code == 0
    assert load_configuration(Path("tomostream.yaml")).tomograms == ["data/*.mrc", "data/more/*.mrc", "data/more/*.ome.zarr"]


def test_a_project_in_the_folder_holds_no_further_tomograms(data):
    write_store(data / "project" / "tomograms" / "TS_01.ome.zarr", noise(20, 30, 40), spacing=13.48)
    (data / "project" / "resolved.yaml").write_text("project: project\n")
    assert tomostream("init", "data", *ANSWERS, "--clicks", "clicks.csv").code == 0
    assert len(load_configuration(Path("tomostream.yaml")).tomograms) == 3


def test_answers_that_do_not_fit_the_data_are_refused(data):
    Path("other.csv").write_text("tomogram,x_voxel,y_voxel,z_voxel\nTS_77,30,20,10\n")
    done = tomostream("init", "data", *ANSWERS, "--clicks", "other.csv")
    assert (done.code, "names tomogram TS_77" in done.message) == (2, True)
    assert not Path("tomostream.yaml").exists()
    done = tomostream("init", "data", "--species", "my ball")
    assert (done.code, "--species must be letters, digits" in done.message) == (2, True)
    Path("outside.csv").write_text("tomogram,x_voxel,y_voxel,z_voxel\nTS_01,300,20,10\n")
    for answers in ((), ANSWERS):  # with and without what is missing
        done = tomostream("init", "data", *answers, "--clicks", "outside.csv")
        assert (done.code, "only 0 of 1 points lie inside tomogram 'TS_01'" in done.message) == (2, True)
    assert not Path("tomostream.yaml").exists()
    Path("tomostream.yaml").write_text("mine")
    done = tomostream("init", "data", *ANSWERS, "--clicks", "clicks.csv")
    assert (done.code, "--overwrite" in done.message) == (2, True)
    assert Path("tomostream.yaml").read_text() == "mine"
    assert tomostream("init", "data", *ANSWERS, "--clicks", "clicks.csv", "--overwrite").code == 0
    assert "135A" in Path("tomostream.yaml").read_text()
    (data.parent / "empty").mkdir()
    done = tomostream("init", "empty", "-o", "e.yaml")
    assert (done.code, "hold no tomogram" in done.message) == (2, True)


def test_a_spacing_that_no_file_says_must_be_given(data):
    write_mrc(data / "TS_04.mrc", random_volume((20, 30, 40), np.float32), spacing=None)
    done = tomostream("init", "data", *ANSWERS, "--clicks", "clicks.csv", "--json")
    assert done.json["missing"] == ["voxel_size (--voxel-size ANGSTROM): TS_04 does not give it"]
    done = tomostream("init", "data", *ANSWERS, "--clicks", "clicks.csv", "--voxel-size", 13.48, "--overwrite", "--json")
    assert done.code == 0, done.err
    assert done.json["missing"] == []
    assert load_configuration(Path("tomostream.yaml")).voxel_size == 13.48


def test_the_only_species_of_the_clicks_is_taken(data):
    Path("named.csv").write_text("tomogram,species,x_voxel,y_voxel,z_voxel\nTS_01,fas,30,20,10\n")
    assert tomostream("init", "data", "--radius", "135A", "--clicks", "named.csv").code == 0
    assert load_configuration(Path("tomostream.yaml")).species[0].name == "fas"


def test_clicks_of_several_species_get_an_entry_each(data):
    Path("two.csv").write_text("tomogram,species,x_voxel,y_voxel,z_voxel\nTS_01,ribosome,30,20,10\nTS_01,fas,5,25,15\n")
    done = tomostream("init", "data", "--species", "fas", "--radius", "135A", "--clicks", "two.csv")
    assert (done.code, "--species says fas, but --clicks name fas, ribosome; leave --species out" in done.message) == (2, True)
    for answers in ((), ("--species", "fas", "--species", "ribosome")):
        done = tomostream("init", "data", *answers, "--radius", "135A", "--expected", 20, "--clicks", "two.csv", "--overwrite")
        assert done.code == 0, done.err
        species = load_configuration(Path("tomostream.yaml")).species
        assert [(one.name, str(one.radius), one.expected) for one in species] == [("fas", "135A", 20), ("ribosome", "135A", 20)]


def test_the_score_maps_of_a_new_project_are_small(data):
    assert tomostream("init", "data", *ANSWERS, "--clicks", "clicks.csv").code == 0
    assert load_configuration(Path("tomostream.yaml")).predict.grid == "network"
    assert "other software" in Path("tomostream.yaml").read_text()
