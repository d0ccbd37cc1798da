"""What is a run after everything that its configuration names has been found?  One frozen value, made once, and used by all stages.

1. Tomograms: by name, with the path given, the store that is read, and what the head of the file says.
2. The strategy, and what it sees of the configuration.
3. Clicks, where training is asked for: read once, checked against the tomograms.
4. The truth, where a stage that is asked for uses it: likewise.
5. Places of results.

Code below this value does not see the configuration.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import yaml

from tomostream import defaults
from tomostream.budget import LIBRARIES_BYTES, conversion_bytes
from tomostream.cluster import Resources, checked
from tomostream.config import Configuration, Species
from tomostream.config.configuration import LearningSettings
from tomostream.config.region import Region
from tomostream.config.sections import Pick, Predict
from tomostream.errors import InputError, TomostreamError
from tomostream.formats.lists import tables
from tomostream.formats.registry import Conversion
from tomostream.geometry import Triple
from tomostream.particles import Particles
from tomostream.project import Project, input_paths, is_mrc
from tomostream.redaction import redacted
from tomostream.remote.places import Place, place
from tomostream.stages.shared.click_radius import Opened, click_radius
from tomostream.stages.shared.click_tables import ClickTables, read_click_tables, steps_for, unlabelled_names
from tomostream.stages.shared.clicks import read_points
from tomostream.stages.shared.coarse_volume import CoarseVolume, coarse_volume
from tomostream.stages.shared.truth_table import TruthTable, read_truth_table
from tomostream.store.conversion import band_voxels_within
from tomostream.store.decompress import peek_header
from tomostream.store.mrc import MrcHeader
from tomostream.store.specification import StoreLayout, StoreSpec
from tomostream.strategies.catalogued import strategy_named
from tomostream.strategies.protocol import Strategy
from tomostream.tomogram import open_tomogram
from tomostream.units import Length, parse_bytes

_FAR = 1.5  # times that `voxel_size` and a header's spacing may differ by; less may be a calibration


@dataclass(frozen=True, slots=True)
class Head:
    """What the head of an input says, and what converting it takes (None where nothing is to be converted)."""

    shape: Triple
    spacing: float  # angstrom
    itemsize: int  # bytes of a voxel, as it is stored
    convert_bytes: int | None
    store_bytes: int | None


@dataclass(frozen=True, slots=True)
class RunTomogram:
    """One tomogram of a run.

    Parameters
    ----------
    path
        As the configuration names it.
    store
        The store to read: the input itself, or the one that `convert` makes.
    is_source
        Whether it must be converted first.
    head
        What its file says, or the error of reading it, which the stage reports; None if it was not read.
    """

    name: str
    path: str
    store: str
    is_source: bool
    head: Head | TomostreamError | None

    @property
    def is_converted(self) -> bool:
        """Whether there is a store to read."""
        return not self.is_source or place(self.store).exists()


@dataclass(frozen=True, slots=True)
class ResolvedRun:
    """All that a run's configuration names, found and checked.

    Parameters
    ----------
    values
        The resolved configuration as plain values, for writing it.
    tomograms
        By name, in their order.
    clicks
        None where training was not asked for.
    truth
        None where there is none, or nothing that was asked for uses it.
    """

    values: Mapping[str, Any]
    project: Project
    tomograms: Mapping[str, RunTomogram]
    voxel_size: float | None  # angstrom, where files have none
    species: tuple[Species, ...]
    strategy: Strategy
    learning: LearningSettings
    clicks: ClickTables | None
    predict: Predict
    pick: Pick
    region: Region
    truth: TruthTable | None
    tolerance: Length
    matching: str
    resources: Resources

    @property
    def paths(self) -> dict[str, str]:
        """The inputs by the tomograms' names."""
        return {name: one.path for name, one in self.tomograms.items()}

    @property
    def stores(self) -> dict[str, str]:
        """The stores by the tomograms' names."""
        return {name: one.store for name, one in self.tomograms.items()}

    @property
    def species_names(self) -> list[str]:
        """In the order of the configuration."""
        return [one.name for one in self.species]

    def score_map(self, species: Species, name: str) -> Place:
        """Where the score map of a species and tomogram is."""
        return self.project.score_folder(species.name, len(self.species)) / f"{name}.ome.zarr"

    def without(self, names: set[str]) -> ResolvedRun:
        """The same run, some of whose tomograms are left out: others without clicks are learnt from instead."""
        left = {name: one for name, one in self.tomograms.items() if name not in names}
        clicks = self.clicks
        if clicks is not None and not names.isdisjoint(clicks.others):
            others = unlabelled_names(self.learning, self.strategy, list(left), clicks.train.tomograms())
            clicks = replace(clicks, others=tuple(others))
        return replace(self, tomograms=left, clicks=clicks)

    @property
    def unreadable(self) -> dict[str, TomostreamError]:
        """The tomograms whose heads can't be read, and why."""
        return {name: one.head for name, one in self.tomograms.items() if isinstance(one.head, TomostreamError)}

    def write_configuration(self, path: Place) -> None:
        """Write the resolved configuration as YAML; passwords and signatures in URLs are masked."""
        path.write_text(redacted(yaml.safe_dump(dict(self.values), sort_keys=False, allow_unicode=True)), encoding="utf-8")


