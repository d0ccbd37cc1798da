"""Conformance suites for whoever adds to tomostream: what passes its suite keeps the promises that all stages rely on.

    from tomostream.testing import StrategyTests

    class TestBlobs(StrategyTests):
        name = "blobs"

Each extension point has one: `StrategyTests`, `ObjectiveTests`, `PickerTests`, `FormatTests`, `QueueTests` (`JobQueueTests` where commands run as jobs).  They need pytest and hypothesis.  That of strategies runs the whole path on two
made-up tomograms, seconds to a minute; the others take seconds.
`make_project` writes such a data set with its configuration, for `tomostream run`; `make_volume` makes one volume of it.
"""

from tomostream.testing.formats import FormatTests
from tomostream.testing.objectives import ObjectiveTests
from tomostream.testing.pickers import PickerTests
from tomostream.testing.queues import JobQueueTests, QueueTests
from tomostream.testing.small_project import make_project, make_volume
from tomostream.testing.strategies import StrategyTests

__all__ = [
    "FormatTests",
    "JobQueueTests",
    "ObjectiveTests",
    "PickerTests",
    "QueueTests",
    "StrategyTests",
    "make_project",
    "make_volume",
]
