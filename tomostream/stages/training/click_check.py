"""Are the clicks of a run on particles?  Looked at before any work, where the voxels can be read: a few hundred small boxes.

1. Clicks of a species in a tomogram, `FEWEST` or more, are judged together (`click_evidence`); what is left of several tomograms, too.
2. Where they are no likelier than the places around, the usual slips are tried: mirrored axes, exchanged axes, another spacing, a common shift.  One that fits is
   named, with what to do.  The same if one fits far better than the clicks as they are.
3. What fits neither, or fits a slip less well, is looked at with other radii: a radius that is ten times too large, or in the wrong unit, makes clicks on particles
   look like clicks on nothing.
4. Dark or bright: the clicks say it.  Bright particles are made dark by changing the sign of what is read (`normalisation.INVERTED`); where
   tomograms contradict each other, that is refused.

Limits: packed and remote MRC files are looked at once they are converted.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float64

from tomostream import defaults
from tomostream.config import Species
from tomostream.errors import InputError
from tomostream.normalisation import INVERTED, ROBUST
from tomostream.progress import Progress
from tomostream.stages.shared.click_radius import Opened, click_radius
from tomostream.stages.shared.coarse_volume import CoarseVolume, coarse_volume
from tomostream.stages.shared.resolved_run import Head, ResolvedRun, RunTomogram
from tomostream.stages.training.click_evidence import (
    FEWEST,
    Background,
    background_of,
    described,
    described_shifts,
    evidence,
    likeness_of,
    some_of,
)
from tomostream.stages.training.inputs import clicks_of
from tomostream.tomogram import open_tomogram
from tomostream.units import Length

LIKE, CLEAR = 0.8, 2.0  # likeness and evidence that clicks on particles have at least (docs/measurements.md)
_SURE = 5.0  # likeness with which no slip is looked for
_FITS, _FITS_CLEARLY = 1.6, 4.0  # likeness and evidence with a slip undone
_BETTER = 2.0  # times the likeness of the clicks as they are, and
_BETTER_BY = 1.2
_BRIGHT = 5.0  # deviations of the contrast
_OFF, _OFF_VOX = 1.3, 1.5  # ratio and difference (voxels) of a radius that is clearly off
_LEAST_RADIUS_VOX = 4.0  # at the level that is looked at
_INSIDE = 0.8  # share of the clicks that a tried slip leaves inside
_AXES = "zyx"
_Points = Float64[np.ndarray, "n 3"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What clicks of one species look like.

    Parameters
    ----------
    where
        Tomogram, or tomograms.
    clicks
        How many were looked at.
    likeness, evidence
        See `click_evidence`.
    contrast
        Below 0: dark.
    radius_vox, given_vox
        As the clicks show it (None: they don't), and as it is given; voxels of level 0.
    """

    species: str
    where: str
    clicks: int
    likeness: float
    evidence: float
    contrast: float
    radius_vox: float | None
    given_vox: float

    @property
    def is_radius_off(self) -> bool:
        """Whether the radius given is clearly another than that of the clicked particles."""
        if self.radius_vox is None:
            return False
        ratio = self.given_vox / self.radius_vox
        return not 1 / _OFF <= ratio <= _OFF and abs(self.given_vox - self.radius_vox) > _OFF_VOX

    @property
    def is_on_something(self) -> bool:
        """Whether the clicks can be told from the background."""
        return self.likeness >= LIKE and self.evidence >= CLEAR

    def __str__(self) -> str:
        contrast = "bright" if self.contrast > _BRIGHT else "dark" if self.contrast < -_BRIGHT else "neither dark nor bright"
        radius = "" if self.radius_vox is None else f", radius about {self.radius_vox:g} voxels (taken: {self.given_vox:.3g})"
        return f"{self.species} in {self.where}: {self.clicks} clicks on {contrast} particles (likeness {self.likeness:.1f}){radius}"


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """The clicks of a species in a tomogram; positions in voxels of level 0, radius in voxels of the level that is looked at."""

    species: Species
    volume: CoarseVolume
    opened: Opened
    points: _Points
    radius: float
    spacing: float
    background: Background

    def _is_inside(self, points: _Points) -> np.ndarray:
        at = self.volume.at_level(points)
        inside: np.ndarray = np.all((at >= -0.5) & (at <= np.asarray(self.volume.shape) - 0.5), axis=1)
        return inside

    def share_inside(self, points: _Points) -> float:
        """The share of positions, in voxels of level 0, that lie in the volume."""
        return float(self._is_inside(points).mean())

    def whitened(self, points: _Points) -> np.ndarray:
        """Of positions in voxels of level 0; those outside are left out."""
        at, is_inside = self.volume.at_level(points), self._is_inside(points)
        if is_inside.sum() < _INSIDE * len(points):
            return np.empty((0, len(self.background.mean)))
        return self.background.whitened(described(self.volume, at[is_inside], self.radius, self.background))


