"""`init`: write a first configuration for a user's own data, as commented YAML.

1. Find the tomograms: MRC files and OME-Zarr stores below a folder, except score maps, label masks, unfinished stores, and what a run made in its project folder.
2. Read their heads, and warn of anything doubtful.  A voxel spacing that the files don't give must be an answer.
3. Read the clicks and match them to the names of the tomograms, so that a wrong table is found now.
4. Write the answers.  An answer that is missing becomes a comment that says what to fill in, and is returned.
"""

from __future__ import annotations

import glob
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tomostream import defaults
from tomostream.config import configuration_from, load_configuration
from tomostream.config.sections import species_name
from tomostream.errors import ExistsError, InputError
from tomostream.formats.registry import Conversion, read_table
from tomostream.progress import Progress
from tomostream.project import input_paths
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.links import Entered
from tomostream.remote.path_kinds import Kind, is_project, kind_at
from tomostream.stages.shared.clicks import check_inside, read_points
from tomostream.stages.shared.resolved_run import ResolvedRun, resolve
from tomostream.stages.training.click_check import check_clicks
from tomostream.stages.training.click_doubts import tell_doubts
from tomostream.stages.training.inputs import check_positions
from tomostream.store.naming import MRC_ENDINGS, distinct_names
from tomostream.store.preflight import Inspection, inspect_file
from tomostream.units import Length

_DIFFERS = 0.01  # relative difference of voxel spacings above which to warn
_MOST_LISTED = 20  # tomograms listed by name
_GRID = "network"  # a new project has no readers of its score maps yet, so the small ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the user said about the data; None or empty if not said."""

    species: tuple[str, ...] = ()  # those of the clicks, if none is said
    radius: Length | None = None  # of each species
    expected: int | None = None  # of each species
    clicks: Sequence[str] = ()
    validate: Sequence[str] = ()
    truth: str | None = None
    voxel_size: float | None = None
    project: str | None = None


def write_first_configuration(folder: Path, answers: Answers, out: Path, *, overwrite: bool, progress: Progress) -> list[str]:
    """Write the configuration; return what is left to fill in, empty if it can be run as it is.

    Raises
    ------
    InputError
        If there is no usable tomogram, or an answer does not fit the data.
    ExistsError
        If `out` exists and `overwrite` is false.
    """
    if out.exists() and not overwrite:
        raise ExistsError(f"{out} exists; give --overwrite to replace it, or another file with -o")
    if (kind := kind_at(folder)) is Kind.MISSING:
        raise InputError(f"{folder} does not exist; give the folder that holds the tomograms")
    if kind is not None and (kind is Kind.STORE or not folder.is_dir()):
        raise InputError(f"{folder} is {kind.value}, not a folder of tomograms; give the folder that holds them, as {folder.parent}")
    found = find_tomograms(folder)
    sound = _look(found, answers, progress)
    answers = _named(answers)
    _check_answers(answers, sound, progress)
    missing = _missing(answers, sound)
    text = _text(sound, answers, missing)
    configuration = configuration_from(_values(sound, answers), str(out)) if not missing else None
    if configuration is not None:
        resolve(configuration, with_clicks=True)  # what can't be run is not written
    write_atomically(out, text)
    if configuration is not None:
        _check_run(resolve(load_configuration(out), with_clicks=True), progress)  # what was promised: it can be run as it is
    return missing


def find_tomograms(folder: Path) -> dict[str, str]:
    """Find the tomograms below a folder; return their paths by name.

    Raises
    ------
    InputError
        If there is none, or two have the same name.
    """
    paths: list[str] = []
    waiting, entered = [folder], Entered()
    while waiting:
        here = waiting.pop()
        if not entered.is_new(here):
            continue
        for path in sorted(here.iterdir()):
            if path.name.startswith(".") or path.name.endswith(".partial"):
                continue
            if path.is_dir():
                if not path.name.endswith(".zarr") and not is_project(path):  # a run's stores are copies of tomograms
                    waiting.append(path)
                elif _kind(path) is None:
                    paths.append(str(path))
            elif path.name.lower().endswith(MRC_ENDINGS):
                paths.append(str(path))
    if not paths:
        raise InputError(f"{folder} and its subfolders hold no tomogram (.mrc .rec .map, also .gz .bz2, or .zarr stores)")
    return distinct_names(sorted(paths))


