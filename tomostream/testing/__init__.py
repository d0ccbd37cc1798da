"""Conformance suites for whoever adds to tomostream: a strategy that passes `StrategyTests` keeps the promises that all stages rely on.

    from tomostream.testing import StrategyTests

    class TestBlobs(StrategyTests):
        name = "blobs"

They need pytest, and run the stages up to training, and blocks of prediction, on two made-up tomograms: seconds to a minute.
`make_project` writes such a data set with its configuration, for `tomostream run`; `make_volume` makes one volume of it.
"""

from tomostream.testing.small_project import make_project, make_volume
from tomostream.testing.strategies import StrategyTests

__all__ = ["StrategyTests", "make_project", "make_volume"]
