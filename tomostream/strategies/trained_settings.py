"""The settings of the model that a training gives: what all strategies write, and what one adds."""

from __future__ import annotations

from typing import Any, TypeVar

from tomostream import defaults
from tomostream.strategies.model_folder import ModelSettings
from tomostream.strategies.training_set import Training
from tomostream.version import VERSION

S = TypeVar("S", bound=ModelSettings)


def settings_from(kind: type[S], training: Training, **own: Any) -> S:
    """Return the settings of the model that a training gives.

    Parameters
    ----------
    kind
        `ModelSettings`, or the strategy's own class derived from it.
    own
        The fields that the class adds, and `batch_statistics` of a network.
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
