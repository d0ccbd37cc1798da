"""The sections of the configuration that every run has, whatever its strategy; a strategy's own sections lie in its folder."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tomostream import defaults
from tomostream.catalogue import STRATEGIES, installed
from tomostream.config.fields import LengthField, Part, ShapeText, TimeText

PickMethod = Literal["greedy", "mean-pool", "trace"]
Precision = Literal["auto", "float32", "bf16"]
Symmetry = Literal["cube", "wedge", "none"]


def _installed_strategy(name: str) -> str:
    names = list(installed(STRATEGIES))
    if name not in names:
        near = difflib.get_close_matches(name, names, 1, 0.5)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"must be an installed strategy ({', '.join(names)}), found '{name}'{hint}")
    return name


StrategyName = Annotated[str, AfterValidator(_installed_strategy)]


class Species(Part):
    """One kind of particle to find."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")
    radius: LengthField
    expected: int | dict[str, int] | None = None  # number of particles per tomogram, or one number for each

    def expected_in(self, tomogram: str) -> int | None:
        """The number of particles that the user expects in this tomogram."""
        return self.expected.get(tomogram) if isinstance(self.expected, dict) else self.expected

    @model_validator(mode="after")
    def _numbers(self) -> Species:
        for number in self.expected.values() if isinstance(self.expected, dict) else [self.expected]:
            if number is not None and number < 0:
                raise ValueError(f"expected is a number of particles, at least 0, found {number}")
        return self


class Labels(Part):
    """Tables of clicked centres."""

    train: list[str] = Field(min_length=1)
    validate_: list[str] = Field(default=[], alias="validate")


class ObjectiveSettings(Part):
    """Which strategy learns, and its parameters: what to do with unlabelled voxels."""

    name: StrategyName = defaults.OBJECTIVE
    weight: float = Field(default=defaults.KL_WEIGHT, gt=0)  # of the divergence (kl)
    order: Literal["prior_to_pu", "pu_to_prior"] = defaults.KL_ORDER
    prior: float | None = Field(default=None, gt=0, lt=1)  # fraction of particle voxels; default: from the expected number


class Network(Part):
    """The residual U-Net."""

    channels: tuple[int, ...] = Field(default=defaults.CHANNELS, min_length=1, max_length=6)
    level: int | Literal["auto"] = defaults.LEVEL
    backbone: Literal["auto", "none"] = defaults.BACKBONE  # pretrained weights: what the strategy knows to use, or none at all
    batch_statistics: Literal["tomogram", "training"] = defaults.BATCH_STATISTICS  # of batch-norm, in prediction


class Train(Part):
    """Sampling and optimisation."""

    crop: int = Field(default=defaults.CROP_VOX, ge=8)  # voxels of the network's level
    batch: int = Field(default=defaults.BATCH, ge=1)
    steps: int = Field(default=defaults.STEPS, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    steps_per_epoch: int = Field(default=defaults.STEPS_PER_EPOCH, ge=1)
    learning_rate: float = Field(default=defaults.LEARNING_RATE, gt=0)
    schedule: Literal["cosine", "plateau"] = defaults.SCHEDULE
    labelled_fraction: float = Field(default=defaults.LABELLED_FRACTION, ge=0, le=1)
    symmetry: Symmetry = defaults.SYMMETRY
    label_shape: Literal["sphere", "gaussian", "cube"] = defaults.LABEL_SHAPE
    label_radius: LengthField | None = None  # default: the species' radius
    unlabelled: int = Field(default=defaults.UNLABELLED_TOMOGRAMS, ge=0)  # tomograms without labels to learn from too, at most
    seed: int = Field(default=defaults.SEED, ge=0)
    precision: Precision = defaults.PRECISION


class Predict(Part):
    """Inference."""

    precision: Literal["float32", "bf16"] = defaults.PREDICT_PRECISION
    score_dtype: Literal["float32", "float16", "int8"] = defaults.SCORE_DTYPE
    logits: bool = False
    block_size: ShapeText = None
    device: Literal["auto", "cpu", "cuda"] = defaults.DEVICE
    mixed_devices: bool = False  # machines of several kinds may share a score map


class Pick(Part):
    """How many peaks are particles."""

    count: int | Literal["truth", "auto"] | None = None
    threshold: float | None = None
    smooth: LengthField | None = None
    border: LengthField | None = None
    method: PickMethod | None = None  # default: the strategy's

    @model_validator(mode="after")
    def _count_or_threshold(self) -> Pick:
        if isinstance(self.count, int) and self.count < 1:
            raise ValueError(f"count must be at least 1, found {self.count}")
        return self


class Cluster(Part):
    """Where the computing stages run."""

    kind: Literal["none", "local", "slurm"] = defaults.CLUSTER
    scheduler: str | None = None  # address or scheduler file of a running Dask scheduler
    workers: int = Field(default=defaults.WORKERS, ge=1)
    threads: int | None = Field(default=None, ge=1)  # of torch, a block; default: all cores, divided among the workers
    queue: str | None = None
    account: str | None = None
    walltime: TimeText = defaults.WALLTIME
    gpus: int = Field(default=0, ge=0)  # of a SLURM job: one process each
    train_processes: int = Field(default=1, ge=1)  # of a training, in a SLURM job of its own; one GPU each if `gpus` is not 0
    options: list[str] = Field(default=[])  # further #SBATCH lines
    interface: str | None = None  # of the network between nodes
    port: int = Field(default=0, ge=0, le=65535)  # of the scheduler; 0: any
    dashboard: str = defaults.DASHBOARD  # HOST:PORT
    lifetime: TimeText | None = None  # after which a worker leaves; default: from the walltime
    lifetime_stagger: TimeText | None = None
    log_folder: str | None = None  # of the jobs' output
