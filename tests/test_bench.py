"""The benchmarks run, and say what they found; how fast it was is not asserted."""

import json
import os
import subprocess
import sys

from conftest import REPOSITORY

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


def test_accuracy_refuses_what_it_does_not_know_and_names_a_damaged_result(tmp_path):
    command = [sys.executable, "-m", "bench.accuracy", "--work", tmp_path]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def run(*arguments):
        return subprocess.run(
            [*command, *arguments], check=False, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120
        )

    assert "--systems: there is no avrage; there are fused," in run("--systems", "average,avrage").stderr
    assert "has no truth.csv" in run("--data", str(tmp_path / "nowhere")).stderr
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "cut.json").write_text('{"experiment": {"dom')
    done = run("--tables")
    assert done.returncode == 1
    assert "cut.json is damaged" in done.stderr
    assert "Traceback" not in done.stderr
