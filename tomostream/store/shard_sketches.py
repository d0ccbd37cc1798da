"""How do a tomogram's statistics come out of its conversion?  Each shard is counted while it is in memory, at every level.

1. A histogram (`moments`) of each level's block of a shard is kept as a note in the ledger, before the shard is named as done: a run that is
   killed and taken up has the histograms of all shards that it need not write again.
2. When all shards are there, the histograms are added up: the statistics are exact, and the same for any bands, memory or kills.

Limits: types of 8 and 16 bits, whose histogram is exact; the others are measured afterwards.  Stores on a disk: on an object store each
note would be an upload.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

import numpy as np

from tomostream.errors import InputError
from tomostream.geometry import Triple, triple
from tomostream.moments import Histogram, check_moments, normalisation_of
from tomostream.normalisation import Normalisation
from tomostream.robust_statistics import robust_of_counts
from tomostream.store.build_records import Note
from tomostream.store.pyramid import LevelLayout
from tomostream.store.records import Attributes, put_statistics


class ShardNote(TypedDict):
    """The histograms of a shard at all levels (zlib, base64), and its index."""

    counts: list[str]
    of: list[int]


@dataclass(slots=True)
class ShardSketch:
    """The histograms of one shard, level by level; `look` is what `write_shard` takes."""

    levels: dict[int, Histogram] = field(default_factory=dict)

    def look(self, level: int, block: np.ndarray) -> None:
        """Count the block of a level."""
        self.levels[level] = Histogram.of(block)

    def note(self, index: Triple) -> ShardNote:
        """As values of JSON."""
        packed = [zlib.compress(self.levels[level].counts.astype("<i8").tobytes(), 1) for level in sorted(self.levels)]
        return {"counts": [base64.b64encode(one).decode() for one in packed], "of": list(index)}


def statistics_from(notes: Sequence[Note], levels: Sequence[LevelLayout], dtype: np.dtype[Any], *, clip_sigma: float) -> Attributes:
    """What the histograms of all shards say, as attributes of the store; nothing if a shard has none, or there are no statistics.

    Parameters
    ----------
    notes
        Of the ledger.
    levels, dtype
        Of the store.
    clip_sigma
        Where statistics are clipped, standard deviations.
    """
    found = {triple(note["of"]): note["counts"] for note in notes if "counts" in note}
    if any(len(found.get(index, ())) != len(levels) for index in levels[0].shards.indices()):
        return {}
    attributes: Attributes = {}
    for level in range(len(levels)):
        counts = sum(np.frombuffer(zlib.decompress(base64.b64decode(packed[level])), dtype="<i8") for packed in found.values())
        try:
            whole = statistics_of_counts(Histogram(dtype.newbyteorder("="), np.asarray(counts, dtype=np.int64)), clip_sigma=clip_sigma)
        except InputError:
            return {}  # the error is raised when statistics are asked for
        put_statistics(attributes, level, whole)
    return attributes


def statistics_of_counts(histogram: Histogram, *, clip_sigma: float) -> Normalisation:
    """The statistics of a volume whose voxels are counted, the robust ones too.

    Raises
    ------
    InputError
        If no voxel is finite.
    """
    raw = histogram.moments()
    check_moments(raw)
    clipped = histogram.clipped(mean=raw.mean, std=raw.std, clip_sigma=clip_sigma) if raw.std > 0 else None
    plain = normalisation_of(raw, clipped, clip_sigma=clip_sigma)
    return replace(plain, robust=robust_of_counts(*histogram.finite(), plain))
