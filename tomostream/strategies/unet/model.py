"""What is a trained model on disk?  A folder of two files: `model.safetensors` (weights) and `model.json` (all that their use needs).

The JSON file is written last and holds the hash of the weights, so that a folder which was killed half-way, or mixed by hand, is
recognised.  The same model gives the same bytes.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from tomostream.errors import InputError
from tomostream.learn.batch_norm_folding import deployed
from tomostream.remote.atomic_files import write_atomically
from tomostream.strategies.unet.network import ResidualUNet

WEIGHTS_NAME = "model.safetensors"
SETTINGS_NAME = "model.json"
_FORMAT = 1
_PROFILE = "matched."  # and the species' number: arrays beside the network's


@dataclass(frozen=True, slots=True)
class MatchedSettings:
    """How a matched filter joins the network (`strategies.unet.fusion`); one value a species where there are several."""

    support_vox: tuple[float, ...]  # radius of the ball that is compared, voxels of the network's level
    floor: float  # of the correlation's local variance, standard deviations
    weight: tuple[float, ...]  # logits a unit of correlation
    intercept: tuple[float, ...]  # logits
    smooth_vox: float  # radius of the ball over which the network's logits are averaged, voxels


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What a network is, and what its input must look like."""

    channels: tuple[int, ...]  # of the levels of the U-Net, finest first
    species: tuple[str, ...]  # name of each output channel
    radius_ang: tuple[float, ...]  # of each species, angstrom
    level: int  # pyramid level that the network reads
    spacing: float  # voxel spacing of level 0 in training, angstrom
    clip_sigma: float  # where the standardised input is clipped, standard deviations
    label_shape: str  # sphere, gaussian or cube
    objective: dict[str, float | str]  # name and parameters
    precision: str  # of training: float32 or bf16
    trained_on: tuple[str, ...]  # names of the tomograms
    version: str  # of tomostream
    matched: MatchedSettings | None = None  # None: the network alone
    batch_statistics: str = "training"  # in prediction: the training's, or those of each "tomogram"

    def __post_init__(self) -> None:
        if len(self.radius_ang) != len(self.species):
            raise InputError(f"a model needs one radius for each species, found {len(self.radius_ang)} for {', '.join(self.species)}")
        if self.level < 0 or not self.spacing > 0:
            raise InputError(f"a model's level must not be negative and its spacing above zero, found {self.level} and {self.spacing} A")
        if self.batch_statistics not in ("tomogram", "training"):
            raise InputError(f"a model's batch statistics are those of each tomogram or of training, found {self.batch_statistics!r}")


@dataclass(frozen=True)  # no slots: the folded network is cached on the instance
class Model:
    """A trained model."""

    network: ResidualUNet  # evaluation mode, batch-norm not folded
    settings: ModelSettings
    folder: Path
    extra: dict[str, Any]  # what training wanted to say besides: its summary, the configuration
    profiles: tuple[np.ndarray, ...] = ()  # of the matched filter: the clicked particles' radial profile, one a species

    @cached_property
    def deployed(self) -> nn.Module:
        """The network as deployed: batch-norm folded, float32."""
        return deployed(self.network)


