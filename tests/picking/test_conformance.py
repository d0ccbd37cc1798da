"""Every installed picker keeps the promises of `tomostream.testing.PickerTests`."""

import math

from tomostream.catalogue import PICKERS, installed
from tomostream.testing import PickerTests


class TestGreedy(PickerTests):
    name = "greedy"


class TestMeanPool(PickerTests):
    name = "mean-pool"
    scores_are_of_the_volume = False  # shares of a ball's voxels


class TestTrace(PickerTests):
    name = "trace"
    shortfall = math.sqrt(3)  # a pick is the voxel nearest to a centre


def test_every_installed_picker_is_tested_here():
    tested = {
        kind.name for kind in globals().values() if isinstance(kind, type) and issubclass(kind, PickerTests) and kind is not PickerTests
    }
    assert tested == set(installed(PICKERS))
