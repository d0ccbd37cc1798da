"""`report`: write the results of a project folder as one HTML page.

1. For each tomogram: the scores of its picks; with truth, the true and false picks at every threshold, counted as the evaluation does.
2. For each tomogram with picks: slices and a gallery of picks. The tomograms share the page's bytes equally.
3. Training in words, the time of each stage, failures, settings, and links to the files.

If a tomogram can't be read, the page and the command say why in its place, and the others are shown.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tomostream.config import Configuration, load_configuration
from tomostream.errors import InputError, TomostreamError
from tomostream.evaluation.curves import precision_recall_curve
from tomostream.formats.registry import read_table
from tomostream.geometry import Triple
from tomostream.particles import Particles
from tomostream.pipeline.journal import Event
from tomostream.pipeline.run_history import choices_in, expected_of, failures_in, last_run, stage_seconds
from tomostream.pipeline.training_words import training_words
from tomostream.project import Project, input_paths
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.path_kinds import Wanted, instead, is_project
from tomostream.remote.places import Place, place
from tomostream.report.contents import (
    Block,
    Expected,
    LinkedFile,
    PackedCurve,
    PackedPicks,
    PackedTruth,
    Report,
    ReportTomogram,
    SpeciesBlock,
)
from tomostream.report.gallery import gallery_pictures, shown_ranks
from tomostream.report.packed import packed, packed_positions
from tomostream.report.page import render_page
from tomostream.report.slab import MOST_SLICES, plan_slab, shown_level, slab_pictures
from tomostream.stages.picks.stage import map_title
from tomostream.stages.shared.resolved_run import ResolvedRun, find_truth, resolve
from tomostream.stages.shared.truth_table import TruthTable
from tomostream.tomogram import Tomogram, open_tomogram
from tomostream.version import VERSION

PAGE_BYTES = 18_000_000  # of the whole page
_TEXT = 4 / 3  # bytes of base64 for one byte
_MOST_BYTES = 900_000  # of one tomogram's pictures: more bytes show no more detail
_SLICE_BYTES, _LEAST_SLICES = 2_500, 5  # of a slice as small as `webp_within` makes it
_LEAST_BYTES = 16_000  # of one tomogram's pictures: with fewer nothing can be seen
_GALLERY_SHARE = 0.2  # the gallery's part of a tomogram's bytes
_PICK_BYTES = 7  # beside the pictures, of a pick: its position and whether it is true
_TRUTH_BYTES = 10  # of a true particle: position and score


@dataclass(frozen=True, slots=True)
class Found:
    """The results of one tomogram: picks and truth in voxels (None if there are none), and what could not be read."""

    name: str
    tomogram: Tomogram | None
    picks: Particles | None
    truth: Mapping[str, Particles] | None  # by species; those that the table lacks are absent
    problem: str | None = None


@dataclass(slots=True)
class _Parts:
    """The page in the making: values and pictures of each tomogram, and what could not be read."""

    tomograms: list[ReportTomogram] = field(default_factory=list)
    blocks: list[Block | None] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def write_report(run: Place, output: Place) -> list[str]:
    """Write the report of a project folder; return what could not be read, one line each.

    Raises
    ------
    InputError
        If the folder is not a project, a table is broken, or the page can't be written.
    """
    run, output = place(run), place(output)
    project = Project(run)
    if (isinstance(run, Path) and not is_project(run)) or not project.resolved.exists():
        raise InputError(instead(run, Wanted.PROJECT) or f"{run} is not a project folder: it has no {project.resolved.name}")
    configuration = _configuration(project)
    given = resolve(configuration, with_clicks=False)
    seconds, runs = stage_seconds(run) if isinstance(run, Path) else ({}, 0)
    failures = failures_in(last_run(run)) if isinstance(run, Path) else {}
    parts = _Parts()
    truth = _truth(configuration, given, parts.problems)
    found = find_results(given, truth)
    choices = choices_in(run) if isinstance(run, Path) else {}
    numbers = {one.name: _numbers(given, one, choices) for one in found}
    shares = _shares(found, sum(len(text) for own in numbers.values() for text in _texts(own)))
    for one in found:
        _add(parts, given, one, shares.get(one.name), numbers[one.name], failures.get(one.name))
    title = run.resolve().name
    training = training_words(given)
    report: Report = {
        "title": title,
        "version": VERSION,
        "species": [{"name": s.name, "radius": str(s.radius)} for s in given.species],
        "tolerance": str(given.tolerance) if truth is not None else None,
        "matching": given.matching,
        "tomograms": parts.tomograms,
        "training": {"sentences": training.sentences, "curves": training.curves},
        "timings": [(stage, round(value, 1)) for stage, value in seconds.items() if stage != "report"],
        "runs": runs,
        "failures": list(failures.items()),
        "settings": project.resolved.read_text(encoding="utf-8"),
        "files": _files(project, output),
    }
    write_atomically(output, render_page(f"{title}: tomostream report", report, parts.blocks))
    return parts.problems


def _configuration(project: Project) -> Configuration:
    """Load a project's configuration; if its tomograms are not found (the project may have moved), take the project's own stores."""
    configuration = load_configuration(project.resolved).model_copy(update={"project": project.folder})
    try:
        input_paths(configuration.tomograms)
    except InputError:
        stores = sorted(str(one) for one in project.tomograms.glob("*.ome.zarr")) if project.tomograms.is_dir() else []
        if not stores:
            raise
        configuration = configuration.model_copy(update={"tomograms": stores})
    return configuration


def _truth(configuration: Configuration, run: ResolvedRun, problems: list[str]) -> TruthTable | None:
    """Return the table of true particles; a table that can't be read is noted in `problems`, and the page is written without it."""
    try:
        return find_truth(configuration, run.tomograms)
    except TomostreamError as error:
        problems.append(f"no precision and recall: {error}")
        return None


