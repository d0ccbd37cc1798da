"""Validate an epoch: compute the loss on labelled crops, and measure how early picking finds the validation clicks.

With a handful of validation clicks among hundreds of particles, a pick that hits no click need not be wrong.  The *criterion* is therefore the mean
recall of the clicks over the first n picks, n = 1 .. 2N, where N is the expected number in the region.  It rewards ranking true particles early,
and it changes smoothly where the recall at a single count jumps.  F1 at the expected number is reported beside it.

1. Plan, once: choose regions around the clicks, with edges of at most `REGION_VOX` (a small tomogram is one region) and at most `TOTAL_VOX` voxels in
   total, but at least one region; the tomograms take turns.  Read the regions, a fixed set of labelled crops for the loss, and the crops for the
   tomograms' batch-norm statistics.
2. After each epoch: score the regions with the network, pick, and match the picks with the clicks; evaluate the objective on the crops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomostream import defaults
from tomostream.config.sections import Species
from tomostream.geometry import Box, Triple, triple
from tomostream.picking.blocks import pick_array
from tomostream.picking.how_many import Best
from tomostream.picking.protocol import Execution, Picker, PickRequest, Picks, Source
from tomostream.progress import Progress
from tomostream.tomogram import Tomogram

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tomostream.inference.batch_statistics import Sampling
    from tomostream.learn.batch import Batch
    from tomostream.learn.objectives import Criterion
    from tomostream.strategies.training_set import Labelled, Training

REGION_VOX = 160  # largest edge of a region
TOTAL_VOX = 3_000_000  # voxels of all regions together, so that validating an epoch takes seconds
# score(network, region, precision) -> scores of the region, (species, z, y, x)
Score = Callable[[Any, np.ndarray, str], np.ndarray]
Pick = Callable[[np.ndarray, float, int, int], Picks]  # pick(scores, radius, count, memory)
COUNTS = 2.0  # the criterion covers this many times the expected number of picks


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A part of a validation tomogram.

    Parameters
    ----------
    tomogram
        Index of the tomogram.
    volume
        Normalised voxels, float32 (z, y, x).
    clicks
        Per species, the clicks inside: float64 (n, 3) voxels z y x from the region's first voxel.
    expected
        Per species, the expected number of particles inside.
    """

    tomogram: int
    volume: np.ndarray
    clicks: list[np.ndarray]
    expected: list[float]


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """Measures a network after each epoch."""

    regions: list[Region]
    radii: list[float]  # radius of picks per species, voxels
    batches: list[Batch]  # labelled crops for the loss
    objective: Criterion
    precision: str
    memory: int  # budget of picking, bytes
    crops: list[list[torch.Tensor]]  # per tomogram, the crops for its batch-norm statistics; empty: the network keeps training's
    score: Score
    pick: Pick

    @property
    def clicks(self) -> int:
        """Number of clicks that count: those inside the regions."""
        return sum(len(clicks) for region in self.regions for clicks in region.clicks)

    def measure(self, network: nn.Module) -> dict[str, float]:
        """Return `val_loss`, `val_recall` and `val_f1` at the expected number, and the `criterion` (larger is better).

        The last three are means over the species that have validation clicks.  Without any validation clicks the result has only the loss, on
        labelled crops of the training tomograms, and the criterion is its negative.
        """
        loss = self._loss(network)
        if not self.clicks:
            return {"val_loss": loss, "criterion": -loss}
        curves: list[tuple[float, float, float]] = []
        scored = self._scores(network)
        for species, radius in enumerate(self.radii):
            if not any(len(region.clicks[species]) for region in self.regions):
                continue
            ranks: list[np.ndarray] = []
            expected = 0.0
            for region, scores in zip(self.regions, scored, strict=True):
                count = max(1, round(region.expected[species]))
                picks = self.pick(scores[species], radius, int(np.ceil(COUNTS * count)), self.memory)
                # in units of the region's expected number, so that regions of different density can be pooled
                ranks.append(_first_hits(picks.index_zyx, region.clicks[species], radius) / count)
                expected += region.expected[species]
            curves.append(_recalls(np.concatenate(ranks), expected))
        recall, f1, criterion = (float(np.mean(values)) for values in zip(*curves, strict=True))
        return {"val_loss": loss, "val_recall": recall, "val_f1": f1, "criterion": criterion}

    def _scores(self, network: nn.Module) -> list[np.ndarray]:
        """Score each region with the batch-norm statistics of its tomogram."""
        from tomostream.inference.batch_statistics import adapted

        device = next(network.parameters()).device
        known: dict[int, nn.Module] = {}
        result: list[np.ndarray] = []
        for region in self.regions:
            if region.tomogram not in known:
                known = {region.tomogram: adapted(network, self.crops[region.tomogram], device=device)}
            own = known[region.tomogram]
            result.append(self.score(own, region.volume, self.precision))
        return result

    def _loss(self, network: nn.Module) -> float:
        """Return the mean of the objective over the labelled crops."""
        import torch

        device = next(network.parameters()).device
        with torch.inference_mode():
            here = (batch.to(device) for batch in self.batches)
            values = [float(self.objective(network(batch.image).float(), batch).total) for batch in here]
        return float(np.mean(values))


def greedy_picks(scores: np.ndarray, radius: float, count: int, memory: int) -> Picks:
    """Return the `count` best picks of a score map by greedy picking, the picker of most strategies."""
    return pick_array(scores, radius=radius, how_many=Best(count), memory=memory)


