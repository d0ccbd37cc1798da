"""What is a tomogram called?  Its file's name, less the suffixes of volumes and of compression.

One rule for every stage, so that a table made from `TS_01.mrc.gz` finds the store `TS_01.ome.zarr`.
"""

from __future__ import annotations

import os
from pathlib import PurePosixPath

SUFFIXES = (".gz", ".bz2", ".mrc", ".rec", ".map", ".zarr", ".ome")
# how the name of a file ends that must be converted first (lower case)
MRC_ENDINGS = tuple(volume + packed for volume in (".mrc", ".rec", ".map") for packed in ("", ".gz", ".bz2"))


def tomogram_name(path: str | os.PathLike[str]) -> str:
    """Return the last part of a path or URL, less exactly `SUFFIXES`, repeatedly (case matters, a name never becomes empty).

    >>> tomogram_name("/data/TS_01.rec.gz"), tomogram_name("https://host/TS_01.ome.zarr/"), tomogram_name("a.b.st")
    ('TS_01', 'TS_01', 'a.b.st')
    """
    name = PurePosixPath(os.fspath(path).replace(os.sep, "/").partition("?")[0]).name
    while True:
        shorter = next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix) and name != suffix), name)
        if shorter == name:
            return name
        name = shorter
