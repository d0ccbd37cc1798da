"""Make the settings of a model from the settings of its training."""

from __future__ import annotations

from typing import Any, TypeVar

from tomostream import defaults
from tomostream.strategies.model_folder import ModelSettings
from tomostream.strategies.training_set import Training
from tomostream.version import VERSION

S = TypeVar("S", bound=ModelSettings)


def settings_from(kind: type[S], training: Training, **own: Any) -> S:
    """Return the settings of the model that a training produces.

    Parameters
    ----------
    kind
        `ModelSettings`, or the strategy's own subclass of it.
    training
        Provides the fields that all models have.
    own
        Values of the fields that the subclass adds, and of `batch_statistics` for a network.
    """
    return kind(
        species=training.species_names,
        radius_ang=training.radii_ang,
        level=training.level,
        spacing=training.spacing,
        clip_sigma=defaults.CLIP_SIGMA,
        normalisation=training.normalisation,
        trained_on=training.labelled.names,
        version=VERSION,
        **own,
    )
