"""Readers for napari: OME-Zarr images of one volume, and tables of picks or clicks.

napari asks a reader for every file with its ending.  It returns None for files that it can't read, so that napari asks other readers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tomostream.errors import TomostreamError
from tomostream.napari.layers import LayerData, layer_of_store, layers_of_table
from tomostream.tomogram import open_tomogram

Reader = Callable[[str | Sequence[str]], list[LayerData]]
_COLUMNS = ({"x_angstrom", "y_angstrom", "z_angstrom"}, {"x_voxel", "y_voxel", "z_voxel"}, {"x_coord", "y_coord", "z_coord"})


def reader_of_store(path: str | Sequence[str]) -> Reader | None:
    """Return a reader of tomograms and score maps; None if a store does not hold a single volume."""
    try:
        for one in _paths(path):
            open_tomogram(one)
    except TomostreamError:
        return None
    return lambda given: [layer_of_store(one) for one in _paths(given)]


def reader_of_table(path: str | Sequence[str]) -> Reader | None:
    """Return a reader of tables with our columns; None for other CSV files, including napari's own."""
    for one in _paths(path):
        try:
            with Path(one).open(encoding="utf-8-sig") as lines:
                head = next((line for line in lines if line.strip() and not line.startswith("#")), "")
        except (OSError, UnicodeDecodeError):
            return None
        names = {name.strip().strip('"').lower() for name in head.replace(";", ",").replace("\t", ",").split(",")}
        if not any(columns <= names for columns in _COLUMNS):
            return None
    return lambda given: [layer for one in _paths(given) for layer in layers_of_table(one)]


def _paths(path: str | Sequence[str]) -> list[str]:
    return [path] if isinstance(path, str) else [str(one) for one in path]
