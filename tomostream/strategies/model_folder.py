"""What does a strategy that is not the U-Net keep on disk?  The same model folder: arrays in `model.safetensors`, facts in `model.json`.

`settings` are what every stage must know of any model; `options` are the strategy's own, plain JSON values.  The same model gives the same bytes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from tomostream.errors import InputError
from tomostream.strategies.unet.model import Model, read_folder, write_folder


@dataclass(frozen=True, slots=True)
class StrategySettings:
    """What any model must say of itself."""

    species: tuple[str, ...]  # name of each output
    radius_ang: tuple[float, ...]  # of each species, angstrom
    level: int  # pyramid level that is read
    spacing: float  # voxel spacing of level 0 in training, angstrom
    clip_sigma: float  # where the standardised input is clipped, standard deviations
    trained_on: tuple[str, ...]  # names of the tomograms
    version: str  # of tomostream
    options: dict[str, Any]  # the strategy's own

    def __post_init__(self) -> None:
        if len(self.radius_ang) != len(self.species) or not self.species:
            raise InputError(f"a model needs one radius for each species, found {len(self.radius_ang)} for '{', '.join(self.species)}'")
        if self.level < 0 or not self.spacing > 0:
            raise InputError(f"a model's level must not be negative and its spacing above zero, found {self.level} and {self.spacing} A")


@dataclass(frozen=True, slots=True, eq=False)
class StrategyModel:
    """A trained model of a strategy."""

    strategy: str
    settings: StrategySettings
    arrays: dict[str, np.ndarray]
    folder: Path
    extra: dict[str, Any]  # what training wanted to say besides


AnyModel = Model | StrategyModel


def save_strategy_model(
    folder: Path, strategy: str, arrays: Mapping[str, np.ndarray], settings: StrategySettings, extra: dict[str, Any]
) -> None:
    """Write a model folder, replacing a model that is there.

    Parameters
    ----------
    strategy
        Its name, as in the configuration's `objective.name`.
    arrays
        What was learnt.
    extra
        Further JSON values to keep; equal models have equal bytes only if it holds no times.

    Raises
    ------
    InputError
        If the folder can't be written.
    """
    weights = save_arrays({name: np.ascontiguousarray(value) for name, value in sorted(arrays.items())})
    write_folder(folder, strategy, weights, asdict(settings), extra)


def load_strategy_model(folder: Path) -> StrategyModel:
    """Read the model folder of a strategy that is not the U-Net.

    Raises
    ------
    InputError
        If it is missing, half-written, changed, or broken.
    """
    content, weights = read_folder(folder)
    try:
        settings = _settings_from(content["settings"])
        arrays = {str(name): value for name, value in load_arrays(weights).items()}
        extra = dict(content["extra"])
    except (KeyError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        raise InputError(f"model folder {folder} is broken: {' '.join(str(error).split())[:300]}") from None
    return StrategyModel(str(content["strategy"]), settings, arrays, folder, extra)


def _settings_from(values: dict[str, Any]) -> StrategySettings:
    return StrategySettings(
        species=tuple(str(name) for name in values["species"]),
        radius_ang=tuple(float(radius) for radius in values["radius_ang"]),
        level=int(values["level"]),
        spacing=float(values["spacing"]),
        clip_sigma=float(values["clip_sigma"]),
        trained_on=tuple(str(name) for name in values["trained_on"]),
        version=str(values["version"]),
        options=dict(values["options"]),
    )
