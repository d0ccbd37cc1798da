"""How high is a peak?  In units that compare between tomograms: by how much it stands out of its volume's own noise.

Scores of one model differ in zero and scale between tomograms, because contrast does.  So a volume's peaks are measured by their own lower part,
which is noise wherever particles fill less than some 15 % of the volume:

    height(x) = (x - s40) / (s20 - s40)

where s40 and s20 are the scores of the last of as many best peaks as balls of the particle's radius would fill 40 and 20 % of the volume.  A peak of noise has a
height of 0 to 3 (their number halves with each unit, about), a particle that can be told from noise one of 5 to 10.

Limits: in a slab thinner than a particle, or where particles fill the volume, the lower part is something else.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

FILL = 0.4  # of the volume, by balls of the particle's radius, one a peak
LOST = -1.0  # the height of a click that has no such peak near it
_CLEAR = 20.0  # from here on heights grow as the logarithm: where hardly any noise is left, its unit says little
_LEAST_PEAKS = 20  # fewer say nothing of a distribution
_LEAST_PROBABILITY = 6e-8  # float32 has no probability between 1 - 6e-8 and 1


@dataclass(frozen=True, slots=True, eq=False)
class Heights:
    """The heights of a volume's best peaks, falling from the best to 0, and what one is in scores."""

    values: Float64[np.ndarray, " n"]
    unit: float


def peaks_measured(voxels: int, radius: float) -> int:
    """How many of the best peaks heights are measured by; radius in voxels."""
    return max(_LEAST_PEAKS, math.ceil(FILL * voxels / (4 / 3 * math.pi * radius**3)))


def heights_of(scores: Float64[np.ndarray, " n"], most: int) -> Heights | None:
    """Measure the peaks; None where they are too few, or all alike.

    Parameters
    ----------
    scores
        Of peaks, falling, finite; unbounded ones (`unbounded`).
    most
        `peaks_measured`; fewer peaks may be there.
    """
    last = min(len(scores), most) - 1
    if last < _LEAST_PEAKS - 1:
        return None
    unit = float(scores[last // 2] - scores[last])
    is_flat = unit <= 1e-9 * max(1.0, abs(float(scores[last])))
    if is_flat:
        return None
    values = (scores[: last + 1] - scores[last]) / unit
    return Heights(np.where(values > _CLEAR, _CLEAR * (1 + np.log(np.maximum(values, _CLEAR) / _CLEAR)), values), unit)


def unbounded(scores: Float64[np.ndarray, " n"], *, are_probabilities: bool) -> Float64[np.ndarray, " n"]:
    """Probabilities as logits, whose peaks can be compared; other scores as they are."""
    if not are_probabilities:
        return scores
    chance = np.clip(scores, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return np.asarray(np.log(chance) - np.log1p(-chance))
