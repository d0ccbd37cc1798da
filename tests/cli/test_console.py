"""What is shown of a running stage: pace and time left tell of this run only; many tomograms don't fill the screen."""

import io

import pytest
from rich.console import Console

from tomostream.cli import console
from tomostream.cli.console import ConsoleProgress


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    found = Clock()
    monkeypatch.setattr(console, "time", found)
    return found


def test_plain_lines_tell_time_left_throughput_and_failures_of_this_run(clock, capsys):
    with ConsoleProgress().track("tomograms", 100) as bar:
        bar.measure(3_000_000)
        bar.skip(50)  # done by an earlier run
        clock.now = 20.0
        for _ in range(10):
            bar.advance(note="2 failed")
        clock.now = 100.0
        bar.advance(40)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "tomograms: 51/100 in 20 s, 980 s left, 0.15 Mvox/s, 2 failed",  # one step so far; a line each ten seconds
        "tomograms: 100/100 in 100 s, 1.5 Mvox/s",
    ]


def test_a_terminal_shows_the_stage_and_what_is_in_work_only():
    progress = ConsoleProgress()
    screen = io.StringIO()
    progress._console = Console(file=screen, force_terminal=True, width=100)
    with progress.track("tomograms", 3) as bar:
        bar.measure(10**9)
        for number in range(3):
            with progress.track(f"predict t{number}", 4) as shards:
                shards.measure(10**6)
                shards.skip(3)
                shards.advance()
                assert [task.description for task in progress._bars.tasks] == ["tomograms", f"predict t{number}"]
                assert progress._bars.tasks[1].completed == 4
            bar.advance(note=f"{number} failed")
        assert [task.description for task in progress._bars.tasks] == ["tomograms"]
    shown = screen.getvalue()
    assert "Mvox/s" in shown
    assert "2 failed" in shown
