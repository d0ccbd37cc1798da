"""Check and load the model from which a training starts (`train.start`): of several models in a folder, that of the same species."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tomostream.config.configuration import LearningSettings
from tomostream.errors import InputError
from tomostream.strategies.model_folder import FIRST_KIND, ModelRecord, local_model, read_folder, read_record
from tomostream.strategies.several_models import contents, records_in

if TYPE_CHECKING:
    from tomostream.strategies.unet.network import ResidualUNet


def checked_start(settings: LearningSettings) -> ModelRecord:
    """Return the record of the model `train.start`, without reading its weights.

    Raises
    ------
    InputError
        If there is no model there, or it differs from this training in kind, channels or species.
    """
    start = settings.train.start
    if start is None:
        raise TypeError("train.start is not given")
    records = records_in(read_record(start), start)
    species = [one.name for one in settings.species]
    record = records[_place(records, species)]
    wanted = {"strategy": FIRST_KIND, "network.channels": list(settings.network.channels), "species": species}
    channels = record.settings.get("learnt_channels") or record.settings.get("channels")  # without a joined pretrained network
    found = {"strategy": record.strategy, "network.channels": channels, "species": record.settings.get("species")}
    if len(records) > 1 and found["species"] != species:
        known = ", ".join(str(name) for one in records for name in one.settings.get("species", []))
        raise InputError(
            f"train.start: the model {start} has models of {known}, none of {', '.join(species)}; train that species without train.start"
        )
    for key, value in wanted.items():
        if found[key] != value:
            raise InputError(
                f"train.start: the model {start} has {key} {found[key]}, this training {value}; leave train.start out, or make them equal"
            )
    return record


def load_start(settings: LearningSettings, network: ResidualUNet) -> None:
    """Load the weights and batch-norm statistics of `train.start`, if it is given, into a network.

    If the model has a joined pretrained network, only the trained part is loaded, with the weights that it had before it was joined.

    Raises
    ------
    InputError
        If the model is missing or broken, or has another shape.
    """
    from tomostream.strategies.unet.joining import first_of, scaled
    from tomostream.strategies.unet.model import unpack

    if settings.train.start is not None:
        checked_start(settings)
        folder = local_model(settings.train.start)
        models = contents(*read_folder(folder), folder)
        found = unpack(*models[_place([record for record, _ in models], [one.name for one in settings.species])], folder)
        learnt, shares = found.settings.learnt_channels, found.settings.network_shares
        trained = found.network if learnt is None else first_of(found.network, learnt)
        network.load_state_dict((trained if shares is None else scaled(trained, [1 / share for share in shares])).state_dict())


def _place(records: Sequence[ModelRecord], species: Sequence[str]) -> int:
    """Return the place of the model of these species among the models of a folder; 0 if there is none, which is refused by its species."""
    return next((place for place, one in enumerate(records) if list(one.settings.get("species", [])) == list(species)), 0)
