"""What decides the bytes of a score map, and may an existing one stay instead of a new one?

1. Half-written scores go on with the same blocks only, and on the same kind of machine unless kinds may be mixed: their bytes are those of
   an undisturbed run.
2. Finished scores of the same input and settings stay, whatever machine made them, and in whatever blocks where `--block-size` asks for
   none: another machine, another memory budget, or an earlier version chose others, and the scores agree to 1e-4 of the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tomostream.errors import ExistsError
from tomostream.fingerprint import Fingerprint, differences, plain
from tomostream.remote.places import Place
from tomostream.stages.prediction.shard_task import PredictSettings, ScorerLoad
from tomostream.stages.shared.fingerprints import tomogram_fingerprint
from tomostream.stages.shared.region_of_interest import mask_fingerprint
from tomostream.store.existing_output import finished_fingerprint, half_written_head
from tomostream.store.identity import is_same_identity
from tomostream.tomogram import Tomogram

if TYPE_CHECKING:
    from tomostream.inference.plan import PredictionPlan
    from tomostream.strategies.protocol import Model

MACHINE_KEYS = ("threads", "device", "torch", "numpy")  # of a fingerprint: what the machine adds (`inference.machine`)
BLOCK_KEYS = ("core", "shard")  # what the plan adds


def scores_fingerprint(
    settings: PredictSettings,
    model: Model,
    identity: tuple[str, str],
    source: Tomogram,
    plan: PredictionPlan,
    load: ScorerLoad,
    environment: tuple[tuple[str, str], ...],
) -> Fingerprint:
    """What decides the bytes of the scores (guarantee 3); other models in the folder don't."""
    weights, record = identity
    values: Fingerprint = {
        "tomogram": tomogram_fingerprint(source),
        "model": weights,
        "settings": record,  # the arrays alone don't decide the scores
        "level": model.settings.level,
        "precision": settings.precision,
        "score_dtype": settings.score_dtype,
        "logits": settings.logits,
        "box": str(settings.box),
        "mask": mask_fingerprint(settings.mask),
        "core": list(plan.core),
        "shard": list(plan.shard),
        "threads": load.threads,
        **dict(environment),
    }
    if settings.voxel_size is not None:
        values["voxel_size"] = settings.voxel_size
    if settings.is_coarse(plan.level):
        values["grid"] = settings.grid
    if settings.candidates:
        values["candidates"] = {
            species: radius.in_voxels(source.spacing) for species, radius in settings.candidates if species in model.settings.species
        }
    if load.device == "cuda" and load.gpu_memory is not None:
        values["gpu_memory"] = load.gpu_memory  # tiles follow from it
    return plain(values)


def known_scores(paths: Sequence[Place], works: Sequence[Place], fingerprint: Fingerprint, settings: PredictSettings) -> Fingerprint:
    """Return the fingerprint to continue with: that of finished scores which are as good, or of work that was begun elsewhere.

    Parameters
    ----------
    paths, works
        The score maps, and where their shards are written.
    fingerprint
        Of what would be made.
    settings
        How.

    Raises
    ------
    ExistsError
        If scores are half-written by another kind of machine, and mixing is not allowed.
    """
    finished = as_good(paths, fingerprint, settings)
    return _begun_elsewhere([*paths, *works], fingerprint, settings.mixed_devices) if finished is None else finished


def as_good(paths: Sequence[Place], fingerprint: Fingerprint, settings: PredictSettings) -> Fingerprint | None:
    """Return the fingerprint of score maps that are all finished and as good as those that would be made; else None."""
    wanted = plain(fingerprint)
    passed_over = MACHINE_KEYS if settings.block_size is not None else (*MACHINE_KEYS, *BLOCK_KEYS)
    found = [finished_fingerprint(path) for path in paths]
    is_same = all(one is not None and one == found[0] and _is_same_work(one, wanted, passed_over) for one in found)
    return found[0] if is_same else None


def as_on_its_machine(path: Place, fingerprint: Fingerprint) -> Fingerprint:
    """Return a fingerprint with what the machine adds taken from the finished or half-written store at a path: what is left differs by the work."""
    head = half_written_head(path)
    there = finished_fingerprint(path) or (head["fingerprint"] if head is not None else {})
    work = {key: value for key, value in fingerprint.items() if key not in MACHINE_KEYS}
    return work | {key: there[key] for key in MACHINE_KEYS if key in there}


def _begun_elsewhere(paths: list[Place], fingerprint: Fingerprint, is_mixed: bool) -> Fingerprint:
    """Return the fingerprint of the same work that another kind of machine has begun or finished; else the given one."""
    wanted = plain(fingerprint)
    for path in paths:
        finished = finished_fingerprint(path)
        if finished is not None and _is_same_work(finished, wanted, MACHINE_KEYS):
            return finished
        head = half_written_head(path)
        if head is None or not _is_same_work(head["fingerprint"], wanted, MACHINE_KEYS) or head["fingerprint"] == wanted:
            continue
        if not is_mixed:
            raise ExistsError(
                f"{path} is half-written on another kind of machine ({differences(head['fingerprint'], wanted)}); continue on that kind of machine, start again with "
                "--overwrite, or accept scores that agree only to 1e-4 of the logits (float32), with --mixed-devices"
            )
        begun: Fingerprint = head["fingerprint"]
        return begun
    return fingerprint


def _is_same_work(one: Fingerprint, other: Fingerprint, passed_over: Sequence[str]) -> bool:
    """Whether two fingerprints differ at most in the keys that are passed over."""
    keys = (one.keys() | other.keys()) - set(passed_over)
    return all(is_same_identity(one.get(key), other.get(key)) for key in keys)
