"""`pick`: the peaks of score maps, as tables.  Cheap next to inference, and never needs it again."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from scipy.special import logit

from tomostream.budget import libraries_bytes, remote_bytes
from tomostream.cluster import ClusterSettings
from tomostream.config import PickMethod
from tomostream.errors import InputError
from tomostream.formats.csv_table import csv_text
from tomostream.geometry import Box, Triple
from tomostream.particles import Particles
from tomostream.progress import Progress
from tomostream.remote.atomic_files import write_text_atomically
from tomostream.remote.places import Place, place
from tomostream.stages.shared.batch import for_each, writable_folder
from tomostream.stages.shared.fingerprints import tomogram_fingerprint
from tomostream.stages.shared.region_of_interest import Restriction, mask_in
from tomostream.stages.shared.sidecar import is_made_by, record_made_by
from tomostream.store.naming import distinct_names
from tomostream.store.zarr_opening import is_url
from tomostream.tomogram import Tomogram, open_tomogram
from tomostream.units import Length

if TYPE_CHECKING:
    from tomostream.picking.blocks import Picks

_LEAST_PROBABILITY = 6e-8
SURPRISING = 2.0  # times the expected number of picks: the scores hardly tell particles from noise


@dataclass(frozen=True, slots=True, kw_only=True)
class PickSettings:
    """Which peaks are picks.  Of `count`, `threshold` and `expected` at least one is needed, and not both counts; with count and threshold, the best `count` above it.

    With `expected`, the number of particles that a person would guess, and no count, the peaks' scores decide (`picking.counting`).

    `method` is `greedy`, `mean-pool` or `trace`; None: what the score map says of itself, else `greedy`.  To `mean-pool` the threshold is where
    scores are binarised (default: probability 0.5, lower for what a count lacks); given by its name, it needs no count.
    """

    radius: Length
    count: int | None = None
    expected: int | None = None
    threshold: float | None = None
    species: str | None = None
    smooth: Length | None = None
    border: Length | None = None
    block_size: Triple | None = None
    box: Box | None = None
    mask: str | None = None
    method: str | None = None

    def check(self) -> None:
        """Refuse settings that can't be meant.

        Raises
        ------
        InputError
            If neither count nor threshold is given, both counts are, or one of them is impossible.
        """
        if self.count is None and self.threshold is None and self.expected is None and self.method != "mean-pool":
            raise InputError(
                "how many picks? give --count N (the best N), --threshold T (all above T) or --expected N (about N, as the scores say)"
            )
        if self.count is not None and self.expected is not None:
            raise InputError(
                f"--count {self.count} (the best {self.count}) and --expected {self.expected} (as many as the scores say) exclude each other; give one"
            )
        for name, value in (("--count", self.count), ("--expected", self.expected)):
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, found {value}")
        if self.threshold is not None and np.isnan(self.threshold):
            raise InputError("--threshold must be a number, found nan")

    def fingerprint(self) -> dict[str, Any]:
        """All that the picks depend on, as values for JSON; the block's size is nothing of the kind."""
        values: dict[str, Any] = {key: getattr(self, key) for key in ("count", "expected", "threshold", "species", "method")}
        values |= {key: repr(getattr(self, key)) for key in ("radius", "smooth", "border", "box")}
        return values | {"mask": None if self.mask is None else tomogram_fingerprint(open_tomogram(self.mask))}


@dataclass(frozen=True, slots=True)
class PickTask:
    """The picks of one tomogram: from one score map, or from one for each species."""

    name: str
    maps: tuple[tuple[str, PickSettings], ...]  # store and settings
    out: Place
    memory: int
    workers: int