def check_clicks(run: ResolvedRun, progress: Progress) -> list[Finding]:
    """Check the clicks of a run that was resolved for training, and report what is found.

    Raises
    ------
    InputError
        If clicks lie on nothing, or some tomograms' particles are dark and others' bright.
    """
    findings: list[Finding] = []
    is_strict = clicks_of(run).is_strict
    for groups in _judged_together(run):
        finding = _finding(groups)
        findings.append(finding)
        problem = _problem(finding, groups)
        if problem is None:
            progress.say(f"clicks: {finding}")
        elif is_strict:
            raise InputError(f"{problem}; to train all the same: `labels: {{check: warn}}`")
        else:
            progress.warn(problem)
    _refuse_contradiction(findings)
    for name, off in {one.species: one for one in findings if one.is_radius_off}.items():
        progress.warn(
            f"{name}: the clicked particles have a radius of about {off.radius_vox:g} voxels, the configuration says {off.given_vox:.3g}; "
            "a wrong radius costs much of F1: look again, or leave radius out"
        )
    return findings


def normalisation_for(findings: Sequence[Finding]) -> str:
    """How the tomograms are to be standardised: inverted where the clicked particles are bright."""
    strongest = max(findings, key=lambda finding: abs(finding.contrast), default=None)
    return INVERTED if strongest is not None and strongest.contrast > _BRIGHT else ROBUST


def _refuse_contradiction(findings: Sequence[Finding]) -> None:
    for name in dict.fromkeys(finding.species for finding in findings):
        own = [finding for finding in findings if finding.species == name]
        dark = [f.where for f in own if f.contrast < -_BRIGHT]
        bright = [f.where for f in own if f.contrast > _BRIGHT]
        if dark and bright:
            raise InputError(
                f"{name} is dark in {', '.join(dark)} and bright in {', '.join(bright)}: all tomograms of a run must have one contrast; invert "
                "those of one kind (IMOD: newstack -multadd -1,0 IN OUT), or run them apart"
            )


def _judged_together(run: ResolvedRun) -> Iterator[list[_Group]]:
    clicks = clicks_of(run)
    for species in run.species:
        few: list[_Group] = []
        for name in dict.fromkeys([*clicks.train.tomograms(), *([] if clicks.validate is None else clicks.validate.tomograms())]):
            one = run.tomograms[name]
            spacing = _spacing(run, one)
            if spacing is None:
                continue
            tables = [t.of(tomogram=name, species=species.name).positives().in_unit("voxel", spacing) for t in clicks.purposes.values()]
            points = np.unique(np.concatenate([table.position_zyx for table in tables]), axis=0)
            group = _group(functools.partial(_opened, run, one), points, species, spacing) if len(points) else None
            if group is not None and len(points) >= FEWEST:
                yield [group]
            elif group is not None:
                few.append(group)
        if few:
            yield few


def _spacing(run: ResolvedRun, one: RunTomogram) -> float | None:
    if isinstance(one.head, Head):
        return one.head.spacing
    return open_tomogram(one.store, voxel_size=run.voxel_size).known_spacing if one.is_converted else None


