"""A run with several species is a training for each of them; here are the runs of which each has one."""

from __future__ import annotations

from dataclasses import replace

from tomostream.stages.shared.click_tables import ClickTables, steps_for, unlabelled_names
from tomostream.stages.shared.resolved_run import ResolvedRun


def species_runs(run: ResolvedRun) -> list[ResolvedRun]:
    """Return the run of each species, with its clicks alone; the run itself if it has one species, or `train.together` is set."""
    if len(run.species) == 1 or run.learning.train.together:
        return [run]
    return [_of_species(run, number) for number in range(len(run.species))]


def _of_species(run: ResolvedRun, number: int) -> ResolvedRun:
    species = run.species[number]
    clicks = None if run.clicks is None else _clicks_of(run, run.clicks, species.name)
    train = run.learning.train
    if clicks is not None and "steps" not in train.model_fields_set:
        train = train.model_copy(update={"steps": steps_for(clicks.train)})
    learning = replace(run.learning, species=(species,), train=train, share=1 / len(run.species))
    values = dict(run.values) | {"species": [run.values["species"][number]], "train": run.values["train"] | {"steps": train.steps}}
    return replace(run, values=values, species=(species,), learning=learning, clicks=clicks)


def _clicks_of(run: ResolvedRun, clicks: ClickTables, species: str) -> ClickTables:
    """Return the clicks of a species; the tomograms in which only others are clicked are learnt from without clicks."""
    train, rejected = clicks.train.of(species=species), clicks.rejected.of(species=species)
    validate = None if clicks.validate is None else clicks.validate.of(species=species)
    others = unlabelled_names(run.learning, run.strategy, list(run.tomograms), train.tomograms())
    return replace(
        clicks,
        train=train,
        rejected=rejected,
        validate=validate if validate is not None and len(validate) else None,
        others=tuple(others),
        species=species,
    )
