"""Conformance suites for plugins: an implementation that passes its suite behaves as all stages expect.

    from tomostream.testing import StrategyTests

    class TestBlobs(StrategyTests):
        name = "blobs"

There is one for each extension point: `StrategyTests`, `ObjectiveTests`, `PickerTests`, `FormatTests`, and `QueueTests` or, for queues
that run commands as jobs, `JobQueueTests`.  They need pytest and hypothesis.  `StrategyTests` runs all stages on two made-up tomograms, and
is the slowest.

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
