"""Conformance suites for plugins: an implementation that passes its suite behaves as all stages expect.

    from tomostream.testing import StrategyTests

    class TestBlobs(StrategyTests):
        name = "blobs"

There is one for each extension point: `StrategyTests`, `ObjectiveTests`, `PickerTests`, `FormatTests`, and `QueueTests` or, for queues
that run commands as jobs, `JobQueueTests`.  `StoreBuildTests` is for the ways of building a store, on a disk and on an object store.

They need pytest and hypothesis.  `StrategyTests` runs all stages on two made-up tomograms, and is the slowest.  A failed assertion shows the
values that it compared, as in a test file of your own.

`make_project` writes such a data set with its configuration, for `tomostream run`; `make_volume` makes one volume of it.
"""

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{suite}" for suite in ("builds", "formats", "objectives", "pickers", "queues", "strategies")))

from tomostream.testing.builds import StoreBuildTests  # noqa: E402  (after the line above, which concerns what is imported later)
from tomostream.testing.formats import FormatTests  # noqa: E402  (likewise)
from tomostream.testing.objectives import ObjectiveTests  # noqa: E402  (likewise)
from tomostream.testing.pickers import PickerTests  # noqa: E402  (likewise)
from tomostream.testing.queues import JobQueueTests, QueueTests  # noqa: E402  (likewise)
from tomostream.testing.small_project import make_project, make_volume  # noqa: E402  (likewise)
from tomostream.testing.strategies import StrategyTests  # noqa: E402  (likewise)

__all__ = [
    "FormatTests",
    "JobQueueTests",
    "ObjectiveTests",
    "PickerTests",
    "QueueTests",
    "StoreBuildTests",
    "StrategyTests",
    "make_project",
    "make_volume",
]
