"""The column `label` of clicks: 1 a particle, 0 a place that is none; no format loses it without a word."""

import numpy as np
import pytest
from cli_runner import tomostream

from tomostream.errors import InputError
from tomostream.formats.registry import read_table, write_table
from tomostream.particles import Particles
from tomostream.progress import Progress
from tomostream.units import Length

FACTS = {"spacing": 10.0, "shape": (99, 99, 99), "options": {"unbinned_pixel_size": 2.0, "box_size": Length(4.0, True)}}


class Heard(Progress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, text: str) -> None:
        self.texts.append(text)


def clicks() -> Particles:
    return Particles.build(
        np.array([[30.0, 20, 10], [60, 50, 40], [90, 80, 70]]), unit="angstrom", tomogram="t", species="a", label=[1, 0, 1]
    )


def test_labels_travel_with_the_rows():
    both = Particles.concatenate([clicks(), Particles.build(np.ones((1, 3)), unit="angstrom")])
    assert both.label.tolist() == [1, 0, 1, 1]
    assert both.label.dtype == np.int8
    assert both.select(np.array([1, 3])).label.tolist() == [0, 1]
    assert both.positives().label.tolist() == [1, 1, 1]
    assert both.negatives().position_zyx.tolist() == [[60, 50, 40]]
    assert clicks().of(tomogram="t").in_unit("voxel", 10.0).named(species="x").label.tolist() == [1, 0, 1]
    assert Particles.from_dataframe(clicks().to_dataframe()).label.tolist() == [1, 0, 1]
    with pytest.raises(InputError, match=r"must be 1 .* or 0 .*found 2"):
        Particles.build(np.ones((2, 3)), unit="voxel", label=[1, 2])


def test_tables_of_particles_only_have_no_such_column(tmp_path):
    write_table(tmp_path / "t.csv", clicks().positives())
    assert (tmp_path / "t.csv").read_text().splitlines()[0] == "tomogram,species,x_angstrom,y_angstrom,z_angstrom,score"


@pytest.mark.parametrize("bad", ["2", "yes", "-1", "0.5"])
def test_other_labels_are_refused(tmp_path, bad):
    (tmp_path / "t.csv").write_text(f"x_voxel,y_voxel,z_voxel,label\n1,2,3,0\n1,2,3,{bad}\n")
    with pytest.raises(InputError, match=f"particle 2: label must be .*found '{bad}'"):
        read_table(tmp_path / "t.csv")


def test_evaluate_counts_no_place_that_is_no_particle(tmp_path):
    write_table(tmp_path / "truth.csv", clicks())
    write_table(tmp_path / "picks.csv", clicks().positives())
    done = tomostream("evaluate", "--picks", tmp_path / "picks.csv", "--truth", tmp_path / "truth.csv", "--tolerance", "1A", "--json")
    assert (done.json["pooled"]["tp"], done.json["pooled"]["fn"]) == (2, 0)
    done = tomostream("evaluate", "--picks", tmp_path / "truth.csv", "--truth", tmp_path / "picks.csv", "--tolerance", "1A", "--json")
    assert (done.json["pooled"]["tp"], done.json["pooled"]["fp"]) == (2, 0)
