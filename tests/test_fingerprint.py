"""Two fingerprints are told apart by the keys and values that a person knows."""

import pytest

from tomostream.fingerprint import differences

HASH = "ab12" * 16


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"dtype": "int8"}, {"dtype": "float32"}, "dtype int8, now float32"),
        ({"train": {"steps": 10, "seed": 0}}, {"train": {"steps": 20, "seed": 0}}, "train.steps 10, now 20"),
        ({"species": [{"name": "a", "radius": "6A"}]}, {"species": [{"name": "a", "radius": "7A"}]}, "species[0].radius 6A, now 7A"),
        ({"tomograms": [{"name": "t1"}, {"name": "t2"}]}, {"tomograms": [{"name": "t1"}]}, "tomograms [t1, t2], now [t1]"),
        ({"box": None}, {"box": "0:3"}, "box not given, now 0:3"),
        ({"sha": HASH}, {"sha": "cd" * 32}, "sha content ab12ab12, now content cdcdcdcd"),
        ({"radius": "Length(value=6.0, is_voxels=True)"}, {"radius": "Length(value=60.0, is_voxels=False)"}, "radius 6vox, now 60A"),
        ({"a": 1}, {"a": 1}, ""),
    ],
)
def test_differences_in_words(old, new, said):
    assert differences(old, new) == said


def test_of_many_differences_the_first_are_told_and_the_others_counted():
    said = differences({str(i): 0 for i in range(20)}, {str(i): 1 for i in range(20)})
    assert said.startswith("0 0, now 1; ")
    assert said.endswith("; and 14 more")