def picks_by(picker: Picker) -> Pick:
    """Return a `Pick` function that uses a picker."""

    def pick(scores: np.ndarray, radius: float, count: int, memory: int) -> Picks:
        source, wanted = Source.of(scores, values="probability"), PickRequest(radius=radius, how_many=Best(count))
        return picker.pick(source, wanted, Execution(memory=memory), Progress())

    return pick


def _first_hits(picks: np.ndarray, clicks: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the rank (from 1) of the first pick within `tolerance` of each click; infinity where there is none."""
    if len(picks) == 0 or len(clicks) == 0:
        return np.full(len(clicks), np.inf)
    squared = ((clicks[:, None, :] - picks[None, :, :]) ** 2).sum(axis=2)
    is_hit = squared <= tolerance**2
    return np.where(is_hit.any(axis=1), is_hit.argmax(axis=1) + 1.0, np.inf)


def _recalls(ranks: np.ndarray, expected: float) -> tuple[float, float, float]:
    """Return recall and F1 at the expected number, and the mean recall up to `COUNTS` times that number.

    `ranks` are those of the first hits of the clicks, in units of the expected number of their region.
    """
    hits = np.count_nonzero(ranks <= 1.0)
    area = float(np.clip(1.0 - ranks / COUNTS, 0.0, 1.0).mean())
    return hits / len(ranks), 2 * hits / (expected + len(ranks)), area


def plan_validation(
    training: Training,
    checked: Labelled | None,
    batches: list[Batch],
    *,
    objective: Criterion,
    precision: str,
    sampling: Sampling,
    score: Score,
    pick: Pick,
) -> Validation:
    """Choose and read the regions, and the crops from which the tomograms' batch-norm statistics are measured.

    Parameters
    ----------
    training
        Settings, level and radii.
    checked
        Tomograms with validation clicks; None: there are none.
    batches
        Labelled crops for the loss.
    objective
        Criterion that gives the loss.
    precision
        `float32` or `bf16`.
    sampling
        How the crops for batch-norm statistics are drawn.
    score, pick
        How a region is scored and picked.
    """
    regions: list[Region] = []
    crops: list[list[torch.Tensor]] = []
    settings = training.settings
    adapts = settings.network.batch_statistics == "tomogram"
    if checked is not None:
        boxes = boxes_in_turns([t.shape for t in checked.tomograms], [np.concatenate(own) for own in checked.points], settings.train.seed)
        for number, (tomogram, points) in enumerate(zip(checked.tomograms, checked.points, strict=True)):
            crops.append(list(sampling.images(tomogram.read_standardised, tomogram.shape)) if adapts else [])
            regions += [_region(settings.species, number, tomogram, box, points) for box in boxes[number]]
    return Validation(regions, training.radii_vox, batches, objective, precision, settings.memory, crops, score, pick)


def boxes_in_turns(shapes: Sequence[Triple], points: Sequence[np.ndarray], seed: int) -> list[list[Box]]:
    """Return the boxes of each tomogram in which its points count, `TOTAL_VOX` voxels of all tomograms together, but at least one box.

    In each turn, each tomogram gives the box with most of its points that is left; the tomogram whose box has most points goes first, and the seed
    decides between equals.  A tomogram whose box would be too much gives no more.

    Parameters
    ----------
    shapes
        Shapes of the tomograms, in voxels.
    points
        Per tomogram, the points of all species: (n, 3) voxels z y x.
    seed
        Seed of the order.
    """
    waiting = [boxes_around(shape, own) for shape, own in zip(shapes, points, strict=True)]
    chosen: list[list[Box]] = [[] for _ in shapes]
    order = np.random.default_rng(seed).permutation(len(shapes)).tolist()
    total = 0
    while any(waiting):
        for number in sorted((n for n in order if waiting[n]), key=lambda n: -len(_inside(waiting[n][0], points[n]))):
            box = waiting[number].pop(0)
            if total and total + box.size > TOTAL_VOX:
                waiting[number] = []
            else:
                total += box.size
                chosen[number].append(box)
    return chosen


def _inside(box: Box, points: np.ndarray) -> np.ndarray:
    """Return the points whose voxel lies in the box."""
    return points[((points >= np.asarray(box.start) - 0.5) & (points < np.asarray(box.stop) - 0.5)).all(axis=1)]


def boxes_around(shape: Triple, points: np.ndarray) -> list[Box]:
    """Return the cells of a regular grid that hold the points, those with most points first; cell edges are at most `REGION_VOX`."""
    edges = triple([-(-n // -(-n // REGION_VOX)) for n in shape])
    cells: dict[Triple, int] = {}
    for point in points:
        cell = triple([min(max(math.floor(p + 0.5), 0), n - 1) // e for p, e, n in zip(point, edges, shape, strict=True)])
        cells[cell] = cells.get(cell, 0) + 1
    boxes: list[Box] = []
    for cell in sorted(cells, key=lambda c: (-cells[c], c)):
        start = triple([c * e for c, e in zip(cell, edges, strict=True)])
        stop = triple([min(n, (c + 1) * e) for c, e, n in zip(cell, edges, shape, strict=True)])
        boxes.append(Box(start, stop))
    return boxes


def _region(species: Sequence[Species], number: int, tomogram: Tomogram, box: Box, points: list[np.ndarray]) -> Region:
    """Read a region of tomogram `number`; its expected number is that of the tomogram times its share of the volume."""
    clicks = [_inside(box, own) - np.asarray(box.start) for own in points]
    share = box.size / (tomogram.shape[0] * tomogram.shape[1] * tomogram.shape[2])
    expected = [
        share * (s.expected_in(tomogram.name) or defaults.EXPECTED_PER_CLICK * len(p)) for s, p in zip(species, points, strict=True)
    ]
    return Region(number, tomogram.read_standardised(box), clicks, expected)
