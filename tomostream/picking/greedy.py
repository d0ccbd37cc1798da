"""Which voxels of one window are certainly picks, and which can't be decided from this window alone?  Pure; exact.

The picks of a volume are those of the sequential greedy loop: visit the voxels with score > T in the order of descending score (ties:
ascending linear index, z slowest); accept one unless an accepted one lies within the radius.  A window shows only a part of the volume,
so the loop runs on it with three answers.  In that order, a candidate is

1. suppressed, if a certain pick lies within the radius;
2. undecided, if its ball leaves the window through an *open* face (one behind which the volume continues), or an earlier undecided
   candidate lies within the radius;
3. accepted otherwise: a certain pick.

By induction over the order, what is accepted or suppressed here is so in the whole volume; to call more candidates undecided than
necessary is harmless.  `settling` decides those from the answers of all windows.

How it is fast: a pick paints its ball into an array of states of the window's shape, so that most candidates cost one vectorised
look-up. Undecided candidates mark only themselves; a candidate that would be accepted searches its ball for one of them, and the result
is remembered for the neighbourhood.  Candidates are sorted in descending portions, and what has been suppressed meanwhile never is.
When a portion brings no pick and every candidate left is known to be blocked, the rest needs no loop.

Limits: scores are float32 or float64 (other types convert exactly, see `windows`); NaN and -inf are never candidates.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64, UInt8

from tomostream.geometry import Box, Triple, triple

# states of a voxel: in the ball of a certain pick; itself undecided; its ball leaves the window; in the core; itself a certain pick
_SUPPRESSED, _UNDECIDED, _OUTER, _CORE, _ACCEPTED = 1, 2, 4, 8, 16
_PORTION = 4096  # candidates sorted at a time, at the least
_BATCH = 512  # candidates between two vectorised looks at the states
_CHECK = 2**16  # candidates whose blockers are looked up at a time


@dataclass(frozen=True, slots=True)
class Ball:
    """The voxels within `radius` of a voxel: 1 inside, 0 outside; its array has edges of 2 * reach + 1."""

    radius: float
    reach: Triple
    inside: UInt8[np.ndarray, "z y x"]

    @classmethod
    def of(cls, radius: float, window: Triple) -> "Ball":
        """Make the ball of `radius` voxels, as far as it can matter in an array of shape `window`."""
        reach = triple([min(int(radius), n - 1) for n in window])
        z, y, x = (np.arange(-n, n + 1, dtype=np.int64) ** 2 for n in reach)
        inside = z[:, None, None] + y[:, None] + x <= radius * radius
        return cls(radius, reach, inside.astype(np.uint8))


@dataclass(frozen=True, slots=True)
class Points:
    """Voxels with their scores: linear indices (z slowest) and values, n of each."""

    index: Int64[np.ndarray, " n"]
    score: Float64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.index)

    def select(self, keep: np.ndarray | slice) -> "Points":
        """The points that a boolean mask, indices or a slice choose."""
        return Points(self.index[keep], self.score[keep])

    @classmethod
    def joined(cls, parts: "list[Points]") -> "Points":
        """All points of the parts, in that order."""
        return cls(
            np.concatenate([np.empty(0, dtype=np.int64), *(p.index for p in parts)]),
            np.concatenate([np.empty(0, dtype=np.float64), *(p.score for p in parts)]),
        )


@dataclass(frozen=True, slots=True)
class Labels:
    """The certain picks of a core and its undecided candidates; the indices are linear in the window."""

    accepted: Points
    undecided: Points


def label_window(
    scores: Float[np.ndarray, "z y x"],
    *,
    threshold: float,
    radius: float,
    core: Box,
    open_low: tuple[bool, ...],
    open_high: tuple[bool, ...],
) -> Labels:
    """Find the picks of a window's core, as far as the window can tell.

    Parameters
    ----------
    scores
        The window's scores, float32 or float64; NaN and -inf stand for voxels that can't be picks.
    threshold
        Candidates have a score above it, compared in float64.
    radius
        Distance (voxels, between voxel centres, inclusive) within which a pick suppresses.
    core
        The part of the window whose labels are wanted, relative to the window.
    open_low, open_high
        Per axis, whether the volume continues beyond the window's first and last voxels.

    References
    ----------
    Non-maximum suppression with a ball, Huang, Zhou, Bartesaghi (2022), "Accurate detection of proteins in cryo-electron tomograms
    from sparse labels"; here for a part of the volume, with undecided candidates.
    """
    is_candidate = scores > rounded_down(threshold, scores.dtype)
    if not is_candidate[core.slices].any():
        return Labels(Points.joined([]), Points.joined([]))
    shape = triple(scores.shape)
    index = np.flatnonzero(is_candidate)
    value = scores[is_candidate]
    del is_candidate
    # voxels whose ball stays inside, or leaves through closed faces only
    reach = int(radius)
    inner = Box(
        triple([min(n, reach) if is_open else 0 for n, is_open in zip(shape, open_low, strict=True)]),
        triple([max(0, n - reach) if is_open else n for n, is_open in zip(shape, open_high, strict=True)]),
    )
    canvas = _Canvas(shape, inner, core, radius)
    accepted: list[Points] = []
    undecided: list[Points] = []
    while len(index):
        portion = _highest(value, max(_PORTION, len(value) // 16))
        picks, unclear = _label_portion(canvas, _sorted(index[portion], value[portion]))
        accepted.append(picks)
        undecided.append(unclear)
        index, value = index[~portion], value[~portion]
        left = ~canvas.is_suppressed(index)
        index, value = index[left], value[left]
        if not len(picks) and canvas.are_all_blocked(index):
            undecided.append(Points(index, value.astype(np.float64)))
            break
    # a certain pick near an undecided candidate suppresses it, even if it comes later in the order
    return Labels(canvas.core_part(Points.joined(accepted)), canvas.core_part(Points.joined(undecided)))


def rounded_down(threshold: float, dtype: np.dtype) -> np.floating:
    """Return the largest number of a float type that is not above `threshold`.

    For every x of that type, x > it (compared in that type) says the same as x > threshold compared in float64, without converting.
    """
    with np.errstate(over="ignore"):
        near: np.floating = dtype.type(threshold)
    return near if float(near) <= threshold else np.nextafter(near, dtype.type(-np.inf))


class _Canvas:
    """The states of a window's voxels (three views of one memory: byte by byte, flat, in space) and which voxels block which.

    Small cells that lie wholly in the ball of an undecided candidate are remembered as blocked: their later candidates need no look
    through their own balls.
    """

    def __init__(self, shape: Triple, inner: Box, core: Box, radius: float) -> None:
        self.cells = bytearray(shape[0] * shape[1] * shape[2])
        self.state = np.frombuffer(self.cells, dtype=np.uint8)
        self._space = self.state.reshape(shape)
        self.state[:] = _OUTER
        self._space[inner.slices] = 0
        self._space[core.slices] |= _CORE
        self._limit = radius * radius
        self._ball = Ball.of(radius, shape)
        self._undecided_ball = self._ball.inside * np.uint8(_UNDECIDED)
        self._has_undecided = False
        self._edge = max(1, int(radius) // 4)
        self._blocked = np.zeros([-(-n // self._edge) for n in shape], dtype=bool)

    def core_part(self, points: Points) -> Points:
        """Return the picks, or the undecided candidates that are not suppressed after all, of the core."""
        if not len(points):
            return points
        state = self.state[points.index]
        return points.select((state & _CORE != 0) & ((state & _SUPPRESSED == 0) | (state & _ACCEPTED != 0)))

    def is_suppressed(self, index: Int64[np.ndarray, " n"]) -> np.ndarray:
        """Whether a certain pick lies within the radius of these voxels."""
        return np.asarray(self.state[index] & _SUPPRESSED != 0)

    def is_blocked(self, index: Int64[np.ndarray, " n"]) -> np.ndarray:
        """Whether these voxels can't be accepted, as far as known: `accept` may find more of them."""
        is_outer = np.asarray(self.state[index] & _OUTER != 0)
        if not self._has_undecided:
            return is_outer
        place = np.unravel_index(index, self._space.shape)
        return np.asarray(is_outer | self._blocked[tuple(axis // self._edge for axis in place)])

    def are_all_blocked(self, index: Int64[np.ndarray, " n"]) -> bool:
        """Whether none of these voxels can be accepted."""
        return all(self.is_blocked(index[start : start + _CHECK]).all() for start in range(0, len(index), _CHECK))

    def mark(self, index: Int64[np.ndarray, " n"]) -> None:
        """Make these voxels undecided candidates, but for the suppressed ones."""
        index = index[~self.is_suppressed(index)]
        self.state[index] |= _UNDECIDED
        self._has_undecided |= len(index) > 0

    def accept(self, index: int) -> bool:
        """Suppress the ball around voxel `index`; or return False if an undecided candidate lies in it."""
        _, ny, nx = self._space.shape
        plane, x = divmod(index, nx)
        z, y = divmod(plane, ny)
        if self._blocked.item(z // self._edge, y // self._edge, x // self._edge):
            return False
        rz, ry, rx = self._ball.reach
        z0, y0, x0 = max(z - rz, 0), max(y - ry, 0), max(x - rx, 0)
        view = self._space[z0 : z + rz + 1, y0 : y + ry + 1, x0 : x + rx + 1]
        a, b, c = z0 - z + rz, y0 - y + ry, x0 - x + rx
        part = (slice(a, a + view.shape[0]), slice(b, b + view.shape[1]), slice(c, c + view.shape[2]))
        if self._has_undecided and (view & self._undecided_ball[part]).any():
            self._block_around((z, y, x))
            return False
        np.bitwise_or(view, self._ball.inside[part], out=view)
        self.cells[index] |= _ACCEPTED
        return True

    def _block_around(self, place: Triple) -> None:
        """Block the cells that lie wholly in the ball of an undecided candidate."""
        near, squared = [], []
        for at, reach, n, cells in zip(place, self._ball.reach, self._space.shape, self._blocked.shape, strict=True):
            low, high = max(0, at - reach) // self._edge, min(cells, (at + reach) // self._edge + 1)
            start = np.arange(low, high) * self._edge - at
            stop = np.minimum(start + self._edge, n - at) - 1
            near.append(slice(low, high))
            squared.append(np.maximum(start * start, stop * stop))
        is_within = squared[0][:, None, None] + squared[1][:, None] + squared[2] <= self._limit
        self._blocked[tuple(near)] |= is_within


def _label_portion(canvas: _Canvas, candidates: Points) -> tuple[Points, Points]:
    """Run the three-valued loop on candidates in order; return the certain picks and the undecided."""
    accepted: list[Points] = []
    undecided: list[Points] = []
    for start in range(0, len(candidates), _BATCH):
        batch = candidates.select(slice(start, start + _BATCH))
        batch = batch.select(~canvas.is_suppressed(batch.index))
        is_blocked = canvas.is_blocked(batch.index)
        is_accepted = np.zeros(len(batch), dtype=bool)
        free = np.flatnonzero(~is_blocked)
        done = 0
        for position, index in zip(free.tolist(), batch.index[free].tolist(), strict=True):
            if canvas.cells[index] & _SUPPRESSED:
                continue
            # the blocked ones before it count as undecided from here on
            canvas.mark(batch.index[done:position][is_blocked[done:position]])
            done = position
            is_accepted[position] = canvas.accept(index)
            is_blocked[position] = not is_accepted[position]
        canvas.mark(batch.index[done:][is_blocked[done:]])
        accepted.append(batch.select(is_accepted))
        undecided.append(batch.select(is_blocked & ~canvas.is_suppressed(batch.index)))
    return Points.joined(accepted), Points.joined(undecided)


def _highest(value: Float[np.ndarray, " n"], count: int) -> np.ndarray:
    """Return a mask of the `count` highest values and all that tie with the last of them."""
    if len(value) <= count:
        return np.ones(len(value), dtype=bool)
    at = len(value) - count
    return np.asarray(value >= np.partition(value, at)[at])


def _sorted(index: Int64[np.ndarray, " n"], value: Float[np.ndarray, " n"]) -> Points:
    """Return the candidates by descending score; they come with ascending index, so a stable sort breaks ties as wanted."""
    order = np.argsort(-value, kind="stable")
    return Points(index[order], value[order].astype(np.float64))
