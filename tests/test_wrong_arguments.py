"""Whatever a notebook's user hands to a function, the answer is a result or a sentence; never an error of numpy's or Python's."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tomostream as ts

VOLUME = np.random.default_rng(0).normal(size=(12, 14, 16)).astype(np.float32)
FRAME = pd.DataFrame(
    {"tomogram": ["a"], "species": ["r"], "x_angstrom": [10.0], "y_angstrom": [20.0], "z_angstrom": [30.0], "score": [1.0]}
)
PARTICLES = ts.Particles.from_dataframe(FRAME)

WRONG = {
    "a count that is no whole number": (lambda out: ts.pick(VOLUME, radius=3.0, count=3.5), "count: it must be a whole number, found 3.5"),
    "a count in text": (lambda out: ts.pick(VOLUME, radius=3.0, count="3"), "whole number, found '3'"),
    "a threshold in text": (lambda out: ts.pick(VOLUME, radius=3.0, threshold="high"), "threshold: it must be a number, found high"),
    "no radius": (lambda out: ts.pick(VOLUME, radius=None, count=3), "radius must be a number of voxels, as 10.0; found None"),
    "a tomogram that is None": (lambda out: ts.open(None), "path_or_url must be a path .*found None"),
    "a path in bytes": (lambda out: ts.open(b"a.mrc"), "found bytes"),
    "an array to open": (lambda out: ts.open(VOLUME), "found numpy.ndarray"),
    "several paths": (lambda out: ts.open(["a.mrc", "b.mrc"]), "found list; call it once for each"),
    "a data frame to read": (lambda out: ts.read_particles(FRAME), r"Particles.from_dataframe\(table\)"),
    "a table that is None": (lambda out: ts.read_particles(None), "path must be a path .*found None"),
    "a table in bytes": (lambda out: ts.read_particles(b"a.csv"), "found bytes"),
    "several tables": (lambda out: ts.read_particles(["a.csv"]), "call it once for each"),
    "an array to write": (lambda out: ts.write_particles(out / "a.csv", np.zeros((3, 3))), "Particles.build"),
    "records to write": (lambda out: ts.write_particles(out / "a.csv", ts.pick(VOLUME, radius=3.0, count=2)), "neither unit nor tomogram"),
    "arguments in another order": (lambda out: ts.write_particles(PARTICLES, out / "a.csv"), "in another order"),
    "arrays to evaluate": (lambda out: ts.evaluate(np.zeros((3, 3)), PARTICLES), "picks must be Particles"),
    "records to evaluate": (lambda out: ts.evaluate(PARTICLES, ts.pick(VOLUME, radius=3.0, count=2)), "truth must be Particles"),
    "a mask's radius in text": (lambda out: ts.label_mask([[1, 2, 3]], (9, 9, 9), radius="10vox"), "radius must be a number of voxels"),
    "a mask of a data frame": (lambda out: ts.label_mask(FRAME, (9, 9, 9), radius=3), "points_zyx must be an array"),
    "a mask of a generator": (lambda out: ts.label_mask(((1, 2, z) for z in range(3)), (9, 9, 9), radius=3), "found generator"),
    "a mask of text": (lambda out: ts.label_mask([["a", "b", "c"]], (9, 9, 9), radius=3), "numbers"),
    "a shape of two axes": (lambda out: ts.label_mask([[1, 2, 3]], (20, 30), radius=3), "shape"),
    "positions of two axes": (lambda out: ts.Particles.build([[1, 2], [3, 4], [5, 6]], unit="voxel"), r"found \(3, 2\)"),
    "positions in one row": (lambda out: ts.Particles.build(np.arange(6.0), unit="voxel"), r"found \(6,\)"),
    "positions in text": (lambda out: ts.Particles.build([["a", "b", "c"]], unit="voxel"), "position_zyx must be an array"),
    "positions in a data frame": (lambda out: ts.Particles.build(FRAME, unit="voxel"), "Particles.from_dataframe"),
    "more names than particles": (lambda out: ts.Particles.build([[1, 2, 3]], unit="voxel", tomogram=["a", "b"]), "one for each of 1"),
    "more scores than particles": (lambda out: ts.Particles.build([[1, 2, 3]], unit="voxel", score=[1, 2]), "score must be one value"),
    "more labels than particles": (lambda out: ts.Particles.build([[1, 2, 3]], unit="voxel", label=[1, 0]), "label must be one value"),
    "a dict for a frame": (lambda out: ts.Particles.from_dataframe({"x_voxel": [1]}), "must be a pandas DataFrame, found dict"),
    "no configuration": (lambda out: ts.run(None), "config must be a path .*found None"),
    "nothing to train": (lambda out: ts.train(None), "config must be a path"),
    "an array to convert": (lambda out: ts.convert(VOLUME, out), "path must be a path .*found numpy.ndarray"),
    "files to convert": (lambda out: ts.convert(["a.mrc", "b.mrc"], out), "call it once for each"),
    "nowhere to convert to": (lambda out: ts.convert("a.mrc", None), "out must be a path"),
    "nothing to orient": (lambda out: ts.orient(None, PARTICLES, "a.ome.zarr", radius="40A"), "picks must be Particles .*found None"),
    "no tomograms to orient in": (lambda out: ts.orient(PARTICLES, PARTICLES, [], radius="40A"), "tomograms=...: 0 are given"),
    "no model": (lambda out: ts.predict(VOLUME, None), "model must be a path"),
    "no model's folder": (lambda out: ts.load_model(None), "a model folder must be a path"),
}


def _answers(out):
    """What each call says."""
    said = {}
    for name, (call, _) in WRONG.items():
        try:
            call(out)
            said[name] = "no error"
        except ts.InputError as error:
            said[name] = str(error)
        except Exception as error:
            said[name] = f"{type(error).__name__} of Python's: {error!r}"
    return said


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """The answers in a process of its own, as users have it: without the tests' checks of annotated types."""
    out = tmp_path_factory.mktemp("out")
    done = subprocess.run([sys.executable, __file__, str(out)], capture_output=True, text=True, check=True)
    assert not list(out.iterdir())
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_told(name, answers):
    assert re.search(WRONG[name][1], answers[name])


def test_a_data_frame_is_written_and_evaluated_as_the_particles_are(tmp_path):
    ts.write_particles(tmp_path / "frame.csv", FRAME)
    ts.write_particles(tmp_path / "particles.csv", PARTICLES)
    assert (tmp_path / "frame.csv").read_bytes() == (tmp_path / "particles.csv").read_bytes()
    assert ts.evaluate(FRAME, FRAME, tolerance="10A").to_json() == ts.evaluate(PARTICLES, PARTICLES, tolerance="10A").to_json()


def test_one_value_stands_for_all_particles_and_none_is_rearranged():
    found = ts.Particles.build([], unit="voxel", tomogram="a")
    assert len(found) == 0
    assert ts.Particles.build([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], unit="voxel", tomogram=["a"]).tomogram.tolist() == ["a", "a"]


if __name__ == "__main__":
    print(json.dumps(_answers(Path(sys.argv[1]))))
