"""The configuration of `train` and `run`: one YAML file, every key known, every default taken from `defaults`.

1. `${VAR}` is replaced from the environment (an unset variable is an error: there is no silent default).
2. Unknown keys are refused, with the nearest known one.
3. Values are checked before any work; the resolved form, with every default filled in, is written beside the results.

Paths are relative to the current folder, as in a shell.
"""

from __future__ import annotations

import difflib
import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from tomostream import defaults
from tomostream.errors import ConfigurationError, InputError
from tomostream.redaction import redacted
from tomostream.remote.places import Place, place
from tomostream.units import Length, parse_bytes, parse_shape

Objective = Literal["pn", "nnpu", "kl", "ge_binomial", "deepetpicker", "slices2d", "template", "average"]
PickMethod = Literal["greedy", "mean-pool", "trace"]
MATCHED_STRATEGIES = ("template", "average")  # matched filters, without a network
OTHER_STRATEGIES = ("deepetpicker", "slices2d", *MATCHED_STRATEGIES)  # all other objectives are the U-Net's
_STRATEGY_DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "deepetpicker": {
        "network": {"channels": defaults.DEEPETPICKER_CHANNELS, "batch_statistics": "training"},  # as published
        "train": {
            "crop": defaults.DEEPETPICKER_CROP_VOX,
            "batch": defaults.DEEPETPICKER_BATCH,
            "learning_rate": defaults.DEEPETPICKER_LEARNING_RATE,
            "labelled_fraction": 1.0,
            "label_shape": "gaussian",
        },
    },
    "slices2d": {
        "network": {"channels": defaults.SLICES2D_CHANNELS, "batch_statistics": "training"},
        "train": {"crop": defaults.SLICES2D_CROP_VOX},
    },
}
Precision = Literal["auto", "float32", "bf16"]
Symmetry = Literal["cube", "wedge", "none"]


def _checked(parse: Callable[[Any], Any]) -> BeforeValidator:
    """Let pydantic collect our own errors, so that one run names every mistake."""

    def validator(value: Any) -> Any:
        try:
            return parse(value)
        except InputError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(validator)


def _length(value: Any) -> Length:
    return value if isinstance(value, Length) else Length.parse(str(value))


def _spacing(value: Any) -> Any:
    if isinstance(value, str):
        return Length.parse(value if value.rstrip().endswith(("A", "Å", "angstrom")) else f"{value}A").value
    return value


def _shape_text(value: Any) -> Any:
    return None if value is None else ",".join(str(v) for v in parse_shape(value))


def _size(value: Any) -> Any:
    parse_bytes(value)
    return value


def _time(value: Any) -> Any:
    if isinstance(value, int):  # YAML 1.1 reads 12:00:00 as a number to the base 60
        raise ValueError(f'a time must stand in quotes, as "12:00:00"; YAML made {value} of it')
    return value


LengthField = Annotated[Length, _checked(_length), PlainSerializer(str)]
PlaceField = Annotated[Place, _checked(place), PlainSerializer(str)]
Spacing = Annotated[float, _checked(_spacing), Field(gt=0)]
ByteSize = Annotated[str, _checked(_size)]
TimeText = Annotated[str, BeforeValidator(_time)]
ShapeText = Annotated[str | None, _checked(_shape_text)]


