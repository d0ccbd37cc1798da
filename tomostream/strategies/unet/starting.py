"""The model that a training goes on from: is it of the same shape, and what are its weights?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tomostream.config.configuration import LearningSettings
from tomostream.errors import InputError
from tomostream.remote.copies import local_folder
from tomostream.strategies.model_folder import FIRST_KIND, SETTINGS_NAME, WEIGHTS_NAME, ModelRecord, read_record

if TYPE_CHECKING:
    from tomostream.strategies.unet.network import ResidualUNet


def checked_start(settings: LearningSettings) -> ModelRecord:
    """The record of `train.start`; the weights are not read.

    Raises
    ------
    InputError
        If there is no model, or its network is another.
    """
    start = settings.train.start
    if start is None:
        raise TypeError("train.start is not given")
    record = read_record(start)
    species = [one.name for one in settings.species]
    wanted = {"strategy": FIRST_KIND, "network.channels": list(settings.network.channels), "species": species}
    channels = record.settings.get("learnt_channels") or record.settings.get("channels")  # of the part that clicks trained
    found = {"strategy": record.strategy, "network.channels": channels, "species": record.settings.get("species")}
    for key, value in wanted.items():
        if found[key] != value:
            raise InputError(
                f"train.start: the model {start} has {key} {found[key]}, this training {value}; leave train.start out, or make them equal"
            )
    return record


def load_start(settings: LearningSettings, network: ResidualUNet) -> None:
    """Put the weights and batch statistics of `train.start` into a network, if there is one.

    Raises
    ------
    InputError
        If the model is missing, broken, or of another shape.
    """
    from tomostream.strategies.unet.joining import first_of
    from tomostream.strategies.unet.model import load_model

    if settings.train.start is not None:
        checked_start(settings)
        found = load_model(local_folder(settings.train.start, (WEIGHTS_NAME, SETTINGS_NAME)))
        learnt = found.settings.learnt_channels
        network.load_state_dict((found.network if learnt is None else first_of(found.network, learnt)).state_dict())
