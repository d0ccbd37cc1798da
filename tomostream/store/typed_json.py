"""How is JSON from a disk or server read, so that any error becomes one clear message?

By pydantic's own parser: it refuses deep nesting instead of recursing, and says where a value has a wrong type.

Limits: text of more than `MOST_BYTES` is refused; tomostream never writes that much.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tomostream.errors import InputError
from tomostream.remote.places import Place

MOST_BYTES = 2**28


@cache
def adapter_of(model: Any) -> Any:
    """Return pydantic's `TypeAdapter` of a type; it takes milliseconds to make one."""
    return TypeAdapter(model)


def parse_json(data: bytes, model: Any, where: object) -> Any:
    """Parse JSON as a type that pydantic knows.

    Parameters
    ----------
    data
        UTF-8.
    model
        A pydantic model, or a type such as `dict[str, float]`.
    where
        The file, for messages.

    Raises
    ------
    InputError
        If it is not JSON, or not of that type; the message has the place and the value.
    """
    if len(data) > MOST_BYTES:
        raise _too_long(where, len(data))
    try:
        return adapter_of(model).validate_json(data)
    except ValidationError as error:
        raise InputError(f"{where} is damaged or was changed: {first_problem(error)}") from None


def refuse_oversized(path: Place) -> None:
    """Refuse a local file of JSON that is too long, before anything of it is read: it could fill the memory.

    Raises
    ------
    InputError
        If it is; a file that can't be looked at is left to whoever opens it.
    """
    try:
        size = path.stat().st_size if isinstance(path, Path) else 0
    except (OSError, ValueError):
        return
    if size > MOST_BYTES:
        raise _too_long(path, size)


def _too_long(where: object, size: int) -> InputError:
    return InputError(
        f"{where} has {size} bytes; JSON of more than {MOST_BYTES} bytes is not read: it is damaged, or not a file of tomostream"
    )


def check_json(value: object, model: Any, where: object) -> Any:
    """Check values that are parsed already; see `parse_json`.

    Raises
    ------
    InputError
        If they are not of that type.
    """
    try:
        return adapter_of(model).validate_python(value)
    except ValidationError as error:
        raise InputError(f"{where} is damaged or was changed: {first_problem(error)}") from None
    except RecursionError:
        raise InputError(f"{where} is damaged or was changed: it is nested too deeply") from None


def check_format(values: Mapping[str, object], newest: int, where: object) -> None:
    """Check the key `format` of a record: a whole number up to `newest`; a record without it is of format 1, that of version 0.1.

    Raises
    ------
    InputError
        If the record is of a later format, or the key is no format.
    """
    found = values.get("format", 1)
    if type(found) is int and 1 <= found <= newest:
        return
    allowed = f"1 to {newest}" if newest > 1 else "1"
    if type(found) is int and found > newest:
        raise InputError(
            f"{where} has format {found}, this version of tomostream reads format {allowed}: a later version wrote it; use that version, or "
            "another folder"
        )
    raise InputError(f"{where} is damaged or was changed: its format must be {allowed}, found {_short(found)}")


def json_object(data: bytes | str) -> dict[str, Any] | None:
    """Return the object that a JSON text holds; None for anything else, however broken."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def first_problem(error: ValidationError) -> str:
    """Return pydantic's first complaint, in one line."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    found = "" if first["type"] in ("json_invalid", "missing") else f", found {_short(first['input'])}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place + ': ' if place else ''}{first['msg']}{found}{more}"


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # Python refuses to print integers of thousands of digits
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