def find_results(run: ResolvedRun, truth: TruthTable | None) -> list[Found]:
    """Collect picks and truth of every tomogram; one that has not been picked gets a `Found` with its name only."""
    result: list[Found] = []
    true = None if truth is None else truth.particles.positives()
    for name, store in run.stores.items():
        table = run.project.picks / f"{name}.csv"
        if not table.exists():
            result.append(Found(name, None, None, None))
            continue
        picks = read_table(table)
        picks = picks.select(np.argsort(-picks.score, kind="stable"))
        try:
            tomogram = open_tomogram(store, voxel_size=run.voxel_size)
        except TomostreamError as error:
            result.append(Found(name, None, picks, None, str(error)))
            continue
        known = None
        if truth is not None and true is not None and name in true.tomograms():
            here = true.of(tomogram=name).in_unit("voxel", tomogram.spacing)
            known = {species: here.of(species=species) for species in truth.species}
        result.append(Found(name, tomogram, picks.in_unit("voxel", tomogram.spacing), known))
    return result


def _shares(found: list[Found], numbers: int) -> dict[str, int]:
    """Divide the page's bytes among the tomograms' pictures; if there are too many tomograms or picks, only the first get a share.

    Parameters
    ----------
    numbers
        Characters that the scores and counts of all tomograms take.
    """
    left = (PAGE_BYTES - numbers) / _TEXT - 400_000
    shown: list[str] = []
    for one in found:
        if one.tomogram is None or one.picks is None or not len(one.picks):
            continue
        beside = _PICK_BYTES * len(one.picks) + _TRUTH_BYTES * sum(map(len, (one.truth or {}).values()))
        if left - beside < _LEAST_BYTES * (len(shown) + 1):
            break
        left -= beside
        shown.append(one.name)
    return {name: min(_MOST_BYTES, int(left / len(shown))) for name in shown}


def _texts(values: object) -> Iterator[str]:
    """All texts among values."""
    if isinstance(values, dict):
        for value in values.values():
            yield from _texts(value)
    elif isinstance(values, str):
        yield values


def _add(
    parts: _Parts, run: ResolvedRun, found: Found, share: int | None, numbers: dict[str, PackedPicks] | None, failure: str | None
) -> None:
    """Add one tomogram to the page."""
    problem = found.problem
    block: Block | None = None
    if found.tomogram is not None and found.picks is not None and share is not None:
        try:
            block = _block(run, found.tomogram, found.picks, found.truth, share)
        except TomostreamError as error:
            problem = str(error)
    if problem is not None:
        parts.problems.append(f"{found.name}: no pictures: {problem}")
    shape, spacing = (None, None) if found.tomogram is None else (found.tomogram.shape, found.tomogram.spacing)
    parts.tomograms.append(
        {"name": found.name, "failure": failure, "problem": problem, "picks": numbers, "shape": shape, "spacing": spacing}
    )
    parts.blocks.append(block)


def _numbers(run: ResolvedRun, found: Found, choices: Mapping[str, Event]) -> dict[str, PackedPicks] | None:
    """By species: scores, best first, what is expected, and where there is truth how many true particles and false picks each pick adds."""
    if found.picks is None:
        return None
    own = {name: found.picks.of(species=name) for name in run.species_names}
    titles = {name: map_title(found.name, name, is_only=len(own) == 1) for name in own}
    return {name: _counted(run, found, picks, name, expected_of(choices, titles[name], len(picks))) for name, picks in own.items()}