def pick_map(scores: Tomogram, settings: PickSettings, *, memory: int, workers: int, progress: Progress) -> Particles:
    """Pick from one score map; the picks are in angstrom, best first.

    Raises
    ------
    TomostreamError
        If the settings don't fit the map, or the undecided candidates don't fit the memory.
    """
    from tomostream.picking.blocks import pick_volume
    from tomostream.picking.counting import CANDIDATES
    from tomostream.picking.pooled import pick_pooled
    from tomostream.picking.traced import trace_volume
    from tomostream.picking.tracing import default_tracing

    settings.check()
    Restriction(settings.box, settings.mask).check(scores.shape, scores.name)
    species = settings.species or str(scores.attributes.get("species", "particle"))
    radius = settings.radius.in_voxels(scores.spacing)
    method = settings.method or str(scores.attributes.get("pick_method", "greedy"))
    if method not in get_args(PickMethod):
        raise InputError(f"--method must be one of {', '.join(get_args(PickMethod))}, found '{method}'")
    is_chosen = settings.count is None and settings.expected is not None
    count = CANDIDATES * (settings.expected or 0) if is_chosen and method == "greedy" else settings.count or settings.expected
    traced = functools.partial(trace_volume, tracing=default_tracing(radius))
    pick = functools.partial(
        traced if method == "trace" else functools.partial(pick_volume, workers=workers),
        lambda box: scores.decode(scores.read(box)),
        scores.shape,
        radius=radius,
        count=count,
        memory=memory,
        libraries=libraries_bytes() + remote_bytes(is_url(scores.path)),
        block=settings.block_size,
        smooth=settings.smooth.in_voxels(scores.spacing) if settings.smooth else 0.0,
        border=settings.border.in_voxels(scores.spacing) if settings.border else 0.0,
        box=settings.box,
        mask=functools.partial(mask_in, settings.mask) if settings.mask is not None else None,
        progress=progress,
    )
    if method != "mean-pool":
        picks = pick(threshold=settings.threshold)
    else:
        picks = pick_pooled(
            lambda pool: pick(threshold=0.0, pool=pool),
            radius=radius,
            threshold=settings.threshold,
            count=count,
            as_logits=bool(scores.attributes.get("logits")),
        )
    if is_chosen and method == "greedy":
        picks = _chosen(picks, scores, settings.expected or 0, progress)
    return Particles.build(
        picks.index_zyx.astype(np.float64) * scores.spacing, unit="angstrom", tomogram=scores.name, species=species, score=picks.score
    )


def _chosen(picks: Picks, scores: Tomogram, expected: int, progress: Progress) -> Picks:
    """The best of the candidates: as many as their scores say."""
    is_probability = scores.attributes.get("kind") == "scores" and not scores.attributes.get("logits")
    # float32 has no probability between 1 - 6e-8 and 1
    values = logit(np.clip(picks.score, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)) if is_probability else picks.score
    from tomostream.picking.counting import choose_count

    choice = choose_count(values, expected=expected)
    hope = "" if np.isnan(choice.f1) else f"; F1 {choice.f1:.2f} is to be expected"
    progress.say(
        f"{scores.name}: {choice.picks} picks chosen, about {choice.particles:.0f} particles by the scores ({expected} expected){hope}"
    )
    if choice.picks > SURPRISING * expected:
        progress.warn(f"{scores.name}: {choice.picks} picks are far more than the {expected} expected; look at them, or give a count")
    return replace(picks, index_zyx=picks.index_zyx[: choice.picks], score=picks.score[: choice.picks])


def pick_one(task: PickTask, progress: Progress) -> Place:
    """Write the picks of one tomogram to `out/NAME.csv`, best first; the same picks are not made twice."""
    table = task.out / f"{task.name}.csv"
    opened = [(open_tomogram(path), settings) for path, settings in task.maps]
    fingerprint = {"maps": [{"scores": tomogram_fingerprint(scores), **settings.fingerprint()} for scores, settings in opened]}
    if is_made_by(table, fingerprint):
        progress.say(f"{task.name}: picks are already made with these settings")
        return table
    writable_folder(task.out)
    parts = [pick_map(scores, settings, memory=task.memory, workers=task.workers, progress=progress) for scores, settings in opened]
    picks = Particles.concatenate(parts)
    picks = replace(picks.select(np.argsort(-picks.score, kind="stable")), tomogram=np.full(len(picks), task.name, dtype=object))
    write_text_atomically(table, csv_text(picks))
    record_made_by(table, fingerprint)
    for (_, settings), part in zip(opened, parts, strict=True):
        if settings.count is not None and len(part) < settings.count:
            progress.warn(f"{task.name}: {len(part)} picks, fewer than the {settings.count} wanted: no further voxel qualifies")
    progress.say(f"{task.name}: {len(picks)} picks")
    return table


def pick_many(
    paths: Sequence[str],
    *,
    out: Place,
    settings: PickSettings,
    memory: int,
    cluster: ClusterSettings,
    progress: Progress,
    name_from_folder: bool = False,
) -> list[Place]:
    """Pick from score maps; returns the tables.

    Raises
    ------
    TomostreamError
        See `for_each`.
    """
    settings.check()
    names = distinct_names(paths, from_folder=name_from_folder)
    tasks = [PickTask(name, ((path, settings),), place(out), memory, cluster.local_threads) for name, path in names.items()]
    return for_each(tasks, pick_one, cluster=cluster, progress=progress)
