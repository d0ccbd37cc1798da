"""Open a store for a stage, and warn about doubts before the work, not only in `inspect`."""

from __future__ import annotations

from tomostream.progress import Progress
from tomostream.tomogram import Tomogram, open_tomogram


def open_told(path: str, progress: Progress, *, voxel_size: float | None = None, needs_spacing: bool = True) -> Tomogram:
    """Open a tomogram's store and report what had to be assumed.

    Parameters
    ----------
    path
        Of the store.
    progress
        Receives the warnings.
    voxel_size
        Angstrom, for a store that does not say it.
    needs_spacing
        Whether to refuse a tomogram whose spacing neither its store nor the user gives.

    Raises
    ------
    InputError
        See `open_tomogram`; and if the voxel spacing is needed and not known.
    """
    tomogram = open_tomogram(path, voxel_size=voxel_size)
    if needs_spacing:
        _ = tomogram.spacing
    for warning in tomogram.warnings:
        progress.warn(f"{tomogram.name}: {warning}")
    return tomogram