def _kind(store: Path) -> object:
    """Return `scores` or `labels` for a store of ours that is not a tomogram; None for any other store."""
    try:
        return json.loads((store / "zarr.json").read_bytes())["attributes"]["tomostream"].get("kind")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _look(found: dict[str, str], answers: Answers, progress: Progress) -> dict[str, Inspection]:
    sound: dict[str, Inspection] = {}
    for name, path in found.items():
        one = inspect_file(path)
        if one.is_usable or (answers.voxel_size is not None and one.shape is not None):
            sound[name] = one
        else:
            progress.warn(f"{path} is left out: {'; '.join(one.problems)}")
        if answers.voxel_size is None:
            for warning in one.warnings:
                progress.warn(f"{path}: {warning}")
    if not sound:
        raise InputError("none of the tomograms can be used; `tomostream inspect` says why for each")
    spacings = [one.spacing for one in sound.values() if one.spacing is not None]
    if answers.voxel_size is None and spacings and max(spacings) / min(spacings) - 1 > _DIFFERS:
        counts = ", ".join(f"{spacing:g} A ({count})" for spacing, count in sorted(Counter(spacings).items()))
        progress.warn(f"the tomograms have several voxel spacings: {counts}; a model is trained at one of them: leave the others out")
    return sound


def _species_in(tables: Sequence[str]) -> list[str]:
    return sorted({kind for table in tables for kind in read_table(table).species_names() if kind})


def _named(answers: Answers) -> Answers:
    """Fill in missing species names from the clicks.

    Raises
    ------
    InputError
        If the clicks name others than the answer.
    """
    kinds = _species_in(answers.clicks)
    if answers.species and set(kinds) - set(answers.species):
        raise InputError(
            f"--species says {', '.join(answers.species)}, but --clicks name {', '.join(kinds)}; leave --species out to learn each of these, "
            "or give a table of one species"
        )
    return answers if answers.species else replace(answers, species=tuple(kinds))


def _check_answers(answers: Answers, sound: dict[str, Inspection], progress: Progress) -> None:
    names = list(sound)
    try:
        for one in answers.species:
            species_name(one)
    except ValueError as error:
        raise InputError(f"--species {error}") from None
    for tables, what in ((answers.clicks, "--clicks"), (answers.validate, "--validate")):
        if not tables:
            continue
        points = read_points(tables, answers.species or ["particle"], names, what, progress)
        per_tomogram = ", ".join(f"{count} in {name}" for name, count in Counter(points.tomogram.tolist()).items())
        progress.say(f"{what}: {per_tomogram}")
        for name, here in points.by_tomogram():
            shape, spacing = sound[name].shape, answers.voxel_size or sound[name].spacing
            if shape is not None and spacing is not None:
                check_inside(here, shape, spacing, name, what)
    if answers.expected is not None and answers.expected < 0:
        raise InputError(f"--expected must be a number of particles, at least 0, found {answers.expected}")
    if answers.truth is not None:
        read_table(answers.truth, conversion=Conversion(only_species=answers.species[0] if len(answers.species) == 1 else None))


def _check_run(run: ResolvedRun, progress: Progress) -> None:
    """Tell all that a run would tell of its clicks; what would stop it is a warning here, since the file is written."""
    try:
        check_positions(run)
        tell_doubts(run, progress)
        check_clicks(run, progress)
    except InputError as error:
        progress.warn(str(error))


def _missing(answers: Answers, sound: dict[str, Inspection]) -> list[str]:
    unknown = [name for name, one in sound.items() if one.spacing is None]
    return [
        text
        for text, is_missing in (
            (
                f"voxel_size (--voxel-size ANGSTROM): {', '.join(unknown[:4])} {'does' if len(unknown) == 1 else 'do'} not give it",
                bool(unknown) and answers.voxel_size is None,
            ),
            ("species.name (--species NAME)", not answers.species),
            ("species.radius (--radius LENGTH, for example 135A)", answers.radius is None),
            ("labels.train (--clicks TABLE)", not answers.clicks),
        )
        if is_missing
    ]


