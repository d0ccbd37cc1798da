"""Which files are the tomograms of RELION 5's `tomograms.star`?

A row is a tomogram: `rlnTomoName`, its file `rlnTomoReconstructedTomogram` (or, where there is none, `rlnTomoReconstructedTomogramDenoised`;
`tomograms.star:denoised` asks for that).  Files are named from RELION's project folder: the current one, or one above the STAR file's.  The
voxel spacing is `rlnTomoTiltSeriesPixelSize` times `rlnTomoTomogramBinning`; a file whose head says another is refused.

The hand (`rlnTomoHand`) is that of the defocus along the beam: it moves no position in a tomogram, so nothing is done about it.
"""

from __future__ import annotations

from pathlib import Path

from tomostream.errors import InputError
from tomostream.formats.star_file import StarTable, read_star
from tomostream.formats.star_tables import numbers
from tomostream.store.mrc import read_header
from tomostream.store.naming import MRC_ENDINGS, RECONSTRUCTED, tomogram_name

_NAME, _FILE, _DENOISED = "rlnTomoName", "rlnTomoReconstructedTomogram", "rlnTomoReconstructedTomogramDenoised"
_PIXEL, _BINNING = "rlnTomoTiltSeriesPixelSize", "rlnTomoTomogramBinning"
_DENOISED_WORD = "denoised"
_AGREES = 1e-2  # relative difference of two spacings that a head's rounding explains


def listed_tomograms(text: str) -> list[str] | None:
    """Return the files of the tomograms that `FILE.star` or `FILE.star:denoised` means; None for any other text.

    Raises
    ------
    InputError
        As `tomograms`.
    """
    parts = split(text)
    return None if parts is None else tomograms(*parts)


def split(text: str) -> tuple[str, str] | None:
    """Part `FILE.star` or `FILE.star:denoised` into file and choice; None for anything else."""
    file, _, choice = text.partition(".star")
    if text.endswith(".star"):
        return text, ""
    return (f"{file}.star", choice[1:]) if choice.startswith(":") and file else None


def tomograms(file: str, choice: str) -> list[str]:
    """Return the files of the tomograms, in the table's order.

    Raises
    ------
    InputError
        If it is no such table, a file is missing, or its head contradicts the table.
    """
    if choice not in ("", _DENOISED_WORD):
        raise InputError(f"{file}:{choice} is not known; write {file} or {file}:{_DENOISED_WORD}")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{file} does not exist")
    table = next((one for one in read_star(path) if _NAME in one), None)
    wanted = (_DENOISED,) if choice else (_FILE, _DENOISED)
    column = next((name for name in wanted if table is not None and name in table), None)
    if table is None or column is None:
        raise InputError(f"{file} lists no tomograms: it needs the columns {_NAME} and {wanted[0]} (RELION 5's tomograms.star)")
    spacings = _spacings(path, table)
    found = []
    for i, (name, said) in enumerate(zip(table[_NAME], table[column], strict=True)):
        volume = _found(path, said)
        _check(path, name, volume, None if spacings is None else spacings[i])
        found.append(str(volume))
    return found


def _spacings(path: Path, table: StarTable) -> list[float] | None:
    if _PIXEL not in table or _BINNING not in table:
        return None
    said = numbers(path, table, [_PIXEL, _BINNING])
    return [float(value) for value in said[:, 0] * said[:, 1]]


def _found(star: Path, said: str) -> Path:
    folders = [Path(), *star.absolute().parents]
    for folder in folders:
        if (folder / said).exists():
            return folder / said
    raise InputError(f"{star} names the tomogram {said}, which is in no folder above it; run in RELION's project folder, or mend the table")


def _check(star: Path, name: str, volume: Path, spacing: float | None) -> None:
    if tomogram_name(volume).removeprefix(RECONSTRUCTED) != name.removeprefix(RECONSTRUCTED):
        raise InputError(f"{star} calls {volume} '{name}', but files name their tomograms: rename it {RECONSTRUCTED}{name}{volume.suffix}")
    if spacing is None or not volume.name.lower().endswith(MRC_ENDINGS):
        return
    head = read_header(volume).spacing_zyx
    if head is not None and abs(head[0] / spacing - 1) > _AGREES:
        raise InputError(
            f"{star} says that the voxels of '{name}' have {spacing:g} A ({_PIXEL} x {_BINNING}), the head of {volume} says {head[0]:g} A; "
            "mend one of them"
        )
