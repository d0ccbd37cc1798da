"""How raw voxels become network input: standardise, clip, standardise again, folded into one affine step and a clip.

Two kinds of statistics can stand behind it: the plain ones of all finite voxels, and the robust ones (`robust_statistics`), which hot voxels,
gold and padding don't decide.  What is trained now is trained with the robust ones, and records that; models of before go on with the plain ones.

With mean m and standard deviation s of the finite voxels, and mean c and standard deviation d of the standardised data clipped at k,

    input = (clip((raw - m) / s, -k, k) - c) / d = clip(raw * scale + offset, low, high)

Voxels that are not finite are left out of the statistics and become 0, the mean.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from tomostream.defaults import CLIP_SIGMA
from tomostream.errors import InputError

PLAIN = "plain"
ROBUST = "robust-1"  # the number changes with the definition: models and stores record it
INVERTED = f"{ROBUST}-inverted"  # of bright particles, which so become dark
KINDS = PLAIN, ROBUST, INVERTED
_PIECE_VOX = 2**15  # that are normalised at a time
_FACTORS = 1e-30, 1e30  # between which float32's range (1e-38 to 3e38) plays no part


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
    fill
        Value of padding, which becomes 0 as voxels that are not finite do; None: none.  Only robust statistics know it.
    is_inverted
        Whether the result changes its sign.
    robust
        The robust statistics of the same volume; None where they are not known, or these are they.
    """

    mean: float
    std: float
    clipped_mean: float
    clipped_std: float
    finite: int
    total: int
    clip_sigma: float = CLIP_SIGMA
    fill: float | None = None
    is_inverted: bool = False
    robust: "Normalisation | None" = None

    def of_kind(self, kind: str) -> "Normalisation":
        """The statistics of a kind: `PLAIN`, `ROBUST` or `INVERTED`.

        Raises
        ------
        InputError
            If the robust ones are not known, or the kind is not.
        """
        if kind == PLAIN:
            return replace(self, robust=None)
        if kind in (ROBUST, INVERTED) and self.robust is not None:
            return replace(self.robust, is_inverted=kind == INVERTED)
        if kind in KINDS:
            raise InputError("the volume's statistics lack the robust ones; measure them with `tomostream stats`")
        raise InputError(f"a model's normalisation must be {' or '.join(KINDS)}, found '{kind}'; update tomostream")

    @property
    def is_constant(self) -> bool:
        """Whether the volume has no contrast to standardise."""
        return not (self.std > 0 and self.clipped_std > 0)

    @property
    def scale(self) -> float:
        """Factor of the affine step."""
        return self._sign / (self.std * self.clipped_std)

    @property
    def offset(self) -> float:
        """Summand of the affine step."""
        return self._sign * (-self.mean / self.std - self.clipped_mean) / self.clipped_std

    @property
    def low(self) -> float:
        """Smallest value after the clip."""
        return (-self.clip_sigma - self._sign * self.clipped_mean) / self.clipped_std

    @property
    def high(self) -> float:
        """Largest value after the clip."""
        return (self.clip_sigma - self._sign * self.clipped_mean) / self.clipped_std

    @property
    def _sign(self) -> float:
        return -1.0 if self.is_inverted else 1.0

    def apply(self, raw: Shaped[np.ndarray, "z y x"], *, out: Float32[np.ndarray, "z y x"] | None = None) -> Float32[np.ndarray, "z y x"]:
        """Normalise raw voxels.

        Parameters
        ----------
        raw
            Of any real type.
        out
            Where the result is written, of any memory layout; may be `raw` itself.  None: a new array.

        Returns
        -------
        np.ndarray
            `out`, or the new array.  A voxel's value depends on that voxel alone.

        Raises
        ------
        InputError
            If the volume is constant.
        """
        if self.is_constant:
            raise InputError(
                f"the volume is constant (mean {self.mean:g}, standard deviation {self.std:g}): there is nothing to learn from or to find in it"
            )
        result = np.empty(raw.shape, dtype=np.float32) if out is None else out
        kind = self._arithmetic(raw.dtype)
        near = kind.type(self.mean)  # what rounding leaves of a large mean is in the summand: nothing cancels
        scale, low, high = kind.type(self.scale), kind.type(self.low), kind.type(self.high)
        summand = kind.type((float(near) - self.mean) * self.scale - self._sign * self.clipped_mean / self.clipped_std)
        pieces = _pieces(raw, result)
        scratch = np.empty(max((source.size for source, _ in pieces), default=0), dtype=kind)
        with np.errstate(invalid="ignore", over="ignore"):  # voxels that are not finite are overwritten; others end at the clip
            for source, target in pieces:
                values = scratch[: source.size].reshape(source.shape)
                np.subtract(source, near, out=values, dtype=kind, casting="same_kind")
                np.multiply(values, scale, out=values)
                np.add(values, summand, out=values)
                # a sum is cheaper than a look at each value
                finite = np.isfinite(source) if raw.dtype.kind == "f" and not np.isfinite(np.add.reduce(values, axis=None)) else None
                is_fill = None if self.fill is None else source == self.fill  # before `out` is written, which may be `raw`
                np.clip(values, low, high, out=target, casting="same_kind")
                if finite is not None and not finite.all():
                    target[~finite] = 0.0
                if is_fill is not None:
                    target[is_fill] = 0.0
        return result

    def _arithmetic(self, raw: np.dtype) -> np.dtype:
        """float32 where it holds the raw values and the factor, else float64 (half as fast): either way within some 1e-7 of the definition."""
        is_held = raw == np.float32 or (raw.kind in "biuf" and raw.itemsize <= 2)
        return np.dtype(
            np.float32 if is_held and _FACTORS[0] < abs(self.scale) < _FACTORS[1] and abs(self.mean) < _FACTORS[1] else np.float64
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values for JSON; floats read back exactly.  What is not known has no key."""
        return {key: value for key, value in asdict(self).items() if value is not None and value is not False} | (
            {"robust": self.robust.to_json()} if self.robust is not None else {}
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Normalisation":
        """Read what `to_json` wrote; other writers of JSON may have made 0 of 0.0."""
        robust = values.get("robust")
        values = {key: float(value) if type(value) is int and key not in ("finite", "total") else value for key, value in values.items()}
        return cls(**values | ({} if robust is None else {"robust": cls.from_json(robust)}))


def _pieces(raw: np.ndarray, result: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Views of both that fit the cache: pieces of contiguous arrays, else some planes."""
    if raw.flags.c_contiguous and result.flags.c_contiguous:
        one, other, step = raw.reshape(-1), result.reshape(-1), _PIECE_VOX
    else:
        one, other, step = raw, result, max(1, _PIECE_VOX // max(1, raw[0].size if len(raw) else 1))
    return [(one[first : first + step], other[first : first + step]) for first in range(0, len(one), step)]
