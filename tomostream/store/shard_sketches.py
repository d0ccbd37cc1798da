"""How do a tomogram's statistics come out of its conversion?  Each shard is summed up while it is in memory, at every level.

1. A sketch (`moments`) of each level's block of a shard is kept as a note in the ledger, before the shard is named as done: a run that is
   killed and taken up has the sketches of all shards that it need not write again.
2. When all shards are there, the sketches merge in the order of the shards, so the last bits don't depend on bands, memory or kills.
3. Types of 8 and 16 bits have exact histograms: their statistics are complete.  Of the others the raw moments are known, and what the clip
   leaves is measured later, in one pass instead of two.

Limits: stores on a disk; on an object store each note would be an upload.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tomostream.errors import InputError
from tomostream.geometry import Triple, triple
from tomostream.moments import Histogram, Moments, check_moments, is_counted, normalisation_of
from tomostream.store.pyramid import LevelLayout

_KEY = "sketch"  # of a note


@dataclass(slots=True)
class ShardSketch:
    """The sketches of one shard, level by level; `look` is what `write_shard` takes."""

    levels: dict[int, Moments | Histogram] = field(default_factory=dict)

    def look(self, level: int, block: np.ndarray) -> None:
        """Sum up the block of a level."""
        self.levels[level] = Histogram.of(block) if is_counted(block.dtype) else Moments.of(block)

    def note(self, index: Triple) -> dict[str, Any]:
        """As values of JSON."""
        return {_KEY: [_to_json(self.levels[level]) for level in sorted(self.levels)], "of": list(index)}


def statistics_from(
    notes: Sequence[dict[str, Any]], levels: Sequence[LevelLayout], dtype: np.dtype[Any], *, clip_sigma: float
) -> dict[str, Any]:
    """What the sketches of all shards say, as attributes of the store; nothing if a shard has none, or there are no statistics.

    Parameters
    ----------
    notes
        Of the ledger.
    levels, dtype
        Of the store.
    clip_sigma
        Where statistics are clipped, standard deviations.
    """
    found = {triple(note["of"]): note[_KEY] for note in notes if _KEY in note}
    shards = list(levels[0].shards.indices())
    if any(len(found.get(index, ())) != len(levels) for index in shards):
        return {}
    moments: dict[str, Any] = {}
    complete: dict[str, Any] = {}
    for level in range(len(levels)):
        whole = _from_json(found[shards[0]][level], dtype)
        for index in shards[1:]:
            whole = _merged(whole, _from_json(found[index][level], dtype))
        raw = whole.moments() if isinstance(whole, Histogram) else whole
        try:
            check_moments(raw)
        except InputError:
            return {}  # who asks for statistics is told
        if isinstance(whole, Histogram):
            clipped = whole.clipped(mean=raw.mean, std=raw.std, clip_sigma=clip_sigma) if raw.std > 0 else None
            complete[str(level)] = normalisation_of(raw, clipped, clip_sigma=clip_sigma).to_json()
        elif raw.std > 0:
            moments[str(level)] = asdict(raw)
        else:
            complete[str(level)] = normalisation_of(raw, None, clip_sigma=clip_sigma).to_json()
    return ({"normalisation": complete} if complete else {}) | ({"moments": moments} if moments else {})


def _merged(one: Moments | Histogram, other: Moments | Histogram) -> Moments | Histogram:
    if isinstance(one, Histogram) and isinstance(other, Histogram):
        return one.merge(other)
    if isinstance(one, Moments) and isinstance(other, Moments):
        return one.merge(other)
    raise TypeError("sketches of two kinds don't merge")


def _to_json(sketch: Moments | Histogram) -> Any:
    if isinstance(sketch, Moments):
        return asdict(sketch)
    return base64.b64encode(zlib.compress(sketch.counts.astype("<i8").tobytes(), 1)).decode()


def _from_json(values: Any, dtype: np.dtype[Any]) -> Moments | Histogram:
    if isinstance(values, dict):
        return Moments(**values)
    return Histogram(dtype.newbyteorder("="), np.frombuffer(zlib.decompress(base64.b64decode(values)), dtype="<i8").astype(np.int64))
