"""Mean and standard deviation of voxels that never lie in memory together.

Two mergeable sketches of the finite voxels; the others are counted and left out.  A sketch of a whole is the merge of the sketches of
its blocks, so blocks may be taken anywhere, in any process, and merged in a tree.

`Histogram`, for types of 8 and 16 bits: how often each bit pattern occurs.  Exact; one pass gives the moments of the raw data and of
the clipped data too.

`Moments`, for all others: count, mean and sum of squared deviations, in float64.

1. A block is taken in pieces that fit the processor's cache, so no float64 copy of it is made.
2. Each piece is shifted by its own first value before it is summed.  A large common offset so cancels exactly, and a constant volume has
   exactly no variance.  A first value that is itself extreme, at distance D, does no harm: it adds about D^2 to the sum of squares,
   and the rounding of a piece of n values is below n epsilon D^2.
3. float32 pieces are summed in float32, which takes half the time, as long as that loses nothing: shifted by the mean of what was seen before
   in the block, and again in float64 where that mean is more than a standard deviation off, or squares come near float32's range.
   numpy's pairwise sums then err by about 1e-7 of the standard deviation (a bound is 24 half units in the last place), at random from piece to piece.
4. Pieces and blocks merge by Chan's formula.
5. What clipping does is known only when mean and standard deviation are: a second pass takes `Moments.clipped`.

Limits: volumes whose squared deviations leave float64's range are refused.

References
----------
Chan, Golub, LeVeque (1983), "Algorithms for computing the sample variance", The American Statistician 37, 242-247, eq. 2.1.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from tomostream.errors import InputError
from tomostream.normalisation import Normalisation

_PIECE = 2**15  # voxels at a time; as float64 256 KB, within a core's own cache
_SINGLE_PIECE = 2**16  # of float32, summed as such; 256 KB
_SINGLE_SQUARES = 1e-30, 1e30  # mean squares between which float32's range (1e-38 to 3e38) plays no part
_HISTOGRAM_PIECE = 2**19  # voxels at a time; larger, because each piece pays for a table of 65536 counts
_SMALLEST_STD = 1e-140  # squares of smaller deviations lose digits or vanish
# writes values, less a shift near the given mean, into a buffer, and returns the shift
_Prepare = Callable[[np.ndarray, float | None, np.ndarray], float]
SCRATCH_BYTES = 2 * 8 * _HISTOGRAM_PIECE  # working memory of a sketch besides the block itself, at most


def is_counted(dtype: np.dtype) -> bool:
    """Whether voxels of this type are summed up by an exact `Histogram` (one pass) rather than by `Moments` (two passes)."""
    return dtype.kind in "biuf" and dtype.itemsize <= 2


def check_dtype(dtype: np.dtype) -> None:
    """Refuse what has no mean.

    Raises
    ------
    InputError
        If the type is not bool, an integer, or a float of 16, 32 or 64 bits.
    """
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(f"voxels of type {dtype} have no statistics; allowed are bool, integers, float16, float32 and float64")


def _pieces(block: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Go through a block in C order as contiguous 1-D arrays of at most `size` native values; a contiguous block is not copied."""
    native = block.dtype.newbyteorder("=")
    with np.nditer(
        [block],
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_flags=[["readonly", "contig"]],  # type: ignore[call-overload]  # numpy's stubs lack its documented flag "contig"
        op_dtypes=[native],
        order="C",
        buffersize=size,
    ) as pieces:
        yield from (piece for piece in pieces if piece.size)


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and spread of the finite voxels seen.

    Parameters
    ----------
    count
        Number of finite voxels.
    mean
        Their mean; 0 if there are none.
    squares
        Sum of their squared deviations from the mean.
    total
        Number of all voxels, finite or not.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    total: int = 0

    @property
    def std(self) -> float:
        """Standard deviation (ddof 0); 0 if there are no finite voxels."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets together (Chan's formula)."""
        total = self.total + other.total
        if not self.count or not other.count:
            filled = self if self.count else other
            return type(self)(filled.count, filled.mean, filled.squares, total)
        count = self.count + other.count
        delta = other.mean - self.mean
        share = other.count / count
        return type(self)(count, self.mean + delta * share, self.squares + other.squares + delta * delta * (self.count * share), total)

    @classmethod
    def of(cls, block: Shaped[np.ndarray, "..."]) -> "Moments":
        """Sum up a block of any type and memory layout."""
        check_dtype(block.dtype)

        def deviations(piece: np.ndarray, near: float | None, out: np.ndarray) -> float:
            shift = _exactly(float(piece[0]) if near is None else near, out.dtype)
            np.copyto(out, piece, casting="same_kind")
            np.subtract(out, shift, out=out)
            return float(shift)

        return cls._gather(block, deviations, looks_first=False)

    @classmethod
    def clipped(cls, block: Shaped[np.ndarray, "..."], *, mean: float, std: float, clip_sigma: float, is_finite: bool = False) -> "Moments":
        """Sum up a block that is standardised and then clipped at +-`clip_sigma`: the moments of clip((block - mean) / std).

        `std` must be above zero.  `is_finite` says that every voxel is known to be finite (a clip would hide that one is not).
        """
        check_dtype(block.dtype)
        limit = clip_sigma * std

        def centred(piece: np.ndarray, near: float | None, out: np.ndarray) -> float:
            del near
            shift = _exactly(mean, out.dtype)
            rest = mean - float(shift)  # what float32 leaves of the mean: the limits lie around the mean itself
            np.copyto(out, piece, casting="same_kind")
            np.subtract(out, shift, out=out)
            np.clip(out, _exactly(rest - limit, out.dtype), _exactly(rest + limit, out.dtype), out=out)
            return -rest

        found = cls._gather(block, centred, looks_first=not is_finite)  # in the raw unit: one division here instead of one a voxel
        return cls(found.count, found.mean / std, found.squares / std**2, found.total)

    @classmethod
    def _gather(cls, block: np.ndarray, prepare: _Prepare, *, looks_first: bool) -> "Moments":
        """Merge the pieces' moments; `prepare` writes a piece's values less a shift into a buffer and returns the shift.

        Voxels that are not finite spoil the sums, so they are looked for only then; unless `looks_first`, where `prepare` would hide them.
        """
        result = cls()
        is_single = block.dtype.kind == "f" and block.dtype.itemsize == 4
        size = _SINGLE_PIECE if is_single else _PIECE
        buffer = np.empty(min(size, block.size), dtype=np.float64)
        single = np.empty(buffer.size if is_single else 0, dtype=np.float32)

        def sums(values: np.ndarray) -> Moments:
            if is_single and result.count:
                found = cls._summed(values, prepare, result.mean, single[: values.size])
                if _is_safe(found, values.size):
                    return cls._from_sums(*found, values.size)
            return cls._from_sums(*cls._summed(values, prepare, None, buffer[: values.size]), values.size)

        with np.errstate(
            over="ignore", invalid="ignore", under="ignore"
        ):  # out of range: an infinite spread, which `check_moments` refuses
            for piece in _pieces(block, size):
                found = None if looks_first else sums(piece)
                if found is None or not math.isfinite(found.mean + found.squares):
                    finite = piece[np.isfinite(piece)] if piece.dtype.kind == "f" else piece
                    found = sums(finite) if finite.size else cls()
                    found = replace(found, total=piece.size)
                result = result.merge(found)
        return result

    @staticmethod
    def _summed(values: np.ndarray, prepare: _Prepare, near: float | None, own: np.ndarray) -> tuple[float, float, float]:
        """Shift, sum and sum of squares of the shifted values, in the precision of the buffer `own`."""
        shift = prepare(values, near, own)
        # numpy's own pairwise sums, not BLAS: the same bits for any number of threads
        first = float(np.add.reduce(own))
        np.multiply(own, own, out=own)
        return shift, first, float(np.add.reduce(own))

    @classmethod
    def _from_sums(cls, shift: float, first: float, second: float, n: int) -> "Moments":
        squares = second - first * (first / n)
        squares = 0.0 if squares < 0 else squares  # rounding; a NaN must stay one
        return cls(n, shift + first / n, squares, n)


