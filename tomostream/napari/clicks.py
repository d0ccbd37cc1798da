"""How do the clicks of a layer come into a table?  As a patch, by the workbench's own `ClickTable`: merged, whole or not at all.

What the layer held when it was read or saved last is compared with what it holds now; rows that went and rows that came are the patch.  So
what another program, or the workbench, has changed in the table meanwhile stays, and is told.
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

_NEAR = 0.011  # angstrom: positions are kept to a hundredth


@dataclass(frozen=True, slots=True)
class Saved:
    """What happened.

    Parameters
    ----------
    clicks
        Of the layer, as they are in the table now.
    message
        For the user.
    """

    clicks: list[Click]
    message: str


def clicks_of(data: np.ndarray, attributes: Mapping[str, Any]) -> list[Click]:
    """The clicks of a points layer, positions to a hundredth of an angstrom.

    Raises
    ------
    InputError
        If the layer can't be clicks.
    """
    particles = particles_of(data, attributes)
    rows = zip(particles.species.tolist(), particles.position_zyx.tolist(), particles.label.tolist(), strict=True)
    name = str(particles.tomogram[0]) if len(particles) else ""
    return [Click(name, species, round(x, 2), round(y, 2), round(z, 2), int(label)) for species, (z, y, x), label in rows]


def save_clicks(path: Path, data: np.ndarray, attributes: Mapping[str, Any], before: Sequence[Click]) -> Saved:
    """Bring a table up to the layer.

    Parameters
    ----------
    before
        The layer's clicks when it was read or saved last.

    Raises
    ------
    InputError
        If the table can't be read or written; it is left as it is then.
    """
    known = attributes.get("metadata", {}).get(KEY, {})
    spacing = known.get("spacing")
    name = known.get("tomogram")
    if not name:
        raise InputError("this layer does not say of which tomogram it is; make a new one with 'New clicks'")
    table = ClickTable(path, spacing_of=lambda asked: spacing if asked == name else None, tomogram=name)
    now = clicks_of(data, attributes)
    rows = [click for click in table.look().clicks if click.tomogram == name]
    remove = _rows_of([click for click in before if not _among(click, now)], rows)
    add = [click for click in now if not _among(click, rows)]
    outcome = table.patch(remove=remove, add=add)
    mine = [click for click in outcome.clicks if click.tomogram == name]
    strangers = sum(not _among(click, now) for click in mine)
    told = f"{path.name}: {len(add)} came, {len(remove)} went; {len(outcome.clicks)} clicks in all"
    if strangers:
        told += f"; {strangers} of {name} are not in this layer: another program has added them, and they stay"
    return Saved(now, told)


def _among(click: Click, rows: Sequence[Click]) -> bool:
    return bool(_rows_of([click], rows))


def _rows_of(clicks: Sequence[Click], rows: Sequence[Click]) -> list[Click]:
    """The rows of the table that are these clicks: the same species and label, and the same place to a hundredth."""
    places = np.array([(row.x, row.y, row.z) for row in rows]).reshape(-1, 3)
    found: list[Click] = []
    for click in clicks:
        near = np.flatnonzero((np.abs(places - np.array([click.x, click.y, click.z])) <= _NEAR).all(axis=1))
        found += [rows[i] for i in near.tolist() if (rows[i].species, rows[i].label) == (click.species, click.label)]
    return found