def save_model(
    folder: Path, network: ResidualUNet, settings: ModelSettings, extra: dict[str, Any], profiles: tuple[np.ndarray, ...] = ()
) -> None:
    """Write a model folder, replacing a model that is there.

    Parameters
    ----------
    profiles
        Of the matched filter, float64 (r,), one a species; none without `settings.matched`.
    extra
        Further JSON values to keep; equal models have equal bytes only if it holds no times.

    Raises
    ------
    InputError
        If the folder can't be written.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    tensors |= {f"{_PROFILE}{number}": torch.from_numpy(profile) for number, profile in enumerate(profiles)}
    weights = save_tensors(tensors)
    write_folder(folder, "unet", weights, asdict(settings), extra)


def write_folder(folder: Path, strategy: str, weights: bytes, settings: dict[str, Any], extra: dict[str, Any]) -> None:
    """Write the two files of a model of any strategy, the JSON file last.

    Parameters
    ----------
    strategy
        Who understands the weights and the settings.
    weights
        The content of `model.safetensors`.
    settings, extra
        JSON values.

    Raises
    ------
    InputError
        If the folder can't be written.
    """
    sha256 = hashlib.sha256(weights).hexdigest()
    content = {"format": _FORMAT, "strategy": strategy, "weights_sha256": sha256, "settings": settings, "extra": extra}
    write_atomically(folder / WEIGHTS_NAME, weights)
    write_atomically(folder / SETTINGS_NAME, (json.dumps(content, indent=1) + "\n").encode())


def read_folder(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Read the two files of a model of any strategy: the JSON values, and the bytes of the weights that belong to them.

    Raises
    ------
    InputError
        If it is missing, half-written, changed, or no model of tomostream.
    """
    if not folder.is_dir():
        raise InputError(f"model folder {folder} does not exist; give the folder that `tomostream train` wrote")
    try:
        content = json.loads((folder / SETTINGS_NAME).read_bytes())
        weights = (folder / WEIGHTS_NAME).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{folder} is no model folder: it lacks {Path(error.filename).name}; did training finish?") from None
    except (OSError, ValueError) as error:
        raise InputError(f"model folder {folder} can't be read: {error}") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise InputError(f"{folder / SETTINGS_NAME} is not a model of this version of tomostream (format {_FORMAT}), found {found!r}")
    if content.get("weights_sha256") != hashlib.sha256(weights).hexdigest():
        raise InputError(
            f"{folder / WEIGHTS_NAME} does not belong to {SETTINGS_NAME} (its hash differs): half-written or changed; train again"
        )
    return content, weights


def load_model(folder: Path) -> Model:
    """Read the model folder of a U-Net.

    Raises
    ------
    InputError
        If it is missing, half-written, changed, no model of tomostream, or of another strategy.
    """
    content, weights = read_folder(folder)
    strategy = content.get("strategy", "unet")  # folders of before there were strategies don't say
    if strategy != "unet":
        raise InputError(f"model folder {folder} holds no U-Net but a model of the strategy {strategy!r}")
    try:
        settings = _settings_from(content["settings"])
        network = ResidualUNet(settings.channels, len(settings.species), seed=0)
        tensors = load_tensors(weights)
        count = 0 if settings.matched is None else len(settings.species)
        profiles = tuple(tensors.pop(f"{_PROFILE}{number}").numpy() for number in range(count))
        network.load_state_dict(tensors)
        extra = dict(content["extra"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"model folder {folder} is broken: {' '.join(str(error).split())[:300]}") from None
    return Model(network.eval().requires_grad_(False), settings, folder, extra, profiles)


def _settings_from(values: dict[str, Any]) -> ModelSettings:
    """Bring JSON's types back: lists to tuples, whole numbers to floats where floats are meant."""
    return ModelSettings(
        channels=tuple(int(c) for c in values["channels"]),
        species=tuple(str(name) for name in values["species"]),
        radius_ang=tuple(float(radius) for radius in values["radius_ang"]),
        level=int(values["level"]),
        spacing=float(values["spacing"]),
        clip_sigma=float(values["clip_sigma"]),
        label_shape=str(values["label_shape"]),
        objective={str(name): value if isinstance(value, str) else float(value) for name, value in values["objective"].items()},
        precision=str(values["precision"]),
        trained_on=tuple(str(name) for name in values["trained_on"]),
        version=str(values["version"]),
        matched=_matched_from(values.get("matched")),
        batch_statistics=str(values.get("batch_statistics", "training")),  # folders of before there was a choice don't say
    )


def _matched_from(values: dict[str, Any] | None) -> MatchedSettings | None:
    if values is None:
        return None
    lists = {key: tuple(float(value) for value in values[key]) for key in ("support_vox", "weight", "intercept")}
    return MatchedSettings(floor=float(values["floor"]), smooth_vox=float(values["smooth_vox"]), **lists)