def _exactly(value: float, dtype: np.dtype) -> np.floating:
    """The value in the type of the arithmetic: subtracting it, not a rounded copy of it, is what is corrected for."""
    rounded: np.floating = dtype.type(value)
    return rounded


def _is_safe(sums: tuple[float, float, float], n: int) -> bool:
    """Whether float32 loses nothing: no cancellation in the variance, and squares well inside the type's range."""
    _, first, second = sums
    return first * (first / n) <= second / 2 and _SINGLE_SQUARES[0] < second / n < _SINGLE_SQUARES[1]


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often each bit pattern of an 8- or 16-bit type occurs.

    Parameters
    ----------
    dtype
        The voxels' type, in native byte order.
    counts
        int64 (256,) or (65536,), indexed by the pattern read as an unsigned integer.
    """

    dtype: np.dtype
    counts: Int64[np.ndarray, " patterns"]

    @classmethod
    def of(cls, block: Shaped[np.ndarray, "..."]) -> "Histogram":
        """Count the voxels of a block of any memory layout."""
        dtype = block.dtype.newbyteorder("=")
        if not is_counted(dtype):
            raise InputError(f"voxels of type {dtype} have too many values to count; use Moments")
        counts = np.zeros(2**16, dtype=np.int64)
        if dtype.itemsize == 2:
            for piece in _pieces(block, _HISTOGRAM_PIECE):
                counts += np.bincount(piece.view(np.uint16), minlength=2**16)
            return cls(dtype, counts)
        # bytes are counted in pairs, half as many steps, and the pairs' table is summed over either partner
        odd = np.zeros(2**8, dtype=np.int64)
        for piece in _pieces(block, _HISTOGRAM_PIECE):
            patterns = piece.view(np.uint8)
            even = patterns.size // 2 * 2
            counts += np.bincount(patterns[:even].view(np.uint16), minlength=2**16)
            odd += np.bincount(patterns[even:], minlength=2**8)
        pairs = counts.reshape(2**8, 2**8)
        return cls(dtype, pairs.sum(axis=0) + pairs.sum(axis=1) + odd)

    def merge(self, other: "Histogram") -> "Histogram":
        """The counts of both sets together."""
        return type(self)(self.dtype, self.counts + other.counts)

    def moments(self) -> Moments:
        """Moments of the finite voxels, exact but for the last rounding."""
        values, counts = self._finite()
        return _weighted(values, counts, total=int(self.counts.sum()))

    def clipped(self, *, mean: float, std: float, clip_sigma: float) -> Moments:
        """Moments of the data standardised and then clipped at +-`clip_sigma`; `std` must be above zero."""
        values, counts = self._finite()
        return _weighted(np.clip((values - mean) / std, -clip_sigma, clip_sigma), counts, total=int(self.counts.sum()))

    def finite(self) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """The finite values that occur, in rising order, and how often."""
        values, counts = self._finite()
        order = np.argsort(values, kind="stable")
        return values[order], counts[order]

    def _finite(self) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """The finite values that occur, by their patterns, and how often."""
        patterns = np.flatnonzero(self.counts).astype(np.uint8 if self.dtype.itemsize == 1 else np.uint16)
        values = patterns.view(self.dtype).astype(np.float64)
        keep = np.isfinite(values)
        return values[keep], self.counts[patterns[keep]].astype(np.float64)


def _weighted(values: np.ndarray, counts: np.ndarray, *, total: int) -> Moments:
    """Moments of values that occur `counts` times, shifted by the commonest, so that an offset costs no digits."""
    if not counts.size:
        return Moments(total=total)
    n = float(counts.sum())
    shift = float(values[np.argmax(counts)])
    deviations = values - shift
    centre = float((counts * deviations).sum() / n)
    return Moments(int(n), shift + centre, float((counts * (deviations - centre) ** 2).sum()), total)


def normalisation_of(raw: Moments, clipped: Moments | None, *, clip_sigma: float) -> Normalisation:
    """Put both passes together.

    Parameters
    ----------
    raw
        Moments of the raw voxels.
    clipped
        Moments of the voxels standardised and clipped at +-`clip_sigma`; None for a constant volume, where they are 0.

    Raises
    ------
    InputError
        If no voxel is finite, or their spread leaves float64's range.
    """
    check_moments(raw)
    centre, spread = (0.0, 0.0) if clipped is None else (clipped.mean, clipped.std)
    return Normalisation(raw.mean, raw.std, centre, spread, raw.count, raw.total, clip_sigma)


def check_moments(raw: Moments) -> None:
    """Refuse a volume that can't be standardised: see `normalisation_of`."""
    if not raw.count:
        raise InputError(f"none of the volume's {raw.total} voxels is finite: there are no statistics to take; check the file it came from")
    if not math.isfinite(raw.mean + raw.squares) or 0 < raw.std < _SMALLEST_STD:
        raise InputError(
            f"the voxels' squares leave the range of float64 (mean {raw.mean:g}, standard deviation {raw.std:g}); "
            f"rescale the volume so that its standard deviation is between {_SMALLEST_STD:g} and 1e150"
        )
