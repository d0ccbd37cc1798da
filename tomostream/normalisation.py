"""How raw voxels become network input: standardise, clip, standardise again, folded into one affine step and a clip.

With mean m and standard deviation s of the finite voxels, and mean c and standard deviation d of the standardised data clipped at k,

    input = (clip((raw - m) / s, -k, k) - c) / d = clip(raw * scale + offset, low, high)

Voxels that are not finite are left out of the statistics and become 0, the mean.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from tomostream.defaults import CLIP_SIGMA
from tomostream.errors import InputError


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Statistics of one volume (ddof 0, over the finite voxels), and the affine step with clip that follows from them.

    Parameters
    ----------
    mean, std
        Of the raw data.
    clipped_mean, clipped_std
        Of the standardised data clipped at +-`clip_sigma`.
    finite, total
        Number of finite voxels, and of all.
    """

    mean: float
    std: float
    clipped_mean: float
    clipped_std: float
    finite: int
    total: int
    clip_sigma: float = CLIP_SIGMA

    @property
    def is_constant(self) -> bool:
        """Whether the volume has no contrast to standardise."""
        return not (self.std > 0 and self.clipped_std > 0)

    @property
    def scale(self) -> float:
        """Factor of the affine step."""
        return 1.0 / (self.std * self.clipped_std)

    @property
    def offset(self) -> float:
        """Summand of the affine step."""
        return (-self.mean / self.std - self.clipped_mean) / self.clipped_std

    @property
    def low(self) -> float:
        """Smallest value after the clip."""
        return (-self.clip_sigma - self.clipped_mean) / self.clipped_std

    @property
    def high(self) -> float:
        """Largest value after the clip."""
        return (self.clip_sigma - self.clipped_mean) / self.clipped_std

    def apply(self, raw: Shaped[np.ndarray, "z y x"]) -> Float32[np.ndarray, "z y x"]:
        """Normalise raw voxels.

        Parameters
        ----------
        raw
            Of any real type.

        Returns
        -------
        np.ndarray
            A new float32 array: float64's result, rounded once.  A voxel's value depends on that voxel alone.

        Raises
        ------
        InputError
            If the volume is constant.
        """
        if self.is_constant:
            raise InputError(
                f"the volume is constant (mean {self.mean:g}, standard deviation {self.std:g}): there is nothing to learn from or to find in it"
            )
        shift = self.clipped_mean / self.clipped_std
        result = np.empty(raw.shape, dtype=np.float32)
        plane = np.empty(raw.shape[1:], dtype=np.float64)
        # float64 costs little plane by plane, in the cache; in float32 a large mean over a small deviation would cancel
        with np.errstate(invalid="ignore"):  # voxels that are not finite are overwritten
            for source, target in zip(raw, result, strict=True):
                np.subtract(source, self.mean, out=plane, dtype=np.float64)
                np.multiply(plane, self.scale, out=plane)
                np.subtract(plane, shift, out=plane)
                np.clip(plane, self.low, self.high, out=plane)
                target[...] = plane
                if raw.dtype.kind == "f":
                    finite = np.isfinite(source)
                    if not finite.all():
                        target[~finite] = 0.0
        return result

    def to_json(self) -> dict[str, Any]:
        """As plain values for JSON; floats read back exactly."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Normalisation":
        """Read what `to_json` wrote."""
        return cls(**values)
