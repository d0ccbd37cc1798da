"""Read text files of other software: UTF-8, with or without a byte-order mark (UTF-16 with one); lines; numbers; JSON.

Whatever the computer's locale is, text is UTF-8.  Lines end with a line feed, a carriage return or both, and nothing else: other
separators of Unicode may stand inside a text.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tomostream.errors import InputError

_SHOWN = 120  # letters of a line in a message
_DIGITS = 400  # of a whole number; a float has fewer, and Python takes long to read millions
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LINE_END = re.compile(r"\r\n|\r|\n")


def read_text(path: Path) -> str:
    """Read a text file.

    Raises
    ------
    InputError
        If it can't be read, or is no such text.
    """
    try:
        content = path.read_bytes()
        return content.decode("utf-16" if content.startswith(_UTF16) else "utf-8-sig")
    except OSError as error:
        raise InputError(f"table {path} can't be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"table {path} can't be read as text: it is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None


def read_lines(path: Path) -> list[str]:
    """Read a text file's lines, without their ends.

    Raises
    ------
    InputError
        As `read_text`.
    """
    lines = _LINE_END.split(read_text(path))
    return lines[:-1] if lines[-1] == "" else lines


def stream_lines(path: Path) -> Iterator[str]:
    """Yield a text file's lines, without their ends, as they are read: a table may have millions.

    Raises
    ------
    InputError
        As `read_text`.
    """
    try:
        with path.open("rb") as file:
            encoding = "utf-16" if file.read(2) in _UTF16 else "utf-8-sig"
        with path.open(encoding=encoding, newline=None) as text:
            for line in text:
                yield line.removesuffix("\n")
    except OSError as error:
        raise InputError(f"table {path} can't be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        read_text(path)  # says at which byte
        raise


def json_number(value: Any) -> float:
    """Return a JSON number; NaN and infinities are allowed.

    Raises
    ------
    ValueError
        If it is not a number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, found {value!r}"[:120])
    try:
        return float(value)
    except OverflowError:
        return math.inf


def parse_json(text: str) -> Any:
    """Parse JSON; any error, including deep nesting, is a ValueError.

    Raises
    ------
    ValueError
        If it can't be parsed.
    """
    try:
        return json.loads(text, object_pairs_hook=_each_key_once, parse_int=_whole_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _each_key_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object's keys and values; JSON itself would take the last of two values, and a reader the other."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"the key '{twice[:_SHOWN]}' is there twice; remove one of them")
    return found


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS else float(digits)


def what_is_wrong(error: Exception) -> str:
    """Say in words why values that were parsed from JSON are not those that were expected."""
    if isinstance(error, KeyError):
        return f"it has no '{error.args[0]}'"
    if isinstance(error, json.JSONDecodeError):
        return f"it is not valid JSON ({error})"
    return str(error) if isinstance(error, ValueError) else "a value is of another kind than expected (a list, an object, text or a number)"


def shown(line: str) -> str:
    """Shorten a very long line for a message."""
    text = line.strip()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
