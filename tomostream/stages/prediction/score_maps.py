"""What is to be done for one tomogram's score maps, and how far is it?  Planned before any work; finished when its last shard is.

1. `examine`: open, compare voxel spacings, plan the blocks of least redundant compute within the memory budget, and see what is there:
   finished with the same settings, half-written, or made with others (refused, unless it may be overwritten).
2. `ScoreMaps`: the half-written stores of all species, their pending shards as tasks; each finished shard is marked, and after the
   last one the stores get their names: until then they can't be mistaken for whole ones.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tomostream import defaults
from tomostream.budget import remote_bytes
from tomostream.errors import InputError
from tomostream.fingerprint import Fingerprint
from tomostream.geometry import Triple
from tomostream.progress import Progress
from tomostream.remote.places import Place, RemotePath
from tomostream.score_map import SCORES, ScoreMapAttributes
from tomostream.stages.prediction.candidates import CODEC, Reduction, remove_store, work_place
from tomostream.stages.prediction.network_grid import at_network_level, plan_on_grid
from tomostream.stages.prediction.prepare_task import Prepared
from tomostream.stages.prediction.score_fingerprints import known_scores, scores_fingerprint
from tomostream.stages.prediction.shard_task import PredictSettings, ScorerLoad, ShardDone, ShardTask
from tomostream.stages.shared.fingerprints import refuse_other_kind
from tomostream.stages.shared.opening import open_told
from tomostream.stages.shared.region_of_interest import Restriction
from tomostream.store.existing_output import refuse_other_settings
from tomostream.store.omezarr import StoreSpec, StoreWriter, store_state
from tomostream.store.zarr_opening import is_url
from tomostream.tomogram import Tomogram, open_tomogram
from tomostream.units import format_bytes

if TYPE_CHECKING:
    from tomostream.inference.plan import PredictionPlan
    from tomostream.strategies.protocol import Model


MUCH_REDUNDANCY = 5.0  # voxels computed, over the volume's: above it a larger budget is worth a word


@dataclass(frozen=True, slots=True)
class PredictTask:
    """The prediction of one tomogram."""

    name: str
    path: str
    out: Place
    settings: PredictSettings
    memory: int  # bytes, of one process
    overwrite: bool


@dataclass(frozen=True, slots=True)
class Examined:
    """A tomogram whose scores are to be made."""

    task: PredictTask
    plan: PredictionPlan
    fingerprint: Fingerprint
    paths: list[Place]  # one per species
    is_done: list[bool]

    @property
    def works(self) -> list[Place]:
        """Where the shards are written: the map's own place, or that of the work if only candidates are kept."""
        return works_of(self.paths, self.task.settings)


def works_of(paths: list[Place], settings: PredictSettings) -> list[Place]:
    """Where the shards of score maps are written."""
    return [work_place(path) for path in paths] if settings.candidates else paths


def examine(
    task: PredictTask,
    model: Model,
    identity: tuple[str, str],
    load: ScorerLoad,
    environment: tuple[tuple[str, str], ...],
    progress: Progress,
) -> Examined | list[Place]:
    """See what is to be done for a tomogram; its stores, where nothing is.

    Parameters
    ----------
    identity
        Of the model (`several_models.ModelFiles`).

    Raises
    ------
    TomostreamError
        If the tomogram does not fit the model, no block the memory, or what is there was made with other settings.
    """
    settings = task.settings
    planned = plan_scores(task, model, identity, load, environment, progress)
    plan, fingerprint, paths = planned.plan, planned.fingerprint, planned.paths
    for path in paths:
        refuse_other_kind(path, SCORES)
    works = works_of(paths, settings)
    if not task.overwrite:
        fingerprint = known_scores(paths, works, fingerprint, settings)
    states = [store_state(path, fingerprint) for path in paths]
    if all(state == "done" for state in states):
        for work in works if settings.candidates else ():
            remove_store(work)  # a kill may have left it
        progress.say(f"{task.name}: scores are already made with these settings")
        return paths
    if not task.overwrite:
        for path in (*paths, *works):
            refuse_other_settings(path, fingerprint)
    if settings.block_size is None and plan.redundancy > MUCH_REDUNDANCY:
        progress.warn(
            f"{task.name}: {format_bytes(task.memory)} leaves room only for blocks of {' x '.join(map(str, plan.core))} voxels, so each voxel is computed "
            f"{plan.redundancy:.0f} times; raise --memory for a much faster run"
        )
    return replace(planned, fingerprint=fingerprint, is_done=[state == "done" for state in states])


