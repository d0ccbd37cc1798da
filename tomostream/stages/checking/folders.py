"""Check the other files of a project: tables, records, configurations.  Each is read as other stages read it, and compared with its hash if it has one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tomostream.errors import InputError, TomostreamError
from tomostream.learn.training_files import SPECIES_COLUMN
from tomostream.remote.hashing import file_sha256
from tomostream.stages.checking.damage import Damage
from tomostream.stages.shared.sidecar import MadeBy, parse_record, record_of
from tomostream.store.typed_json import parse_json


def check_table(table: Path, mend: Callable[[MadeBy], Callable[[], None]]) -> Iterator[Damage]:
    """A table of picks or clicks: it can be read; and it is as it was when its record was written.

    Parameters
    ----------
    mend
        How picks are made again, from their record.
    """
    record = record_of(table)
    made: MadeBy | None = None
    if record.is_file():
        try:
            made = parse_record(record.read_bytes(), record)
        except (InputError, OSError) as error:
            yield Damage(str(record), "all of it", in_words(error))
    again = None if made is None or "maps" not in made.fingerprint else mend(made)
    if not table.is_file():
        yield Damage(str(table), "all of it", "it is missing, and its record is there", again, "picks")
        return
    try:
        from tomostream.formats.registry import Conversion, read_table

        scores = read_table(table, conversion=Conversion(only_tomogram=table.stem, only_species="particle")).score
    except TomostreamError as error:
        yield Damage(str(table), "all of it", in_words(error), again, "picks")
        return
    if made is not None and made.sha256 != file_sha256(table):
        yield Damage(str(table), "all of it", "its hash is not the recorded one: it was changed since it was made", again, "picks")
    elif made is not None and np.any(np.diff(scores[np.isfinite(scores)]) > 0):
        yield Damage(str(table), "column score", "picks are not in the order of their scores", again, "picks")


def check_records(project: Path) -> Iterator[Damage]:
    """Check what a run writes beside its stores: configuration, evaluation, log, report."""
    yield from check_configuration(project / "resolved.yaml")
    yield from _json_file(project / "evaluation.json", dict[str, Any])
    yield from _log(project / "log.jsonl")
    report = project / "report.html"
    if report.is_file() and not report.read_bytes()[-64:].rstrip().endswith(b"</html>"):
        yield Damage(str(report), "its end", "it is cut off; `tomostream report` makes it again")


def in_words(error: Exception) -> str:
    """Return the message of an error on one line."""
    return " ".join(str(error).split())


def _json_file(path: Path, kind: Any) -> Iterator[Damage]:
    if path.is_file():
        try:
            parse_json(path.read_bytes(), kind, path)
        except (InputError, OSError) as error:
            yield Damage(str(path), "all of it", in_words(error))


def check_configuration(path: Path) -> Iterator[Damage]:
    """A resolved configuration, if it is there: it can be read."""
    if path.is_file():
        from tomostream.config import load_configuration

        try:
            load_configuration(path)
        except TomostreamError as error:
            yield Damage(str(path), "all of it", in_words(error))


def check_metrics(path: Path) -> Iterator[Damage]:
    """A table of metrics, if it is there: whole rows of finite numbers."""
    if not path.is_file():
        return
    try:
        rows = [line.split(",") for line in path.read_text().splitlines()]
        first = 1 if rows and rows[0][0] == SPECIES_COLUMN else 0  # of the columns that hold numbers
        for number, row in enumerate(rows[1:], 2):
            if len(row) != len(rows[0]) or any(math.isinf(float(value)) for value in row[first:] if value):
                yield Damage(str(path), f"line {number}", "it has other columns than the header, or infinite values")
    except (UnicodeDecodeError, ValueError) as error:
        yield Damage(str(path), "all of it", in_words(error))


def _log(path: Path) -> Iterator[Damage]:
    """Check a log: a kill may cut off the last line; any other broken line is damage."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                is_object = isinstance(json.loads(line), dict)
            except (ValueError, RecursionError):
                is_object = False
            if not is_object and line.endswith(b"\n"):
                yield Damage(str(path), f"line {number}", "it is no JSON object")
