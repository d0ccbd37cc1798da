"""Which strategies, pickers, table formats, queues and the like are installed?  What the entry points say, ours and other packages' alike; nothing is imported before it is asked for.

A package adds one by a line in its own pyproject.toml, and touches nothing here:

    [project.entry-points."tomostream.strategies"]
    blobs = "blob_picker:STRATEGY"

1. Other packages' entry points, and ours where tomostream is installed, come from the installed metadata.
2. In a checkout ours come from its pyproject.toml: an editable install may be older than the file, and a plain checkout has no metadata.

An entry that can't be imported, is not what its group asks for, or has the name of another package's, is an error only when it is asked for by its
name: a broken plug-in does not affect other commands.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tomostream.errors import InputError

STRATEGIES = "tomostream.strategies"
PICKERS = "tomostream.pickers"
FORMATS = "tomostream.formats"
QUEUES = "tomostream.queues"
_PACKAGE = "tomostream"


def installed(group: str) -> Mapping[str, str]:
    """The entries of a group: name to `module:object`, sorted by name; nothing is imported.

    Parameters
    ----------
    group
        Such as `tomostream.strategies`.
    """
    return MappingProxyType({name: addresses[0] for name, addresses in _installed(group).items()})


@functools.cache
def _installed(group: str) -> Mapping[str, tuple[str, ...]]:
    """The addresses that packages give to each name: one, unless two packages clash."""
    own = _of_the_checkout(group)
    found: dict[str, tuple[str, ...]] = {name: (address,) for name, address in (own or {}).items()}
    for entry in importlib.metadata.entry_points(group=group):
        is_ours = entry.dist is None or entry.dist.name == _PACKAGE
        if is_ours and own is not None:
            continue
        addresses = found.get(entry.name, ())
        if entry.value not in addresses:
            found[entry.name] = (*addresses, entry.value)
    return MappingProxyType(dict(sorted(found.items())))


def find(group: str, name: str, what: str, protocol: type | None = None) -> object:
    """Import one entry of a group.

    Parameters
    ----------
    group
        Such as `tomostream.strategies`.
    name
        Of the entry.
    what
        What an entry is called in messages, such as `strategy`.
    protocol
        Whose attributes and methods it must have; None: is not asked.

    Raises
    ------
    InputError
        If there is none of this name, or two packages give it, it can't be imported, or it lacks a part of the protocol.
    """
    entries = _installed(group)
    if name not in entries:
        raise InputError(f"{what} '{name}' is not installed; installed are {', '.join(entries)}")
    if len(entries[name]) > 1:
        raise InputError(f"two packages give a {what} of the name '{name}': {' and '.join(entries[name])}; uninstall one")
    [address] = entries[name]
    found = load(address, f"{what} '{name}'")
    if protocol is not None:
        _check_parts(found, protocol, f"{what} '{name}' ({address})")
    return found


def _check_parts(found: object, protocol: type, what: str) -> None:
    if isinstance(found, type):
        raise InputError(f"{what} is a class; let the entry point name an object of it")
    parts = [part for part in {**protocol.__annotations__, **vars(protocol)} if not part.startswith("_")]
    lacking = [part for part in parts if not hasattr(found, part)]
    if lacking:
        raise InputError(f"{what} lacks {', '.join(lacking)}; docs/extending.md has a whole one")


@functools.cache
def load(address: str, what: str) -> object:
    """Import `module:object`.

    Parameters
    ----------
    what
        What it is called in messages.

    Raises
    ------
    InputError
        If that fails, for whatever reason.
    """
    module, _, attribute = address.partition(":")
    if not attribute:
        raise InputError(f"{what} can't be loaded from {address}: its entry point must name an object, as {module}:STRATEGY")
    try:
        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except Exception as error:  # whatever another package's module raises
        raise InputError(f"{what} can't be loaded from {address}: {type(error).__name__}: {error}") from error


def _of_the_checkout(group: str) -> dict[str, str] | None:
    """Our own entries, where this is a checkout; None where it is an installed package."""
    file = Path(__file__).parent.parent / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    except (OSError, KeyError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return None
    if project.get("name") != _PACKAGE:
        return None
    entries: dict[str, str] = project.get("entry-points", {}).get(group, {})
    return entries
