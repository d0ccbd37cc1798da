"""Training measures how high the clicks stand among the peaks, left-out ones apart, and tells a person; a run counts by it."""

import mrcfile
import numpy as np
import pytest
import yaml
from small_project import SPACING, make_project, make_volume

from tomostream.config import configuration_from
from tomostream.picking.how_many import AsManyAs
from tomostream.picking.peak_heights import LOST
from tomostream.pipeline.execution import run_project
from tomostream.progress import Progress
from tomostream.stages.picks.expected_count import expected_number, with_evidence
from tomostream.stages.shared.resolved_run import resolve
from tomostream.strategies.model_folder import read_record

pytestmark = pytest.mark.slow


class Listening(Progress):
    """Keeps what is said."""

    def __init__(self):
        self.said, self.warned = [], []

    def say(self, text):
        self.said.append(text)

    def warn(self, text):
        self.warned.append(text)


def write(path, volume):
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(volume)
        file.voxel_size = SPACING


def configured(folder, **values):
    """Two tomograms with 24 balls each, one of noise alone, one of half the size."""
    made = make_project(folder, objective={"name": "average"}, network={}, pick={"count": "auto"}, **values)
    write(folder / "t3.mrc", np.random.default_rng(3).normal(size=(40, 64, 56)).astype(np.float32))
    write(folder / "t4.mrc", make_volume(4)[0][:, :32])
    return configuration_from(yaml.safe_load(made.read_text()), "test")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    progress = Listening()
    configuration = configured(tmp_path_factory.mktemp("average"))
    run_project(configuration, stages=["convert", "stats", "train", "predict", "pick"], overwrite=False, progress=progress)
    return configuration, progress


@pytest.mark.slow
def test_clicks_stand_high_and_a_person_reads_how_the_left_out_ones_rank(trained):
    configuration, progress = trained
    (clicks,) = read_record(resolve(configuration, with_clicks=False).project.model).summary.clicks
    assert len(clicks.learnt) == len(clicks.left_out) == len(clicks.ranks) == 5
    assert min(clicks.left_out) > 1 > LOST
    assert clicks.unit > 0
    within = sum(rank <= 24 for rank in clicks.ranks)
    assert within >= 4
    assert (
        f"ribosome: of 5 left-out clicks in t2, {within} are among its 24 highest peaks (the expected number), "
        f"and {sum(rank <= 48 for rank in clicks.ranks)} among its 48 highest" in progress.said
    )


@pytest.mark.slow
def test_validation_clicks_that_training_has_seen_are_not_left_out(tmp_path):
    folder = tmp_path / "same"
    configuration = configured(folder)
    (folder / "validate.csv").write_text((folder / "train.csv").read_text())
    run_project(configuration, stages=["convert", "stats", "train"], overwrite=False, progress=Listening())
    (clicks,) = read_record(folder / "project" / "model").summary.clicks
    assert len(clicks.learnt) == 5
    assert clicks.left_out == clicks.ranks == []


@pytest.mark.slow
def test_the_count_is_near_the_truth_and_noise_alone_is_told(trained):
    configuration, progress = trained
    picks = resolve(configuration, with_clicks=False).project.picks
    counts = {name: len((picks / f"{name}.csv").read_text().splitlines()) - 1 for name in ("t1", "t2", "t3")}
    assert 24 / 1.5 < counts["t1"] < 24 * 1.5
    assert 24 / 1.5 < counts["t2"] < 24 * 1.5
    assert counts["t3"] < 24
    assert any(text.startswith("t3: ") and ("none" in text or "can't be told" in text) for text in progress.warned + progress.said)
    assert not any("are to be expected" in text for text in progress.said if text.startswith(("t3", "t4")))


def test_numbers_given_for_some_tomograms_follow_the_volume_in_others_and_a_single_one_does_not(trained):
    configuration, _ = trained
    run = resolve(configuration, with_clicks=False)
    species = run.species[0]
    assert expected_number(run, species, "t4") == 24
    some = species.model_copy(update={"expected": {"t1": 24, "t2": 20}})
    assert [expected_number(run, some, name) for name in ("t1", "t2", "t3", "t4")] == [24, 20, 22, 11]
    assert (
        expected_number(run, species.model_copy(update={"expected": {"t1": 24, "elsewhere": 10}}), "t4") == 17
    )  # of unknown size: the mean


def test_a_run_gives_the_clicks_heights_to_picking_unless_scores_are_smoothed(trained):
    configuration, _ = trained
    run = resolve(configuration, with_clicks=False)
    wanted = with_evidence(AsManyAs(24), run, run.species[0], "t1")
    assert len(wanted.clicks.left_out) == 5
    assert not wanted.is_estimate
    smoothed = configuration.model_copy(update={"pick": configuration.pick.model_copy(update={"smooth": configuration.species[0].radius})})
    assert with_evidence(AsManyAs(24), resolve(smoothed, with_clicks=False), run.species[0], "t1").clicks is None


def test_no_fewer_are_wanted_than_were_clicked_in_that_tomogram_where_all_of_it_counts(trained):
    configuration, _ = trained

    def least(name, configuration=configuration):
        run = resolve(configuration, with_clicks=False)
        return with_evidence(AsManyAs(2), run, run.species[0], name).least

    assert [least(name) for name in ("t1", "t2", "t3", "t4")] == [5, 5, 0, 0]  # t2: the clicks of validation
    for change in ({"border": configuration.species[0].radius}, {"threshold": 0.5}):
        assert least("t1", configuration.model_copy(update={"pick": configuration.pick.model_copy(update=change)})) == 0