def resolve(configuration: Configuration, *, with_clicks: bool, with_heads: bool = True, with_truth: bool = False) -> ResolvedRun:
    """Find what a configuration names.

    Parameters
    ----------
    with_clicks
        Whether the clicks are read and checked too.
    with_heads
        Whether the heads of the tomograms are read.
    with_truth
        Whether the truth is read and checked, if there is any; where a format needs voxels' sizes the heads are needed.

    Raises
    ------
    TomostreamError
        If something is missing or inconsistent.
    """
    project = Project(configuration.project)
    strategy = strategy_named(configuration.objective.name)
    tomograms = {
        name: RunTomogram(name, path, project.store(name, path), is_mrc(path), _head(configuration, name, path) if with_heads else None)
        for name, path in input_paths(configuration.tomograms).items()
    }
    configuration = _with_radii(configuration, tomograms)
    clicks = read_click_tables(configuration.labels, configuration.learning, strategy, list(tomograms)) if with_clicks else None
    values = None
    if "steps" not in configuration.train.model_fields_set:
        if len(configuration.species) > 1 and not configuration.train.together:  # each model has its own number (`species_runs`)
            values = configuration.resolved()
            del values["train"]["steps"]
        elif clicks is not None:
            train = configuration.train.model_copy(update={"steps": steps_for(clicks.train)})
            configuration = configuration.model_copy(update={"train": train})
    gpu_memory = parse_bytes(configuration.gpu_memory) if configuration.gpu_memory else None
    return ResolvedRun(
        values=configuration.resolved() if values is None else values,
        project=project,
        tomograms=tomograms,
        voxel_size=configuration.voxel_size,
        species=tuple(configuration.species),
        strategy=strategy,
        learning=configuration.learning,
        clicks=clicks,
        predict=configuration.predict,
        pick=configuration.pick,
        region=configuration.region,
        truth=find_truth(configuration, tomograms) if with_truth else None,
        tolerance=configuration.tolerance,
        matching=configuration.matching,
        resources=checked(Resources.configured(configuration.cluster, configuration.memory_bytes, gpu_memory)),
    )


def find_truth(configuration: Configuration, tomograms: Mapping[str, RunTomogram]) -> TruthTable | None:
    """Read the truth that a configuration names; None where it names none.

    Raises
    ------
    InputError
        As `read_truth_table`.
    """
    if configuration.truth is None:
        return None
    heads = {name: one.head for name, one in tomograms.items() if isinstance(one.head, Head)}
    conversion = Conversion(
        spacings={name: head.spacing for name, head in heads.items()},
        shapes={name: head.shape for name, head in heads.items()},
        spacing=configuration.voxel_size,
    )
    return read_truth_table(configuration.truth, list(tomograms), [one.name for one in configuration.species], conversion)


