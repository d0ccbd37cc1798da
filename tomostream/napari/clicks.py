"""Save the clicks of a layer in a table, by the workbench's own `ClickTable`.

The layer is compared with what it held when it was last read or saved.  The clicks removed and added since are applied to the table as one
patch, completely or not at all.  So changes that another program, or the workbench, has made in the table stay, and are reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomostream.errors import InputError
from tomostream.napari.layers import KEY, particles_of
from tomostream.view.clicks import Click, ClickTable

_NEAR = 0.011  # angstrom; positions are rounded to a hundredth


@dataclass(frozen=True, slots=True)
class Saved:
    """The result of saving.

    Parameters
    ----------
    clicks
        The clicks of the layer, as they are in the table now.
    message
        What was done, for the user.
    """

    clicks: list[Click]
    message: str


def clicks_of(data: np.ndarray, attributes: Mapping[str, Any]) -> list[Click]:
    """Return the clicks of a points layer, positions rounded to a hundredth of an angstrom.

    Raises
    ------
    InputError
        If the layer does not hold valid clicks.
    """
    particles = particles_of(data, attributes)
    rows = zip(particles.species.tolist(), particles.position_zyx.tolist(), particles.label.tolist(), strict=True)
    name = str(particles.tomogram[0]) if len(particles) else ""
    return [Click(name, species, round(x, 2), round(y, 2), round(z, 2), int(label)) for species, (z, y, x), label in rows]


def save_clicks(path: Path, data: np.ndarray, attributes: Mapping[str, Any], before: Sequence[Click]) -> Saved:
    """Update a table with the changes of a layer.

    Parameters
    ----------
    before
        The layer's clicks when it was last read or saved.

    Raises
    ------
    InputError
        If the table can't be read or written; it is then unchanged.
    """
    known = attributes.get("metadata", {}).get(KEY, {})
    spacing = known.get("spacing")
    name = known.get("tomogram")
    if not name:
        raise InputError("this layer does not say which tomogram it belongs to; make a new one with 'New clicks'")
    table = ClickTable(path, spacing_of=lambda asked: spacing if asked == name else None, tomogram=name)
    now = clicks_of(data, attributes)
    rows = [click for click in table.look().clicks if click.tomogram == name]
    remove = _rows_of([click for click in before if not _among(click, now)], rows)
    add = [click for click in now if not _among(click, rows)]
    outcome = table.patch(remove=remove, add=add)
    mine = [click for click in outcome.clicks if click.tomogram == name]
    strangers = sum(not _among(click, now) for click in mine)
    told = f"{path.name}: {len(add)} added, {len(remove)} removed; {len(outcome.clicks)} clicks in all"
    if strangers:
        told += f"; {strangers} of {name} are not in this layer: another program has added them, and they are kept"
    return Saved(now, told)


def _among(click: Click, rows: Sequence[Click]) -> bool:
    return bool(_rows_of([click], rows))


def _rows_of(clicks: Sequence[Click], rows: Sequence[Click]) -> list[Click]:
    """Return the rows of the table that match one of the clicks: same species and label, same position to a hundredth of an angstrom."""
    places = np.array([(row.x, row.y, row.z) for row in rows]).reshape(-1, 3)
    found: list[Click] = []
    for click in clicks:
        near = np.flatnonzero((np.abs(places - np.array([click.x, click.y, click.z])) <= _NEAR).all(axis=1))
        found += [rows[i] for i in near.tolist() if (rows[i].species, rows[i].label) == (click.species, click.label)]
    return found