def _counted(run: ResolvedRun, found: Found, picks: Particles, species: str, expected: Expected | None) -> PackedPicks:
    scores = packed(_plain(picks.score), "<f4")
    truth = (found.truth or {}).get(species)
    if truth is None or found.tomogram is None or np.isnan(picks.score).any():
        return {"scores": scores, "curve": None, "expected": expected}
    tolerance = run.tolerance.in_voxels(found.tomogram.spacing)
    curve = precision_recall_curve(picks.position_zyx, picks.score, truth.position_zyx, tolerance=tolerance, matching=run.matching)
    last = np.searchsorted(-picks.score, -curve.threshold, side="right") - 1  # of equal scores, the last adds what all of them do
    tp, fp = (_packed_steps(counts, last, len(picks)) for counts in (curve.tp, curve.fp))
    adds: PackedCurve = {"tp": tp, "fp": fp, "truths": curve.truths}
    return {"scores": scores, "curve": adds, "expected": expected}


def _packed_steps(counts: np.ndarray, last: np.ndarray, size: int) -> str:
    """By how much counts rise at each pick: a byte each, or four where one rises by more than that holds."""
    steps = np.zeros(size, dtype=np.int64)
    steps[last] = np.diff(counts, prepend=0)
    return packed(steps, "<u1" if steps.max(initial=0) <= np.iinfo(np.uint8).max else "<u4")


def _block(run: ResolvedRun, tomogram: Tomogram, picks: Particles, truth: Mapping[str, Particles] | None, share: int) -> Block:
    """Return what the page shows when the tomogram is opened: slices, galleries, and positions of picks and truth."""
    shape: Triple = tomogram.shape
    radii = {s.name: s.radius.in_voxels(tomogram.spacing) for s in run.species}
    galleries = int(_GALLERY_SHARE * share) // len(radii)
    slices = share - galleries * len(radii)
    level = shown_level(tomogram)
    most_slices = max(_LEAST_SLICES, min(MOST_SLICES, slices // _SLICE_BYTES))
    plan = plan_slab(tomogram.at_level(level).shape[0], level, picks.position_zyx[:, 0], max(radii.values()), most_slices)
    species: dict[str, SpeciesBlock] = {}
    for name, radius in radii.items():
        own = picks.of(species=name)
        ranks = shown_ranks(len(own))
        gallery = gallery_pictures(tomogram, own.position_zyx[ranks], radius, galleries) if len(ranks) else None
        species[name] = {
            "radius": radius,
            "xyz": packed_positions(own.position_zyx, shape),
            "gallery": None if gallery is None else {**gallery, "ranks": ranks.tolist()},
            "truth": None if truth is None or name not in truth else _against(own, truth[name], run, tomogram),
        }
    return {"slab": slab_pictures(tomogram, plan, max(radii.values()), slices), "species": species}


def _against(picks: Particles, truth: Particles, run: ResolvedRun, tomogram: Tomogram) -> PackedTruth:
    """Mark the picks near a true particle, and give the score at which each true particle is found (the lowest float if never)."""
    from scipy.spatial import KDTree

    tolerance = run.tolerance.in_voxels(tomogram.spacing)
    is_true = np.zeros(len(picks), dtype=np.uint8)
    at = np.full(len(truth), np.finfo(np.float32).min, dtype=np.float32)
    if len(picks) and len(truth):
        near = np.asarray(KDTree(truth.position_zyx).query(picks.position_zyx)[0])
        is_true = (near <= tolerance).astype(np.uint8)
        for number, places in enumerate(KDTree(picks.position_zyx).query_ball_point(truth.position_zyx, tolerance)):
            if places:
                at[number] = _plain(picks.score)[places].max()
    return {"true": packed(is_true, "<u1"), "xyz": packed_positions(truth.position_zyx, tomogram.shape), "at": packed(at, "<f4")}


def _plain(scores: np.ndarray) -> np.ndarray:
    """Replace missing scores by 0."""
    return np.asarray(np.nan_to_num(scores, nan=0.0))


def _files(project: Project, output: Place) -> list[LinkedFile]:
    """List the project's files, with links relative to the page."""
    parts: Mapping[str, Place] = {
        "picks, one table per tomogram": project.picks,
        "score maps": project.scores,
        "the model": project.model,
        "tomograms": project.tomograms,
        "the evaluation": project.evaluation,
        "the settings": project.resolved,
        "the log": project.log,
    }
    found: list[LinkedFile] = []
    for what, where in parts.items():
        if not where.exists():
            continue
        link = os.path.relpath(where.resolve(), output.resolve().parent) if isinstance(where, Path) and isinstance(output, Path) else ""
        found.append({"what": what, "path": str(where), "link": link.replace(os.sep, "/")})
    return found
