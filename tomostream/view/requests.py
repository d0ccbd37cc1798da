"""Which values does a request carry?  They are parsed and checked, or refused with a clear message.

Numbers are bounded before anything is computed with them; unknown keys of a JSON body are refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from tomostream.errors import InputError
from tomostream.view.clicks import Click

_INTEGER = re.compile(r"^-?[0-9]{1,9}$")


def integer(values: Mapping[str, str], name: str, *, least: int = 0, most: int = 10**9) -> int:
    """A whole number of the query.

    Raises
    ------
    InputError
        If it is missing or out of range.
    """
    text = values.get(name, "")
    if not _INTEGER.match(text) or not least <= int(text) <= most:
        raise InputError(f"{name} must be a whole number from {least} to {most}, found '{text[:40]}'")
    return int(text)


def number(value: object, name: str, *, least: float, most: float) -> float:
    """A finite number.

    Raises
    ------
    InputError
        If it is not a number, or out of range.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        found = float(value)  # type: ignore[arg-type]  # what can't be one raises
    except (TypeError, ValueError):
        found = math.nan
    if not least <= found <= most:
        raise InputError(f"{name} must be a number from {least:g} to {most:g}, found {str(value)[:40]!r}")
    return found


def text(values: Mapping[str, Any], name: str, *, most: int = 200) -> str:
    """A short text.

    Raises
    ------
    InputError
        If it is missing or too long.
    """
    value = values.get(name)
    if not isinstance(value, str) or not value or len(value) > most:
        raise InputError(f"{name} must be a text of 1 to {most} characters, found {str(value)[:40]!r}")
    return value


async def body(request: Request, *keys: str) -> dict[str, Any]:
    """The JSON object that a request carries.

    Raises
    ------
    InputError
        If it is not a JSON object, or has unknown keys.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise InputError("the request must carry JSON (content-type: application/json)")
    try:
        values = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise InputError("the request's body is not JSON") from None
    if not isinstance(values, dict):
        raise InputError("the request's body must be a JSON object")
    unknown = sorted(set(values) - set(keys))
    if unknown:
        raise InputError(f"unknown key '{unknown[0][:40]}' (known: {', '.join(keys)})")
    return values


def clicks(value: object, name: str, *, most: int = 10_000) -> list[Click]:
    """Clicks of a JSON body: a list of objects tomogram, species, x, y, z (angstrom), label.

    Raises
    ------
    InputError
        If an entry is not such an object.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > most:
        raise InputError(f"{name} must be a list of at most {most} clicks")
    found = []
    for row in value:
        if not isinstance(row, dict):
            raise InputError(f"{name}: a click must be an object, found {str(row)[:40]!r}")
        label = row.get("label", 1)
        if label not in (0, 1) or isinstance(label, bool):
            raise InputError(f"{name}: a click's label must be 0 or 1, found {str(label)[:40]!r}")
        x, y, z = (number(row.get(axis), f"{name}: {axis}", least=-1e9, most=1e9) for axis in "xyz")
        click = Click(text(row, "tomogram"), text(row, "species"), x, y, z, int(label))
        click.check()
        found.append(click)
    return found


def positions(value: object, name: str, *, most: int) -> list[tuple[float, float, float]]:
    """Positions of a JSON body: a list of [x, y, z].

    Raises
    ------
    InputError
        If an entry is not a position.
    """
    if not isinstance(value, list) or len(value) > most:
        raise InputError(f"{name} must be a list of at most {most} positions")
    found = []
    for row in value:
        if not isinstance(row, list) or len(row) != 3:
            raise InputError(f"{name}: a position is [x, y, z], found {str(row)[:40]!r}")
        x, y, z = (number(one, name, least=-1e9, most=1e9) for one in row)
        found.append((x, y, z))
    return found
