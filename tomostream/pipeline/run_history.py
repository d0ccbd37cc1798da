"""Read the journal of a project folder: how long the stages took, and what failed."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tomostream.pipeline.journal import Event, read_journal
from tomostream.report.contents import Expected

_QUIET = ("shard", "message", "start")


def last_run(folder: Path) -> list[Event]:
    """Return the events since the last run began that say how it went (`run`, `stage`, `done`, `failed`, `retried`, `end`)."""
    events: list[Event] = []
    for event in read_journal(folder / "log.jsonl", without=(*_QUIET, "finish")):
        if event["event"] == "run":
            events = []
        if event["event"] in ("run", "stage", "done", "failed", "retried", "end"):
            events.append(event)
    return events


def failures_in(events: Sequence[Event]) -> dict[str, str]:
    """Return stage and reason of each tomogram that failed and was not done later."""
    found: dict[str, str] = {}
    for event in events:
        name = event.get("tomogram")
        if name is None:
            continue
        if event["event"] == "failed":
            found[str(name)] = f"{event.get('stage', '')}: {event.get('why', '')}"
        elif event["event"] == "done":
            found.pop(str(name), None)
    return found


def choices_in(folder: Path) -> dict[str, Event]:
    """Return the last event `chosen` of each score map (`stages.picks.stage.map_title`)."""
    events = read_journal(folder / "log.jsonl", without=(*_QUIET, "finish", "done"))
    return {str(event.get("map")): event for event in events if event["event"] == "chosen"}


def expected_of(choices: Mapping[str, Event], title: str, picks: int) -> Expected | None:
    """Return what is to be expected of so many picks of a map; None if no run has chosen them, or others."""
    choice = choices.get(title)
    if choice is None or choice.get("picks") != picks:
        return None
    return {"f1": choice.get("f1"), "precision": choice.get("precision"), "doubt": choice.get("doubt")}


def stage_seconds(folder: Path) -> tuple[dict[str, float], int]:
    """Return the seconds spent in each stage, summed over all runs and in order of first appearance, and the number of runs.

    A stage ends when the next begins or the run ends; if the run was killed, with its last event.
    """
    return _summed(read_journal(folder / "log.jsonl", without=_QUIET))


def _summed(events: Iterable[Event]) -> tuple[dict[str, float], int]:
    seconds: dict[str, float] = {}
    runs = 0
    stage: str | None = None
    began = last = 0.0
    for event in events:
        try:
            now = datetime.datetime.fromisoformat(str(event["time"])).timestamp()
        except ValueError:  # a line of another program
            continue
        kind = event["event"]
        runs += kind == "run"
        if kind in ("run", "stage", "end"):
            if stage is not None:
                seconds[stage] = seconds.get(stage, 0.0) + max(0.0, (last if kind == "run" else now) - began)
            stage = str(event.get("stage")) if kind == "stage" else None
            began = now
        last = now
    if stage is not None:
        seconds[stage] = seconds.get(stage, 0.0) + max(0.0, last - began)
    return seconds, runs
