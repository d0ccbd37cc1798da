"""Every installed strategy keeps the promises of `tomostream.testing.StrategyTests`."""

import pytest
from density_files import density_file

from tomostream.catalogue import STRATEGIES, installed
from tomostream.testing import StrategyTests

pytestmark = pytest.mark.slow


class TestAverage(StrategyTests):
    name = "average"


class TestDeepetpicker(StrategyTests):
    name = "deepetpicker"


class TestFewShot(StrategyTests):
    name = "few_shot"
    values = {"network": {}}  # the backbone's own channels


class TestGeBinomial(StrategyTests):
    name = "ge_binomial"


class TestKl(StrategyTests):
    name = "kl"


class TestNnpu(StrategyTests):
    name = "nnpu"


class TestNnpuAlone(StrategyTests):
    """Without the matched filter: the network's own planner and stream."""

    name = "nnpu"
    values = {"matched_filter": {"weight": 0}}


class TestPn(StrategyTests):
    name = "pn"


class TestSlices2d(StrategyTests):
    name = "slices2d"


class TestSphere(StrategyTests):
    name = "sphere"


class TestTemplate(StrategyTests):
    name = "template"

    @classmethod
    def project_values(cls, folder):
        template = {"density": density_file(folder), "angle_step": 120, "tilt_range": [-90, 90]}
        return super().project_values(folder) | {"template": template, "network": {"level": 0}}


def test_every_installed_strategy_is_tested_here():
    tested = {
        kind.name for kind in globals().values() if isinstance(kind, type) and issubclass(kind, StrategyTests) and kind is not StrategyTests
    }
    assert tested == set(installed(STRATEGIES))
