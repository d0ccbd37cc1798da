"""What is odd about the clicks of a run, though it may be meant?  Told before any work, by `run --dry-run` and by training; nothing is refused here.

1. Clicks outside their tomogram, with the file and the lines that they stand in: they are left out.
2. Clicks that all lie in one corner, or on one face; clicks that are given twice.
3. An expected number of particles that does not fit into the tomogram.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tomostream.config import Species
from tomostream.formats.csv_table import row_lines
from tomostream.geometry import Triple
from tomostream.progress import Progress
from tomostream.stages.shared.click_tables import ClickTables
from tomostream.stages.shared.clicks import is_inside, read_points, suspicions
from tomostream.stages.shared.inside import overshoot
from tomostream.stages.shared.resolved_run import Head, ResolvedRun

_DENSEST = 0.74  # share of space that equal spheres fill at most
_MOST_LINES = 8  # in a message


def click_doubts(run: ResolvedRun) -> list[str]:
    """What should be told of the clicks and the expected numbers of a run that was resolved for training, one line each."""
    heads = {name: one.head for name, one in run.tomograms.items() if isinstance(one.head, Head)}
    clicks = run.clicks
    return ([] if clicks is None else [*_of_clicks(run, clicks, heads)]) + [*_of_numbers(run.species, heads)]


def tell_doubts(run: ResolvedRun, progress: Progress) -> None:
    """Warn of all that."""
    for doubt in click_doubts(run):
        progress.warn(doubt)


def _of_clicks(run: ResolvedRun, clicks: ClickTables, heads: Mapping[str, Head]) -> Iterator[str]:
    if clicks.repeated:
        yield (
            f"labels.validate: {clicks.repeated} of its {len(clicks.validate or [])} clicks are also in labels.train; use other clicks to choose "
            "the best epoch"
        )
    for purpose, points in clicks.purposes.items():
        files = clicks.train_tables if purpose == "train" else clicks.validate_tables
        for name, here in points.by_tomogram():
            if (head := heads.get(name)) is None:
                continue
            for text in suspicions(here, head.shape, head.spacing, name):
                yield f"labels.{purpose}: {text}"
            for kind, own in here.by_species():
                positions = own.in_unit("voxel", head.spacing).position_zyx
                if twice := len(positions) - len(np.unique(positions, axis=0)):
                    yield f"labels.{purpose}: {name}, {kind}: {twice} of {len(own)} points are duplicates; each counts once"
            if (little := overshoot(here.in_unit("voxel", head.spacing).position_zyx, head.shape)) is not None:
                yield f"labels.{purpose}: {little} tomogram '{name}' and are taken to be at its face"
            count = int(np.count_nonzero(~is_inside(here, head.shape, head.spacing)))
            if count:
                rows = "; ".join(_rows_outside(files, run, name, head))
                yield f"labels.{purpose}: {count} of {len(here)} clicks lie outside tomogram '{name}' and are left out{f': {rows}' if rows else ''}"


def _rows_outside(files: Sequence[str], run: ResolvedRun, name: str, head: Head) -> Iterator[str]:
    """Where the clicks outside a tomogram stand: file and lines; the tables are read once more."""
    for file in files:
        points = read_points([file], run.species_names, list(run.tomograms), "labels", with_rejected=True)
        outside = (points.tomogram == name) & (points.label == 1) & ~is_inside(points, head.shape, head.spacing)
        found = np.flatnonzero(outside)
        if not len(found):
            continue
        lines = row_lines(file)
        what = "line" if lines is not None else "row"
        numbers = [lines[i] if lines is not None else i + 1 for i in found[:_MOST_LINES].tolist()]
        more = f" and {len(found) - _MOST_LINES} more" if len(found) > _MOST_LINES else ""
        yield f"{file}, {what}{'s' if len(found) > 1 else ''} {', '.join(map(str, numbers))}{more}"


def _of_numbers(species: Sequence[Species], heads: Mapping[str, Head]) -> Iterator[str]:
    """Yield expected numbers that are impossible, once for each species: for its first such tomogram."""
    for one in species:
        for name, head in heads.items():
            expected, radius = one.expected_in(name), one.radius.in_voxels(head.spacing)
            most = most_spheres(head.shape, radius)
            if expected is not None and expected > most:
                z, y, x = head.shape
                yield (
                    f"species '{one.name}': expected is {expected} in tomogram '{name}', but its {z} x {y} x {x} voxels hold at most {most} spheres "
                    f"of radius {one.radius} ({radius:.3g} voxels); expected is the number in one tomogram: check it, and the radius"
                )
                break


def most_spheres(shape: Triple, radius: float) -> int:
    """How many spheres whose centres lie in a volume fit at most (voxels): those of the densest packing."""
    volume = math.prod(edge + 2 * radius for edge in shape)
    return math.floor(_DENSEST * volume / (4 / 3 * math.pi * radius**3))