def _group(opened: Opened, points: _Points, species: Species, spacing: float) -> _Group | None:
    radius = species.radius.in_voxels(spacing)
    level = max(0, int(np.floor(np.log2(max(radius, 1.0) / _LEAST_RADIUS_VOX))))
    volume = opened(level)
    if volume is None:
        return None
    rng = np.random.default_rng(0)
    kept = some_of(points, rng)
    at_radius = radius / 2**volume.level
    background = background_of(volume, volume.at_level(kept), at_radius, rng)
    return None if background is None else _Group(species, volume, opened, kept, at_radius, spacing, background)


def _opened(run: ResolvedRun, one: RunTomogram, level: int) -> CoarseVolume | None:
    return coarse_volume(one.path, one.store, one.name, level, run.voxel_size)


def _finding(groups: Sequence[_Group]) -> Finding:
    whitened = np.concatenate([group.whitened(group.points) for group in groups])
    rows = [described(g.volume, g.volume.at_level(g.points), g.radius, g.background) for g in groups]
    contrasts = [g.background.contrast(row) * np.sqrt(len(row)) for g, row in zip(groups, rows, strict=True)]
    number = sum(map(len, rows))
    where = ", ".join(f"'{group.volume.name}'" for group in groups)
    species, spacing = groups[0].species, groups[0].spacing
    radius = click_radius([(group.opened, group.points) for group in groups], spacing=spacing)
    return Finding(
        species.name,
        where,
        number,
        likeness_of(whitened),
        evidence(whitened),
        float(sum(contrasts) / np.sqrt(number)),
        radius,
        species.radius.in_voxels(spacing),
    )


def _problem(finding: Finding, groups: Sequence[_Group]) -> str | None:
    """What is wrong with clicks, and the likely cause; None: nothing."""
    if finding.clicks < FEWEST or (finding.is_on_something and finding.likeness >= _SURE):
        return None
    slip, likeness = _best_slip(groups)
    is_better = likeness >= _FITS and likeness >= _BETTER * max(finding.likeness, 0.0) + _BETTER_BY
    if finding.is_on_something and not is_better:
        return None
    radius, at_radius = _best_radius(groups, finding.radius_vox)
    if at_radius >= _FITS and at_radius > likeness:
        return (
            f"the {finding.clicks} clicks of {finding.species} in {finding.where} are on particles of another size than the radius says: at "
            f"{_as_given(groups[0], finding.given_vox)} their likeness is {finding.likeness:.1f}, at {_as_given(groups[0], radius)} it is "
            f"{at_radius:.1f} (clicks on particles have {LIKE} and more){_mixed_up(groups[0], radius / finding.given_vox)}: mend the radius, or leave "
            "it out"
        )
    said = (
        f"the {finding.clicks} clicks of {finding.species} in {finding.where} lie on nothing that they share: likeness {finding.likeness:.1f} "
        f"(clicks on particles have {LIKE} and more, places at random about 0)"
    )
    if is_better:
        return f"{said}. They fit if {slip} (likeness {likeness:.1f}): mend the table"
    return f"{said}. Mirrored or exchanged axes, other spacings and common shifts don't mend it: are these clicks of this tomogram, and is the radius right?"


def _best_slip(groups: Sequence[_Group]) -> tuple[str, float]:
    """The slip that fits best once it is undone, in words, and the likeness then."""
    best = "", 0.0
    for words, moved in _slips(groups).items():
        if any(_nearest(group.volume.at_level(points)) < group.radius for group, points in zip(groups, moved, strict=True)):
            continue  # crowded into a corner, where all places look alike
        whitened = np.concatenate([group.whitened(points) for group, points in zip(groups, moved, strict=True)])
        likeness = likeness_of(whitened) if len(whitened) >= FEWEST and evidence(whitened) >= _FITS_CLEARLY else 0.0
        best = max(best, (words, likeness), key=lambda one: one[1])
    if best[1] < _FITS and len(groups) == 1:
        group = groups[0]
        shifts, rows = described_shifts(group.volume, group.volume.at_level(group.points), group.radius, group.background)
        for shift, row in zip(shifts * 2**group.volume.level, rows, strict=True):
            if group.share_inside(group.points + shift) < defaults.INSIDE_FRACTION:
                continue
            whitened = group.background.whitened(row)
            likeness = likeness_of(whitened) if evidence(whitened) >= 2 * _FITS_CLEARLY else 0.0  # many are tried
            z, y, x = shift.astype(int).tolist()
            best = max(best, (f"x, y, z are moved by about {x}, {y}, {z} voxels", likeness), key=lambda one: one[1])
    return best


