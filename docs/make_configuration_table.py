"""Write the tables of docs/configuration.md from the configuration's models.

    python docs/make_configuration_table.py

A key's meaning is the text below its field; pydantic could read that on import too (`use_attribute_docstrings`), but every command would wait for it.
Only tomostream's own strategies are shown, whatever else is installed.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tomostream.catalogue import STRATEGIES, installed
from tomostream.config import fields, region, sections
from tomostream.config.configuration import Configuration
from tomostream.strategies.loading import strategy_named
from tomostream.strategies.protocol import Strategy

PAGE = Path(__file__).parent / "configuration.md"
START, END = "<!-- keys: made by docs/make_configuration_table.py -->", "<!-- /keys -->"
_OWN = {
    fields.LengthField: "length",
    fields.PlaceField: "path or URL",
    fields.Spacing: "angstrom",
    fields.ByteSize: "size",
    fields.TimeText: "time",
    fields.ShapeText: "voxels",
    region.Distance: "length",
    region.BoxText: "box",
    region.SliceRange: "`[FIRST, STOP]`",
    # names of what is installed: StrategyName and its like
    **{kind: f"an installed {name.removesuffix('Name').lower()}" for name, kind in vars(sections).items() if name.endswith("Name")},
}
_PLAIN = {int: "integer", float: "number", bool: "`true`, `false`", str: "text", Path: "path"}
_BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}


def tables() -> str:
    """The keys of every section, then what the strategies set differently."""
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in _rows(Configuration, "")]
    strategies = [strategy_named(name) for name, where in installed(STRATEGIES).items() if where.startswith("tomostream.")]
    own = {key: section for one in strategies for key, section in sorted(one.sections.items())}
    for key, section in own.items():
        lines += [f"| {' | '.join(row)} |" for row in _rows(section, f"{key}.")]
    lines += ["", "A strategy may have other defaults:", "", "| strategy | key | default |", "|---|---|---|"]
    lines += [f"| `{one.name}` | `{key}` | {_value(value)} |" for one in strategies for key, value in _own_defaults(one)]
    return "\n".join(lines)


def with_tables(page: str) -> str:
    """The page with its tables made anew."""
    before, rest = page.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n{tables()}\n{END}{after}"


def _own_defaults(strategy: Strategy) -> Iterator[tuple[str, Any]]:
    for section, values in strategy.defaults.items():
        yield from ((f"{section}.{key}", value) for key, value in values.items())


def _rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, ...]]:
    meanings, hints = _meanings(model), get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        inner = [part for part in _flat(field.annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
        if inner:
            yield from _rows(inner[0], f"{key}[]." if get_origin(field.annotation) is list else f"{key}.")
            continue
        if name not in meanings:
            raise SystemExit(f"{model.__name__}.{name} has no text below it that says what it means")
        default = "required" if field.is_required() else _value(field.get_default(call_default_factory=True))
        yield f"`{key}`", _values(hints[name], field), default, meanings[name]


def _meanings(model: type[BaseModel]) -> Mapping[str, str]:
    """The text below each field of a model."""
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for one, after in zip(body.body, body.body[1:], strict=False):
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and is_text:
            found[one.target.id] = " ".join(ast.literal_eval(after.value).split())
    return found


def _flat(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _flat(part)


def _values(annotation: Any, field: FieldInfo) -> str:
    """What a key may be, in words."""
    bounds = [
        text.format(_plain(getattr(one, name)))
        for one in field.metadata
        for name, text in _BOUNDS.items()
        if getattr(one, name, None) is not None
    ]
    return ", ".join([_type(annotation), *bounds])


def _type(annotation: Any) -> str:
    """A type in words."""
    for own, words in _OWN.items():
        if annotation == own:
            return words
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is None:
        return _PLAIN[annotation]
    return _IN_WORDS[origin](parts)


def _either(parts: tuple[Any, ...]) -> str:
    return " or ".join(dict.fromkeys(_type(part) for part in parts if part is not type(None)))


def _tuple(parts: tuple[Any, ...]) -> str:
    return f"{'list of' if Ellipsis in parts else len(parts)} {_type(parts[0])}s"


_IN_WORDS: Mapping[Any, Callable[[tuple[Any, ...]], str]] = {
    Annotated: lambda parts: _type(parts[0]),
    Literal: lambda parts: ", ".join(f"`{value}`" for value in parts),
    Union: _either,
    types.UnionType: _either,
    list: lambda parts: f"list of {_type(parts[0])}s",
    tuple: _tuple,
    dict: lambda parts: f"`{{NAME: {_type(parts[1]).upper()}, ...}}`",
}


def _value(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return "none"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_plain, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
