"""How many peaks become picks?  The best N, all above a score, or as many as the scores suggest.

Each rule is a type that checks its values when it is created.  `how_many` reads the options of a command or the keys of a configuration.

Both `most` (picks at most; None: no limit) and `above` (picks score above it; None: no limit) can be asked of each way.
"""

import math
import numbers
from dataclasses import asdict, dataclass
from typing import Any

from tomostream.errors import InputError
from tomostream.picking.click_heights import ClickHeights


@dataclass(frozen=True, slots=True)
class Best:
    """The best `count` picks, of those above a score if one is given; fewer if there are no more."""

    count: int
    above: float | None = None

    def __post_init__(self) -> None:
        _check_number("count: it", self.count)
        _check_score("above: it", self.above)

    @property
    def most(self) -> int:
        """Picks at most."""
        return self.count


@dataclass(frozen=True, slots=True)
class Above:
    """All picks above a score."""

    threshold: float

    def __post_init__(self) -> None:
        _check_score("threshold: it", self.threshold)

    @property
    def most(self) -> None:
        """No limit."""
        return

    @property
    def above(self) -> float:
        """The score."""
        return self.threshold


@dataclass(frozen=True, slots=True)
class AsManyAs:
    """About `expected` picks, an estimate by the user: the scores of the peaks decide (`counting`).

    A picker that can't tell from the scores takes the best `expected`.  `clicks`: how high the clicks stand among the peaks, where training
    measured it; `is_estimate`: whether no person but training has guessed the number; `least`: particles that are known to be there, because
    they were clicked: never fewer picks.
    """

    expected: int
    above: float | None = None
    clicks: ClickHeights | None = None
    is_estimate: bool = False
    least: int = 0

    def __post_init__(self) -> None:
        _check_number("expected: it", self.expected)
        _check_score("above: it", self.above)

    @property
    def most(self) -> int:
        """Picks at most, for a picker that can't decide from the scores."""
        return max(self.expected, self.least)


HowMany = Best | Above | AsManyAs


def how_many(
    *, count: int | None = None, threshold: float | None = None, expected: int | None = None, are_options: bool = True
) -> HowMany | None:
    """Read the number of picks; None if it is not given, which only a picker with its own cut accepts.

    Parameters
    ----------
    count
        Keep the best `count`.
    threshold
        Keep all picks above it; with a count or an expected number, choose from those.
    expected
        Keep about this many.
    are_options
        Whether they are options of a command, as messages name them, not keywords.

    Raises
    ------
    InputError
        If both numbers are given, or a value is impossible.
    """
    label = "--{}" if are_options else "{}: it"
    if count is not None and expected is not None:
        raise InputError(
            f"--count {count} (the best {count}) and --expected {expected} (as many as the scores suggest) exclude each other; give one"
        )
    for name, value in (("count", count), ("expected", expected)):
        _check_number(label.format(name), value)
    _check_score(label.format("threshold"), threshold)
    if count is not None:
        return Best(count, threshold)
    if expected is not None:
        return AsManyAs(expected, threshold)
    return None if threshold is None else Above(threshold)


def options_of(wanted: HowMany | None) -> dict[str, Any]:
    """The options that `how_many` reads this from: `count`, `expected` and `threshold`; and the clicks' heights and number, where there are."""
    options: dict[str, Any] = {
        "count": wanted.count if isinstance(wanted, Best) else None,
        "expected": wanted.expected if isinstance(wanted, AsManyAs) else None,
        "threshold": None if wanted is None else wanted.above,
    }
    if isinstance(wanted, AsManyAs) and wanted.clicks is not None:
        options["clicks"] = asdict(wanted.clicks)
    if isinstance(wanted, AsManyAs) and wanted.least:
        options["least"] = wanted.least
    return options


def needed(wanted: HowMany | None) -> HowMany:
    """Refuse to pick without a number of picks.

    Raises
    ------
    InputError
        If there is no number.
    """
    if wanted is None:
        raise InputError(
            "the number of picks is not set; say how many picks: give a threshold (all picks above it), a count (the best N), or both"
        )
    return wanted


def _check_number(label: str, value: int | None) -> None:
    if value is not None and not isinstance(value, numbers.Integral):
        raise InputError(f"{label} must be a whole number, found {value!r}")
    if value is not None and value < 1:
        raise InputError(f"{label} must be at least 1, found {value}")


def _check_score(label: str, value: float | None) -> None:
    if value is not None and (not isinstance(value, numbers.Real) or math.isnan(value)):
        raise InputError(f"{label} must be a number, found {value}")
