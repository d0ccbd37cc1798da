"""Clicks on nothing stop a training before any work, with the slip that explains them; right clicks never do."""

import functools
import json

import mrcfile
import numpy as np
import pytest
import yaml
from cli_runner import tomostream
from small_project import SPACING, make_project

import tomostream as ts
from tomostream.config import load_configuration
from tomostream.errors import InputError
from tomostream.normalisation import INVERTED, ROBUST
from tomostream.pipeline.dry_run import plan_run
from tomostream.progress import Progress
from tomostream.stages.shared.resolved_run import resolve
from tomostream.stages.training import click_check
from tomostream.stages.training.click_check import check_clicks, normalisation_for
from tomostream.stages.training.click_evidence import evidence, likeness_of
from tomostream.strategies.loading import load_model

FAR_SHAPE = (72, 110, 90)


def far_volume(seed):
    """A volume with dark balls of radius 4 at random, three radii apart, and their centres."""
    return tuple(array.copy() for array in made_volume(seed))


@functools.cache
def made_volume(seed):
    rng = np.random.default_rng(seed)
    volume = rng.normal(0, 1.0, FAR_SHAPE).astype(np.float32)
    centres: list[np.ndarray] = []
    while len(centres) < 30:
        centre = rng.uniform(6, np.array(FAR_SHAPE) - 7)
        if all(np.linalg.norm(centre - other) > 12 for other in centres):
            centres.append(centre)
    z, y, x = np.ogrid[tuple(slice(0, n) for n in FAR_SHAPE)]
    for cz, cy, cx in centres:
        volume[(z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < 16] -= 1.2
    return volume, np.array(centres)


def project(folder, points, volume, **values):
    """A configuration of one tomogram and its clicks."""
    folder.mkdir(exist_ok=True)
    with mrcfile.new(folder / "t.mrc", overwrite=True) as file:
        file.set_data(volume)
        file.voxel_size = SPACING
    rows = "".join(f"t,{x},{y},{z}\n" for z, y, x in points.tolist())
    (folder / "clicks.csv").write_text(f"tomogram,x_voxel,y_voxel,z_voxel\n{rows}")
    given = {
        "project": str(folder / "project"),
        "tomograms": [str(folder / "t.mrc")],
        "species": [{"name": "ball", "radius": "4vox", "expected": 30}],
        "labels": {"train": [str(folder / "clicks.csv")], **values.pop("labels", {})},
        "objective": {"name": "average"},
    } | values
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


def checked(path):
    return check_clicks(resolve(load_configuration(path), with_clicks=True), Progress())


@pytest.mark.slow
@pytest.mark.parametrize("number", [5, 10, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_right_clicks_that_are_off_a_little_pass(tmp_path, seed, number):
    volume, centres = far_volume(seed)
    rng = np.random.default_rng(seed)
    (finding,) = checked(project(tmp_path, centres[:number] + rng.uniform(-1, 1, (number, 3)), volume))
    assert finding.is_on_something
    assert finding.contrast < -5
    assert normalisation_for([finding]) == ROBUST


SLIPS = {
    "y is mirrored: 109 - y": lambda p: p * [1, -1, 1] + [0, FAR_SHAPE[1] - 1, 0],
    "z is mirrored: 71 - z": lambda p: p * [-1, 1, 1] + [FAR_SHAPE[0] - 1, 0, 0],
    "x is mirrored: 89 - x": lambda p: p * [1, 1, -1] + [0, 0, FAR_SHAPE[2] - 1],
    "y and x are exchanged": lambda p: p[(p[:, 1] < 90)][:, [0, 2, 1]],
    "all positions are multiplied by 2": lambda p: p / 2,
    "all positions are multiplied by 4": lambda p: p / 4,
    "x, y, z are moved by about -6, 6, 0 voxels": lambda p: p[(p[:, 1] > 7) & (p[:, 2] < 83)] + [0, -5.6, 5.6],
}


@pytest.mark.slow
@pytest.mark.parametrize("slip", SLIPS)
def test_wrong_clicks_stop_the_dry_run_with_their_cause(tmp_path, slip):
    volume, centres = far_volume(0)
    path = project(tmp_path, SLIPS[slip](centres)[:20], volume)
    with pytest.raises(InputError) as told:
        plan_run(load_configuration(path), ["train"])
    assert f"They fit if {slip}" in str(told.value)
    assert "labels: {check: warn}" in str(told.value)


@pytest.mark.slow
@pytest.mark.parametrize(("given", "words"), [("40vox", "at 40 voxels"), ("400A", "at 400 A (40 voxels)")])
def test_a_radius_that_is_ten_times_off_is_blamed_and_not_the_table(tmp_path, given, words):
    volume, centres = far_volume(0)
    with pytest.raises(InputError, match="are on particles of another size than the radius says") as told:
        checked(project(tmp_path, centres[:20], volume, species=[{"name": "ball", "radius": given, "expected": 30}]))
    assert words in str(told.value)
    assert "mend the radius" in str(told.value)
    assert "They fit if" not in str(told.value)


@pytest.mark.slow
def test_a_radius_that_is_far_too_small_is_told_and_the_table_is_not_blamed(tmp_path):
    volume, centres = far_volume(0)
    (finding,) = checked(project(tmp_path, centres[:20], volume, species=[{"name": "ball", "radius": "10A", "expected": 30}]))
    assert finding.is_radius_off


def test_a_shift_that_takes_the_clicks_out_of_the_volume_is_no_explanation(tmp_path):
    volume, centres = far_volume(0)
    run = resolve(load_configuration(project(tmp_path, centres[:20], volume)), with_clicks=True)
    [[group]] = click_check._judged_together(run)
    assert group.share_inside(group.points) == 1
    assert group.share_inside(group.points + np.array([0, 0, 80])) < 0.5


@pytest.mark.slow
def test_clicks_at_random_stop_and_name_no_slip(tmp_path):
    volume, _ = far_volume(0)
    points = np.random.default_rng(5).uniform(8, np.array(FAR_SHAPE) - 9, (20, 3))
    with pytest.raises(InputError, match=r"lie on nothing that they share.*are these clicks of this tomogram"):
        checked(project(tmp_path, points, volume))


@pytest.mark.slow
def test_a_training_stops_before_it_converts_and_a_warning_lets_it_pass(tmp_path):
    volume, centres = far_volume(0)
    mirrored = SLIPS["y is mirrored: 109 - y"](centres)[:10]
    done = tomostream("run", project(tmp_path / "a", mirrored, volume))
    assert (done.code, (tmp_path / "a" / "project").exists()) == (2, False)
    assert "y is mirrored" in done.err
    done = tomostream("train", project(tmp_path / "b", mirrored, volume, labels={"check": "warn"}))
    assert done.code == 0, done.err
    assert "y is mirrored" in done.err


def test_four_clicks_are_too_few_to_stop_anything(tmp_path):
    volume, _ = far_volume(0)
    (finding,) = checked(project(tmp_path, np.random.default_rng(5).uniform(8, 60, (4, 3)), volume))
    assert finding.clicks == 4


@pytest.mark.slow
def test_hot_voxels_padding_and_slabs_of_three_slices_stop_no_right_clicks(tmp_path):
    volume, centres = far_volume(0)
    volume[10, 20, 30] = volume[40, 50, 60] = 1e6
    volume[:, 95:] = -50
    (finding,) = checked(project(tmp_path, centres[centres[:, 1] < 90][:10], volume))
    assert finding.is_on_something
    slab = np.array([c for c in centres if 34 <= c[0] <= 38])
    rows = np.repeat(slab - [35, 0, 0], 3, axis=0) + np.random.default_rng(0).uniform(-0.5, 0.5, (3 * len(slab), 3))
    rows[:, 0] = np.clip(rows[:, 0], 0, 2)
    checked(project(tmp_path, rows, volume[35:38]))


@pytest.mark.slow
def test_bright_particles_are_learnt_as_dark_ones_and_score_the_same(tmp_path):
    scores = []
    for name, sign in (("dark", 1), ("bright", -1)):
        volume, centres = far_volume(0)
        path = project(tmp_path / name, centres[:10], (sign * volume).astype(np.float32))
        done = tomostream("run", path, "--stage", "convert", "--stage", "stats", "--stage", "train")
        assert done.code == 0, done.err
        assert ("the clicked particles are bright" in done.err + done.out) == (name == "bright")
        model = load_model(tmp_path / name / "project" / "model")
        assert model.settings.normalisation == {"dark": ROBUST, "bright": INVERTED}[name]
        done = tomostream(
            "predict",
            tmp_path / name / "project/tomograms/t.ome.zarr",
            "--model",
            tmp_path / name / "project/model",
            "-o",
            tmp_path / name / "s",
        )
        assert done.code == 0, done.err
        scores.append(np.asarray(ts.open(tmp_path / name / "s" / "t.ome.zarr").array))
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)
    assert scores[0].max() > 0.5


@pytest.mark.slow
def test_dark_and_bright_tomograms_of_one_run_are_refused(tmp_path):
    path = make_project(tmp_path)
    with mrcfile.open(tmp_path / "t2.mrc", "r+") as file:
        file.set_data(-file.data)
    with pytest.raises(InputError, match=r"ribosome is dark in 't1' and bright in 't2'.*invert"):
        checked(path)


@pytest.mark.slow
def test_the_dry_run_tells_what_the_clicks_are_on(tmp_path):
    done = tomostream("run", make_project(tmp_path), "--dry-run", "--json")
    assert done.code == 0, done.err
    steps = json.loads(done.out)
    (train,) = [step for step in steps if step["stage"] == "train"]
    assert "ribosome in 't1': 5 clicks on dark particles" in train["work"]


def test_of_places_at_random_likeness_is_about_nothing_and_evidence_is_their_deviation():
    rng = np.random.default_rng(0)
    found = [(likeness_of(w), evidence(w)) for w in rng.normal(size=(400, 10, 4))]
    assert abs(np.mean(found, axis=0)).max() < 0.15
    assert np.std(found, axis=0)[1] == pytest.approx(1.0, abs=0.15)
    assert likeness_of(np.ones((7, 4))) == pytest.approx(4.0)
