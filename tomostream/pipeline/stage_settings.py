"""The settings with which a run's stages work, of the resolved run: dry run and run take the same."""

from __future__ import annotations

from tomostream.stages.prediction.shard_task import PredictSettings
from tomostream.stages.shared.resolved_run import ResolvedRun
from tomostream.units import parse_shape


def predict_settings(run: ResolvedRun) -> PredictSettings:
    """Return how the tomograms of a run are scored."""
    given = run.predict
    return PredictSettings(
        voxel_size=run.voxel_size,
        precision=given.precision,
        score_dtype=given.score_dtype,
        logits=given.logits,
        grid=given.grid,
        block_size=parse_shape(given.block_size) if given.block_size else None,
        device=given.device,
        mixed_devices=given.mixed_devices,
        candidates=tuple((species.name, species.radius) for species in run.species) if given.keep == "candidates" else (),
    )
