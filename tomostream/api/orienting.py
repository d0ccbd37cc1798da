"""Orient picks by the average of clicked particles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tomostream import defaults
from tomostream.api.sources import Source, opened, table_or_path
from tomostream.errors import InputError
from tomostream.particles import Particles
from tomostream.progress import Progress
from tomostream.python_words import PythonProgress, speaks_python
from tomostream.remote.places import RemotePath
from tomostream.units import Length, parse_bytes

if TYPE_CHECKING:
    import pandas as pd


@speaks_python
def orient(
    picks: str | Path | RemotePath | Particles | pd.DataFrame,
    clicks: str | Path | RemotePath | Particles | pd.DataFrame,
    tomograms: Source | Sequence[Source],
    *,
    radius: str,
    best: int = 0,
    tilt_range: tuple[float, float] = defaults.TILT_RANGE_DEG,
    tilt_axis: str = defaults.TILT_AXIS,
    refine_positions: bool = False,
    species: str | None = None,
    seed: int = defaults.SEED,
    memory: str = defaults.MEMORY,
    progress: Progress | None = None,
) -> Particles:
    """Add orientations to picks: each is aligned to the average of the clicked particles.

    Parameters
    ----------
    picks, clicks
        `Particles`, data frames with the columns of our CSV, or tables.
    tomograms
        The stores, or what `open` returns for them.
    radius
        Of the particle, for example `135A`.
    best
        How many of the best picks are averaged besides the clicks.
    tilt_range, tilt_axis
        First and last tilt in degrees; the axis, `x` or `y`. The beam is along z.
    refine_positions
        Move the picks to where they fit best.
    species
        The species to orient; None: the picks' only one.
    seed
        Of starts and halves.
    memory
        Memory budget, for example `2GB`.
    progress
        Receives the progress; None: no progress, and warnings are Python warnings.

    Returns
    -------
    Particles
        The picks with `rotation`, from the average's axes to the tomogram's; NaN for those of which too little is inside. The average's axes are arbitrary, and the
        same for all.

    Raises
    ------
    InputError
        If there is no telling how the particles are turned, or the input is not what it must be.
    BudgetError
        If the memory does not suffice.
    """
    from tomostream.formats.registry import Conversion
    from tomostream.stages.orientation.stage import OrientSettings, orient_tables, read_clicks
    from tomostream.stages.shared.particle_tables import read_scored

    found, known = table_or_path(picks, "picks"), table_or_path(clicks, "clicks")
    given = [tomograms] if isinstance(tomograms, Source) else list(tomograms)
    stores = {one.name: one.at_level(0) for one in map(opened, given)}
    if len(stores) < len(given) or not stores:
        raise InputError(f"--tomograms: {len(given)} are given, of {len(stores)} names; give each tomogram once, and one at least")
    shown = progress or PythonProgress()
    settings = OrientSettings(
        radius=Length.parse(radius, "--radius"),
        tilt_range=tilt_range,
        tilt_axis=tilt_axis,
        best=best,
        refine_positions=refine_positions,
        species=species,
        seed=seed,
        memory=parse_bytes(memory, "--memory"),
    )
    if not isinstance(found, Particles):
        spacings = {name: one.spacing for name, one in stores.items()}
        found, _ = read_scored(found, Conversion(spacings=spacings, progress=shown))
    if not isinstance(known, Particles):
        known = read_clicks([str(known)], list(stores), shown)
    return orient_tables(found, known, stores, settings, progress=shown, where="picks").picks