class Part(BaseModel):
    """A part of the configuration; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, protected_namespaces=())


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
    """What the network is trained to do with unlabelled voxels."""

    name: Objective = defaults.OBJECTIVE
    weight: float = Field(default=defaults.KL_WEIGHT, gt=0)  # of the divergence (kl)
    order: Literal["prior_to_pu", "pu_to_prior"] = defaults.KL_ORDER
    prior: float | None = Field(default=None, gt=0, lt=1)  # fraction of particle voxels; default: from the expected number

    @property
    def needs_prior(self) -> bool:
        """Whether training must know how many particles there are."""
        return self.name in ("nnpu", "kl", "ge_binomial")


class Network(Part):
    """The residual U-Net."""

    channels: tuple[int, ...] = Field(default=defaults.CHANNELS, min_length=1, max_length=6)
    level: int | Literal["auto"] = defaults.LEVEL
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


class MatchedFilter(Part):
    """The correlation with the clicks' rotational average, which joins the network's logits."""

    weight: float = Field(default=defaults.MATCHED_WEIGHT, ge=0)  # both in standard deviations; 0: the network alone
    smooth: float = Field(default=defaults.MATCHED_SMOOTH, ge=0, le=1)  # logits are averaged over so much of the particle's radius


class Template(Part):
    """The known density that the strategy `template` searches, by rotated copies with the missing wedge."""

    density: Path | dict[str, Path] | None = None  # MRC, particle bright, with its voxel size; for several species by name
    angle_step: float = Field(default=defaults.ANGLE_STEP_DEG, ge=5, le=180)  # degrees between neighbouring orientations
    tilt_range: tuple[float, float] = defaults.TILT_RANGE_DEG
    tilt_axis: Literal["x", "y"] = defaults.TILT_AXIS
    low_pass: LengthField | None = None  # finest detail that is kept; default: what the level's voxels hold

    @model_validator(mode="after")
    def _tilts(self) -> Template:
        first, last = self.tilt_range
        if not -90 <= first < last <= 90:
            raise ValueError(
                f"template.tilt_range must be two angles from -90 to 90 degrees, the smaller first, found [{first:g}, {last:g}]"
            )
        return self

    def density_of(self, species: str) -> Path | None:
        """The density of a species; None if none is given."""
        return self.density.get(species) if isinstance(self.density, dict) else self.density


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
    options: list[str] = []  # further #SBATCH lines
    interface: str | None = None  # of the network between nodes
    port: int = Field(default=0, ge=0, le=65535)  # of the scheduler; 0: any
    dashboard: str = defaults.DASHBOARD  # HOST:PORT
    lifetime: TimeText | None = None  # after which a worker leaves; default: from the walltime
    lifetime_stagger: TimeText | None = None
    log_folder: str | None = None  # of the jobs' output


class Configuration(Part):
    """All of a run."""

    project: PlaceField
    tomograms: list[str] = Field(min_length=1)
    voxel_size: Spacing | None = None  # angstrom; only where the files have none
    species: list[Species] = Field(min_length=1)
    labels: Labels
    objective: ObjectiveSettings = ObjectiveSettings()
    network: Network = Network()
    train: Train = Train()
    matched_filter: MatchedFilter = MatchedFilter()
    template: Template = Template()
    predict: Predict = Predict()
    pick: Pick = Pick()
    truth: str | None = None
    tolerance: LengthField = Length.parse(defaults.TOLERANCE)
    matching: Literal["any", "one-to-one"] = defaults.MATCHING
    cluster: Cluster = Cluster()
    memory: ByteSize = defaults.MEMORY
    gpu_memory: ByteSize | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_strategy_defaults(cls, values: Any) -> Any:
        """A rival's own defaults stand in for the U-Net's where the configuration says nothing."""
        if not isinstance(values, dict) or not isinstance(values.get("objective"), dict):
            return values
        own = _STRATEGY_DEFAULTS.get(str(values["objective"].get("name")), {})
        parts = {part: values.get(part, {}) for part in own}
        return values | {part: own[part] | given for part, given in parts.items() if isinstance(given, dict)}

    @model_validator(mode="after")
    def _consistent(self) -> Configuration:
        names = [s.name for s in self.species]
        if len(set(names)) != len(names):
            raise ValueError(f"species: two have the same name: {', '.join(names)}")
        if self.pick.count == "truth" and self.truth is None:
            raise ValueError("pick.count: truth needs a table of truth; give it as `truth: TABLE`, or a number")
        lacking = [s.name for s in self.species if self.template.density_of(s.name) is None]
        if self.objective.name == "template" and lacking:
            raise ValueError(f"template.density is missing for {', '.join(lacking)}: give the MRC file of the particle's density")
        if self.objective.name == "template" and len(self.species) > 1 and not isinstance(self.template.density, dict):
            raise ValueError("template.density must name a file for each species: `density: {NAME: FILE, ...}`")
        if self.objective.name in MATCHED_STRATEGIES and (self.predict.device == "cuda" or self.predict.precision != "float32"):
            raise ValueError(
                f"objective {self.objective.name} computes on the processor, in float32: leave predict.device auto or cpu and predict.precision "
                f"float32, found {self.predict.device} and {self.predict.precision}"
            )
        return self

    @property
    def strategy(self) -> str:
        """Who learns and scores: `unet`, or one of the others by its name."""
        return self.objective.name if self.objective.name in OTHER_STRATEGIES else "unet"

    @property
    def memory_bytes(self) -> int:
        """Budget of one process in bytes."""
        return parse_bytes(self.memory)

    def with_resources(
        self,
        *,
        kind: str | None,
        scheduler: str | None,
        workers: int | None,
        threads: int | None,
        memory: str | None,
        gpu_memory: str | None,
        options: dict[str, Any] | None = None,
    ) -> Configuration:
        """Replace where and with how much memory to compute; None leaves the configuration's value.

        `options` are further keys of `cluster`.

        Raises
        ------
        ConfigurationError
            If a value is not allowed.
        """
        values = self.resolved()
        cluster = {"kind": kind, "scheduler": scheduler, "workers": workers, "threads": threads}
        values["cluster"] |= {key: value for key, value in cluster.items() if value is not None} | (options or {})
        values |= {key: value for key, value in {"memory": memory, "gpu_memory": gpu_memory}.items() if value is not None}
        return configuration_from(values, "command line")

    def resolved(self) -> dict[str, Any]:
        """The configuration with every default filled in, as plain values."""
        return self.model_dump(mode="json", by_alias=True)

    def write(self, path: Place) -> None:
        """Write the resolved form as YAML; passwords and signatures in URLs are masked."""
        path.write_text(redacted(yaml.safe_dump(self.resolved(), sort_keys=False, allow_unicode=True)))


def pick_method(strategy: str) -> str:
    """How a strategy's scores are picked where nobody says."""
    return {"deepetpicker": "mean-pool", "slices2d": "trace"}.get(strategy, "greedy")


