"""`report`: gather what a project folder holds, and draw it on one page.

1. Tables: the evaluation, and the number of picks and labels of every tomogram.
2. Training curves.
3. For the first few tomograms that have picks: the slice that holds most of them, its scores, hits, misses and false picks.
4. The resolved configuration.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from scipy import ndimage

from tomostream.config import Species, load_configuration
from tomostream.errors import InputError
from tomostream.evaluation import match
from tomostream.evaluation.answer import EvaluationAnswer, TomogramsAnswer, parts_of
from tomostream.formats.registry import read_table
from tomostream.geometry import Box
from tomostream.learn.training_files import METRICS_NAME
from tomostream.particles import Particles
from tomostream.project import Project
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.places import Place, place
from tomostream.score_map import open_score_map
from tomostream.stages.shared.resolved_run import ResolvedRun, resolve
from tomostream.strategies.model_folder import read_record
from tomostream.tomogram import Tomogram, open_tomogram

if TYPE_CHECKING:
    from tomostream.report.pictures import SliceView

PICTURES = 8  # tomograms with a picture: the page stays below some 10 MB
SLAB_VOX = 5  # slices averaged for a picture: one alone shows little but noise
EYE_SIGMA = 0.15  # of the radius: standard deviation of the smoothing of a picture
WIDEST_VOX = 1400  # of a picture; wider slices are drawn from a coarser level


@dataclass(frozen=True, slots=True)
class Found:
    """What a run found in one tomogram: picks and truth in voxels, or None where there is none."""

    tomogram: Tomogram
    picks: Particles
    truth: Particles | None


def write_report(run: Place, output: Place) -> None:
    """Write the page of a project folder.

    Raises
    ------
    InputError
        If the folder is no project, or the page can't be written.
    """
    from tomostream.report.page import Section, render_page
    from tomostream.report.pictures import score_histogram, slice_picture, training_curves

    run, output = place(run), place(output)
    project = Project(run)
    if not project.resolved.exists():
        raise InputError(f"{run} is no project folder: it has no {project.resolved.name}; give the folder of `tomostream run` or `demo`")
    given = resolve(load_configuration(project.resolved), with_clicks=False, with_truth=True)
    found = find_results(given)
    sections: list[Section] = []
    evaluation = _evaluation(project.evaluation)
    if evaluation is not None:
        rule = "a truth counts as found if a pick lies within the tolerance" if given.matching == "any" else "one pick, one truth"
        for kind, part in parts_of(evaluation):
            title = "Evaluation" if kind is None else f"Evaluation: {kind}"
            sections.append(Section(title, f"Tolerance {given.tolerance}; {rule}.", *_scores(part)))
    sections.append(Section("Picks", columns=("tomogram", "picks", "best score", "worst score"), rows=[_pick_row(f) for f in found]))
    metrics = _metrics(project.model / METRICS_NAME)
    if metrics:
        best = _best_epoch(project.model)
        text = "Recall, F1 and criterion are those of the validation clicks: the other particles are not known to training."
        sections.append(Section("Training", text, pictures=[training_curves(metrics, best)]))
    shown = [f for f in found if len(f.picks)][:PICTURES]
    for item in shown:
        pictures = [slice_picture(view_slice(item, species, given)) for species in given.species]
        sections.append(Section(item.tomogram.name, pictures=pictures))
    scores = np.concatenate([f.picks.score for f in found]) if found else np.empty(0)
    if np.isfinite(scores).any():
        sections.append(Section("Scores", pictures=[score_histogram(scores[np.isfinite(scores)], "all tomograms")]))
    sections.append(Section("Configuration", code=project.resolved.read_text(encoding="utf-8")))
    total = sum(len(f.picks) for f in found)
    summary = f"{total} picks in {len(found)} tomograms; species {', '.join(s.name for s in given.species)}."
    write_atomically(output, render_page(f"tomostream: {run.resolve().name}", summary, sections))


def find_results(run: ResolvedRun) -> list[Found]:
    """Read the picks, and the truth, of every tomogram that was picked."""
    truth = None if run.truth is None else run.truth.particles.positives()
    result: list[Found] = []
    for name, store in run.stores.items():
        table = run.project.picks / f"{name}.csv"
        if not table.exists():
            continue
        tomogram = open_tomogram(store, voxel_size=run.voxel_size)
        picks = read_table(table).in_unit("voxel", tomogram.spacing)
        known = None if truth is None or name not in truth.tomograms() else truth.of(tomogram=name).in_unit("voxel", tomogram.spacing)
        result.append(Found(tomogram, picks, known))
    return result


def view_slice(found: Found, species: Species, run: ResolvedRun) -> SliceView:
    """Cut the slice with most picks, at a level whose picture is not too wide."""
    from tomostream.report.pictures import SliceView

    whole = found.tomogram
    radius = species.radius.in_voxels(whole.spacing)
    level = 0
    while max(whole.at_level(level).shape[1:]) > WIDEST_VOX:
        level += 1
    tomogram = whole.at_level(level)
    picks = tomogram.to_level_positions(found.picks.of(species=species.name).position_zyx)
    depth = tomogram.shape[0]
    z = int(np.bincount(np.clip(np.rint(picks[:, 0]).astype(int), 0, depth - 1), minlength=depth).argmax()) if len(picks) else depth // 2
    slab = Box((z - SLAB_VOX // 2, 0, 0), (z + SLAB_VOX // 2 + 1, *tomogram.shape[1:])).clipped(Box.whole(tomogram.shape))
    # smoothed for the eye only: at full resolution the noise hides what the network sees
    image: np.ndarray = ndimage.gaussian_filter(tomogram.read(slab).astype(np.float32).mean(axis=0), EYE_SIGMA * radius / 2**level)
    truth = None if found.truth is None else tomogram.to_level_positions(found.truth.of(species=species.name).position_zyx)
    if truth is None:
        hits, misses, false_picks = picks, picks[:0], picks[:0]
    else:
        tolerance = run.tolerance.in_voxels(whole.spacing) / 2**level
        matching = match(picks, truth, tolerance=tolerance, matching=run.matching)
        hits, false_picks = picks[matching.truth_of_pick >= 0], picks[matching.truth_of_pick < 0]
        misses = truth[matching.pick_of_truth < 0]
    return SliceView(
        name=whole.name,
        z=z,
        image=image,
        scores=_scores_at(run.score_map(species, whole.name), z, level),
        hits=hits,
        misses=misses,
        false_picks=false_picks,
        radius=radius / 2**level,
        has_truth=truth is not None,
    )


def _scores_at(path: Place, z: int, level: int) -> np.ndarray | None:
    """Read one slice of a score map; None if the map was not kept."""
    if not path.exists():
        return None
    scores = open_score_map(path).at_level(level)
    if scores.attributes.logits:
        return None
    return np.asarray(scores.read(Box((z, 0, 0), (z + 1, *scores.shape[1:])))[0], dtype=np.float32)


def _pick_row(found: Found) -> list[str]:
    scores = found.picks.score
    ends = [f"{scores.max():.3f}", f"{scores.min():.3f}"] if len(scores) and np.isfinite(scores).all() else ["", ""]
    return [found.tomogram.name, str(len(found.picks)), *ends]


def _scores(part: TomogramsAnswer) -> tuple[list[str], list[list[str]]]:
    columns = ["tp", "fp", "fn", "precision", "recall", "f1"]
    named = [(name, dict(scores.items())) for name, scores in [*part["tomograms"].items(), ("pooled", part["pooled"])]]
    rows = [[name, *(f"{v[c]:.3f}" if isinstance(v[c], float) else str(v[c]) for c in columns)] for name, v in named]
    return ["tomogram", *columns], rows


def _metrics(path: Place) -> list[dict[str, float]]:
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(lines)]


def _best_epoch(model: Place) -> int | None:
    try:
        return read_record(model).summary.best_epoch
    except InputError:
        return None


def _evaluation(path: Place) -> EvaluationAnswer | None:
    """Read `evaluation.json`; None where there is none, or a broken one: the page does without."""
    try:
        return cast(EvaluationAnswer, json.loads(path.read_text()))
    except (OSError, ValueError):
        return None