def _values(sound: dict[str, Inspection], answers: Answers) -> dict[str, object]:
    species: list[dict[str, object]] = [{"name": name, "radius": str(answers.radius)} for name in answers.species]
    for one in species if answers.expected is not None else ():
        one["expected"] = answers.expected
    labels: dict[str, object] = {"train": list(answers.clicks)}
    if answers.validate:
        labels["validate"] = list(answers.validate)
    values: dict[str, object] = {
        "project": answers.project,
        "tomograms": [one.path for one in sound.values()],
        "species": species,
        "labels": labels,
        "predict": {"grid": _GRID},
    }
    return {key: value for key, value in values.items() if value is not None}


def _patterns(paths: list[str]) -> list[str]:
    """Replace the paths by glob patterns, if the patterns match these paths and no others."""
    if len(paths) > 1 and not any(glob.has_magic(path) for path in paths):
        endings = dict.fromkeys(
            f"{Path(path).parent}/*{''.join(Path(path).suffixes[-2 if path.endswith(('.gz', '.bz2', '.ome.zarr')) else -1 :])}"
            for path in paths
        )
        try:
            if len(endings) < len(paths) and sorted(input_paths(list(endings)).values()) == sorted(paths):
                return list(endings)
        except InputError:
            pass  # a pattern matches two tomograms of the same name
    return paths


def _text(sound: dict[str, Inspection], answers: Answers, missing: list[str]) -> str:
    def quoted(value: str) -> str:
        return json.dumps(value, ensure_ascii=False)

    paths = [one.path for one in sound.values()]
    spacings = sorted({one.spacing for one in sound.values() if one.spacing is not None})
    of_spacing = f"the files give {', '.join(f'{spacing:g}' for spacing in spacings)}" if spacings else "the files don't give it"
    patterns = _patterns(paths)
    names = ", ".join(list(sound)[:_MOST_LISTED]) + (f", ... ({len(sound)})" if len(sound) > _MOST_LISTED else "")
    hole = "" if not missing else "".join(f"#   {line}\n" for line in ["still to be filled in:", *missing])
    tables = ", ".join(map(quoted, answers.clicks))
    checks = ", ".join(map(quoted, answers.validate))
    unsaid = "# "
    lines = [
        "# Written by `tomostream init`; every other key: docs/configuration.md.  Next:",
        "#   tomostream run THIS_FILE --dry-run     what would be done, with memory and disk",
        "#   tomostream run THIS_FILE               all of it; run it again to resume",
        hole.rstrip("\n"),
        "",
        f"project: {quoted(answers.project or 'my-project')}   # folder for all results",
        "",
        f"# {len(sound)} tomograms: {names}",
        "tomograms:",
        *(f"  - {quoted(pattern)}" for pattern in patterns),
        "",
        f"# angstrom; only needed where the files don't give it ({of_spacing})",
        f"{'' if answers.voxel_size is not None else unsaid}voxel_size: {answers.voxel_size or 13.48:g}",
        "",
        "species:",
        *(
            line
            for name in answers.species or ("",)
            for line in (
                f"  - name: {quoted(name)}" if name else "  - name:            # of the particle: letters, digits, - and .",
                f"    radius: {answers.radius or '    '}     # of the particle, angstrom (135A) or voxels (10vox)",
                f"    {'' if answers.expected is not None else unsaid}expected: {100 if answers.expected is None else answers.expected}   # particles per tomogram, roughly; estimated from the clicks if left out",
            )
        ),
        "",
        "labels:",
        "  # clicked centres, about ten to a hundred: CSV with the header tomogram,x_voxel,y_voxel,z_voxel (or x_angstrom, ...), one click per line;",
        "  # a tomogram is named like its file, without .mrc and the like; an optional column `label` is 0 where there is no particle",
        f"  train: [{tables}]",
        f"  {'' if checks else unsaid}validate: [{checks or 'more_clicks.csv'}]   # in another tomogram; used to choose the best epoch",
        "",
        f"{'' if answers.truth else unsaid}truth: {quoted(answers.truth or 'truth.csv')}   # all particles, if they are known: the picks are evaluated against them",
        f"tolerance: {answers.radius or defaults.TOLERANCE}   # largest distance of a correct pick from a true particle",
        "",
        "# score maps as the network computes them, at the level that it reads: an eighth of the disk at level 1.  tomostream reads the same scores from them,",
        "# bit for bit; other software sees logits at that level.  For a map of scores on the tomogram's grid, 4 bytes a voxel, say `tomogram` here",
        f"predict: {{grid: {_GRID}}}",
    ]
    return "\n".join(line for i, line in enumerate(lines) if line or i != 3) + "\n"
