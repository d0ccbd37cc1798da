"""Is this one volume or table, or a text that means several, as copick's project file and RELION 5's `tomograms.star`?  The formats know."""

from __future__ import annotations

from collections.abc import Sequence

from tomostream.formats.catalogued import working_formats


def listed_volumes(text: str) -> list[str] | None:
    """Return the volumes that a text lists; None where no format knows it as a list.

    Raises
    ------
    InputError
        If it is one, and can't be used.
    """
    return next((found for form in working_formats().values() if (found := form.listed_volumes(text)) is not None), None)


def listed_tables(text: str) -> tuple[str, list[str]] | None:
    """Return the tables that a text lists, such as `PROJECT.json:OBJECT`, and their format; None where no format knows it as a list.

    Raises
    ------
    InputError
        If it is one and has no such tables, or several answers to one question.
    """
    return next(((name, found) for name, form in working_formats().items() if (found := form.listed_tables(text)) is not None), None)


def volumes(given: Sequence[str]) -> list[str]:
    """Put what a list lists in its place.

    Raises
    ------
    InputError
        As `listed_volumes`.
    """
    return [path for text in given for path in listed_volumes(text) or [text]]


def tables(given: Sequence[str]) -> list[str]:
    """Put the tables that a list lists in its place; other tables stay.

    Raises
    ------
    InputError
        As `listed_tables`.
    """
    found: list[str] = []
    for text in given:
        listed = listed_tables(text)
        found += [text] if listed is None else listed[1]
    return found
