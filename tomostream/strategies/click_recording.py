"""Measure the height and rank of each click among the score peaks of a trained model, and keep them in `model.json`.

This runs once, at the end of training:

1. Score the clicked tomograms, those with validation clicks included, as prediction will.  A large tomogram is scored only in the parts that hold
   most clicks.
2. Find the highest peaks there, as many as `picking.peak_heights` needs to measure heights.
3. For each click, record the height of the highest peak within one particle radius, and the rank of that peak in the whole tomogram.

Picking uses the heights to tell particles from noise (`picking.counting`) and to predict how reliable its picks are (`picking.promises`).  The log
reports how many of the left-out clicks are among the first peaks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from tomostream.budget import LIBRARIES_BYTES
from tomostream.errors import BudgetError
from tomostream.geometry import Box, Triple, triple
from tomostream.inference.region_scoring import score_region
from tomostream.picking.blocks import pick_array
from tomostream.picking.how_many import Best
from tomostream.picking.peak_heights import LOST, heights_of, peaks_measured, unbounded
from tomostream.strategies.adaptive_statistics import adapts, own_statistics
from tomostream.strategies.loading import plan_model
from tomostream.strategies.model_folder import RecordedClicks, TrainingSummary
from tomostream.strategies.validation import boxes_around

if TYPE_CHECKING:
    from tomostream.progress import Progress
    from tomostream.strategies.protocol import Model
    from tomostream.strategies.training_set import Training
    from tomostream.tomogram import Tomogram

MOST_VOX = 16_000_000  # voxels of level 0 that are scored per tomogram, at most
_PART = 16  # the scores may take one part in this many of the memory
_SAME = 0.5  # in radii: a validation click this close to a training click marks the same particle, so training saw it
_FLOAT_BYTES = 4


def with_clicks(summary: TrainingSummary, model: Model, training: Training, progress: Progress) -> TrainingSummary:
    """Return the training summary with the heights and ranks of the clicks added, and log the ranks of the left-out clicks.

    If the memory budget is too small to score the tomograms, this is logged and the summary lacks `clicks`.

    Parameters
    ----------
    summary
        Summary without clicks.
    model
        The trained model, as it would be loaded from its folder.
    training
        Settings and labelled tomograms.
    progress
        Receives the log lines.

    Raises
    ------
    TomostreamError
        If a tomogram can't be read.
    """
    labelled, species = training.labelled.clicked, training.settings.species
    voxels = [math.prod(t.shape) * 8**training.level for t in labelled.tomograms]
    summary = summary.model_copy(update={"clicked_voxels": voxels, "clicked": _clicked(training)})
    try:
        learnt = [_measured(model, training, *one) for one in zip(labelled.tomograms, labelled.points, strict=True)]
        left_out = {tomogram.name: _measured(model, training, tomogram, points) for tomogram, points in _left_out(training)}
    except BudgetError as error:
        progress.say(f"the heights of the clicks were not measured, so picking can't predict how reliable its picks are: {error}")
        return summary
    clicks: list[RecordedClicks] = []
    for number, one in enumerate(species):
        for name, found in left_out.items():
            if found[number].ranks:
                progress.say(f"{one.name}: {_told(found[number].ranks, one.expected_in(name), name)}")
        others = [found[number] for found in left_out.values() if found[number].ranks]
        units = [unit for own in others for unit in own.units]
        clicks.append(
            RecordedClicks(
                learnt=[height for found in learnt for height in found[number].heights],
                left_out=[height for own in others for height in own.heights],
                ranks=[rank for own in others for rank in own.ranks],
                unit=round(float(np.median(units)), 4) if units else None,
            )
        )
    return summary.model_copy(update={"clicks": clicks})


def _clicked(training: Training) -> list[dict[str, int]]:
    """For each species, how many particles were clicked in each tomogram at least: those to learn from, or those to validate with, which may be the same."""
    numbers: list[dict[str, int]] = [{} for _ in training.settings.species]
    for labelled in (training.labelled.clicked, training.validation):
        if labelled is None:
            continue
        for name, points in zip(labelled.names, labelled.points, strict=True):
            for number, own in zip(numbers, points, strict=True):
                if len(own):
                    number[name] = max(number.get(name, 0), len(own))
    return numbers


def _left_out(training: Training) -> Iterator[tuple[Tomogram, list[np.ndarray]]]:
    """Yield each validation tomogram with its left-out clicks, per species; tomograms without any are skipped."""
    if training.validation is None:
        return
    seen = dict(zip(training.labelled.names, training.labelled.points, strict=True))
    for tomogram, points in zip(training.validation.tomograms, training.validation.points, strict=True):
        kept: list[np.ndarray] = []
        for number, (own, radius) in enumerate(zip(points, training.radii_vox, strict=True)):
            known = seen[tomogram.name][number] if tomogram.name in seen else own[:0]
            apart = np.sqrt(((own[:, None] - known[None]) ** 2).sum(axis=2))
            kept.append(own[(apart > _SAME * radius).all(axis=1)])
        if any(map(len, kept)):
            yield tomogram, kept


@dataclass(frozen=True, slots=True)
class _Found:
    """Heights and ranks of the clicks of a species in one tomogram, and the unit of height in each scored part."""

    heights: list[float] = field(default_factory=list)
    ranks: list[float] = field(default_factory=list)
    units: list[float] = field(default_factory=list)


def _measured(model: Model, training: Training, tomogram: Tomogram, points: list[np.ndarray]) -> list[_Found]:
    """Score a tomogram, or the parts of it with most clicks, and return the heights and ranks of its clicks per species."""
    settings, scale = training.settings, 2**training.level
    volume = triple([n * scale for n in tomogram.shape])
    if adapts(model):
        model = model.with_statistics(own_statistics(model, tomogram.read_standardised, tomogram.shape, device=settings.device))
    most = max(1, min(MOST_VOX, (settings.memory - LIBRARIES_BYTES) // (_PART * _FLOAT_BYTES * len(points))))
    plan = plan_model(model, volume, precision="float32", memory=settings.memory // 2, block_size=None, name=tomogram.name)
    scorer = model.scorer(device=settings.device, precision="float32", threads=None)
    found = [_Found() for _ in points]
    on_volume = [(own + 0.5) * scale - 0.5 for own in points]
    for box in _boxes(volume, on_volume, most):
        scores = score_region(tomogram.read_standardised, plan, box, scorer, as_logits=True, note=lambda _: None)
        for own, clicks, values, radius in zip(found, on_volume, scores, training.radii_vox, strict=True):
            inside = clicks - np.array(box.start)
            inside = inside[((inside >= -0.5) & (inside < np.array(box.shape) - 0.5)).all(axis=1)]
            _measure(own, values, inside, radius * scale, settings.memory, math.prod(volume) / box.size)
    return found


def _boxes(volume: Triple, points: list[np.ndarray], most: int) -> list[Box]:
    """Return the whole volume as one box if it has at most `most` voxels; otherwise the boxes with most clicks, up to that many voxels."""
    if math.prod(volume) <= most:
        return [Box.whole(volume)]
    chosen: list[Box] = []
    for box in boxes_around(volume, np.concatenate(points)):
        if chosen and sum(one.size for one in chosen) + box.size > most:
            break
        chosen.append(box)
    return chosen


def _measure(found: _Found, scores: np.ndarray, clicks: np.ndarray, radius: float, memory: int, parts: float) -> None:
    """Append to `found` the height and rank (from 1) of the highest peak within `radius` of each click.

    A click without such a peak gets the height `LOST` and the rank after the last peak.  `parts` is the size of the tomogram divided by that of the
    scored part; ranks are multiplied by it, which estimates the rank in the whole tomogram.
    """
    most = peaks_measured(scores.size, radius)
    picks = pick_array(scores, radius=radius, how_many=Best(most), memory=memory)
    # through the sigmoid and back, so that scores saturate exactly as they do in the score map that picking reads
    measured = heights_of(unbounded(expit(picks.score), are_probabilities=True), most)
    if measured is None or not len(clicks):
        return
    is_near = ((clicks[:, None] - picks.index_zyx[None, : len(measured.values)]) ** 2).sum(axis=2) <= radius**2
    for near in is_near:
        place = int(near.argmax())
        found.heights.append(round(float(measured.values[place]), 3) if near.any() else LOST)
        found.ranks.append(round(((place if near.any() else most) + 1) * parts, 1))
    found.units.append(measured.unit)


def _told(ranks: list[float], expected: int | None, tomogram: str) -> str:
    """Say how many of the left-out clicks are among the first peaks, for the log."""
    text = f"of {len(ranks)} left-out clicks in {tomogram},"
    if expected is None or expected < 1:
        return f"{text} half are among its {float(np.median(ranks)):.0f} highest peaks"
    among = [sum(rank <= factor * expected for rank in ranks) for factor in (1, 2)]
    return (
        f"{text} {among[0]} are among its {expected} highest peaks (the expected number), and {among[1]} among its {2 * expected} highest"
    )
