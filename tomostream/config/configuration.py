"""The whole configuration: the general sections and those of the installed strategies.

A strategy brings its own sections (pydantic models), and defaults for the general ones; both come from the catalogue, so that
strategies of other packages are configured like ours.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, Protocol, TypeVar, cast, runtime_checkable

import yaml
from pydantic import Field, ValidationError, create_model, model_validator

from tomostream import defaults
from tomostream.catalogue import STRATEGIES, find, installed
from tomostream.config.fields import ByteSize, LengthField, Part, PlaceField, Spacing
from tomostream.config.region import Region
from tomostream.config.sections import Cluster, Labels, Network, ObjectiveSettings, Pick, Predict, Species, Train
from tomostream.errors import InputError
from tomostream.redaction import redacted
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.places import Place
from tomostream.units import Length, parse_bytes

P = TypeVar("P", bound=Part)
_PACKAGE = "tomostream"


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """The part of the configuration that a strategy sees.

    Parameters
    ----------
    own
        The strategy's own sections by name.
    device, precision
        Of prediction: `auto`, `cpu` or `cuda`; `float32` or `bf16`.
    memory
        Budget of one process, bytes.
    share
        Part of `train.minutes` that this training may take: where each species has one of its own they divide it.
    """

    species: tuple[Species, ...]
    objective: ObjectiveSettings
    network: Network
    train: Train
    own: Mapping[str, Part]
    device: str
    precision: str
    memory: int
    share: float = 1.0

    @property
    def minutes(self) -> float | None:
        """Time limit of this training; None: no limit."""
        return None if self.train.minutes is None else self.share * self.train.minutes

    def section(self, kind: type[P]) -> P:
        """The strategy's own section of this type."""
        for section in self.own.values():
            if isinstance(section, kind):
                return section
        raise TypeError(f"strategy {self.objective.name} has no section {kind.__name__}")


@runtime_checkable  # the tests check annotations as they run
class _Facts(Protocol):
    """What the configuration needs from a strategy (`strategies.protocol.Strategy`)."""

    sections: Mapping[str, type[Part]]
    defaults: Mapping[str, Mapping[str, Any]]

    def check(self, settings: LearningSettings) -> None:
        """Refuse settings that the strategy does not support."""


def _facts(name: str) -> _Facts:
    """Return what the configuration needs from an installed strategy.

    Raises
    ------
    InputError
        If the strategy can't be loaded, lacks one of the attributes, or has a section that can't be built from defaults alone.
    """
    found = cast(_Facts, find(STRATEGIES, name, "strategy", _Facts))
    for key, section in found.sections.items():
        try:
            section()
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
            raise InputError(
                f"strategy '{name}': every field of its section '{key}' needs a default that is allowed, as {fields} has not"
            ) from None
    return found


