"""The commands on a GPU: a killed prediction goes on with the same bytes, two processes share a card, filters refuse, training learns."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from cli_runner import tomostream
from mrc_files import write_mrc
from small_project import SPACING, make_project, tree_bytes

import tomostream as ts
from tomostream.config import load_configuration
from tomostream.pipeline.execution import run_project
from tomostream.progress import Progress

pytestmark = pytest.mark.gpu
TRAIN = {"steps": 60, "steps_per_epoch": 20, "crop": 16, "batch": 4, "precision": "float32"}


def project_of(folder, device, **values):
    values = {"train": TRAIN, "predict": {"device": device}} | values
    return make_project(folder, **values)


def train(folder, device, **values):
    path = project_of(folder, device, **values)
    run_project(load_configuration(path), stages=["convert", "stats", "train"], overwrite=False, progress=Progress())
    return folder / "project"


def losses(project):
    rows = (project / "model" / "metrics.csv").read_text().splitlines()
    return [float(row.split(",")[rows[0].split(",").index("train_loss")]) for row in rows[1:]]


@pytest.fixture(scope="module")
def project(device, tmp_path_factory):
    return train(tmp_path_factory.mktemp("project"), device)


@pytest.fixture(scope="module")
def wide(project):
    volume = np.random.default_rng(0).normal(size=(40, 320, 320)).astype(np.float32)  # scores of four shards
    write_mrc(project.parent / "wide.mrc", volume, spacing=SPACING)
    done = tomostream("convert", project.parent / "wide.mrc", "-o", project / "tomograms")
    assert done.code == 0, done.err
    return project / "tomograms" / "wide.ome.zarr"


def predict(project, store, out, device, *more):
    return ("predict", store, "--model", project / "model", "-o", out, "--device", device, "--threads", 1, *more)


def test_training_lowers_the_loss_and_validates(project):
    found = losses(project)
    print("losses of the epochs:", found)
    assert found[-1] < found[0]
    assert "val_f1" in (project / "model" / "metrics.csv").read_text()


def test_what_was_trained_finds_the_particles(project, device, tmp_path):
    done = tomostream(*predict(project, project / "tomograms" / "t2.ome.zarr", tmp_path, device))
    assert done.code == 0, done.err
    done = tomostream("pick", tmp_path / "t2.ome.zarr", "--radius", "4vox", "--count", 24, "-o", tmp_path / "picks")
    assert done.code == 0, done.err
    done = tomostream(
        *("evaluate", "--picks", tmp_path / "picks", "--truth", project.parent / "truth.csv", "--tolerance", "4vox", "--json"),
        *("--tomograms", project / "tomograms"),
    )
    assert done.code == 0, done.err
    print(done.out[:400])
    assert done.json["pooled"]["f1"] > 0.8


def test_training_twice_gives_the_same_weights(project, device, tmp_path):
    again = train(tmp_path, device)
    same = (again / "model" / "model.safetensors").read_bytes() == (project / "model" / "model.safetensors").read_bytes()
    first, second = losses(project), losses(again)
    print("same bytes:", same, "losses:", first, second)
    assert np.allclose(first, second, rtol=1e-3)
    assert same, f"repeated training gave other weights; losses {first} and {second}"


def test_killed_training_goes_on_to_the_same_weights(project, device, tmp_path):
    path = project_of(tmp_path, device)
    command = [sys.executable, "-m", "tomostream", "run", path, "--stage", "convert", "--stage", "stats", "--stage", "train"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    checkpoint = tmp_path / "project" / "model" / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):  # a fast card is done before the kill
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    was_unfinished = not (tmp_path / "project" / "model" / "model.json").exists()
    run_project(load_configuration(path), stages=["convert", "stats", "train"], overwrite=False, progress=Progress())
    same = (tmp_path / "project" / "model" / "model.safetensors").read_bytes() == (project / "model" / "model.safetensors").read_bytes()
    print("killed in the midst:", was_unfinished, "same bytes:", same, "losses:", losses(project), losses(tmp_path / "project"))
    assert same


def test_bf16_training_learns(device, tmp_path):
    found = losses(train(tmp_path, device, train=TRAIN | {"precision": "bf16"}))
    print("losses:", found)
    assert found[-1] < found[0]


def test_a_killed_prediction_goes_on_to_the_same_bytes(project, wide, device, tmp_path):
    assert tomostream(*predict(project, wide, tmp_path / "whole", device, "--block-size", 40)).code == 0
    command = [sys.executable, "-m", "tomostream", *map(str, predict(project, wide, tmp_path / "killed", device, "--block-size", 40))]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    ledger = tmp_path / "killed" / "wide.ome.zarr.partial" / "ledger.jsonl"
    deadline = time.monotonic() + 120
    while running.poll() is None and time.monotonic() < deadline:
        if ledger.exists() and len(ledger.read_text().splitlines()) >= 2:
            break
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    print("unfinished when killed:", not (tmp_path / "killed" / "wide.ome.zarr").exists())
    done = tomostream(*predict(project, wide, tmp_path / "killed", device, "--block-size", 40))
    assert done.code == 0, done.err
    assert tree_bytes(tmp_path / "killed") == tree_bytes(tmp_path / "whole")


def test_two_processes_on_one_card_give_the_same_bytes(project, wide, device, tmp_path):
    assert tomostream(*predict(project, wide, tmp_path / "one", device, "--block-size", 40)).code == 0
    done = tomostream(*predict(project, wide, tmp_path / "two", device, "--block-size", 40, "--cluster", "local", "--workers", 2))
    assert done.code == 0, done.err
    print(done.err[-600:])
    assert "CUDA" not in done.err
    assert tree_bytes(tmp_path / "two") == tree_bytes(tmp_path / "one")


def test_scores_of_both_devices_are_alike(project, wide, device, tmp_path):
    for where in (device, "cpu"):
        assert tomostream(*predict(project, wide, tmp_path / where, where, "--logits")).code == 0
    a, b = (ts.open(tmp_path / where / "wide.ome.zarr").array.compute() for where in (device, "cpu"))
    print(f"largest difference of logits: {np.abs(a - b).max():.2e} of {np.abs(b).max():.1f}")
    # the tomogram's own batch statistics are computed on the device too
    assert np.abs(a - b).max() < 1e-3 * max(1, np.abs(b).max())


@pytest.mark.parametrize("memory", ["1KB", "30MB", "300MB", "1GB"])
def test_little_gpu_memory_is_enough_or_told_in_words(project, wide, device, tmp_path, memory):
    done = tomostream(*predict(project, wide, tmp_path, device, "--gpu-memory", memory))
    print(memory, done.code, done.err[-500:])
    assert "Traceback" not in done.err
    assert done.code == 0 or (done.code in (2, 3) and "GPU's memory" in done.err)


@pytest.mark.parametrize("strategy", ["deepetpicker", "slices2d"])
def test_rivals_train_and_score_on_the_gpu_as_on_the_processor(strategy, device, tmp_path):
    more = {"crop": 32, "steps": 20, "batch": 1} if strategy == "deepetpicker" else {"crop": 24, "steps": 30, "learning_rate": 5e-3}
    network = {"channels": [4, 8], "level": 0} if strategy == "deepetpicker" else {}
    project = train(tmp_path, device, objective={"name": strategy}, network=network, train=TRAIN | more)
    found = losses(project)
    print(strategy, "losses:", found)
    assert found[-1] < found[0] or len(found) == 1
    for where in (device, "cpu"):
        done = tomostream(*predict(project, project / "tomograms" / "t2.ome.zarr", tmp_path / where, where, "--logits"))
        assert done.code == 0, done.err
    a, b = (ts.open(tmp_path / where / "t2.ome.zarr").array.compute() for where in (device, "cpu"))
    print(f"{strategy}: largest difference of logits {np.abs(a - b).max():.2e} of {np.abs(b).max():.1f}")
    assert np.abs(a - b).max() < 2e-3 * max(1, np.abs(b).max())


@pytest.mark.parametrize("strategy", ["average"])
def test_filters_refuse_a_gpu_in_words(strategy, device, tmp_path):
    path = project_of(tmp_path, "auto", objective={"name": strategy}, network={}, train={})
    run_project(load_configuration(path), stages=["convert", "stats", "train"], overwrite=False, progress=Progress())
    project = tmp_path / "project"
    done = tomostream(*predict(project, project / "tomograms" / "t2.ome.zarr", tmp_path / "scores", "cuda"))
    assert done.code == 2, done.err
    print(done.message)
    assert "cuda" in done.message
    done = tomostream(*predict(project, project / "tomograms" / "t2.ome.zarr", tmp_path / "scores", "auto"))
    assert done.code == 0, done.err
    values = yaml.safe_load(path.read_text()) | {"predict": {"device": "cuda"}}
    path.write_text(yaml.safe_dump(values))
    done = tomostream("run", path)
    assert done.code == 2
    assert "processor" in done.message


def test_a_batch_that_does_not_fit_is_told_in_words(cuda, tmp_path):
    import torch

    torch.cuda.set_per_process_memory_fraction(20e6 / torch.cuda.get_device_properties(0).total_memory)
    path = project_of(tmp_path, cuda, train=TRAIN | {"crop": 32, "batch": 8}, network={"channels": [16, 32]})
    done = tomostream("run", path, "--stage", "convert", "--stage", "stats", "--stage", "train", "--memory", "4GB")
    print(done.err[-500:])
    assert done.code == 2, done.err
    assert "GPU's memory" in done.message
