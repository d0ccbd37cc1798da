"""The values that the report's page is given, as JSON.

`tomostream/view/web/src/report/data.ts` declares the same types for the page; a test compares them.
"""

from typing import TypedDict

from tomostream.geometry import Triple


class PackedCurve(TypedDict):
    """By how much each pick raises the numbers of found particles and of false picks, packed, and the number of true particles."""

    tp: str
    fp: str
    truths: int


class Expected(TypedDict):
    """F1 and precision that are to be expected of all the picks, or why they can't be told."""

    f1: float | None
    precision: float | None
    doubt: str | None


class PackedPicks(TypedDict):
    """The scores of the picks of one species, packed, best first; no curve without truth, and nothing expected of picks that no run has chosen."""

    scores: str
    curve: PackedCurve | None
    expected: Expected | None


class ReportTomogram(TypedDict):
    """One tomogram in the overview: why its stages failed, why it has no pictures, its picks by species, voxels z y x, and angstrom per voxel."""

    name: str
    failure: str | None
    problem: str | None
    picks: dict[str, PackedPicks] | None
    shape: Triple | None
    spacing: float | None


class NamedRadius(TypedDict):
    """A species and its radius, as text."""

    name: str
    radius: str


class TrainingAccount(TypedDict):
    """Training in sentences, and curves over the epochs by title."""

    sentences: list[str]
    curves: dict[str, list[float]]


class LinkedFile(TypedDict):
    """A file of the project, with a link relative to the page ("" if there can be none)."""

    what: str
    path: str
    link: str


class Report(TypedDict):
    """The overview.  `timings` has the seconds of each stage, `failures` tomograms and reasons, `settings` the resolved configuration."""

    title: str
    version: str
    species: list[NamedRadius]
    tolerance: str | None
    matching: str
    tomograms: list[ReportTomogram]
    training: TrainingAccount
    timings: list[tuple[str, float]]
    runs: int
    failures: list[tuple[str, str]]
    settings: str
    files: list[LinkedFile]


class Slab(TypedDict):
    """The slices: their z and thickness in level-0 voxels, their size in pixels, and the pictures, WebP in base64."""

    z: list[float]
    thick: int
    rows: int
    columns: int
    slices: list[str]


class GalleryPicture(TypedDict):
    """The pictures of picks on one sheet: pixels of one, the particle's radius as a share of that, the scale of the sheet, and WebP in base64."""

    edge: int
    radius: float
    shrink: float
    sheet: str


class GallerySheet(GalleryPicture):
    """With the ranks of the picks shown, from 0."""

    ranks: list[int]


class PackedTruth(TypedDict):
    """Which picks are near a true particle, the positions of the true particles, and the score at which each is found; packed."""

    true: str
    xyz: str
    at: str


class SpeciesBlock(TypedDict):
    """The picks of one species: radius in level-0 voxels, positions, gallery, and which are true."""

    radius: float
    xyz: str
    gallery: GallerySheet | None
    truth: PackedTruth | None


class Block(TypedDict):
    """What the page shows when a tomogram is opened."""

    slab: Slab
    species: dict[str, SpeciesBlock]
