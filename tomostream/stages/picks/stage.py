"""`pick`: write the peaks of score maps as tables.  Fast compared with inference, which it never repeats."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from tomostream.budget import libraries_bytes, remote_bytes
from tomostream.cluster import Resources
from tomostream.errors import InputError
from tomostream.fingerprint import Fingerprint, differences, plain
from tomostream.formats.csv_table import csv_text
from tomostream.geometry import Box, Triple
from tomostream.orientations import known_or_none
from tomostream.particles import Particles
from tomostream.picking.how_many import Best, HowMany, options_of
from tomostream.picking.pickers import picker, takes_candidates
from tomostream.picking.protocol import Execution, PickRequest, Source
from tomostream.progress import Progress
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.places import Place, place
from tomostream.score_map import SCORES, ScoreMap, as_score_map
from tomostream.stages.shared.batch import for_each, writable_folder
from tomostream.stages.shared.fingerprints import tomogram_fingerprint
from tomostream.stages.shared.opening import open_told
from tomostream.stages.shared.region_of_interest import Restriction, mask_fingerprint, mask_in
from tomostream.stages.shared.sidecar import is_made_by, made_by, record_made_by
from tomostream.store.identity import is_same_identity
from tomostream.store.zarr_opening import is_url
from tomostream.strategies.loading import load_model
from tomostream.strategies.model_folder import local_model
from tomostream.tomogram import open_tomogram
from tomostream.units import Length

# what of a setting is recorded beside the picks, where it is not the value itself
_RECORDED: dict[str, Callable[[Any], Any]] = {
    "radius": repr,
    "smooth": repr,
    "border": repr,
    "box": repr,
    "mask": mask_fingerprint,
    "labels": repr,
}
_WITHOUT_EFFECT = {"block_size"}  # the picks don't depend on it


@dataclass(frozen=True, slots=True, kw_only=True)
class PickSettings:
    """Which peaks become picks.

    `method` is the name of a picker; None: what the score map says of itself.  To `mean-pool` the threshold is where scores are binarised
    (default: probability 0.5, lower for what a count lacks); given by its name, it needs no count.
    """

    how_many: HowMany | None = None
    species: str | None = None
    method: str | None = None
    radius: Length
    smooth: Length | None = None
    border: Length | None = None
    box: Box | None = None
    mask: str | None = None
    labels: tuple[tuple[int, Length], ...] = ()  # of the mask, that count, each with its distance; none: all but 0
    block_size: Triple | None = None
    voxel_size: float | None = None  # angstrom, where the score map does not say it

    def check(self) -> None:
        """Refuse settings that are impossible.

        Raises
        ------
        InputError
            If the number of picks is missing and the picker needs it, or there is no such picker.
        """
        if self.how_many is None and (self.method is None or picker(self.method).needs_count):
            raise InputError(
                "the number of picks is not set: give --count N (the best N), --threshold T (all above T) or --expected N (about N, as the scores suggest)"
            )

    def fingerprint(self) -> Fingerprint:
        """Return everything that the picks depend on, as values for JSON."""
        values: Fingerprint = {**options_of(self.how_many)}
        for name in (one.name for one in fields(self)):
            if name != "how_many" and name not in _WITHOUT_EFFECT:
                value = getattr(self, name)
                values[name] = _RECORDED[name](value) if name in _RECORDED else value
        if self.voxel_size is None:  # as it was recorded before there was such a setting
            del values["voxel_size"]
        if not self.labels:  # likewise
            del values["labels"]
        return values


@dataclass(frozen=True, slots=True)
class Orienting:
    """What gives picks their orientations: a model whose strategy `orients`, and the tomogram that was scored."""

    model: Place
    tomogram: str
    voxel_size: float | None


@dataclass(frozen=True, slots=True)
class PickTask:
    """The picks of one tomogram: from one score map, or from one for each species."""

    name: str
    maps: tuple[tuple[str, PickSettings], ...]  # store and settings
    out: Place
    resources: Resources
    is_known: bool = False  # picked earlier in this run: no second message
    orienting: Orienting | None = None


def pick_map(scores: ScoreMap, settings: PickSettings, *, resources: Resources, progress: Progress, title: str | None = None) -> Particles:
    """Pick from one score map; the picks are in angstrom, best first.

    `title`: what messages call the map; None: its name.

    Raises
    ------
    TomostreamError
        If the settings don't fit the map, or the undecided candidates don't fit the memory.
    """
    settings.check()
    labels = tuple((label, distance.in_voxels(scores.spacing)) for label, distance in settings.labels)
    Restriction(settings.box, settings.mask, labels).check(scores.shape, scores.name, spacing=scores.spacing)
    found = picker(settings.method or scores.attributes.pick_method)
    request = PickRequest(
        radius=settings.radius.in_voxels(scores.spacing),
        how_many=settings.how_many,
        smooth=settings.smooth.in_voxels(scores.spacing) if settings.smooth else 0.0,
        border=settings.border.in_voxels(scores.spacing) if settings.border else 0.0,
        box=settings.box,
        mask=functools.partial(mask_in, settings.mask, labels=labels) if settings.mask is not None else None,
    ).within(scores.shape)  # a spacing may be absurd
    execution = Execution(
        memory=resources.memory,
        libraries=libraries_bytes() + remote_bytes(is_url(scores.path)),
        block=settings.block_size,
        workers=resources.local_threads,
    )
    floor = _floor(scores, settings, request, found.name)
    picks = found.pick(
        Source(scores.read, scores.shape, scores.attributes.values, title or scores.name, floor), request, execution, progress
    )
    return Particles.build(
        picks.index_zyx.astype(np.float64) * scores.spacing,
        unit="angstrom",
        tomogram=scores.name,
        species=_species(scores, settings),
        score=picks.score,
        spacings={scores.name: scores.spacing},
    )


def map_title(name: str, species: str, *, is_only: bool) -> str:
    """What messages and the journal call the score map of a species in a tomogram: where it is the only one, as the tomogram."""
    return name if is_only else f"{name}, {species}"


def _species(scores: ScoreMap, settings: PickSettings) -> str:
    return settings.species or scores.attributes.species


def _floor(scores: ScoreMap, settings: PickSettings, request: PickRequest, picker_name: str) -> float:
    """The score above which picks are exact: only candidates may have been kept.

    Raises
    ------
    InputError
        If candidates do not suffice, whatever the score.
    """
    bounds = scores.attributes.candidates
    if bounds is None:
        return -math.inf
    does_suffice = takes_candidates(picker_name)
    if not does_suffice or request.smooth > 0:
        what = "smoothing" if does_suffice else f"picking by '{picker_name}'"
        raise InputError(
            f"{scores.path}: {what} needs the whole score map, but only candidates were kept; predict again with `keep: scores`"
        )
    return bounds.floor_at(request.radius, is_whole=request.border == 0 and request.box is None and settings.mask is None)


def are_picks_made(task: PickTask) -> bool:
    """Whether the picks of one tomogram are made with these settings from the score maps that are there; nothing is picked.

    Raises
    ------
    TomostreamError
        If a score map can't be opened.
    """
    return is_made_by(_table(task), _fingerprint(_opened(task, Progress())))


def _table(task: PickTask) -> Place:
    return task.out / f"{task.name}.csv"


def _opened(task: PickTask, progress: Progress) -> list[tuple[ScoreMap, PickSettings]]:
    return [(as_score_map(open_told(path, progress, voxel_size=settings.voxel_size)), settings) for path, settings in task.maps]


def _fingerprint(opened: list[tuple[ScoreMap, PickSettings]]) -> Fingerprint:
    return {"maps": [{"scores": tomogram_fingerprint(scores.tomogram), **settings.fingerprint()} for scores, settings in opened]}


def pick_one(task: PickTask, progress: Progress) -> Place:
    """Write the picks of one tomogram to `out/NAME.csv`, best first; skip them if they are already made."""
    table = _table(task)
    opened = _opened(task, progress)
    fingerprint = _fingerprint(opened)
    if is_made_by(table, fingerprint):
        if not task.is_known:
            progress.say(f"{task.name}: picks are already made with these settings")
        return table
    writable_folder(task.out)
    if (replaced := _replaced(table, fingerprint)) is not None:
        progress.say(f"{task.name}: {replaced}")
    for scores, _ in opened:
        if (doubt := no_score_map(scores)) is not None:
            progress.warn(f"{task.name}: {doubt}")
    titles = [map_title(task.name, _species(scores, settings), is_only=len(opened) == 1) for scores, settings in opened]
    parts = [
        pick_map(scores, settings, resources=task.resources, progress=progress, title=title)
        for (scores, settings), title in zip(opened, titles, strict=True)
    ]
    if task.orienting is not None:
        parts = [_oriented(part, task.orienting, memory=task.resources.memory) for part in parts]
    picks = Particles.concatenate(parts)
    picks = replace(picks.select(np.argsort(-picks.score, kind="stable")), tomogram=np.full(len(picks), task.name, dtype=object))
    write_atomically(table, csv_text(picks))
    record_made_by(table, fingerprint)
    for (_, settings), title, part in zip(opened, titles, parts, strict=True):
        if isinstance(settings.how_many, Best) and len(part) < settings.how_many.count:
            progress.warn(f"{title}: {len(part)} picks, fewer than the {settings.how_many.count} requested: no further voxel qualifies")
    progress.say(f"{task.name}: {len(picks)} picks")
    return table


def _replaced(table: Place, fingerprint: Fingerprint) -> str | None:
    """What is replaced, in words; None where there is no table yet."""
    if not table.is_file():
        return None
    recorded, wanted = made_by(table), plain(fingerprint)
    if recorded is None:
        return f"{table} is replaced: it was changed since it was made, or made by something else"
    old, new = recorded.get("maps"), wanted["maps"]
    if not isinstance(old, list) or len(old) != len(new):
        return f"{table} is replaced: it was made of other score maps"
    texts: list[str] = []
    for i, (before, after) in enumerate(zip(old, new, strict=True)):
        is_same_map = is_same_identity({"maps": before.get("scores")}, {"maps": after["scores"]})
        unsaid = {"scores": None, "clicks": None}  # the heights of the clicks are the model's
        parts = [differences({**before, **unsaid}, {**after, **unsaid}), "" if is_same_map else "the score map has changed"]
        said = "; ".join(filter(None, parts)) or ("" if before.get("clicks") == after.get("clicks") else "the model has changed")
        texts.append(f"{after.get('species') or i + 1}: {said}" if said and len(new) > 1 else said)
    return f"{table} is replaced: it was made with other settings ({'; '.join(filter(None, texts))})"


def no_score_map(scores: ScoreMap) -> str | None:
    """Say that a store of ours is no score map; None for score maps, and for other programs' stores, which may be."""
    ours = scores.tomogram.attributes
    if scores.attributes.kind == SCORES or "fingerprint" not in ours:
        return None
    what = "a label mask" if scores.attributes.kind == "labels" else "a tomogram that `tomostream convert` made"
    return f"{scores.path} is {what}, not a score map: its brightest voxels are picked as they are; score maps are made by `tomostream predict`"


def _oriented(picks: Particles, orienting: Orienting, *, memory: int) -> Particles:
    """Add orientations to the picks of one species."""
    if not len(picks):
        return picks
    model = load_model(local_model(orienting.model))
    tomogram = open_tomogram(orienting.tomogram, voxel_size=orienting.voxel_size)
    places = picks.in_unit("voxel", tomogram.spacing).position_zyx
    [species] = picks.species_names()
    free = max(memory - libraries_bytes(), 0)
    return replace(picks, rotation=known_or_none(model.orientations(tomogram, places, species, memory=free)))


def pick_many(tomograms: Mapping[str, str], *, out: Place, settings: PickSettings, resources: Resources, progress: Progress) -> list[Place]:
    """Pick from score maps; returns the tables.  `tomograms` gives the score maps by name (`distinct_names`).

    Raises
    ------
    TomostreamError
        See `for_each`.
    """
    settings.check()
    tasks = [PickTask(name, ((path, settings),), place(out), resources) for name, path in tomograms.items()]
    return for_each(tasks, pick_one, resources=resources, progress=progress)
