"""How is each tomogram of a run picked?  From the truth, the expected numbers, the model and the region; dry run and run take the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from tomostream.config import Species
from tomostream.errors import InputError
from tomostream.picking.how_many import AsManyAs
from tomostream.pipeline.regions import inside, restriction_in
from tomostream.progress import Progress
from tomostream.stages.picks.expected_count import expected_number, with_evidence
from tomostream.stages.picks.stage import Orienting, PickSettings, PickTask
from tomostream.stages.picks.wanted_number import WantedNumber
from tomostream.stages.shared.particle_tables import conversion_from
from tomostream.stages.shared.resolved_run import ResolvedRun

TrueNumbers = Mapping[str, Counter[str]] | None  # of the true particles by tomogram and species; None where they don't count


def pick_tasks(run: ResolvedRun, progress: Progress) -> list[PickTask]:
    """Return how each tomogram of a run is picked.

    Raises
    ------
    TomostreamError
        If a number of picks can't be known, or the region can't be read.
    """
    truth = _true_numbers(run)  # once: it may be a large table
    return [_pick_task(run, name, truth, progress) for name in run.tomograms]


def _pick_task(run: ResolvedRun, name: str, truth: TrueNumbers, progress: Progress) -> PickTask:
    maps = [(str(run.score_map(s, name)), _pick_settings(run, s, name, truth, progress)) for s in run.species]
    wanted = tuple((path, settings) for path, settings in maps if settings is not None)
    orients = getattr(run.strategy, "orients", False)
    orienting = Orienting(run.project.model, str(run.stores[name]), run.voxel_size) if orients else None
    return PickTask(name, wanted, run.project.picks, run.resources, orienting=orienting)


def _pick_settings(run: ResolvedRun, species: Species, name: str, truth: TrueNumbers, progress: Progress) -> PickSettings | None:
    """Return how to pick one species in one tomogram; None if no pick is wanted."""
    given = run.pick
    number = WantedNumber(given.count, given.threshold)
    if truth is not None and name not in truth:
        progress.warn(f"{name}: the truth has no row for this tomogram; the number of picks is estimated from its scores")
    is_known = run.truth is not None and species.name in run.truth.species
    true = truth[name][species.name] if truth is not None and name in truth and is_known else None
    wanted = number.of(true=true, expected=lambda: expected_number(run, species, name))
    if isinstance(wanted, AsManyAs):
        wanted = with_evidence(wanted, run, species, name)
    if wanted == 0:
        return None
    if wanted is None and not number.is_by_truth:
        raise InputError(f"how many {species.name} in '{name}'? give pick.count, pick.threshold, or species.expected")
    settings = PickSettings(
        radius=species.radius,
        how_many=wanted,
        species=species.name,
        smooth=given.smooth,
        border=given.border,
        method=given.method,
    )
    if run.region.is_everywhere:
        return settings
    region = run.region.of(name)
    return replace(settings, box=restriction_in(run, name).box, mask=region.mask, labels=tuple((region.labels or {}).items()))


def _true_numbers(run: ResolvedRun) -> TrueNumbers:
    """Count the true particles by tomogram and species, if `pick.count: truth` asks for as many picks; else None."""
    if run.pick.count != "truth" or run.truth is None:
        return None
    if run.region.is_everywhere:
        return run.truth.counts
    conversion = conversion_from(list(run.stores.values()), run.voxel_size)
    return replace(run.truth, particles=inside(run, run.truth.particles, conversion)).counts
