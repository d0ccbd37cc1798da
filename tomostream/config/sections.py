"""The sections of the configuration that every run has; a strategy's own sections are in its folder."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from tomostream import defaults
from tomostream.catalogue import PICKERS, QUEUES, STRATEGIES, installed
from tomostream.config.fields import LengthField, Part, PlaceField, ShapeText, TimeText
from tomostream.errors import InputError
from tomostream.geometry import Triple

Precision = Literal["auto", "float32", "bf16"]
Symmetry = Literal["cube", "wedge", "none"]


def _installed(group: str, what: str, *also: str) -> AfterValidator:
    """Accept only installed names."""

    def validator(name: str) -> str:
        names = [*also, *installed(group)]
        if name not in names:
            near = difflib.get_close_matches(name, names, 1, 0.5)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"must be an installed {what} ({', '.join(names)}), found '{name}'{hint}")
        return name

    return AfterValidator(validator)


def species_name(name: str) -> str:
    """Check a particle's name: folders and columns are named by it.

    Raises
    ------
    ValueError
        If it holds other letters.
    """
    if _NAME.fullmatch(name) is None:
        near = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")
        hint = f"; for instance '{near}'" if near else ""
        raise ValueError(f"must be letters, digits, '.' and '-', the first a letter or digit, found '{name}'{hint}")
    return name


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
NameOfParticle = Annotated[str, AfterValidator(species_name)]
Number = Annotated[int, Field(ge=0)]
StrategyName = Annotated[str, _installed(STRATEGIES, "strategy")]
PickerName = Annotated[str, _installed(PICKERS, "picker")]
QueueName = Annotated[str, _installed(QUEUES, "queue", defaults.CLUSTER)]


class Species(Part):
    """A kind of particle to find."""

    name: NameOfParticle
    """Name of the particle; letters, digits, `.` and `-`. Two names must differ in more than case."""
    radius: LengthField = Field(default=None)  # type: ignore[assignment]  # until `resolve` puts the estimate there
    """Radius of the particle: the radius of its label, and the least distance of two picks. Default: estimated from the clicks, five or more."""
    expected: Number | dict[str, Number] | None = None
    """Estimated number of particles per tomogram, or `{TOMOGRAM: NUMBER}`. Default: estimated from the clicks. 0: none are picked."""

    def expected_in(self, tomogram: str) -> int | None:
        """Return the number of particles that the user expects in this tomogram."""
        return self.expected.get(tomogram) if isinstance(self.expected, dict) else self.expected

    def check_radius(self, shape: Triple, spacing: float, tomogram: str) -> None:
        """Refuse a radius under a voxel or over the tomogram (voxels z y x of `spacing` angstrom): its unit is probably wrong.

        Raises
        ------
        InputError
            With the radius in voxels, and what is allowed.
        """
        radius, most = self.radius.in_voxels(spacing), max(shape) / 2
        if not 1 <= radius <= most:
            raise InputError(
                f"species '{self.name}': radius {self.radius} is {_plain(radius)} voxels of tomogram '{tomogram}' ({spacing:g} A each); "
                f"at least 1 and at most {most:g} voxels ({_plain(spacing)}A to {_plain(most * spacing)}A) are allowed; "
                f"check the radius, its unit and the spacing"
            )


def _plain(value: float) -> str:
    """Three digits, or more before the point."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


class Labels(Part):
    """Tables of clicked centres."""

    train: list[str] = Field(min_length=1)
    """Tables of clicked centres to learn from."""
    validate_: list[str] = Field(default=[], alias="validate")
    """Tables of clicked centres in other tomograms, to choose the best epoch."""
    check: Literal["stop", "warn"] = defaults.CHECK
    """Clicks that lie on nothing (mirrored, of another spacing): `stop` before training, with the likely cause; or `warn`."""


