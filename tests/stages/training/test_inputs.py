"""What is told before a training starts."""

from small_project import make_project

from tomostream.config import load_configuration
from tomostream.stages.shared.resolved_run import resolve


def test_validation_clicks_that_are_training_clicks_are_counted(tmp_path):
    path = make_project(tmp_path)
    assert resolve(load_configuration(path), with_clicks=True).clicks.repeated == 0
    train = (tmp_path / "train.csv").read_text().splitlines()
    with (tmp_path / "validate.csv").open("a") as file:
        file.write("\n".join(train[1:4]) + "\n")
    assert resolve(load_configuration(path), with_clicks=True).clicks.repeated == 3


def test_the_same_places_of_another_tomogram_or_unit_are_other_clicks(tmp_path):
    path = make_project(tmp_path)
    same = (tmp_path / "train.csv").read_text()
    (tmp_path / "validate.csv").write_text(same.replace("t1,", "t2,"))
    assert resolve(load_configuration(path), with_clicks=True).clicks.repeated == 0
    (tmp_path / "validate.csv").write_text(same.replace("_voxel", "_angstrom"))
    assert resolve(load_configuration(path), with_clicks=True).clicks.repeated == 0