def plan_scores(
    task: PredictTask,
    model: Model,
    identity: tuple[str, str],
    load: ScorerLoad,
    environment: tuple[tuple[str, str], ...],
    progress: Progress,
) -> Examined:
    """Plan the score maps of a tomogram, whatever is there; nothing is written.

    Raises
    ------
    TomostreamError
        If the tomogram does not fit the model, or no block the memory.
    """
    settings = task.settings
    source = open_told(task.path, progress, voxel_size=settings.voxel_size)
    _check_spacing(model, source, progress)
    Restriction(settings.box, settings.mask).check(source.shape, task.name, spacing=source.known_spacing)
    memory = task.memory - remote_bytes(is_url(task.path) or isinstance(task.out, RemotePath))
    plan = plan_on_grid(model, source.shape, settings, memory=memory, name=task.name)
    fingerprint = scores_fingerprint(settings, model, identity, source, plan, load, environment)
    paths = [_store(task.out, model, species, task.name) for species in model.settings.species]
    return Examined(task, plan, fingerprint, paths, [False] * len(paths))


class ScoreMaps:
    """The unfinished score maps of one tomogram; close it at the end.

    Parameters
    ----------
    examined
        What is to be done.
    model, load
        The model, and how workers load it.
    prepared
        What is known of the tomogram at the model's level.
    environment
        Of the machines that may do it.
    progress
        Follows the shards.

    Raises
    ------
    TomostreamError
        If the tomogram is constant, or the stores can't be written.
    """

    def __init__(
        self,
        examined: Examined,
        model: Model,
        load: ScorerLoad,
        prepared: Prepared,
        environment: tuple[tuple[str, str], ...],
        progress: Progress,
    ) -> None:
        task, plan, normalisation = examined.task, examined.plan, prepared.normalisation
        self._examined, self._model = examined, model
        self.name, self.paths = task.name, examined.paths
        if normalisation.is_constant:
            raise InputError(f"tomogram '{task.name}' is constant (mean {normalisation.mean:g}), so there is nothing to find; leave it out")
        self._progress, self._threads = progress, load.threads
        self._stack = contextlib.ExitStack()
        with self._stack:
            self._writers = {
                number: self._stack.enter_context(_writer(examined, model, path, species))
                for number, (path, species, is_done) in enumerate(
                    zip(examined.works, model.settings.species, examined.is_done, strict=True)
                )
                if not is_done and not _is_scored(examined, path)
            }
            self._pending = {index for writer in self._writers.values() for index in writer.pending()}
            self._bar = self._stack.enter_context(progress.track(f"predict {task.name}", len(plan.shards)))
            self._bar.measure(math.prod(plan.shards.shape) // len(plan.shards))
            self._bar.skip(len(plan.shards) - len(self._pending))
            self._stack = self._stack.pop_all()
        stores = tuple((number, str(writer.partial)) for number, writer in self._writers.items())
        # any kind of machine may take a shard where kinds may be mixed
        allowed = () if task.settings.mixed_devices else environment
        self._task = (task.name, task.path, normalisation, prepared.statistics, load, plan), (stores, plan.species, task.settings, allowed)

    @property
    def is_whole(self) -> bool:
        """Whether no shard is missing."""
        return not self._pending

    def tasks(self) -> Iterator[ShardTask]:
        """The missing shards, neighbours one after the other, those above each other first: what one reads of the disk the next needs too."""
        before, after = self._task
        for z, y, x in sorted(self._pending, key=lambda index: (index[1], index[2], index[0])):
            yield ShardTask(*before, (z, y, x), *after)

    def note(self, index: Triple, done: ShardDone) -> None:
        """Mark a shard as done, and on which kind of machine."""
        machine = {"machine": {"threads": self._threads, **dict(done.machine)}}
        floors = dict(done.floors)
        for number, writer in self._writers.items():
            writer.add_note(machine)
            if floors.get(number) is not None:
                writer.add_note({"floor": floors[number]})
            writer.mark_done(index)
        for note in done.notes:
            self._progress.warn(f"{self.name}: {note}")
        self._progress.record("shard", tomogram=self.name, shard=list(index))
        self._pending.discard(index)
        self._bar.advance()

    def finish(self) -> list[Place]:
        """Give the stores their names; returns them, one per species.  Where several kinds of machines shared the work, the store names them."""
        with self._stack:
            for writer in self._writers.values():
                found = (note["machine"] for note in writer.notes if "machine" in note)
                machines = sorted(found, key=lambda machine: json.dumps(machine, sort_keys=True))
                floors = [note["floor"] for note in writer.notes if "floor" in note]
                writer.finish(
                    ({"mixed_devices": machines} if len(machines) > 1 else {}) | ({"floor": max(floors)} if floors else {}) or None
                )
        return self.paths

    @property
    def reductions(self) -> tuple[Reduction, ...]:
        """What is to be done with the finished stores, where only candidates are kept."""
        one = self._examined
        radii = dict(one.task.settings.candidates)
        if not radii:
            return ()
        todo = zip(one.paths, one.works, self._model.settings.species, one.is_done, strict=True)
        specs = [(path, work, _spec(one, self._model, species), radii[species]) for path, work, species, is_done in todo if not is_done]
        return tuple(
            Reduction(
                work=str(work),
                target=str(path),
                spec=spec,
                radius=radius.in_voxels(spec.spacing),
                fingerprint=one.fingerprint,
                overwrite=one.task.overwrite,
                memory=one.task.memory,
            )
            for path, work, spec, radius in specs
        )

    def close(self) -> None:
        """Release the stores; unfinished ones stay for a later run."""
        self._stack.close()


def _is_scored(examined: Examined, work: Place) -> bool:
    """Whether all shards were there already, and the candidates are still to be kept."""
    task = examined.task
    return bool(task.settings.candidates) and not task.overwrite and store_state(work, examined.fingerprint) == "done"


def _writer(examined: Examined, model: Model, path: Place, species: str) -> StoreWriter:
    spec = _spec(examined, model, species)
    return StoreWriter.create_or_resume(path, spec, fingerprint=examined.fingerprint, overwrite=examined.task.overwrite)


def _spec(examined: Examined, model: Model, species: str) -> StoreSpec:
    """What a store of scores holds."""
    from tomostream.inference.region_scoring import encoding_attributes

    task, plan, settings = examined.task, examined.plan, examined.task.settings
    source = open_tomogram(task.path, voxel_size=settings.voxel_size)
    attributes = ScoreMapAttributes(
        kind=SCORES,
        species=species,
        logits=settings.logits,
        tomogram=task.name,
        strategy=model.kind,
        pick_method=model.picker,
        **encoding_attributes(settings.score_dtype),
    )
    spec = StoreSpec(
        name=task.name,
        shape=source.shape,
        dtype=np.dtype(settings.score_dtype),
        spacing=source.spacing,
        chunk=plan.chunk,
        shard=plan.shard,
        codec=CODEC if settings.candidates else defaults.CODEC,
        levels=1,
        attributes=attributes.to_json(),
    )
    return at_network_level(spec, plan, settings) if settings.is_coarse(plan.level) else spec


def _store(out: Place, model: Model, species: str, name: str) -> Place:
    folder = out if len(model.settings.species) == 1 else out / species
    return folder / f"{name}.ome.zarr"


def _check_spacing(model: Model, tomogram: Tomogram, progress: Progress) -> None:
    difference = abs(tomogram.spacing / model.settings.spacing - 1)
    text = f"tomogram '{tomogram.name}' has {tomogram.spacing:g} A per voxel, the model was trained at {model.settings.spacing:g} A ({100 * difference:.1f} % apart)"
    if difference > defaults.SPACING_STOP:
        raise InputError(
            f"{text}; at most {100 * defaults.SPACING_STOP:.0f} % are allowed: bin or rescale the tomogram, or train at its spacing"
        )
    if difference > defaults.SPACING_WARN:
        progress.warn(f"{text}: to the model, particles look larger or smaller by this much; expect worse scores")