class ObjectiveSettings(Part):
    """The strategy and its parameters, such as the treatment of unlabelled voxels."""

    name: StrategyName = defaults.OBJECTIVE
    """Name of the strategy; `tomostream strategies` lists them."""
    weight: float = Field(default=defaults.KL_WEIGHT, gt=0)
    """Weight of the divergence (`kl`) or of the cross-entropy of counts (`ge_binomial`)."""
    order: Literal["prior_to_pu", "pu_to_prior"] = defaults.KL_ORDER
    """`kl`: KL(prior, mean score) as in Topaz, or `pu_to_prior` as in the paper."""
    prior: float | None = Field(default=None, gt=0, lt=1)
    """Fraction of particle voxels. Default: from the expected number."""
    rejected_weight: float = Field(default=defaults.REJECTED_WEIGHT, ge=0)
    """Weight of clicks labelled 0 in the U-Net's loss, beside that of a click; 0: only filter and pretrained features learn from them."""


class Network(Part):
    """The residual U-Net."""

    channels: tuple[int, ...] = Field(default=defaults.CHANNELS, min_length=1, max_length=6)
    """Channels of the U-Net's levels, finest first."""
    level: Number | Literal["auto"] = defaults.LEVEL
    """Pyramid level to read; `auto`: the coarsest at which the smallest radius has 4 voxels."""
    backbone: Literal["auto", "none"] = defaults.BACKBONE
    """Pretrained weights that ship with tomostream: `auto`: `few_shot` reads with them, and the U-Net strategies put them beside their network where left-out clicks call for it; `none`: no strategy uses them, so that `few_shot` is refused."""
    batch_statistics: Literal["tomogram", "training"] = defaults.BATCH_STATISTICS
    """Batch-norm statistics in prediction: each tomogram's own, or those of the training tomograms."""


class Train(Part):
    """Sampling and optimisation."""

    crop: int = Field(default=defaults.CROP_VOX, ge=8)
    """Edge of a crop in voxels of the pyramid level that is read."""
    batch: int = Field(default=defaults.BATCH, ge=1)
    """Crops per step."""
    steps: int = Field(default=defaults.STEPS, ge=1)
    """Optimisation steps. Default: 12 for each click of the species (with `train.together`, of the one that has most), at least 400, at most 1200."""
    minutes: float | None = Field(default=None, gt=0)
    """Time limit for the whole training, of which each of several species gets an equal share; with it a run cannot be repeated byte for byte."""
    steps_per_epoch: int = Field(default=defaults.STEPS_PER_EPOCH, ge=1)
    """Steps between validations and checkpoints."""
    learning_rate: float = Field(default=defaults.LEARNING_RATE, gt=0)
    """Largest learning rate."""
    schedule: Literal["cosine", "plateau"] = defaults.SCHEDULE
    """Schedule of the learning rate; `plateau`: halve after 5 epochs without better validation."""
    labelled_fraction: float = Field(default=defaults.LABELLED_FRACTION, ge=0, le=1)
    """Fraction of crops drawn around clicks; weights correct for it."""
    pasted: float = Field(default=defaults.PASTED, ge=0, le=1)
    """Fraction of the other crops that get a copy of a clicked particle at a random place (U-Net strategies)."""
    symmetry: Symmetry = defaults.SYMMETRY
    """Augmentation: all 48 symmetries of the cube, only those that keep the missing wedge, or none."""
    label_shape: Literal["sphere", "gaussian", "cube"] = defaults.LABEL_SHAPE
    """Shape of a label around a click."""
    label_radius: LengthField | None = None
    """Radius of a label. Default: the species' radius. If particles touch, give half of it."""
    unlabelled: int = Field(default=defaults.UNLABELLED_TOMOGRAMS, ge=0)
    """Largest number of tomograms without clicks that training also uses, evenly spaced (U-Net strategies)."""
    seed: int = Field(default=defaults.SEED, ge=0)
    """Seed of all random numbers."""
    precision: Precision = defaults.PRECISION
    """`auto`: bf16 if the processor or GPU supports it, else float32. `bf16` on a processor without it is float32 too, and training says so."""
    together: bool = defaults.TOGETHER
    """Train one model for all species, at one pyramid level. Default: a model for each, which finds more of them."""
    start: PlaceField | None = None
    """Model folder to continue training from, for instance with more clicks (U-Net strategies); `steps` is then 100 unless given."""

    @model_validator(mode="before")
    @classmethod
    def _fewer_steps(cls, values: Any) -> Any:
        """Use fewer steps when training continues from a model."""
        if isinstance(values, dict) and values.get("start") is not None and "steps" not in values:
            return values | {"steps": defaults.STEPS_FROM_A_MODEL}
        return values


