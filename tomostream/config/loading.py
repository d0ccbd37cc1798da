"""Read a YAML file into a checked configuration; one message names every mistake.

1. `${VAR}` is replaced from the environment (an unset variable is an error: there is no silent default).
2. Unknown keys are refused, with the nearest known one.
3. Values are checked before any work.
"""

from __future__ import annotations

import math
import os
import re
import textwrap
from typing import Any

import yaml
from pydantic import ValidationError

from tomostream.config.configuration import Configuration, configuration_class
from tomostream.config.explaining import explained
from tomostream.config.sections import Cluster
from tomostream.errors import ConfigurationError
from tomostream.remote.path_kinds import Kind, Wanted, instead, kind_at
from tomostream.remote.places import Place, place

_NAMELESS = 'in "<unicode string>", '  # what the parser calls any text
_MAY_BE_YAML = (Kind.CONFIGURATION, Kind.TABLE, Kind.FILE, None)
_MOST_VALUES = 100_000  # of a configuration; lists of tomograms are patterns
_MOST_LEVELS = 64  # of nesting; PyYAML's scanner takes a time that grows with their square
MOST_BYTES = 2**24  # of a configuration


def expand_variables(text: str, where: str) -> str:
    """Replace `${VAR}` from the environment.

    Raises
    ------
    ConfigurationError
        If a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise ConfigurationError(
                f"{where}: the environment variable {name} is not set; set it (export {name}=...) or write the value itself"
            )
        return os.environ[name]

    # comments may mention ${VAR} without a value
    lines = (
        line if line.lstrip().startswith("#") else re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", value, line) for line in text.splitlines()
    )
    return "\n".join(lines)


def load_configuration(path: str | Place) -> Configuration:
    """Read and check a configuration file.

    Raises
    ------
    ConfigurationError
        If it is wrong: with the file, the key, the value found and what is allowed.
    """
    return configuration_from(configuration_values(path), str(place(path)))


def configuration_values(path: str | Place) -> dict[str, Any]:
    """Return what a configuration file says, variables of the environment replaced; keys and values are not checked.

    Raises
    ------
    ConfigurationError
        If it can't be read, or is no mapping of keys.
    """
    path = place(path)
    if kind_at(path) not in _MAY_BE_YAML and (other := instead(path, Wanted.CONFIGURATION)) is not None:
        raise ConfigurationError(other)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigurationError(f"configuration {path} does not exist") from None
    except OSError as error:
        raise ConfigurationError(f"configuration {path} can't be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"configuration {path} is not text in UTF-8; give a YAML file, or save it as UTF-8") from None
    if len(content) > MOST_BYTES:
        raise ConfigurationError(f"configuration {path} has more than {MOST_BYTES} bytes; nobody writes so much by hand: give another file")
    try:
        values = _parsed(expand_variables(text, str(path)), f"configuration {path}")
    except RecursionError:
        raise ConfigurationError(
            f"configuration {path} is nested more than {_MOST_LEVELS} levels deep; nobody writes so by hand: give another file"
        ) from None
    except yaml.YAMLError as error:
        words = str(error).replace(_NAMELESS, "in ")
        raise ConfigurationError(f"configuration {path} is not valid YAML:\n{textwrap.indent(words, '  ')}") from None
    except (ValueError, OverflowError):
        raise ConfigurationError(f"configuration {path} has an impossible date or number") from None
    if not isinstance(values, dict):
        raise ConfigurationError(
            instead(path, Wanted.CONFIGURATION)
            or f"configuration {path} must be a mapping of keys (project, tomograms, species, labels, ...), found {'nothing' if values is None else type(values).__name__}"
        )
    return values


class _ShallowLoader(yaml.SafeLoader):
    """Stops at nesting that no configuration has."""

    _level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose what comes next."""
        if self._level >= _MOST_LEVELS:
            raise RecursionError
        self._level += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._level -= 1
        return node


def _parsed(text: str, where: str) -> Any:
    """Parse YAML; what aliases would blow up, and nesting deeper than `_MOST_LEVELS`, is refused before it is built."""
    loader = _ShallowLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if (count := _expanded(node, {})) > _MOST_VALUES:
            many = "without end" if math.isinf(count) else f"to {count:g}"
            raise ConfigurationError(f"{where}: its aliases (*) expand {many} values, at most {_MOST_VALUES} are allowed; write them out")
        _refuse_twice(node, where, set())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _expanded(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node stands for, aliases written out; infinite where it holds itself."""
    if id(node) in known:
        return known[id(node)]
    if not isinstance(node, yaml.CollectionNode):
        return 1.0
    known[id(node)] = math.inf  # while it is looked at: an object that is met again contains itself
    children = [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value
    known[id(node)] = 1.0 + sum(_expanded(child, known) for child in children)
    return known[id(node)]


def _refuse_twice(node: yaml.Node, where: str, seen: set[int]) -> None:
    """Refuse a mapping with a key twice, of which YAML would take the last."""
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):
        return
    seen.add(id(node))
    keys: dict[str, int] = {}
    for item in node.value:
        for child in item if isinstance(node, yaml.MappingNode) else [item]:
            _refuse_twice(child, where, seen)
        if isinstance(node, yaml.MappingNode) and isinstance(item[0], yaml.ScalarNode):
            name, line = item[0].value, item[0].start_mark.line + 1
            if name in keys:
                raise ConfigurationError(f"{where}: the key '{name}' is there twice, in lines {keys[name]} and {line}; remove one of them")
            keys[name] = line


def cluster_from(values: dict[str, Any]) -> Cluster:
    """Check keys of `cluster` that are given on the command line.

    Raises
    ------
    ConfigurationError
        If any is wrong: names every wrong key, its value and what is allowed.
    """
    try:
        return Cluster.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError("; ".join(explained(error, Cluster, values, "cluster"))) from None


def configuration_from(values: dict[str, Any], where: str) -> Configuration:
    """Check values that are parsed already.

    Raises
    ------
    ConfigurationError
        If any is wrong: names every wrong key, its value and what is allowed.
    """
    try:
        return configuration_class().model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(f"{where}:\n  " + "\n  ".join(explained(error, configuration_class(), values))) from None


def with_resources(
    configuration: Configuration,
    *,
    kind: str | None,
    scheduler: str | None,
    workers: int | None,
    threads: int | None,
    memory: str | None,
    gpu_memory: str | None,
    options: dict[str, Any] | None = None,
) -> Configuration:
    """Replace the settings of cluster and memory; None keeps the configuration's value.

    `options`: further keys of `cluster`.

    Raises
    ------
    ConfigurationError
        If a value is not allowed.
    """
    values = configuration.resolved()
    cluster = {"kind": kind, "scheduler": scheduler, "workers": workers, "threads": threads}
    values["cluster"] |= {key: value for key, value in cluster.items() if value is not None} | (options or {})
    values |= {key: value for key, value in {"memory": memory, "gpu_memory": gpu_memory}.items() if value is not None}
    return configuration_from(values, "command line")
