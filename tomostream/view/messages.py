"""What the workbench's server answers to its page, as JSON.

`web/src/lib/api.ts` declares the same types for the page; a test compares them.  Positions are in angstrom.
"""

from typing import Literal, TypedDict

from tomostream.report.contents import Expected

JobState = Literal["running", "done", "partly", "stopped", "failed"]


class ClickRow(TypedDict):
    """One click."""

    tomogram: str
    species: str
    x: float
    y: float
    z: float
    label: int


class ClickAnswer(TypedDict):
    """The clicks after a change: those that were to be removed but are missing, and what others changed meanwhile."""

    clicks: list[ClickRow]
    revision: int
    missing: list[ClickRow]
    added_by_others: int
    removed_by_others: int
    unreadable: int


class ClickTablesAnswer(ClickAnswer):
    """With the clicks that the user was not sure of."""

    unsure: list[ClickRow]


class TomogramState(TypedDict):
    """Whether a tomogram can be seen (`failed`: it can't be converted), which fraction is converted, what is wrong, its picks by species."""

    name: str
    state: Literal["ready", "converting", "unconverted", "failed", "missing"]
    share: float | None
    problem: str | None
    picks: dict[str, int]
    has_scores: bool


class JobProgress(TypedDict):
    """How far a run is: its stages, the number of its tomograms, those done by stage, those that failed and why, and the current task."""

    stage: str | None
    stages: list[str]
    tomograms: int | None
    done: dict[str, int]
    failed: dict[str, str]
    doing: str | None


class JobAnswer(TypedDict):
    """A command in the background."""

    kind: str
    about: str
    state: JobState
    lines: list[str]
    seconds: float
    progress: JobProgress | None


class SpeciesAnswer(TypedDict):
    """A species of the configuration."""

    name: str
    radius: str
    expected: int | dict[str, int] | None


class OptionAnswer(TypedDict):
    """An option of a table format for writing: its name, what it is, and how it is given."""

    name: str
    help: str
    metavar: str


class FormatAnswer(TypedDict):
    """What the page must know of a table format."""

    one_tomogram: bool
    ending: str
    options: list[OptionAnswer]


class RoundsAnswer(TypedDict):
    """Whether there is a model, and the columns of the last training's metrics, by species; of a single model by the empty name."""

    has_model: bool
    metrics: dict[str, dict[str, list[float]]]


class State(TypedDict):
    """The state of the workbench.

    `is_ours`: the page writes the configuration, whose `voxel_size` (angstrom) and `minutes` follow; `only_looking`: why nothing can be
    written, None if it can.
    """

    version: str
    project: str
    config: str | None
    is_ours: bool
    table: str
    only_looking: str | None
    species: list[SpeciesAnswer]
    tomograms: list[TomogramState]
    jobs: list[JobAnswer]
    formats: dict[str, FormatAnswer]
    exported: list[str]
    has_truth: bool
    voxel_size: float | None
    minutes: float | None
    rounds: RoundsAnswer


class LevelAnswer(TypedDict):
    """A pyramid level: voxels z y x."""

    shape: list[int]


class Levels(TypedDict):
    """The pyramid levels of a score map."""

    levels: list[LevelAnswer]


class Facts(Levels):
    """A tomogram, and its score maps by species."""

    name: str
    spacing: float
    dtype: str
    warnings: list[str]
    scores: dict[str, Levels]


class CurveAnswer(TypedDict):
    """Thresholds (falling) with found and false picks, and the number of true particles."""

    threshold: list[float]
    tp: list[int]
    fp: list[int]
    truths: int


class PickListAnswer(TypedDict):
    """The picks of a species, best first, how many of them `pick` chose, and what is to be expected of those."""

    x: list[float]
    y: list[float]
    z: list[float]
    score: list[float | None]
    chosen: int
    warnings: list[str]
    curve: CurveAnswer | None
    expected: Expected | None


class PlaceAnswer(TypedDict):
    """A place where a click would help."""

    tomogram: str
    species: str
    x: float
    y: float
    z: float
    score: float | None


class ExportAnswer(TypedDict):
    """A file or folder that was written."""

    name: str
    path: str
    particles: int
