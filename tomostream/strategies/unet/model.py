"""A trained U-Net, with or without a matched filter: its settings, its folder, its scorer and its blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.inference.batch_statistics import Sampling, with_statistics
from tomostream.inference.face_noise import FACE_GAINS, FaceNoise, Gains
from tomostream.inference.plan import PlanRequest, PredictionPlan
from tomostream.inference.protocol import BlockScorer
from tomostream.inference.quiet_faces import quiet
from tomostream.learn.batch_norm_folding import deployed
from tomostream.strategies.model_folder import ModelRecord, ModelSettings, TrainingSummary, read_folder, settings_of, write_folder
from tomostream.strategies.protocol import Model
from tomostream.strategies.unet.device_scorer import DeviceFusedScorer, DeviceUNetScorer
from tomostream.strategies.unet.fusion import FusedScorer, MatchedSettings
from tomostream.strategies.unet.lookalikes import LookAlikes
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.planning import plan_prediction
from tomostream.strategies.unet.scorer import StreamedNetwork, UNetScorer

KIND = "unet"
_KERNEL_BYTES = 4 * 27  # bytes of a 3x3x3 float32 convolution, per input and output channel
_PROFILE = "matched."  # prefix of the filter's arrays; the index of the species follows


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetSettings(ModelSettings):
    """Settings of a U-Net and of the matched filter that joins it."""

    channels: tuple[int, ...]  # channels of the U-Net's levels, finest first
    label_shape: str  # sphere, gaussian or cube
    objective: dict[str, float | str]  # name and parameters
    precision: str  # precision of training: float32 or bf16
    matched: MatchedSettings | None = None  # None: the network alone
    learnt_channels: tuple[int, ...] | None = None  # the part of `channels` that the clicks trained, see `joining`; None: all
    network_shares: tuple[float, ...] | None = None  # what the trained network's logits were multiplied by (`network_trust`); None: 1
    faces: FaceNoise | None = None  # how noise near the faces is treated; None: like the rest
    lookalikes: LookAlikes | None = None  # how look-alikes are told from particles; None: they are not


@dataclass(frozen=True)  # no slots: the folded network is cached on the instance
class UNetModel(Model):
    """A trained U-Net, with or without a matched filter.

    Parameters
    ----------
    network
        The network in evaluation mode, batch-norm not folded.
    profiles
        Radial profiles of the matched filter, float64 (r,), one per species; empty without a filter.
    gains
        By how much the logits near the faces of one tomogram are divided (`inference.face_noise`); None: by nothing.
    """

    settings: UNetSettings
    network: ResidualUNet
    profiles: tuple[np.ndarray, ...] = ()
    gains: Gains | None = None
    kind = KIND
    picker = "greedy"

    @cached_property
    def deployed(self) -> ResidualUNet:
        """The network with batch-norm folded into its convolutions, float32."""
        return deployed(self.network)

    def scorer(self, *, device: str, precision: str, threads: int | None, gpu_memory: int | None = None) -> BlockScorer:
        """Return the model, ready to score blocks; see `Model.scorer`."""
        scorer = self._scorer(device, precision, threads, gpu_memory)
        return scorer if self.gains is None or self.settings.faces is None else quiet(scorer, self.settings.faces, self.gains)

    def _scorer(self, device: str, precision: str, threads: int | None, gpu_memory: int | None) -> BlockScorer:
        network = StreamedNetwork(self.deployed, device=device, precision=precision, threads=threads, gpu_memory=gpu_memory)
        matched = self.settings.matched
        lookalikes = self.settings.lookalikes
        if network.device.type != "cpu":
            return DeviceUNetScorer(network) if matched is None else DeviceFusedScorer(network, matched, self.profiles, lookalikes)
        if matched is None:
            return UNetScorer(network)
        return FusedScorer(network, matched, self.profiles, lookalikes, threads=threads)

    def plan(self, request: PlanRequest, *, precision: str) -> PredictionPlan:
        """Plan the blocks in which a volume is scored; see `Model.plan`.

        The memory of the network alone follows a formula, so all candidate blocks can be compared (`planning`).
        """
        if self.settings.matched is not None:
            return super().plan(request, precision=precision)
        return plan_prediction(request, self.network, precision=precision)

    @property
    def sampled(self) -> tuple[ResidualUNet, Sampling]:
        """The network, and the crops from which the batch-norm statistics of a tomogram are measured."""
        return self.network, unet_sampling(self.network.stride)

    @property
    def face_noise(self) -> FaceNoise | None:
        """How noise near the faces of a tomogram is treated."""
        return self.settings.faces

    def with_statistics(self, statistics: Mapping[str, np.ndarray]) -> UNetModel:
        """Return a copy of the model for the tomogram with these statistics; see `Model.with_statistics`."""
        gains = {name: value for name, value in statistics.items() if name in FACE_GAINS}
        rest = {name: value for name, value in statistics.items() if name not in FACE_GAINS}
        return replace(self, network=with_statistics(self.network, rest), gains=gains)


def save_model(
    folder: Path,
    network: ResidualUNet,
    settings: UNetSettings,
    summary: TrainingSummary | None = None,
    profiles: tuple[np.ndarray, ...] = (),
) -> None:
    """Write a model folder, replacing an existing model.

    Parameters
    ----------
    folder
        An existing folder.
    network
        The network, batch-norm not folded.
    settings
        Settings of the model.
    summary
        What training reports; None: nothing.
    profiles
        Radial profiles of the matched filter, float64 (r,), one per species; empty without `settings.matched`.

    Raises
    ------
    InputError
        If the folder can't be written.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    tensors |= {f"{_PROFILE}{number}": torch.from_numpy(profile) for number, profile in enumerate(profiles)}
    write_folder(folder, KIND, save_tensors(tensors), settings, summary or TrainingSummary())