def _with_radii(configuration: Configuration, tomograms: Mapping[str, RunTomogram]) -> Configuration:
    """The configuration with the radii that it lacks, as the clicks show them.

    Raises
    ------
    InputError
        If they don't.
    """
    if all(one.radius is not None for one in configuration.species):
        return configuration
    names = [one.name for one in configuration.species]
    clicks = read_points(tables(configuration.labels.train), names, list(tomograms), "labels.train")
    species = [one if one.radius is not None else _with_radius(one, clicks, configuration, tomograms) for one in configuration.species]
    return configuration.model_copy(update={"species": species})


def _with_radius(species: Species, clicks: Particles, configuration: Configuration, tomograms: Mapping[str, RunTomogram]) -> Species:
    clicked: list[tuple[Opened, np.ndarray]] = []
    spacing = 0.0
    for name in clicks.tomograms():
        one, own = tomograms[name], clicks.of(tomogram=name, species=species.name)
        if not len(own):
            continue
        head = one.head if one.head is not None else _head(configuration, name, one.path)
        if isinstance(head, TomostreamError):
            raise head
        spacing = head.spacing
        opened = functools.partial(_coarse, one, configuration.voxel_size)
        clicked.append((opened, own.in_unit("voxel", spacing).position_zyx))
    radius = click_radius(clicked, spacing=spacing) if clicked else None
    if radius is None:
        raise InputError(
            f"species '{species.name}': radius is not given, and its clicks (five or more, in tomograms that can be read in parts) don't show it: give it, as "
            "135A or 10vox"
        )
    return species.model_copy(update={"radius": Length(round(radius * spacing, 1), is_voxels=False)})


def _coarse(one: RunTomogram, voxel_size: float | None, level: int) -> CoarseVolume | None:
    return coarse_volume(one.path, one.store, one.name, level, voxel_size)


def _head(configuration: Configuration, name: str, path: str) -> Head | TomostreamError:
    try:
        if is_mrc(path):
            return _source_head(path, name, configuration.voxel_size, configuration.memory_bytes)
        return _store_head(path, configuration.voxel_size)
    except TomostreamError as error:
        return error


def refuse_far_spacing(header: MrcHeader, voxel_size: float | None) -> None:
    """Refuse a `voxel_size` that a header which knows its spacing contradicts grossly: radii would be wrong by the same factor, without any sign of it."""
    found = header.spacing_zyx
    if voxel_size is None or found is None or header.spacing_doubt is not None:
        return
    factor = max(max(found) / voxel_size, voxel_size / min(found))
    if factor > _FAR:
        z, y, x = found
        raise InputError(
            f"{header.path}: voxel_size is {voxel_size:g} angstrom in the configuration, but the header says z {z:.6g}, y {y:.6g}, x {x:.6g}: a factor of {factor:.3g}, "
            f"at most {_FAR:g} is allowed; leave voxel_size out or mend it; if the header is wrong, say so for this file: tomostream convert {header.path} "
            f"--voxel-size {voxel_size:g} -o DIR, and name the store in `tomograms`"
        )


def _store_head(path: str, voxel_size: float | None) -> Head:
    tomogram = open_tomogram(path, voxel_size=voxel_size)
    return Head(tomogram.shape, tomogram.spacing, tomogram.dtype.itemsize, None, None)


def _source_head(path: str, name: str, voxel_size: float | None, memory: int) -> Head:
    """Read the head of an MRC file, and plan its conversion."""
    header = peek_header(place(path))
    refuse_far_spacing(header, voxel_size)
    spacing = voxel_size or header.spacing
    if spacing is None:
        raise InputError(f"{path} has no voxel spacing in its header; give `voxel_size: ANGSTROM` in the configuration")
    stored = np.dtype(header.native_dtype)
    layout = StoreLayout.plan(StoreSpec(name, header.shape, stored, spacing, None, None, defaults.CODEC, None))
    level = layout.levels[0]
    needed = conversion_bytes(
        band_voxels=min(band_voxels_within(memory, header, layout, libraries=LIBRARIES_BYTES), math.prod(header.shape)),
        shard=level.shards.core((0, 0, 0)).shape,
        chunk=level.chunk,
        source_itemsize=header.dtype.itemsize,
        stored_itemsize=stored.itemsize,
        is_cast=False,
    )
    return Head(header.shape, spacing, stored.itemsize, needed, layout.stored_bytes)
