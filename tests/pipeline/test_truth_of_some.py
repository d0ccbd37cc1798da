"""Truth that lacks a species of the run, or does not name any, is told before any work; what has truth is evaluated."""

import json
import shutil
from pathlib import Path

import pytest
from species_project import Heard, elsewhere, run, two_species

from tomostream.config import configuration_from
from tomostream.errors import InputError
from tomostream.pipeline.dry_run import plan_run

pytestmark = pytest.mark.slow  # each trains


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth")
    values = two_species(folder, pick={"count": 12})
    run(values, "convert", "stats", "train", "predict", "pick")
    return folder / "project", values


def table(values, folder, change):
    """A table of truth: that of the project, each row changed, or left out."""
    head, *rows = Path(values["truth"]).read_text().splitlines()
    path = folder / "other-truth.csv"
    path.write_text("\n".join([head, *filter(None, map(change, rows))]) + "\n")
    return {**values, "truth": str(path)}


def without_fas(row):
    return None if ",fas," in row else row


def unnamed(row):
    return row.replace(",fas,", ",particle,").replace(",ribosome,", ",particle,")


def test_species_without_truth_are_told_before_work_and_the_others_are_evaluated(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "project")
    values = table({**finished[1], "project": str(tmp_path / "project")}, tmp_path, without_fas)
    heard = Heard()
    plan_run(configuration_from(values, "test"), ["evaluate"], heard)
    [told] = heard.warned
    assert "no particle of species fas, only of ribosome" in told
    assert values["truth"] in told
    run(values, "evaluate", progress=(heard := Heard()))
    assert heard.warned == [told]
    found = json.loads((tmp_path / "project" / "evaluation.json").read_text())
    assert list(found["species"]) == ["ribosome"]
    assert found["pooled"] == found["species"]["ribosome"]["pooled"]
    run({**values, "truth": finished[1]["truth"]}, "evaluate")
    both = json.loads((tmp_path / "project" / "evaluation.json").read_text())
    assert both["species"]["ribosome"] == found["species"]["ribosome"]
    run(values, "report")


def test_as_many_as_the_truth_is_as_the_scores_say_for_a_species_that_it_lacks(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "project")
    values = table({**finished[1], "project": str(tmp_path / "project"), "pick": {"count": "truth"}}, tmp_path, without_fas)
    run(values, "pick")
    rows = (tmp_path / "project" / "picks" / "t2.csv").read_text().splitlines()
    kinds = [row.split(",")[1] for row in rows[1:]]
    assert kinds.count("ribosome") == 12
    assert 1 <= kinds.count("fas") <= 40


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (unnamed, r"does not name the species .* \(ribosome, fas\): add a column 'species'"),
        (
            lambda row: row.replace(",fas,", ",FAS,").replace(",ribosome,", ",Ribosome,"),
            "no particle of ribosome, fas, only of Ribosome, FAS",
        ),
    ],
)
def test_truth_that_is_of_no_species_of_the_run_is_refused_before_work(finished, tmp_path, change, words):
    values = table({**finished[1], "project": str(tmp_path / "new")}, tmp_path, change)
    for stages in ([], ["evaluate"]):
        with pytest.raises(InputError, match=words):
            run(values, *stages)
        with pytest.raises(InputError, match=words):
            plan_run(configuration_from(values, "test"), stages or ["evaluate"])
    assert not (tmp_path / "new").exists()


def test_unnamed_truth_is_that_of_the_only_species(finished, tmp_path):
    values = table(elsewhere(finished[1], tmp_path / "one", ["ribosome"]), tmp_path, lambda row: without_fas(row) and unnamed(row))
    clicks = Path(values["labels"]["train"][0]).read_text().splitlines()
    (tmp_path / "clicks.csv").write_text("\n".join(filter(without_fas, clicks)) + "\n")
    values |= {"labels": {"train": [str(tmp_path / "clicks.csv")]}, "pick": {"count": "truth"}}
    run(values)
    assert len((tmp_path / "one" / "picks" / "t2.csv").read_text().splitlines()) == 1 + 12
    assert json.loads((tmp_path / "one" / "evaluation.json").read_text())["pooled"]["tp"] > 0