def expand_variables(text: str, where: str) -> str:
    """Replace `${VAR}` from the environment.

    Raises
    ------
    ConfigurationError
        If a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise ConfigurationError(
                f"{where}: the environment variable {name} is not set; set it (export {name}=...) or write the value itself"
            )
        return os.environ[name]

    # comments may speak of ${VAR} without needing it
    lines = (
        line if line.lstrip().startswith("#") else re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", value, line) for line in text.splitlines()
    )
    return "\n".join(lines)


def load_configuration(path: str | Place) -> Configuration:
    """Read and check a configuration file.

    Raises
    ------
    ConfigurationError
        With the file, the key, the value found and what is allowed.
    """
    path = place(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigurationError(f"configuration {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"configuration {path} can't be read: {error}") from None
    try:
        values = yaml.safe_load(expand_variables(text, str(path)))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"configuration {path} is no YAML:\n{textwrap.indent(str(error), '  ')}") from None
    if not isinstance(values, dict):
        raise ConfigurationError(
            f"configuration {path} must be a mapping of keys (project, tomograms, species, labels, ...), found {type(values).__name__}"
        )
    return configuration_from(values, str(path))


def cluster_from(values: dict[str, Any]) -> Cluster:
    """Check the keys of `cluster` where they stand alone, on the command line.

    Raises
    ------
    ConfigurationError
        Naming every wrong key, its value and what is allowed.
    """
    try:
        return Cluster.model_validate(values)
    except ValidationError as error:
        lines = [_explain(dict(problem) | {"loc": ("cluster", *problem["loc"])}) for problem in error.errors()]
        raise ConfigurationError("; ".join(dict.fromkeys(lines))) from None


def configuration_from(values: dict[str, Any], where: str) -> Configuration:
    """Check values that are already parsed.

    Raises
    ------
    ConfigurationError
        Naming every wrong key, its value and what is allowed.
    """
    try:
        return Configuration.model_validate(values)
    except ValidationError as error:
        lines = [_explain(dict(problem)) for problem in error.errors()]
        raise ConfigurationError(f"{where}:\n  " + "\n  ".join(dict.fromkeys(lines))) from None


def _explain(problem: dict[str, Any]) -> str:
    keys = [str(part) for part in problem["loc"]]
    place = ".".join(keys) or "the configuration"
    if problem["type"] == "extra_forbidden":
        known = _known_keys(problem["loc"][:-1])
        near = difflib.get_close_matches(keys[-1], known, 1, 0.5)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"unknown key '{place}'{hint} (known here: {', '.join(known)})"
    if problem["type"] == "missing":
        return f"missing key '{place}'"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return message if not keys else f"{place}: {message}"
    return f"{place}: {message}, found {problem['input']!r}"


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    model: type[BaseModel] = Configuration
    for part in location:
        if isinstance(part, int):
            continue
        field = next((f for name, f in model.model_fields.items() if (f.alias or name) == part), None)
        inner = field and next(
            (a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(a, type) and issubclass(a, BaseModel)),
            None,
        )
        if not inner:
            return []
        model = inner
    return [f.alias or name for name, f in model.model_fields.items()]
