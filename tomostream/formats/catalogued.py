"""Which table formats are installed?  Those of the entry-point group `tomostream.formats`, ours and those of other packages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tomostream.catalogue import FORMATS as GROUP
from tomostream.catalogue import find, installed
from tomostream.errors import InputError
from tomostream.formats.format_option import FormatOption
from tomostream.formats.table_format import TableFormat
from tomostream.remote.places import Place

_OURS = "tomostream."


class _Formats(Mapping[str, TableFormat]):
    """The formats by name; a format is imported when it is used, not for its name."""

    def __getitem__(self, name: str) -> TableFormat:
        """The format of a name.

        Raises
        ------
        KeyError
            If there is none.
        InputError
            If it can't be imported, or is no format.
        """
        if name not in installed(GROUP):
            raise KeyError(name)
        found = find(GROUP, name, "table format")
        if not isinstance(found, TableFormat):
            raise InputError(
                f"table format '{name}' ({installed(GROUP)[name]}) must be a tomostream.formats.table_format.TableFormat, found {type(found).__name__}"
            )
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(installed(GROUP))

    def __len__(self) -> int:
        return len(installed(GROUP))

    def __contains__(self, name: object) -> bool:
        return name in installed(GROUP)


FORMATS: Mapping[str, TableFormat] = _Formats()


def working_formats() -> dict[str, TableFormat]:
    """Return all formats that can be imported, ours first; a broken one of another package is reported only when it is requested by name."""
    entries = installed(GROUP)
    found: dict[str, TableFormat] = {}
    for name in sorted(entries, key=lambda name: not entries[name].startswith(_OURS)):
        try:
            found[name] = FORMATS[name]
        except InputError:
            if entries[name].startswith(_OURS):
                raise
    return found


def recognised(path: Place) -> str | None:
    """The format that recognises what lies at a path; None where the ending or the caller must tell it.

    Raises
    ------
    InputError
        If it can't be read.
    """
    return next((name for name, form in working_formats().items() if form.recognises(path)), None)


def format_options() -> dict[FormatOption[Any], list[str]]:
    """The options that formats add to the commands, with the formats that take each."""
    found: dict[FormatOption[Any], list[str]] = {}
    for name, form in working_formats().items():
        for option in form.options:
            found.setdefault(option, []).append(name)
    return found


def table_endings() -> tuple[str, ...]:
    """The endings of tables that are searched for in a folder."""
    return tuple(dict.fromkeys(ending for form in working_formats().values() for ending in (form.ending, *form.known_by)))