class Configuration(Part):
    """The configuration of a run."""

    project: PlaceField
    """Folder or URL for all results."""
    tomograms: list[str] = Field(min_length=1)
    """MRC files, OME-Zarr stores, patterns, URLs ([storage.md](storage.md))."""
    voxel_size: Spacing | None = None
    """Angstrom; only if the files have none."""
    species: list[Species] = Field(min_length=1)
    labels: Labels
    objective: ObjectiveSettings = ObjectiveSettings()
    network: Network = Network()
    train: Train = Train()
    predict: Predict = Predict()
    pick: Pick = Pick()
    region: Region = Region()
    truth: str | None = None
    """Table of all particles, to evaluate against; species that it lacks are not evaluated."""
    tolerance: LengthField = Length.parse(defaults.TOLERANCE)
    """Largest distance of a match."""
    matching: Literal["any", "one-to-one"] = defaults.MATCHING
    """`any`: a true particle counts as found if a pick lies within the tolerance; `one-to-one`: each pick matches at most one."""
    cluster: Cluster = Cluster()
    memory: ByteSize = defaults.MEMORY
    """Budget of one process, libraries included."""
    gpu_memory: ByteSize | None = None
    """Budget on the GPU. Default: four fifths of its memory."""

    @model_validator(mode="before")
    @classmethod
    def _with_strategy_defaults(cls, values: Any) -> Any:
        """Use the strategy's defaults, instead of the general ones, for keys that the configuration leaves out."""
        if not isinstance(values, dict) or not isinstance(values.get("objective", {}), dict):
            return values
        name = values.get("objective", {}).get("name", defaults.OBJECTIVE)
        if not isinstance(name, str) or name not in installed(STRATEGIES):
            return values  # the field's own check reports it
        own = _facts(name).defaults
        parts = {part: values.get(part, {}) for part in own}
        return values | {part: {**own[part], **given} for part, given in parts.items() if isinstance(given, dict)}

    @model_validator(mode="after")
    def _consistent(self) -> Configuration:
        names = [s.name for s in self.species]
        if len(set(names)) != len(names):
            raise ValueError(f"species: two have the same name: {', '.join(names)}")
        for one, other in combinations(names, 2):
            if one.casefold() == other.casefold():
                raise ValueError(
                    f"species: the names '{one}' and '{other}' differ in case only, and folders are named by them, which are one and the same on some disks; "
                    "rename one"
                )
        if self.pick.count == "truth" and self.truth is None:
            raise ValueError("pick.count: truth needs a table of truth; give it as `truth: TABLE`, or a number")
        facts = _facts(self.objective.name)
        if (clash := _clashes().get(self.objective.name)) is not None:
            raise ValueError(clash)
        if self.train.start is not None and not getattr(facts, "continues", False):
            raise ValueError(f"train.start: the strategy {self.objective.name} can't continue from a model; leave train.start out")
        try:
            facts.check(self.learning)
        except InputError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def learning(self) -> LearningSettings:
        """Return the part that a strategy sees."""
        own = {key: getattr(self, key) for key in _facts(self.objective.name).sections}
        return LearningSettings(
            species=tuple(self.species),
            objective=self.objective,
            network=self.network,
            train=self.train,
            own=own,
            device=self.predict.device,
            precision=self.predict.precision,
            memory=self.memory_bytes,
        )

    @property
    def memory_bytes(self) -> int:
        """Budget of one process in bytes."""
        return parse_bytes(self.memory)

    def resolved(self) -> dict[str, Any]:
        """Return the configuration with every default filled in, as plain values."""
        return self.model_dump(mode="json", by_alias=True)

    def write(self, path: Place) -> None:
        """Write the resolved form as YAML; passwords and signatures in URLs are masked."""
        write_atomically(path, redacted(yaml.safe_dump(self.resolved(), sort_keys=False, allow_unicode=True)))


@functools.cache
def configuration_class() -> type[Configuration]:
    """The configuration with the sections of every installed strategy whose sections' names are its own."""
    sections = {key: section for name, own in _own_sections().items() if name not in _clashes() for key, section in own.items()}
    fields: dict[str, Any] = {key: (section, section()) for key, section in sections.items()}
    return create_model("Configuration", __base__=Configuration, **fields)


@functools.cache
def _own_sections() -> Mapping[str, Mapping[str, type[Part]]]:
    """The sections of each installed strategy that works; a broken plug-in is reported when it is asked for."""
    found: dict[str, Mapping[str, type[Part]]] = {}
    for name in installed(STRATEGIES):
        with contextlib.suppress(InputError):
            found[name] = _facts(name).sections
    return found


@functools.cache
def _clashes() -> Mapping[str, str]:
    """What is wrong with the names of a strategy's sections, by strategy; ours keep theirs."""
    found: dict[str, str] = {}
    ours = {name: sections for name, sections in _own_sections().items() if installed(STRATEGIES)[name].startswith(f"{_PACKAGE}.")}
    for name, sections in _own_sections().items():
        rivals = {} if name in ours else {other: one for other, one in _own_sections().items() if other != name}
        for key, section in sections.items():
            others = [f"strategy '{other}'" for other, one in rivals.items() if one.get(key, section) is not section]
            if key in Configuration.model_fields:
                others = ["tomostream itself"]
            if others:
                found[name] = (
                    f"strategy '{name}' brings a section '{key}' of the configuration, which {' and '.join(others)} has too; rename one, or uninstall one"
                )
    return found
