"""What decides the picks is recorded beside them, in the words of before."""

import dataclasses
import json

import pytest

from tomostream.errors import InputError
from tomostream.geometry import Box
from tomostream.picking.how_many import Above, AsManyAs, Best
from tomostream.stages.picks.stage import PickSettings
from tomostream.units import Length

RADIUS = Length.parse("135A")
# picks of version 0.1 have these beside them: they are not made again
OF_0_1 = (
    '{"count": 20, "expected": null, "threshold": 0.5, "species": "ribosome", "method": "greedy", "radius": "Length(value=135.0, is_voxels=False)", '
    '"smooth": "Length(value=2.0, is_voxels=True)", "border": "None", "box": "Box(start=(0, 1, 2), stop=(3, 4, 5))", "mask": null}'
)


def test_the_fingerprint_is_that_of_version_0_1():
    settings = PickSettings(
        radius=RADIUS,
        how_many=Best(20, above=0.5),
        species="ribosome",
        method="greedy",
        smooth=Length.parse("2vox"),
        box=Box((0, 1, 2), (3, 4, 5)),
        block_size=(64, 64, 64),
    )
    assert json.dumps(settings.fingerprint()) == OF_0_1


@pytest.mark.parametrize(
    ("how_many", "recorded"),
    [
        (None, {"count": None, "expected": None, "threshold": None}),
        (Above(0.25), {"count": None, "expected": None, "threshold": 0.25}),
        (AsManyAs(180), {"count": None, "expected": 180, "threshold": None}),
        (AsManyAs(180, above=0.25), {"count": None, "expected": 180, "threshold": 0.25}),
    ],
)
def test_each_way_of_counting_is_recorded_as_its_options(how_many, recorded):
    rest = {"species": None, "method": None, "radius": repr(RADIUS), "smooth": "None", "border": "None", "box": "None", "mask": None}
    assert PickSettings(radius=RADIUS, how_many=how_many).fingerprint() == recorded | rest


def test_every_setting_but_the_blocks_size_changes_the_fingerprint():
    plain = PickSettings(radius=RADIUS)
    changed = {
        "how_many": Best(1),
        "species": "fas",
        "method": "trace",
        "radius": Length.parse("10vox"),
        "smooth": Length.parse("1vox"),
        "border": Length.parse("1vox"),
        "box": Box((0, 0, 0), (1, 1, 1)),
        "block_size": (8, 8, 8),
        "voxel_size": 10.0,
    }
    assert set(changed) | {"mask", "labels"} == {field.name for field in dataclasses.fields(PickSettings)}
    same = {name for name, value in changed.items() if dataclasses.replace(plain, **{name: value}).fingerprint() == plain.fingerprint()}
    assert same == {"block_size"}


def test_only_a_picker_with_a_cut_of_its_own_goes_without_a_number():
    PickSettings(radius=RADIUS, method="mean-pool").check()
    for method in (None, "greedy", "trace"):
        with pytest.raises(InputError, match=r"--count N .* --threshold T .* --expected N"):
            PickSettings(radius=RADIUS, method=method).check()
    with pytest.raises(InputError, match="--method must be one of greedy, mean-pool, trace, found 'best'"):
        PickSettings(radius=RADIUS, method="best").check()
