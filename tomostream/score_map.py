"""A score map: one value per voxel that says how likely a particle's centre is there, stored as an OME-Zarr image.

1. `predict` declares what it writes (`ScoreMapAttributes`, under `tomostream` in the store's attributes).  Older stores lack some of these keys.
2. Any OME-Zarr image with axes z y x opens as a score map: without attributes it is one of the species `particle`, its values are scores of
   unknown kind, and they are picked greedily.
3. Stored voxels are decoded on reading: int8 probabilities become float64, missing scores NaN.
"""

import math
import os
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped
from pydantic import BaseModel, ConfigDict, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationError

from tomostream import defaults
from tomostream.candidate_bounds import CandidateBounds
from tomostream.errors import InputError
from tomostream.geometry import Box, Triple
from tomostream.remote.places import RemotePath
from tomostream.store.pyramid import sum_dtype
from tomostream.tomogram import Tomogram, open_tomogram

SCORES = "scores"  # the attribute `kind` of what `predict` writes
UNNAMED = "particle"  # the species of a store that names none
Values = Literal["probability", "logit", "unknown"]


class ScoreMapAttributes(BaseModel):
    """What a score map's store says of itself; keys of other software and of later versions are ignored.

    Parameters
    ----------
    kind
        `scores`; other images that are picked (label masks, tomograms) have another or none.
    species
        Which particle the scores are of.
    logits
        Whether the values are logits, not probabilities.
    tomogram
        Name of the tomogram that was scored.
    strategy
        Which strategy scored it.
    pick_method
        The picker that belongs to that strategy.
    score_scale, score_offset
        Score = stored x scale + offset, if `score_scale` is there.
    score_missing
        The stored value of voxels without a score.
    candidates
        Of a map whose other voxels are missing: what can be picked from it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: StrictStr | None = None
    species: StrictStr = UNNAMED
    logits: StrictBool = False
    tomogram: StrictStr | None = None
    strategy: StrictStr | None = None
    pick_method: StrictStr = defaults.PICKER
    score_scale: StrictFloat | StrictInt | None = None
    score_offset: StrictFloat | StrictInt | None = None
    score_missing: StrictInt | None = None
    candidates: CandidateBounds | None = None

    @property
    def values(self) -> Values:
        """What the decoded values are."""
        if self.logits:
            return "logit"
        return "probability" if self.kind == SCORES else "unknown"

    def to_json(self) -> dict[str, Any]:
        """As they are stored: without the keys that say nothing."""
        return self.model_dump(exclude_none=True)

    def decode(self, block: Shaped[np.ndarray, "z y x"]) -> Shaped[np.ndarray, "z y x"]:
        """Turn stored voxels into scores.

        With a scale: float64, and NaN where the score is missing.  Else float32, or float64 where float32 does not hold every value.
        """
        if self.score_scale is not None:
            scores: np.ndarray = block * np.float64(self.score_scale) + np.float64(self.score_offset or 0.0)
            if self.score_missing is not None:
                scores[block == self.score_missing] = np.nan
            return scores
        return block.astype(sum_dtype(block.dtype), copy=False)


@dataclass(frozen=True, slots=True)
class ScoreMap:
    """A score map at one level; made by `open_score_map`.

    Parameters
    ----------
    tomogram
        The stored image.
    attributes
        What the store says of it.
    """

    tomogram: Tomogram = field(repr=False)
    attributes: ScoreMapAttributes

    @property
    def name(self) -> str:
        """The file's name less its suffixes: the tomogram's name."""
        return self.tomogram.name

    @property
    def path(self) -> str:
        """Local path or URL."""
        return self.tomogram.path

    @property
    def spacing(self) -> float:
        """Edge of a level-0 voxel, angstrom."""
        return self.tomogram.spacing

    @property
    def shape(self) -> Triple:
        """Edges of this level, voxels (z y x)."""
        return self.tomogram.shape

    @property
    def missing(self) -> float:
        """The stored value of voxels without a score."""
        return math.nan if self.attributes.score_missing is None else float(self.attributes.score_missing)

    def at_level(self, level: int) -> "ScoreMap":
        """The same score map read at another level; see `Tomogram.at_level`.

        Raises
        ------
        InputError
            If the level can't be.
        """
        return replace(self, tomogram=self.tomogram.at_level(level))

    def read(self, box: Box) -> Shaped[np.ndarray, "z y x"]:
        """Read the scores of a box of this level, decoded; see `ScoreMapAttributes.decode`.

        Raises
        ------
        InputError
            If the box leaves the volume, or the store is damaged.
        """
        return self.attributes.decode(self.tomogram.read(box))


def open_score_map(path_or_url: str | os.PathLike[str] | RemotePath) -> ScoreMap:
    """Open any OME-Zarr image with axes z y x as a score map; only metadata are read.

    Raises
    ------
    InputError
        If it is no such image, or an attribute has the wrong type.
    """
    return as_score_map(open_tomogram(path_or_url))


def as_score_map(tomogram: Tomogram) -> ScoreMap:
    """Take an open image as a score map.

    Raises
    ------
    InputError
        If an attribute of the store has the wrong type.
    """
    try:
        return ScoreMap(tomogram, ScoreMapAttributes.model_validate(tomogram.attributes))
    except ValidationError as error:
        wrong = {str(problem["loc"][0]): problem["input"] for problem in error.errors()}
        found = ", ".join(f"'{key}' is {value!r}" for key, value in wrong.items())
        allowed = ", ".join(f"'{key}' {_ALLOWED[key]}" for key in wrong)
        raise InputError(
            f"{tomogram.path}: the attributes of this store can't be those of a score map: {found}; allowed is {allowed}; predict it again"
        ) from None


_ALLOWED = dict.fromkeys(("kind", "species", "tomogram", "strategy", "pick_method"), "text") | {
    "logits": "true or false",
    "score_scale": "a number",
    "score_offset": "a number",
    "score_missing": "a whole number",
    "candidates": "what predict writes: radii and floors",
}