def _best_radius(groups: Sequence[_Group], shown: float | None) -> tuple[float, float]:
    """The radius (voxels of level 0) at which the clicks as they are fit best, and their likeness there: of slips in the radius, and what the clicks show."""
    spacing, given = groups[0].spacing, groups[0].species.radius.in_voxels(groups[0].spacing)
    most = max(max(group.volume.shape) * 2**group.volume.level for group in groups) / 2
    best = given, 0.0
    for radius in dict.fromkeys([*(given * factor for factor in (0.1, 10.0, spacing, 1 / spacing)), *([] if shown is None else [shown])]):
        if not 1 <= radius <= most or 1 / _OFF <= radius / given <= _OFF:
            continue
        species = groups[0].species.model_copy(update={"radius": Length(radius, is_voxels=True)})
        tried = [found for group in groups if (found := _group(group.opened, group.points, species, spacing)) is not None]
        if not tried:
            continue
        whitened = np.concatenate([group.whitened(group.points) for group in tried])
        likeness = likeness_of(whitened) if len(whitened) >= FEWEST and evidence(whitened) >= _FITS_CLEARLY else 0.0
        best = max(best, (radius, likeness), key=lambda one: one[1])
    return best


def _as_given(group: _Group, radius: float) -> str:
    """A radius of voxels in the unit that the configuration has."""
    if group.species.radius.is_voxels:
        return f"{radius:.3g} voxels"
    return f"{radius * group.spacing:.3g} A ({radius:.3g} voxels)"


def _mixed_up(group: _Group, factor: float) -> str:
    """Whether a factor of the radius looks like one of its unit."""
    is_voxels = group.species.radius.is_voxels
    known = 1 / group.spacing if is_voxels else group.spacing
    if not 1 / _OFF <= factor / known <= _OFF or 1 / _OFF <= known <= _OFF:
        return ""
    return f"; {'angstrom' if is_voxels else 'voxels'} may have been named {'voxels' if is_voxels else 'angstrom'}"


def _nearest(points: _Points) -> float:
    """Median distance of a position to its nearest neighbour."""
    if len(points) < 2:
        return float("inf")
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return float(np.median(distances.min(axis=1)))


def _slips(groups: Sequence[_Group]) -> Mapping[str, list[_Points]]:
    """Positions with one slip undone, by what undoes it."""
    slips: dict[str, list[_Points]] = {}
    shapes = [np.asarray(group.volume.shape) * 2**group.volume.level for group in groups]
    for axis, name in enumerate(_AXES):
        moved = [group.points.copy() for group in groups]
        for points, shape in zip(moved, shapes, strict=True):
            points[:, axis] = shape[axis] - 1 - points[:, axis]
        size = f"{shapes[0][axis] - 1}" if len(groups) == 1 else f"(voxels along {name}, less 1)"
        slips[f"{name} is mirrored: {size} - {name} in the place of {name}"] = moved
    for one, other in combinations(range(3), 2):
        order = [other if axis == one else one if axis == other else axis for axis in range(3)]
        slips[f"{_AXES[one]} and {_AXES[other]} are exchanged"] = [group.points[:, order] for group in groups]
    spacing = groups[0].spacing
    for factor in (2.0, 0.5, 4.0, 0.25, spacing, 1 / spacing):
        if abs(factor - 1) > 0.05:
            said = (
                "angstrom were named voxels"
                if factor == 1 / spacing
                else "voxels were named angstrom"
                if factor == spacing
                else "of another binning"
            )
            slips[f"all positions are multiplied by {factor:.4g} ({said})"] = [(group.points + 0.5) * factor - 0.5 for group in groups]
    return slips
