"""Pick particles from scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from tomostream import defaults
from tomostream.cluster import Resources
from tomostream.errors import InputError
from tomostream.geometry import Triple
from tomostream.particles import Particles
from tomostream.pick_records import PickRecords
from tomostream.progress import Progress
from tomostream.python_words import PythonProgress, speaks_python
from tomostream.remote.places import RemotePath
from tomostream.tomogram import Tomogram
from tomostream.units import Length, parse_bytes, parse_shape

if TYPE_CHECKING:
    from tomostream.picking.how_many import HowMany
from tomostream.api.sources import Source, checked_number, opened


@overload
def pick(
    source: Source,
    *,
    radius: str,
    threshold: float | None = ...,
    count: int | None = ...,
    expected: int | None = ...,
    smooth: str | None = ...,
    border: str | None = ...,
    block_size: int | Triple | None = ...,
    memory: str = ...,
    workers: int = ...,
    progress: Progress | None = ...,
) -> Particles: ...


@overload
def pick(
    source: Any,
    *,
    radius: float,
    threshold: float | None = ...,
    count: int | None = ...,
    expected: int | None = ...,
    smooth: float | None = ...,
    border: float | None = ...,
    block_size: int | Triple | None = ...,
    memory: str = ...,
    workers: int = ...,
    progress: Progress | None = ...,
) -> PickRecords: ...


@speaks_python
def pick(
    source: Any,
    *,
    radius: float | str,
    threshold: float | None = None,
    count: int | None = None,
    expected: int | None = None,
    smooth: float | str | None = None,
    border: float | str | None = None,
    block_size: int | Triple | None = None,
    memory: str = defaults.MEMORY,
    workers: int = 1,
    progress: Progress | None = None,
) -> Particles | PickRecords:
    """Pick peaks greedily: the best first, no two within `radius`.

    The picks are exactly those of the sequential loop over the whole volume, ties included.

    Parameters
    ----------
    source
        A score map's store (path, URL or tomogram): lengths are text with a unit, and the result is a `Particles` table in angstrom.  Or a
        numpy, zarr or dask array (z, y, x): lengths are numbers of voxels, and the result is a sequence of records (z, y, x, score) with
        integer voxels.
    radius
        Exclusion radius.
    threshold, count
        Pick scores above the threshold only (compared in float64), and at most `count`.
    expected
        A guess of the number of particles; the scores of the peaks then decide how many are picked.  One of the three is needed.
    smooth
        Radius of a ball over which the scores are averaged first.
    border
        Distance from the faces of the volume within which nothing is picked.
    block_size
        Edge of a block's core, voxels; the picks do not depend on it.
    memory
        Memory budget, for example `2GB`.
    workers
        Threads.
    progress
        Receives the progress (stores only); None: no progress, and warnings are Python warnings.

    Raises
    ------
    InputError
        If none of count, threshold and expected is given, or a length has the wrong form.
    BudgetError
        If the undecided candidates don't fit the budget.
    """
    from tomostream.picking.how_many import how_many

    block = None if block_size is None else parse_shape(block_size, "block_size")
    resources = Resources(memory=parse_bytes(memory), workers=workers)
    if isinstance(source, str | Path | RemotePath | Tomogram):
        from tomostream.score_map import as_score_map
        from tomostream.stages.picks.stage import PickSettings, pick_map

        settings = PickSettings(
            radius=Length.parse(str(radius), "radius"),
            how_many=how_many(count=count, threshold=threshold, expected=expected),
            smooth=Length.parse(str(smooth), "smooth") if smooth else None,
            border=Length.parse(str(border), "border") if border else None,
            block_size=block,
        )
        return pick_map(as_score_map(opened(source)), settings, resources=resources, progress=progress or PythonProgress())
    wanted = how_many(count=count, threshold=threshold, expected=expected, are_options=False)
    return _pick_array(source, {"radius": radius, "smooth": smooth or 0, "border": border or 0}, wanted, block, resources)


def _pick_array(
    source: Any, lengths: dict[str, float | str], wanted: HowMany | None, block: Triple | None, resources: Resources
) -> PickRecords:
    """Pick from an array, with lengths in voxels."""
    from tomostream.picking.protocol import Execution, PickRequest
    from tomostream.stages.picks.in_memory import pick_plain

    if any(isinstance(length, str) for length in lengths.values()):
        given = ", ".join(f"{name}={length!r}" for name, length in lengths.items())
        raise InputError(f"an array has no voxel spacing: give lengths as numbers of voxels, found {given}")
    radius, smooth, border = (checked_number(lengths[name], name) for name in ("radius", "smooth", "border"))
    request = PickRequest(radius=radius, how_many=wanted, smooth=smooth, border=border)
    return PickRecords(*pick_plain(source, request, Execution(memory=resources.memory, block=block, workers=resources.workers)))
