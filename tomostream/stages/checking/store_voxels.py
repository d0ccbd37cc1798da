"""Are a store's voxels the ones that were written, and do the recorded facts about them agree?

Shard by shard, each read once:

1. Every chunk of every level is read, and its checksum compared.
2. A coarser level must be the mean of the finer one, bit by bit (the seams of scores at the network's level are none).
3. Labels are values that the mask names; probabilities lie within 0..1, or are missing.
4. Mean and deviation, raw and clipped, are gathered on the way (the clip is that of the recorded statistics), and compared with those recorded.

Memory: a shard at all levels, what reads and averages it: about three shards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from tomostream.errors import InputError
from tomostream.geometry import Triple
from tomostream.moments import Moments
from tomostream.normalisation import Normalisation
from tomostream.progress import Bar
from tomostream.remote.places import Place, place
from tomostream.score_map import ScoreMapAttributes
from tomostream.stages.checking.damage import Damage
from tomostream.store.pyramid import mean_pooled, rounded_to
from tomostream.store.shard_file import Codec
from tomostream.store.shard_reading import damage_of_shard, read_sharded
from tomostream.store.stored_levels import StoredLevel
from tomostream.tomogram import Tomogram

CLOSE = 1e-6  # of the standard deviation: what statistics may differ by (guarantee 1)
Mend = Callable[[int, Triple], Callable[[], None]]


class ShardReader:
    """Reads the shards of a store that tomostream finished, at all levels; where scores are at the network's level, of that and its seams."""

    def __init__(self, tomogram: Tomogram) -> None:
        self.levels = tomogram.arrays
        self.folder: Place = place(tomogram.path)

    def damage(self, level: int, index: Triple) -> list[str]:
        """Return every problem of a shard."""
        one = self.levels[level]
        return damage_of_shard(self.folder / one.path, one.layout, one.dtype, _codec(one), index)

    def read(self, level: int, index: Triple) -> np.ndarray:
        """Return the voxels of an intact shard."""
        one = self.levels[level]
        core = one.layout.shards.core(index)
        block = np.empty(core.shape, dtype=one.dtype)
        read_sharded(self.folder / one.path, one.layout, one.dtype, _codec(one), core, out=block)
        return block

    def file(self, level: int, index: Triple) -> str:
        """Return the name of a shard's file in the store."""
        return "/".join((self.levels[level].path, "c", *map(str, index)))


def projected_bytes(tomogram: Tomogram) -> int:
    """Return the bytes that a check holds besides the libraries."""
    first = tomogram.arrays[0]
    return 3 * math.prod(first.layout.shards.core((0, 0, 0)).shape) * max(first.dtype.itemsize, 4)


def check_voxels(tomogram: Tomogram, bar: Bar, mend: Mend, mend_statistics: Callable[[int], Callable[[], None]]) -> Iterator[Damage]:
    """Read a whole store that tomostream finished; return what is wrong.

    Parameters
    ----------
    tomogram
        At level 0.
    bar
        Advances a level-0 shard at a time.
    mend, mend_statistics
        How a shard of a level is made again, and a level's statistics.
    """
    reader = ShardReader(tomogram)
    values = _allowed_values(tomogram)
    gathered = {level: found for level in range(len(tomogram.levels)) if (found := tomogram.at_level(level).normalisation) is not None}
    raw: dict[int, Moments] = dict.fromkeys(gathered, Moments())
    clipped: dict[int, Moments] = dict.fromkeys(gathered, Moments())
    for index in reader.levels[0].layout.shards.indices():
        finer: np.ndarray | None = None
        for level in range(len(reader.levels)):
            try:
                block: np.ndarray | None = reader.read(level, index)
            except InputError:
                block = None
                gathered.pop(level, None)  # they can't be compared any more
                for problem in reader.damage(level, index):
                    yield Damage(tomogram.path, reader.file(level, index), problem, mend(level, index))
            if block is not None:
                if finer is not None and tomogram.coarse is None and not _is_mean(block, finer):
                    yield Damage(tomogram.path, reader.file(level, index), f"it is not the mean of level {level - 1}", mend(level, index))
                wrong = values(block) if level == 0 else None
                if wrong is not None:
                    yield Damage(tomogram.path, reader.file(level, index), wrong, mend(level, index))
                if level in gathered:
                    raw[level] = raw[level].merge(Moments.of(block))
                    clipped[level] = clipped[level].merge(_clipped(block, gathered[level]))
            finer = block
        bar.advance()
    for level, recorded in gathered.items():
        contradiction = _contradiction(recorded, raw[level], clipped[level])
        if contradiction is not None:
            yield Damage(tomogram.path, f"attribute tomostream.normalisation.{level}", contradiction, mend_statistics(level), "statistics")


def _codec(level: StoredLevel) -> Codec:
    if level.codec is None:
        raise TypeError(f"level {level.path} does not use tomostream's codecs")
    return level.codec


def _is_mean(coarse: np.ndarray, finer: np.ndarray) -> bool:
    return np.array_equal(coarse.view(np.uint8), rounded_to(mean_pooled(finer), coarse.dtype).view(np.uint8))


def _clipped(block: np.ndarray, recorded: Normalisation) -> Moments:
    if recorded.std <= 0:
        return Moments()
    return Moments.clipped(block, mean=recorded.mean, std=recorded.std, clip_sigma=recorded.clip_sigma)


def _contradiction(recorded: Normalisation, raw: Moments, clipped: Moments) -> str | None:
    """Return which recorded statistics don't match the voxels."""
    if (recorded.finite, recorded.total) != (raw.count, raw.total):
        return f"{recorded.finite} of {recorded.total} voxels are finite by the record, {raw.count} of {raw.total} are"
    pairs = [("mean", recorded.mean, raw.mean, raw.std), ("std", recorded.std, raw.std, raw.std)]
    if recorded.std > 0:
        pairs += [
            ("clipped_mean", recorded.clipped_mean, clipped.mean, 1.0),
            ("clipped_std", recorded.clipped_std, clipped.std, clipped.std),
        ]
    for name, one, other, scale in pairs:
        if not abs(one - other) <= 2 * CLOSE * scale + 1e-12 * abs(other):
            return f"{name} is {one!r} by the record, {other!r} by the voxels"
    return None


def _allowed_values(tomogram: Tomogram) -> Callable[[np.ndarray], str | None]:
    """Checks the values of a block, by the kind of store."""
    attributes = tomogram.attributes

    def labels(block: np.ndarray) -> str | None:
        allowed = [0, *map(int, attributes.get("values") or {})]
        wrong = block[~np.isin(block, allowed)]
        return f"{wrong.size} voxels have labels that the mask does not name, the first is {wrong[0]}" if wrong.size else None

    scores = ScoreMapAttributes.model_validate(attributes)

    def probabilities(block: np.ndarray) -> str | None:
        decoded = scores.decode(block)
        wrong = decoded[(decoded < 0) | (decoded > 1 + CLOSE)]  # int8 decodes 1 with a rounding error
        return f"{wrong.size} probabilities lie outside 0..1, the first is {wrong[0]:g}" if wrong.size else None

    if attributes.get("kind") == "labels":
        return labels
    if attributes.get("kind") == "scores" and not attributes.get("logits") and tomogram.coarse is None:  # that holds logits
        return probabilities
    return lambda block: None