class Predict(Part):
    """Inference."""

    precision: Literal["float32", "bf16"] = defaults.PREDICT_PRECISION
    """`bf16` is faster if the processor supports it."""
    score_dtype: Literal["float32", "float16", "int8"] = defaults.SCORE_DTYPE
    """Type of the stored scores."""
    logits: bool = False
    """Store logits instead of scores."""
    grid: Literal["tomogram", "network"] = defaults.SCORE_GRID
    """`network`: store the logits at the level that the network reads (an eighth of the disk at level 1); the same scores, bit for bit, are interpolated on reading."""
    keep: Literal["scores", "candidates"] = defaults.KEEP
    """`candidates`: only what picking with the species' radius, or up to twice that, needs; a hundredth of the disk. The rest of the scores is missing then: to `view`, to smoothing, to other pickers than `greedy`."""
    block_size: ShapeText = None
    """Edges of the core of a block, voxels, as `64` or `32,64,64`. Default: from the budget."""
    device: Literal["auto", "cpu", "cuda"] = defaults.DEVICE
    """`auto`: the GPU if there is one. Also for training."""
    mixed_devices: bool = False
    """Continue scores that another kind of processor, thread count or torch version began."""


class Pick(Part):
    """How many peaks become picks."""

    count: Annotated[int, Field(ge=1)] | Literal["truth", "auto"] | None = None
    """A number; `truth`: as many as the truth has; `auto`: the scores decide, guided by the expected number, but no fewer than were clicked in that tomogram (exactly that number if the strategy's scores cannot decide). Default: `auto`, unless a threshold is given."""
    threshold: float | None = None
    """Pick scores above it."""
    smooth: LengthField | None = None
    """Average scores over a ball of this radius first."""
    border: LengthField | None = None
    """Keep picks at least this far from the faces of the volume."""
    method: PickerName | None = None  # default: the strategy's
    """The picker. Default: the strategy's."""


class Cluster(Part):
    """Where the computing stages run."""

    kind: QueueName = defaults.CLUSTER
    """Where tasks run: in this process (`none`), or on the workers of a queue."""
    scheduler: str | None = None
    """Address or scheduler file of a running Dask scheduler."""
    workers: int = Field(default=defaults.WORKERS, ge=1)
    """Processes, or jobs."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of torch, per block. Default: all cores, divided among the workers."""
    queue: str | None = None
    """Of jobs. Default: the queue's."""
    account: str | None = None
    """Of jobs. Default: the queue's."""
    walltime: TimeText = defaults.WALLTIME
    """Time limit of a job, in quotes."""
    gpus: int = Field(default=0, ge=0)
    """GPUs of a job, one process each."""
    train_processes: int = Field(default=1, ge=1)
    """Processes of a training in its own job; one GPU each if `gpus` is not 0. A step then uses `train.batch` crops per process."""
    options: list[str] = Field(default=[])
    """Further lines of a job's script, in the queue's words, as `--nice`."""
    interface: str | None = None
    """Network interface between nodes. Default: that of the default route."""
    port: int = Field(default=0, ge=0, le=65535)
    """Port of the scheduler; 0: any."""
    dashboard: str = defaults.DASHBOARD
    """HOST:PORT of Dask's dashboard."""
    lifetime: TimeText | None = None
    """Time after which a worker leaves, in quotes. Default: from the walltime."""
    lifetime_stagger: TimeText | None = None
    """Workers leave up to this much earlier or later. Default: from the walltime."""
    log_folder: str | None = None
    """Folder for the jobs' output. Default: `~/.cache/tomostream/KIND`."""
