"""What is wrong with a configuration, in the words of its YAML: the key as it is written, the value found, and what is allowed.

1. A problem's place is walked along the values that were given: what pydantic puts between for the branches of a union is no key.
2. Problems of one key are one line.  Where a value was tried as several types, all that is allowed is said; where one of its parts is wrong,
   the message has only that part.
3. What is allowed is read off the fields' types and limits.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tomostream.config.fields import Said
from tomostream.remote.places import RemotePath
from tomostream.units import Length

_SHOWN = 200  # letters of a value in a message
_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    Length: "a length, as 135A or 10vox",
    Path: "a path",
    RemotePath: "a URL",
}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}
_LIMITS = (
    (Gt, "gt", "above {}"),
    (Ge, "ge", "at least {}"),
    (Lt, "lt", "below {}"),
    (Le, "le", "at most {}"),
    (MinLen, "min_length", "at least {} of them"),
    (MaxLen, "max_length", "at most {} of them"),
)


@dataclass(frozen=True, slots=True)
class _Type:
    """One of the types that a value may have, with its limits."""

    of: Any
    limits: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a problem is: the key as it is written, the value there, the types that it may have, and whether it may be left out."""

    key: str
    value: Any
    types: tuple[_Type, ...]
    has_default: bool
    is_key: bool  # whether the key itself is wrong
    siblings: tuple[str, ...]  # keys that are known beside it


def explained(error: ValidationError, model: type[BaseModel], values: Any, prefix: str = "") -> list[str]:
    """Say what is wrong, one line a key.

    Parameters
    ----------
    model
        What the values were to be.
    values
        As they were given.
    prefix
        Key of the section that the values are.
    """
    found: dict[str, tuple[_Spot, dict[str, Any]]] = {}
    for each in error.errors():
        problem = dict(each)
        spot = _spot(problem, model, values, prefix)
        before = found.get(spot.key)
        if before is None or (problem["type"] == "value_error" and before[1]["type"] != "value_error"):
            found[spot.key] = spot, problem
    inner = [key for key in found if any(other != key and other.startswith((f"{key}.", f"{key}[")) for other in found)]
    return [_line(spot, problem) for key, (spot, problem) in found.items() if key not in inner or not key]


