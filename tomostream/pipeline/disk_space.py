"""Does what a run still has to write fit the disk?  Told before any work, by the dry run and by the run.

What is half-written already takes up its space.  Only stores and score maps count: everything else is small beside them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tomostream.errors import BudgetError
from tomostream.project import Project
from tomostream.remote.places import RemotePath
from tomostream.store.existing_output import folder_bytes
from tomostream.store.zarr_opening import PARTIAL_SUFFIX
from tomostream.units import format_bytes


def check_disk(project: Project, *, stores: int, scores: int) -> None:
    """Compare the bytes of the stores and score maps that are to be written with the free space; projects on object stores have no limit.

    Raises
    ------
    BudgetError
        If there is too little.
    """
    if isinstance(project.folder, RemotePath):
        return
    there = next(path for path in (project.folder, *project.folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    begun = _begun_bytes(project.folder)
    if stores + scores > free + begun:
        on_disk = f", {format_bytes(begun)} of them are begun" if begun else ""
        raise BudgetError(
            f"the run still has to write {format_bytes(stores)} of tomograms and {format_bytes(scores)} of score maps{on_disk}, but {there} has {format_bytes(free)} "
            "free; free some space, name a folder on a larger disk in `project`, or keep less: `predict: {grid: network}` or `predict: {keep: candidates}`"
        )


def _begun_bytes(folder: Path) -> int:
    """What the half-written stores in a project's folder take."""
    return sum(folder_bytes(Path(root, name)) for root, names, _ in os.walk(folder) for name in names if name.endswith(PARTIAL_SUFFIX))
