"""Is this one volume or table, or a file that lists some?  copick's project file, RELION 5's `tomograms.star`."""

from __future__ import annotations

from collections.abc import Sequence

from tomostream.formats import copick_project


def listed_volumes(text: str) -> list[str] | None:
    """Return the volumes that a file lists; None where it is none of the lists that are known.

    Raises
    ------
    InputError
        If it is one, and can't be used.
    """
    if (parts := copick_project.split(text)) is not None and (project := copick_project.read_project(parts[0])) is not None:
        return copick_project.tomograms(project, parts[1])
    if ".star" not in text:
        return None
    from tomostream.formats import relion_tomograms  # noqa: PLC0415  (whoever reads no STAR file need not load its reader)

    parts = relion_tomograms.split(text)
    return None if parts is None else relion_tomograms.tomograms(*parts)


def volumes(given: Sequence[str]) -> list[str]:
    """Put what a list lists in its place.

    Raises
    ------
    InputError
        As `listed_volumes`.
    """
    return [path for text in given for path in listed_volumes(text) or [text]]


def tables(given: Sequence[str]) -> list[str]:
    """Put the files of picks that a copick project means (`FILE.json:OBJECT:USER/SESSION`) in its place; other tables stay.

    Raises
    ------
    InputError
        If the project has no such picks, or several answers to one question.
    """
    found: list[str] = []
    for text in given:
        parts = copick_project.split(text)
        project = None if parts is None else copick_project.read_project(parts[0])
        found += [text] if parts is None or project is None else copick_project.picks(project, parts[1])
    return found
