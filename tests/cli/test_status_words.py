"""What `status` says of a run that does not run: stopped, or done but for the tomograms that failed."""

import pytest

from tomostream.cli.status import _resting
from tomostream.pipeline.status import Progressed, RunStatus


def status(model, **states):
    """A run that rests, with a stage's state by tomogram."""
    return RunStatus(
        project="p", is_running=False, owner=None, stage="report", model=model, steps=1,
        tomograms={name: {"pick": Progressed(state)} for name, state in states.items()},
        failures={name: "is truncated" for name, state in states.items() if state == "failed"},
        is_evaluated=False, per_minute=None, seconds_left=None, last_event=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (status("done", a="done", b="failed"), "done but for 1 of 2 tomograms, which failed: mend them"),
        (status("done", a="pending", b="failed"), "not running, and not finished"),
        (status("pending", a="done", b="failed"), "not running, and not finished"),
        (status("done", a="failed"), "not running, and not finished"),
    ],
)
def test_a_run_that_ended_with_failures_is_not_called_stopped(found, said):
    assert _resting(found).startswith(said)
