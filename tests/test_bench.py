"""The benchmarks run, and say what they found; how fast it was is not asserted."""

import json
import os
import subprocess
import sys

import pytest
from repository import REPOSITORY

pytestmark = pytest.mark.slow

QUESTIONS = ("convert", "stats", "labels", "pick")  # those that need no rival's package, and no torch


def test_a_finding_is_held_against_its_target_in_the_right_direction():
    from bench.timing import Finding

    assert Finding("q", "what", 1.6, 1.5).is_met
    assert not Finding("q", "what", 1.6, 1.5, is_least=False).is_met
    assert Finding("q", "what", 1.6).is_met is None


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    from bench.timing import compared

    times = {"a": [2.0, 30.0, 4.0], "b": [1.0, 10.0, 1.0], "c": [1.0, 5.0, 1.0]}
    found = compared("q", "what", times, "a", "b")
    assert (found.value, found.low, found.high) == (3.0, 2.0, 4.0)
    assert compared("q", "what", times, "a", ("b", "c")).value == 2.0


def test_the_quick_run_answers_its_questions_in_a_table_and_json(tmp_path):
    command = [sys.executable, "-m", "bench", "--quick", "--only", *QUESTIONS, "-o", tmp_path / "out", "--folder", tmp_path]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for question in QUESTIONS:
        content = json.loads((tmp_path / "out" / f"{question}.json").read_text())
        assert content["machine"]["versions"]["numpy"]
        assert content["size"] == "quick"
        assert all(one["value"] > 0 for one in content["findings"])
        assert f"| {question} | " in done.stdout
    assert done.stdout.strip() == (tmp_path / "out" / "table.md").read_text().strip()


@pytest.mark.parametrize(("script", "figures"), [("neighbour", 8), ("arithmetic", 1), ("predicting", 12), ("checksums", 3)])
def test_scripts_that_are_run_alone_measure_what_they_name(tmp_path, script, figures):
    command = [sys.executable, "-m", f"bench.{script}", "--quick", "-o", tmp_path / "found.json", "--folder", tmp_path]
    done = subprocess.run(command, check=False, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())["findings"]
    assert len(found) >= figures
    assert all(one["value"] > 0 for one in found)


def test_accuracy_refuses_what_it_does_not_know_and_names_a_damaged_result(tmp_path):
    command = [sys.executable, "-m", "bench.accuracy", "--work", tmp_path]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def run(*arguments):
        return subprocess.run(
            [*command, *arguments], check=False, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120
        )

    assert "--systems: there is no avrage; there are fused," in run("--systems", "average,avrage").stderr
    assert "--seeds must be at least 1, found 0" in run("--tables", "--seeds", "0").stderr
    assert "--pictures: /dev/null/x can't be made" in run("--pictures", "/dev/null/x").stderr
    assert "has no truth.csv" in run("--data", str(tmp_path / "nowhere")).stderr
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "cut.json").write_text('{"experiment": {"dom')
    done = run("--tables")
    assert done.returncode == 1
    assert "cut.json is damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_reliability_is_the_share_of_true_picks_in_each_bin_of_scores(tmp_path):
    header = "tomogram,species,x_angstrom,y_angstrom,z_angstrom,score\n"
    rows = [(0, 0.95), (100, 0.92), (500, 0.91), (900, 0.2), (200, 0.15)]
    (tmp_path / "picks.csv").write_text(header + "".join(f"a,b,{x},0,0,{score}\n" for x, score in rows))
    (tmp_path / "truth.csv").write_text(
        "tomogram,species,x_angstrom,y_angstrom,z_angstrom\n" + "".join(f"a,b,{x},5,0\n" for x in (0, 100, 200))
    )
    command = [sys.executable, "-m", "bench.accuracy.reliability", "picks.csv", "--truth", "truth.csv", "--tolerance", "10A"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert "| 0.1 to 0.3 | 2 | 0.50 |" in done.stdout
    assert "| 0.9 to 1.0 | 3 | 0.67 |" in done.stdout


def test_rounds_folders_and_tables_that_can_not_be_are_told(tmp_path):
    def run(module, *arguments):
        command = [sys.executable, "-m", module, *map(str, arguments)]
        done = subprocess.run(command, check=False, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        return done.stderr

    (tmp_path / "pick.json").write_text('{"size": 3}')
    assert "no benchmark wrote" in run("bench", "--table", tmp_path)
    assert "--rounds must be at least 1, found -1" in run("bench", "--quick", "--rounds", "-1")
    assert "--folder: /dev/null/x can't be made" in run("bench.picking_speed", "--quick", "--folder", "/dev/null/x")
    assert "--output: /dev/null/y can't be made" in run("bench.picking_speed", "--quick", "-o", "/dev/null/y/x.json")


def test_the_command_for_a_gpu_runs_on_a_processor_and_keeps_what_it_finds(tmp_path):
    command = [
        sys.executable,
        "-m",
        "bench.gpu",
        "-o",
        tmp_path / "out",
        "--folder",
        tmp_path,
        "--device",
        "cpu",
        "--small",
        "--minutes",
        "4",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--only", "facts,pick"], check=False, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert {line["section"] for line in lines} == {"facts", "pick"}
    assert not [line for line in lines if line["value"] == "FAILED"]
    refused = subprocess.run(
        [*command, "--only", "picks"], check=False, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60
    )
    assert "there is no picks; there are facts," in refused.stderr