def known_keys(model: type[BaseModel]) -> list[str]:
    """The keys of a section, as they are written."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _spot(problem: Mapping[str, Any], model: type[BaseModel], values: Any, prefix: str) -> _Spot:
    location: tuple[Any, ...] = problem["loc"]
    key, value, has_default = prefix, values, False
    kinds: tuple[_Type, ...] = (_Type(model),)
    siblings: tuple[str, ...] = ()
    above = kinds
    for number, part in enumerate(location):
        is_last = number == len(location) - 1
        if isinstance(value, list | tuple) and isinstance(part, int):
            key, kinds, has_default = f"{key}[{part}]", _items(kinds, part), False
            value = value[part] if part < len(value) else None
        elif isinstance(value, Mapping) and (part in value or (is_last and problem["type"] == "missing")):
            sections = [one.of for one in kinds if _is_section(one.of)]
            siblings = tuple(known_keys(sections[0])) if sections else ()
            key = f"{key}.{part}" if key else str(part)
            above = kinds
            kinds, has_default = _values(kinds, part)
            value = value.get(part)
    if location and location[-1] == "[key]":
        return _Spot(key, location[-2], _keys(above), has_default=False, is_key=True, siblings=())
    return _Spot(key, value, kinds, has_default, is_key=False, siblings=siblings)


def _line(spot: _Spot, problem: Mapping[str, Any]) -> str:
    if problem["type"] in ("extra_forbidden", "invalid_key"):
        name = spot.key.rpartition(".")[2]
        near = difflib.get_close_matches(name, spot.siblings, 1, 0.5)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"unknown key '{spot.key}'{hint} (known here: {', '.join(spot.siblings)})"
    if problem["type"] == "missing":
        return f"missing key '{spot.key}': it must be {_allowed(spot.types)}"
    if problem["type"] == "value_error" and (problem["input"] is not None or not spot.types):
        message = str(problem["msg"]).removeprefix("Value error, ")
        return f"{spot.key}: {message}" if spot.key else message
    allowed = _allowed(spot.types) if spot.types else str(problem["msg"])
    if spot.is_key:
        quotes = f'; write it in quotes: "{spot.value}"' if any(one.of is str for one in spot.types) else ""
        return f"{spot.key}: the key must be {allowed}, found {_shown(spot.value)}{quotes}"
    if spot.value is None:
        return f"{spot.key} has no value: it must be {allowed}{'; or leave the key out' if spot.has_default else ''}"
    where = f"{spot.key}: " if spot.key else "the configuration "
    return f"{where}must be {allowed}, found {_shown(spot.value)}{_hint(spot)}"


def _shown(value: Any) -> str:
    found = repr(value)
    return found if len(found) <= _SHOWN else f"{found[:_SHOWN]} ..."


def _hint(spot: _Spot) -> str:
    """How a list is written, where one was meant."""
    items = [get_args(one.of)[0] for one in spot.types if get_origin(one.of) is list]
    if isinstance(spot.value, str) and items == [str]:
        return f"; write it in brackets: [{spot.value}]"
    if isinstance(spot.value, Mapping) and items and _is_section(items[0]):
        return f"; begin each entry with a dash: `- {known_keys(items[0])[0]}: ...`"
    return ""


def _alternatives(annotation: Any, limits: Sequence[Any] = ()) -> tuple[_Type, ...]:
    """The types that a union names, without None; the limits of each."""
    if get_origin(annotation) is Annotated:
        inner, *own = get_args(annotation)
        flat = [part for each in own for part in (each.metadata if isinstance(each, FieldInfo) else [each])]
        return _alternatives(inner, [*limits, *flat])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(one for part in get_args(annotation) if part is not type(None) for one in _alternatives(part, limits))
    return (_Type(annotation, tuple(limits)),)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _items(kinds: Sequence[_Type], index: int) -> tuple[_Type, ...]:
    found: list[_Type] = []
    for one in kinds:
        inner = get_args(one.of) if get_origin(one.of) in (list, tuple) else ()
        if inner:
            found += _alternatives(inner[0] if len(inner) == 1 or inner[1] is Ellipsis else inner[min(index, len(inner) - 1)])
    return tuple(found)


def _values(kinds: Sequence[_Type], key: Any) -> tuple[tuple[_Type, ...], bool]:
    for one in kinds:
        if _is_section(one.of):
            field = next((f for name, f in one.of.model_fields.items() if (f.alias or name) == key), None)
            if field is not None:
                return _alternatives(field.annotation, field.metadata), not field.is_required()
        elif get_origin(one.of) is dict:
            return _alternatives(get_args(one.of)[1]), False
    return (), False


def _keys(kinds: Sequence[_Type]) -> tuple[_Type, ...]:
    return tuple(found for one in kinds if get_origin(one.of) is dict for found in _alternatives(get_args(one.of)[0]))


def _allowed(kinds: Sequence[_Type]) -> str:
    parts: list[str] = []
    for one in kinds:
        inner = get_args(one.of) if get_origin(one.of) is dict else ()
        if inner and parts and _allowed(_alternatives(inner[1])) == _joined(parts):
            parts.append(f"one for each {'tomogram' if inner[0] is str else 'number'}, {_mapping(inner)}")
        else:
            parts += [str(name) for name in get_args(one.of)] if get_origin(one.of) is Literal else [_words(one)]
    return _joined(list(dict.fromkeys(parts)))


def _joined(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} or {parts[-1]}" if len(parts) > 1 else "".join(parts)


def _mapping(inner: tuple[Any, ...]) -> str:
    return f"{{{'NAME' if inner[0] is str else 'NUMBER'}: VALUE, ...}}"


def _words(one: _Type) -> str:
    origin, inner = get_origin(one.of), get_args(one.of)
    said = [limit.words for limit in one.limits if isinstance(limit, Said)]
    if said:
        return said[0]
    if _is_section(one.of):
        return f"a mapping with the keys {', '.join(known_keys(one.of))}"
    if origin in (list, tuple):
        return f"a list of {_plural(inner)}{_limits(one.limits)}"
    if origin is dict:
        return f"a mapping {_mapping(inner)}, each value {_allowed(_alternatives(inner[1]))}"
    return f"{_NAMES.get(one.of, getattr(one.of, '__name__', str(one.of)))}{_limits(one.limits)}"


def _plural(inner: tuple[Any, ...]) -> str:
    first = _alternatives(inner[0])
    count = f"{len(inner)} " if len(inner) > 1 and Ellipsis not in inner else ""
    if len(first) == 1 and first[0].of in _PLURALS:
        return count + _PLURALS[first[0].of] + _limits(first[0].limits)
    return f"{count}entries, each {_allowed(first)}"


def _limits(limits: Sequence[Any]) -> str:
    said = [text.format(getattr(limit, name)) for kind, name, text in _LIMITS for limit in limits if isinstance(limit, kind)]
    return f" ({', '.join(said)})" if said else ""
