"""RELION 5's tomograms.star as an input, and its particles: names, binning, pixel size."""

import mrcfile
import numpy as np
import pytest
from cli_runner import tomostream

from tomostream.errors import InputError
from tomostream.formats.relion_tomograms import split, tomograms
from tomostream.project import input_paths

HEAD = "data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoTiltSeriesPixelSize #2\n_rlnTomoTomogramBinning #3\n_rlnTomoHand #4\n"
FILES = "_rlnTomoReconstructedTomogram #5\n"


@pytest.fixture
def project(tmp_path):
    """RELION's folders: two tomograms, binned by 4."""
    folder = tmp_path / "Tomograms" / "job005"
    (folder / "tomograms").mkdir(parents=True)
    for name in ("TS_01", "TS_02"):
        with mrcfile.new(folder / "tomograms" / f"rec_{name}.mrc") as file:
            file.set_data(np.random.default_rng(1).normal(size=(8, 16, 16)).astype(np.float32))
            file.voxel_size = 10.0
    return tmp_path


def write(project, *rows, head=HEAD + FILES):
    path = project / "Tomograms" / "job005" / "tomograms.star"
    path.write_text(head + "\n".join(rows) + "\n")
    return path


def rows(pixel=2.5, binning=4.0, folder="Tomograms/job005/tomograms"):
    return [f"{name} {pixel} {binning} -1.0 {folder}/rec_{name}.mrc" for name in ("TS_01", "TS_02")]


def test_its_tomograms_are_found_from_any_folder(project, tmp_path, monkeypatch):
    path = write(project, *rows())
    monkeypatch.chdir("/")
    assert [one.rsplit("/", 1)[1] for one in input_paths([str(path)]).values()] == ["rec_TS_01.mrc", "rec_TS_02.mrc"]
    found = tomostream("inspect", path, "--json").json
    assert [one["spacing"] for one in found] == [10.0, 10.0]
    assert tomostream("convert", path, "-o", tmp_path / "made").code == 0
    assert (tmp_path / "made" / "rec_TS_02.ome.zarr").is_dir()


def test_picks_go_back_with_relions_names_and_no_optics_which_relion_makes_of_its_own_tomograms(project, tmp_path):
    path = write(project, *rows())
    assert tomostream("convert", path, "-o", tmp_path / "made").code == 0
    picks = tmp_path / "picks.csv"
    picks.write_text("tomogram,species,x_angstrom,y_angstrom,z_angstrom,score\nrec_TS_01,a,80,80,40,1\n")
    done = tomostream("export", picks, "-o", tmp_path / "p.star", "--format", "star-relion5", "--tomograms", tmp_path / "made")
    assert done.code == 0, done.err
    text = (tmp_path / "p.star").read_text()
    assert "data_optics" not in text
    assert text.splitlines()[-2].split() == ["TS_01", "0.0", "0.0", "0.0", "1.0"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (rows(pixel=5.0), "have 20 A .* says 10 A; mend one of them"),
        (rows(folder="elsewhere"), "names the tomogram elsewhere/rec_TS_01.mrc, which is in no folder above it"),
        (["TS_03 2.5 4 -1 Tomograms/job005/tomograms/rec_TS_01.mrc"], "rename it rec_TS_03.mrc"),
    ],
)
def test_what_contradicts_is_refused(project, given, message):
    with pytest.raises(InputError, match=message):
        tomograms(str(write(project, *given)), "")


def test_a_table_of_particles_or_without_files_is_no_list_of_tomograms(project):
    path = write(project, "TS_01 2.5 4 -1", head=HEAD)
    with pytest.raises(InputError, match=r"needs the columns rlnTomoName and rlnTomoReconstructedTomogram \(RELION 5"):
        tomograms(str(path), "")
    with pytest.raises(InputError, match=r"write .*tomograms.star or .*tomograms.star:denoised"):
        tomograms(str(path), "even")


def test_only_star_files_are_lists():
    assert split("a/tomograms.star") == ("a/tomograms.star", "")
    assert split("a/tomograms.star:denoised") == ("a/tomograms.star", "denoised")
    assert split("a.starling/x.mrc") is None
    assert split("x.mrc") is None