def load_model(folder: Path) -> UNetModel:
    """Load a U-Net from its model folder.

    Raises
    ------
    InputError
        If the folder is missing, half-written or modified, or holds no model of tomostream or a model of another kind.
    """
    record, weights = read_folder(folder)
    if record.strategy != KIND:
        raise InputError(f"model folder {folder} must hold a U-Net, found a model of kind {record.strategy!r}")
    return unpack(record, weights, folder)


def unpack(record: ModelRecord, weights: bytes, folder: Path) -> UNetModel:
    """Build a model from the content of its folder.

    Raises
    ------
    InputError
        If the record and the weights don't belong together.
    """
    settings = settings_of(record, UNetSettings, folder)
    if not settings.channels or min(settings.channels) < 1 or _KERNEL_BYTES * max(settings.channels) ** 2 > len(weights):
        raise InputError(
            f"model folder {folder} is broken: {len(weights)} bytes of weights are too few for a network with channels {settings.channels}"
        )
    if settings.faces is not None and len(settings.faces.background) != len(settings.species):
        raise InputError(
            f"model folder {folder} is broken: faces.background must have a value for each of the {len(settings.species)} species, "
            f"found {len(settings.faces.background)}"
        )
    if settings.lookalikes is not None:
        try:
            settings.lookalikes.check(() if settings.matched is None else settings.matched.support_vox)
        except ValueError as error:
            raise InputError(f"model folder {folder} is broken: lookalikes: {error}") from None
    try:
        network = ResidualUNet(settings.channels, len(settings.species), seed=0)
        tensors = load_tensors(weights)
        count = 0 if settings.matched is None else len(settings.species)
        profiles = tuple(tensors.pop(f"{_PROFILE}{number}").numpy() for number in range(count))
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"model folder {folder} is broken: {' '.join(str(error).split())[:300]}") from None
    return UNetModel(settings, record.summary, folder, network.eval().requires_grad_(False), profiles)


def unet_sampling(stride: int) -> Sampling:
    """Return the crops from which the batch-norm statistics of a U-Net of this stride are measured."""
    edge = -(-defaults.CROP_VOX // stride) * stride
    return Sampling((edge, edge, edge), (stride, stride, stride))
