"""The types of the configuration's values: lengths, sizes, paths and times, each checked as it is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from tomostream.errors import InputError
from tomostream.remote.places import Place, RemotePath, place
from tomostream.units import Length, parse_bytes, parse_shape

_SPACING = "a number of angstrom above 0, as 13.48"


@dataclass(frozen=True, slots=True)
class Said:
    """What a value must be, in words: where its type would say less."""

    words: str


def _checked(parse: Callable[[Any], Any]) -> BeforeValidator:
    """Let pydantic collect our own errors, so that one message names every mistake."""

    def validator(value: Any) -> Any:
        try:
            return parse(value)
        except InputError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(validator)


def _length(value: Any) -> Length:
    return value if isinstance(value, Length) else Length.parse(str(value), "")


def _spacing(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return Length.parse(value if value.rstrip().endswith(("A", "Å", "angstrom")) else f"{value}A").value
        except InputError:
            raise ValueError(f"must be {_SPACING}, found {value!r:.60}") from None
    return value


def _shape_text(value: Any) -> Any:
    if value is None:
        return None
    kinds, edges = (int, value) if isinstance(value, list | tuple) else (int | str, [value])
    if not all(isinstance(edge, kinds) and not isinstance(edge, bool) for edge in edges):
        raise ValueError(f"must be one positive integer or three, as 64 or 32,64,64 (z,y,x; voxels), found {value!r:.60}")
    return ",".join(str(v) for v in parse_shape(value, ""))


def _size(value: Any) -> Any:
    parse_bytes(str(_text(value, "a size, as 2GB")), "")
    return value


def _place(value: Any) -> Place:
    if not isinstance(value, str | os.PathLike | RemotePath):
        raise ValueError(f"must be a path or URL, found {value!r:.60}")
    return place(value)


def _text(value: Any, what: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"must be {what}, found {value!r:.60}")
    return value


def _time(value: Any) -> Any:
    if isinstance(value, int):  # YAML 1.1 reads 12:00:00 as a number to the base 60
        raise ValueError(f'write a time in quotes, as "12:00:00"; YAML read {value} instead')
    return value


LengthField = Annotated[Length, _checked(_length), PlainSerializer(lambda length: None if length is None else str(length))]
PlaceField = Annotated[Place, _checked(_place), PlainSerializer(str)]
Spacing = Annotated[float, _checked(_spacing), Field(gt=0), Said(_SPACING)]
ByteSize = Annotated[str, _checked(_size), Said("a size, as 500MB or 2GB")]
TimeText = Annotated[str, BeforeValidator(_time), Said('a time in quotes, as "12:00:00"')]
ShapeText = Annotated[str | None, _checked(_shape_text), Said("one positive integer or three, as 64 or 32,64,64")]


class Part(BaseModel):
    """A part of the configuration; unknown keys are refused.

    The text below each field describes it in docs/configuration.md (docs/make_configuration_table.py).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, protected_namespaces=())
