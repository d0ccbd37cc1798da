"""The whole path on a small data set: what it leaves, what it skips, and that a kill changes nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
import yaml
from cli_runner import tomostream
from small_project import SHAPE, make_project, make_volume, tree_bytes

import tomostream as ts
from tomostream.cluster import Resources
from tomostream.config import load_configuration
from tomostream.errors import BusyError, ConfigurationError, ExistsError, InputError
from tomostream.geometry import Box
from tomostream.learn.batch import Batch
from tomostream.learn.objectives import make_objective
from tomostream.pipeline.dry_run import plan_run
from tomostream.pipeline.execution import STAGES, check_stages, run_project
from tomostream.pipeline.status import read_status
from tomostream.progress import Progress
from tomostream.score_map import open_score_map
from tomostream.stages.prediction.stage import PredictSettings, predict_many
from tomostream.stages.training.stage import LOCK_NAME
from tomostream.store.locks import exclusive
from tomostream.strategies.validation import Region, Validation, greedy_picks

pytestmark = pytest.mark.slow


class Told(Progress):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def say(self, text: str) -> None:
        self.texts.append(text)

    def warn(self, text: str) -> None:
        self.texts.append(text)


def run(path: Path, *, overwrite: bool = False, stages: list[str] | None = None) -> Told:
    told = Told()
    run_project(load_configuration(path), stages=stages or [], overwrite=overwrite, progress=told)
    return told


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("path")
    run(make_project(folder))
    return folder


def test_project_folder_has_what_the_contract_names(finished):
    project = finished / "project"
    for name in ("tomograms/t1.ome.zarr", "labels/train.csv", "model/model.safetensors", "model/model.json", "model/metrics.csv",
                 "scores/t2.ome.zarr", "picks/t1.csv", "evaluation.json", "report.html", "resolved.yaml"):  # fmt: skip
        assert (project / name).exists(), name
    assert (project / "picks" / "t1.csv").read_text().splitlines()[0] == "tomogram,species,x_angstrom,y_angstrom,z_angstrom,score"
    scores = json.loads((project / "evaluation.json").read_text())
    assert set(scores["pooled"]) == {"f1", "precision", "recall", "tp", "fp", "fn"}
    assert set(scores["tomograms"]) == {"t1", "t2"}


def test_five_clicks_find_the_other_particles(finished):
    assert json.loads((finished / "project" / "evaluation.json").read_text())["pooled"]["f1"] >= 0.9


def test_a_second_run_computes_nothing_again(finished):
    watched = [p for p in (finished / "project").rglob("*") if (p.is_file() and p.suffix in (".csv", ".safetensors")) or p.name == "0"]
    before = {p: p.stat().st_mtime_ns for p in watched if "labels" not in p.parts}
    told = run(finished / "run.yaml")
    assert {p: p.stat().st_mtime_ns for p in before} == before
    for done in ("model", "t1: scores", "t2: scores", "t1: picks", "t2: picks"):
        assert any(done in text and "already" in text for text in told.texts), told.texts


def test_other_training_settings_are_refused_without_overwrite(finished, tmp_path):
    values = yaml.safe_load((finished / "run.yaml").read_text())
    values["train"]["seed"] = 7
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ExistsError, match=r"other settings or data \(.*seed [0-9]+, now 7\); use another folder, or --overwrite"):
        run(path)


def changed(finished: Path, folder: Path, key: str, **values: object) -> Path:
    """The configuration of a run with other values in a section."""
    configuration = yaml.safe_load((finished / "run.yaml").read_text())
    configuration[key] = (configuration.get(key) or {}) | values
    path = folder / "other.yaml"
    path.write_text(yaml.safe_dump(configuration))
    return path


def predict_states(path: Path) -> tuple[set[str], list[str]]:
    """What a dry run says of the scores, and what it warns of."""
    told = Told()
    steps = plan_run(load_configuration(path), ["predict"], told)
    return {step.state for step in steps}, told.texts


def test_the_dry_run_refuses_scores_of_other_settings_in_the_words_of_the_run(finished, tmp_path):
    path = changed(finished, tmp_path, "predict", score_dtype="int8")
    states, warnings = predict_states(path)
    assert states == {"other settings"}
    with pytest.raises(ExistsError) as refused:
        run(path, stages=["predict"])
    assert len(warnings) == 2
    assert all(warning in str(refused.value) for warning in warnings)
    assert "was made with other settings or data (score_dtype" in warnings[0]


def test_a_dry_run_ends_as_the_run_would_where_other_settings_made_what_is_there(finished, tmp_path):
    for key, values, stage in (("predict", {"score_dtype": "int8"}, "predict"), ("train", {"seed": 7}, "train")):
        path = changed(finished, tmp_path, key, **values)
        done = tomostream("run", path, "--dry-run", "--stage", stage)
        assert (done.code, f"would stop at {stage}" in done.message) == (2, True)
        assert "other settings" in done.out  # the plan is shown all the same
        done = tomostream("run", path, "--dry-run", "--stage", stage, "--overwrite")
        assert done.code == 0, done.err
        assert "other settings" not in done.out + done.err
        assert "to do" in done.out
    assert tomostream("run", finished / "run.yaml", "--dry-run").code == 0


def test_finished_scores_stay_finished_in_whatever_blocks_they_were_made(finished, tmp_path):
    """As of another memory budget, or of another version; blocks that are asked for count."""
    assert predict_states(finished / "run.yaml") == ({"done"}, [])
    path = changed(finished, tmp_path, "predict", block_size="13,14,15")
    assert predict_states(path)[0] == {"other settings"}
    again, folder = tmp_path / "again", tmp_path / "again" / "project"
    shutil.copytree(finished, again)
    for store in (folder / "scores").glob("*.zarr"):
        shutil.rmtree(store)
    values = yaml.safe_load((finished / "run.yaml").read_text()) | {"project": str(folder)}
    for blocks, state in (("13,14,15", "to do"), (None, "done")):
        values["predict"] = (values.get("predict") or {}) | {"block_size": blocks}
        (again / "run.yaml").write_text(yaml.safe_dump(values))
        assert predict_states(again / "run.yaml") == ({state}, [])
        told = run(again / "run.yaml", stages=["predict"])
        assert any("scores are already made" in text for text in told.texts) == (state == "done")


def test_the_status_of_a_finished_run_says_so_and_what_was_made(finished):
    done = tomostream("status", finished / "project")
    assert done.code == 0
    assert "finished; made: the model" in done.out
    assert "picks of 2 tomograms in" in done.out
    assert "report.html" in done.out
    assert read_status(finished / "project").is_finished


def test_other_pick_settings_are_picked_anew_without_inference(finished, tmp_path):
    values = yaml.safe_load((finished / "run.yaml").read_text())
    values["pick"] = {"count": 7}
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(values))
    planned = [{step.state for step in plan_run(load_configuration(one), ["pick"])} for one in (finished / "run.yaml", path)]
    assert planned == [{"done"}, {"to do"}]
    told = run(path, stages=["pick"])
    assert len((finished / "project" / "picks" / "t1.csv").read_text().splitlines()) == 8
    assert {step.state for step in plan_run(load_configuration(path), ["pick"])} == {"done"}
    assert not any("score" in text for text in told.texts)
    run(finished / "run.yaml", stages=["pick", "evaluate"])  # as it was, for the other tests


def test_scores_of_a_store_and_of_an_array_agree(finished):
    stored = np.asarray(ts.open(finished / "project" / "scores" / "t1.ome.zarr").array)
    volume, _ = make_volume(0)
    scored = ts.predict(volume, finished / "project" / "model", threads=1)
    assert scored.shape == SHAPE
    assert np.abs(scored - stored).max() < 1e-5


@pytest.mark.parametrize("block", [17, (64, 24, 40)])
def test_scores_do_not_depend_on_the_block_size(finished, tmp_path, block):
    tomogram = finished / "project" / "tomograms" / "t1.ome.zarr"
    whole = ts.predict(tomogram, finished / "project" / "model", out=tmp_path / "whole", logits=True)
    blocks = ts.predict(tomogram, finished / "project" / "model", out=tmp_path / "blocks", logits=True, block_size=block)
    assert np.abs(np.asarray(ts.open(whole).array) - np.asarray(ts.open(blocks).array)).max() < 1e-4


def test_predict_never_replaces_a_tomogram(finished):
    tomogram = finished / "project" / "tomograms" / "t1.ome.zarr"
    before = tree_bytes(tomogram)
    with pytest.raises(ExistsError, match="is a tomogram"):
        ts.predict(tomogram, finished / "project" / "model", out=tomogram.parent, overwrite=True)
    assert tree_bytes(tomogram) == before


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_scores_outside_the_box_are_missing_and_never_picked(finished, tmp_path, dtype):
    tomogram, model = (finished / "project" / part for part in ("tomograms/t1.ome.zarr", "model"))
    settings = PredictSettings(score_dtype=dtype, box=Box((5, 10, 10), (35, 50, 40)))
    resources = Resources(threads=1)
    [[path]] = predict_many(
        {"t1": str(tomogram)}, model=model, out=tmp_path, settings=settings, resources=resources, overwrite=False, progress=Progress()
    )
    found = open_score_map(path)
    scores = found.read(Box.whole(found.shape))
    inside = np.zeros(found.shape, dtype=bool)
    inside[settings.box.slices] = True
    assert np.isnan(scores[~inside]).all()
    assert np.isfinite(scores[inside]).all()
    whole = ts.open(finished / "project" / "scores" / "t1.ome.zarr")
    assert np.allclose(scores[inside], np.asarray(whole.array)[inside], atol=0.003)
    picks = ts.pick(path, radius="4vox", count=10**6).in_unit("voxel", found.spacing).position_zyx.astype(int)
    assert inside[tuple(picks.T)].all()


def test_a_box_that_leaves_the_volume_is_refused(finished, tmp_path):
    settings = PredictSettings(box=Box((0, 0, 0), (41, 64, 56)))
    with pytest.raises(InputError, match="0:41, 0:64, 0:56 leaves tomogram 't1'"):
        predict_many(
            {"t1": str(finished / "project" / "tomograms" / "t1.ome.zarr")},
            model=finished / "project" / "model",
            out=tmp_path,
            settings=settings,
            resources=Resources(threads=1),
            overwrite=False,
            progress=Progress(),
        )


def test_picks_do_not_depend_on_the_block_size(finished):
    scores = finished / "project" / "scores" / "t1.ome.zarr"
    whole = ts.pick(scores, radius="4vox", threshold=0.1)
    blocks = ts.pick(scores, radius="4vox", threshold=0.1, block_size=13)
    assert np.array_equal(whole.position_zyx, blocks.position_zyx)
    assert np.array_equal(whole.score, blocks.score)


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.85])
def test_a_kill_changes_no_byte(finished, tmp_path, fraction):
    values = yaml.safe_load((finished / "run.yaml").read_text())
    values["project"] = str(tmp_path / "project")
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "tomostream", "run", str(path)]
    # undisturbed, to know how long it takes here
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.monotonic() - started
    undisturbed = tree_bytes(tmp_path / "project")
    (tmp_path / "project").rename(tmp_path / "undisturbed")
    victim = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    time.sleep(fraction * seconds)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    subprocess.run(command, check=True, capture_output=True)
    assert tree_bytes(tmp_path / "project") == undisturbed


def test_a_second_training_of_the_same_model_is_refused(tmp_path):
    path = make_project(tmp_path)
    folder = tmp_path / "project" / "model"
    folder.mkdir(parents=True)
    with exclusive(folder / LOCK_NAME, "the test's"), pytest.raises(BusyError, match=rf"in use by process {os.getpid()} on"):
        run(path, stages=["train"])
    assert [p.name for p in folder.iterdir()] == [LOCK_NAME]


def test_two_species_have_maps_and_scores_of_their_own(tmp_path):
    path = make_project(tmp_path, species=2)
    run(path)
    assert (tmp_path / "project" / "scores" / "fas" / "t1.ome.zarr").is_dir()
    assert (tmp_path / "project" / "scores" / "ribosome" / "t1.ome.zarr").is_dir()
    picks = ts.read_particles(tmp_path / "project" / "picks" / "t1.csv")
    assert set(picks.species_names()) == {"ribosome", "fas"}
    assert set(json.loads((tmp_path / "project" / "evaluation.json").read_text())["species"]) == {"ribosome", "fas"}


def test_dry_run_tells_the_stages_and_writes_nothing(tmp_path):
    path = make_project(tmp_path)
    steps = plan_run(load_configuration(path), list(STAGES))
    assert not (tmp_path / "project").exists()
    assert {step.stage for step in steps} == set(STAGES)
    assert all(step.memory_bytes for step in steps)
    assert {step.state for step in steps if step.stage == "predict"} == {"to do"}


def test_expected_number_below_the_clicks_is_refused(tmp_path):
    path = make_project(tmp_path, species=1)
    values = yaml.safe_load(path.read_text())
    values["species"][0]["expected"] = 3
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=r"expected is 3 .* but 5 particles are clicked"):
        run(path, stages=["train"])
    assert not (tmp_path / "project" / "model").exists()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("expected", {"t_1": 24}, "no number for tomogram 't1', which has clicks: add it; it names t_1"),
        ("radius", "0.5A", r"at least 1 and at most 32 voxels \(10A to 320A\) are allowed"),
        ("radius", "4000A", r"at least 1 and at most 32 voxels \(10A to 320A\) are allowed"),
    ],
)
def test_slips_in_a_species_are_named_before_training(tmp_path, key, value, said):
    path = make_project(tmp_path)
    values = yaml.safe_load(path.read_text())
    values["species"][0][key] = value
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=said):
        run(path, stages=["train"])
    assert not (tmp_path / "project" / "model").exists()


def test_a_constant_tomogram_is_named_before_training(tmp_path):
    path = make_project(tmp_path)
    with mrcfile.new(tmp_path / "t1.mrc", overwrite=True) as file:
        file.set_data(np.ones(SHAPE, dtype=np.float32))
        file.voxel_size = 10.0
    with pytest.raises(InputError, match=r"tomogram 't1' is constant \(mean 1\)"):
        run(path, stages=["train"])


@pytest.mark.parametrize("clicked", [[[5, 5, 5]], []])
def test_a_species_without_validation_clicks_has_no_say(clicked):
    volume = np.zeros((16, 16, 16), dtype=np.float32)
    volume[5, 5, 5] = 1.0

    def score(network: object, image: np.ndarray, precision: str) -> np.ndarray:
        return np.stack([image, image])

    batch = Batch(
        torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 2, 4, 4, 4, dtype=torch.bool), torch.ones(1, 1, 4, 4, 4), torch.tensor([False])
    )
    objective = make_objective("pn", weight=1.0, order="prior_to_pu", labelled_fraction=[0.1, 0.1], expected_fraction=None)
    region = Region(0, volume, [np.array(clicked, dtype=float).reshape(-1, 3), np.empty((0, 3))], [1.0, 1.0])
    validation = Validation([region], [3.0, 3.0], [batch], objective, "float32", 10**9, [[]], score, greedy_picks)
    found = validation.measure(torch.nn.Conv3d(1, 2, 1))
    if clicked:
        assert found["val_recall"] == found["val_f1"] == 1.0
        assert found["criterion"] == 0.5  # the first pick of twice one hits
    else:
        assert found["criterion"] == -found["val_loss"]


def test_clicks_outside_the_volume_are_refused(tmp_path):
    path = make_project(tmp_path)
    (tmp_path / "train.csv").write_text("tomogram,species,x_voxel,y_voxel,z_voxel\n" + "t1,ribosome,10,20,300\n" * 5)
    with pytest.raises(InputError, match=r"only 0 of 5 points lie inside.*swapped"):
        run(path, stages=["train"])


@pytest.mark.parametrize("command", ["run", "train"])
def test_clicks_outside_are_refused_before_anything_is_converted(tmp_path, command):
    path = make_project(tmp_path)
    (tmp_path / "train.csv").write_text("tomogram,species,x_voxel,y_voxel,z_voxel\n" + "t1,ribosome,10,20,300\n" * 5)
    done = tomostream(command, path)
    assert done.code == 2
    assert "only 0 of 5 points lie inside tomogram 't1'" in done.message
    assert not list(tmp_path.glob("project/tomograms/*"))


@pytest.mark.parametrize(
    ("key", "table", "said"),
    [
        ("labels", "tomogram,species,x_voxel,y_voxel,z_voxel\nt1,ribosome,10,20,300\n", "only 0 of 1 points lie inside tomogram 't1'"),
        ("labels", "tomogram,species,x_voxel,y_voxel,z_voxel\nt9,ribosome,10,20,30\n", "names tomogram t9"),
        ("labels", None, "wrong.csv does not exist"),
        ("truth", None, "there is no file or folder"),
        ("truth", "tomogram,species,x_voxel,y_voxel,z_voxel\nt9,ribosome,10,20,30\n", "names tomogram t9; those of the run are t1, t2"),
        ("truth", "tomogram,species,x_voxel,y_voxel,z_voxel\nt1,ribosome,10,20,300\n", "only 0 of 1 positions lie inside tomogram 't1'"),
        ("truth", "tomogram,species,x_voxel,y_voxel\nt1,ribosome,10,20\n", "z_voxel"),
    ],
)
def test_a_dry_run_and_a_run_tell_wrong_tables_before_any_work(tmp_path, key, table, said):
    wrong = tmp_path / "wrong.csv"
    if table is not None:
        wrong.write_text(table)
    path = make_project(tmp_path, **{key: {"train": [str(wrong)]} if key == "labels" else str(wrong)})
    for options in (["--dry-run"], []):
        done = tomostream("run", path, *options)
        assert done.code == 2
        assert said in done.message
        assert not list(tmp_path.glob("project/*"))


def test_empty_click_table_is_refused(tmp_path):
    path = make_project(tmp_path)
    (tmp_path / "train.csv").write_text("tomogram,species,x_voxel,y_voxel,z_voxel\n")
    with pytest.raises(InputError, match=r"train.csv has no point"):
        run(path, stages=["train"])


def test_unknown_stage_is_refused():
    with pytest.raises(InputError, match="convert, stats, train"):
        check_stages(["predct"])


def test_nothing_that_matches_is_refused(tmp_path):
    path = make_project(tmp_path, tomograms=[str(tmp_path / "no*.mrc")])
    with pytest.raises((InputError, ConfigurationError), match=r"nothing matches .*paths count from the current folder"):
        run(path)


def test_a_model_for_another_spacing_is_refused(finished, tmp_path):
    import mrcfile

    for spacing, name in ((10.5, "near"), (12.5, "far")):
        with mrcfile.new(tmp_path / f"{name}.mrc") as file:
            file.set_data(make_volume(3)[0])
            file.voxel_size = spacing
    near, far = (ts.convert(tmp_path / f"{name}.mrc", tmp_path) for name in ("near", "far"))
    with pytest.warns(ts.TomostreamWarning, match=r"10.5 A per voxel.*5.0 % apart"):
        ts.predict(near, finished / "project" / "model", out=tmp_path / "scores")
    with pytest.raises(InputError, match=r"12.5 A per voxel.*10 A .25.0 % apart.*at most 15 %"):
        ts.predict(far, finished / "project" / "model", out=tmp_path / "scores")
    assert not (tmp_path / "scores" / "far.ome.zarr").exists()


def test_a_density_that_is_not_there_is_told_before_anything_is_converted(tmp_path):
    path = make_project(tmp_path, objective={"name": "template"}, template={"density": str(tmp_path / "no.mrc")})
    with pytest.raises(InputError, match=r"template.density .*no.mrc can't be read: No such file"):
        run_project(load_configuration(path), stages=[], overwrite=False, progress=Progress())
    assert not (tmp_path / "project").exists()
