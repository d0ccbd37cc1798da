"""Peak resident memory of the real commands on volumes that don't fit it; and that neither budget nor blocks change any result."""

import json
import subprocess
import sys

import numpy as np
import pytest
from cli_runner import in_process_of_its_own
from repository import REPOSITORY

from bench.memory import RADIUS, write_model, write_volume
from tomostream.tomogram import open_tomogram

pytestmark = pytest.mark.slow

SHAPE = (48, 112, 104)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The peaks of all stages on a volume of 0.2 GB."""
    folder = tmp_path_factory.mktemp("peaks")
    command = [sys.executable, REPOSITORY / "bench" / "memory.py", "--quick", "--folder", folder, "-o", folder / "peaks.json"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return {one["stage"]: one for one in json.loads((folder / "peaks.json").read_text())["measured"]}


@pytest.mark.memory
@pytest.mark.parametrize("stage", ["convert", "stats", "predict", "pick, count", "pick, threshold"])
def test_peak_of_a_command_stays_below_its_projection_and_that_below_the_budget(measured, stage):
    found = measured[stage]
    assert found["peak"] <= found["projected"] <= found["budget"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A small volume as a store, its score map in one block, and the model."""
    folder = tmp_path_factory.mktemp("small")
    write_volume(folder / "small.mrc", SHAPE)
    write_model(folder / "model", 0)
    run("convert", folder / "small.mrc", "-o", folder, "--shard", "64")
    predict(folder, "whole", "--block-size", "128")
    return folder


def run(*arguments):
    done = in_process_of_its_own(*arguments)
    assert done.code == 0, done.err
    return done


def predict(folder, out, *arguments):
    run("predict", folder / "small.ome.zarr", "--model", folder / "model", "-o", folder / out, "--logits", "--threads", "2", *arguments)
    return folder / out / "small.ome.zarr"


def test_statistics_are_the_same_for_any_memory_and_number_of_threads(work):
    records = [
        run("stats", work / "small.ome.zarr", "-o", work / f"stats{workers}", "--json", "--memory", memory, "--workers", workers).json
        for memory, workers in (("200MB", 1), ("2GB", 2))
    ]
    assert records[0] == records[1]


@pytest.mark.parametrize("arguments", [("--block-size", "48,60,104"), ("--memory", "660MB")])
def test_logits_in_blocks_equal_those_in_one_block(work, arguments):
    whole = open_tomogram(work / "whole" / "small.ome.zarr").array.compute()
    parts = open_tomogram(predict(work, arguments[1].replace(",", "_"), *arguments)).array.compute()
    assert whole.std() > 0.01
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("wanted", ["--count", "--threshold"])
def test_picks_are_the_same_for_any_memory_and_block_size(work, wanted):
    scores = work / "whole" / "small.ome.zarr"
    value = {"--count": 12, "--threshold": float(np.quantile(open_tomogram(scores).array.compute(), 0.9))}[wanted]
    tables = []
    for i, arguments in enumerate([("--memory", "2GB"), ("--memory", "170MB"), ("--block-size", "33,64,40")]):
        out = work / f"picks{i}{wanted}"
        run("pick", scores, "--radius", f"{RADIUS:g}vox", "-o", out, wanted, value, *arguments)
        tables.append((out / "small.csv").read_text())
    assert len(tables[0].splitlines()) > 10
    assert len(set(tables)) == 1
