"""copick itself, in an environment of its own: it writes projects that we read in place, and reads those that we write into."""

import json
import os
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import yaml
from cli_runner import tomostream
from scipy.spatial.transform import Rotation
from small_project import SHAPE, make_volume

from tomostream.formats.registry import read_table

pytestmark = pytest.mark.slow
SPEAKING = Path(__file__).with_name("speaking.py")
ANGLES = [(10.0, 20.0, 30.0), (100.0, 75.0, -40.0), (-170.0, 160.0, 5.0)]
SHIFT_XYZ = (5, -5, 10)


@pytest.fixture(scope="module")
def copick_python():
    """The Python of copick's environment; absent, the tests are skipped, but never where TOMOSTREAM_NEEDS_COPICK is set, as .ci/run does."""
    python = os.environ.get("TOMOSTREAM_COPICK")
    if python is None or not Path(python).exists():
        message = "no copick here: tests/copick/make_environment.sh FOLDER, then TOMOSTREAM_COPICK=FOLDER/bin/python"
        if os.environ.get("TOMOSTREAM_NEEDS_COPICK"):
            pytest.fail(message)
        pytest.skip(message)
    return python


def speak(python, *arguments):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([python, str(SPEAKING), *map(str, arguments)], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(copick_python, tmp_path_factory):
    """A project that copick wrote: two runs, two types of tomograms, two users' picks."""
    folder = tmp_path_factory.mktemp("copick")
    for seed, name in enumerate(("TS_01", "TS_02")):
        volume, [centres] = make_volume(seed)
        np.save(folder / f"{name}.npy", volume)
        np.save(folder / f"{name}_points.npy", centres[:3, ::-1] * 10)
    speak(copick_python, "write", folder)
    return folder


def test_tomograms_are_read_in_place_by_uri(project):
    file = project / "project.json"
    found = tomostream("inspect", f"{file}:denoised@10", "--json").json
    assert [(Path(one["path"]).parts[-3], one["spacing"], tuple(one["shape"])) for one in found] == [
        ("TS_01", 10.0, SHAPE),
        ("TS_02", 10.0, SHAPE),
    ]
    assert "tomograms denoised@10.000, wbp@10.000; choose one" in tomostream("inspect", file).message
    assert "has no tomogram 'isonet@10'; it has denoised@10.000, wbp@10.000" in tomostream("inspect", f"{file}:isonet@10").message


def test_picks_are_read_with_shifts_and_orientations(project):
    table = read_table(f"{project / 'project.json'}:ribosome:alice/1")
    points = np.load(project / "TS_01_points.npy")
    first = table.of(tomogram="TS_01")
    np.testing.assert_allclose(first.position_zyx[:2, ::-1], points[:2], atol=1e-4)
    np.testing.assert_allclose(first.position_zyx[2, ::-1], points[2] + SHIFT_XYZ, atol=1e-4)
    np.testing.assert_allclose(first.rotation, Rotation.from_euler("ZYZ", ANGLES, degrees=True).inv().as_matrix(), atol=1e-9)
    assert first.score.tolist() == [0.5, 0.25, 1.0]
    assert table.tomograms() == ["TS_01", "TS_02"]


def test_a_run_learns_from_copicks_picks_on_copicks_tomograms(project, tmp_path):
    file = project / "project.json"
    assert "by different users" in tomostream("import", file, "-o", tmp_path / "x.csv").message
    configuration = {
        "project": str(tmp_path / "made"),
        "tomograms": [f"{file}:wbp"],
        "species": [{"name": "ribosome", "radius": "40A", "expected": 24}],
        "labels": {"train": [f"{file}:ribosome:alice"]},
        "objective": {"name": "average"},
        "pick": {"count": 24},
        "cluster": {"threads": 1},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(configuration))
    done = tomostream("run", tmp_path / "run.yaml")
    assert done.code == 0, done.err
    assert sorted(path.stem for path in (tmp_path / "made" / "picks").glob("*.csv")) == ["TS_01", "TS_02"]


def test_copick_reads_the_picks_that_are_exported_into_its_project(project, copick_python, tmp_path):
    picks = tmp_path / "picks.csv"
    rows = ["TS_01,ribosome,10.5,20.25,30,0.75,10,20,30", "TS_02,ribosome,1,2,3,,,,"]
    picks.write_text("tomogram,species,x_angstrom,y_angstrom,z_angstrom,score,rot_degree,tilt_degree,psi_degree\n" + "\n".join(rows) + "\n")
    done = tomostream("export", picks, "-o", project / "project.json", "--format", "copick")
    assert done.code == 0, done.err
    found = [one for one in json.loads(speak(copick_python, "read", project / "project.json")) if one.get("user") == "tomostream"]
    assert [(one["run"], one["object"], one["points"]) for one in found] == [
        ("TS_01", "ribosome", [[10.5, 20.25, 30.0]]),
        ("TS_02", "ribosome", [[1.0, 2.0, 3.0]]),
    ]
    expected = Rotation.from_euler("ZYZ", (10, 20, 30), degrees=True).inv().as_matrix()
    np.testing.assert_allclose(np.array(found[0]["transforms"])[0, :3, :3], expected, atol=1e-9)
    assert found[0]["scores"] == [0.75]


def test_copick_opens_a_volume_that_is_exported_into_its_layout(project, copick_python, tmp_path):
    volume = make_volume(7)[0]
    with mrcfile.new(tmp_path / "TS_01.mrc") as file:
        file.set_data(volume)
        file.voxel_size = 10
    assert tomostream("convert", tmp_path / "TS_01.mrc", "-o", tmp_path).code == 0
    target = project / "overlay" / "ExperimentRuns" / "TS_01" / "VoxelSpacing10.000" / "ours.zarr"
    done = tomostream("export", tmp_path / "TS_01.ome.zarr", "-o", target)
    assert done.code == 0, done.err
    [found] = [one for one in json.loads(speak(copick_python, "read", project / "project.json")) if one.get("tomogram") == "ours"]
    assert (found["run"], found["spacing"], tuple(found["shape"])) == ("TS_01", 10.0, SHAPE)
    assert found["sum"] == pytest.approx(float(volume.sum()), rel=1e-4)
