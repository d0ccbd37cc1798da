"""How many random examples does a test draw?  All that it names in the whole suite, at most `FEW` in the fast tier (`-m "not slow"`).

`tests/conftest.py` loads the profile; this is for tests that name a number of their own.
"""

from typing import Any

from hypothesis import settings

FEW = 10
FAST = "fast"  # the profile of the fast tier


def drawn(wanted: int) -> int:
    """Examples to draw of the `wanted` ones."""
    return min(wanted, FEW) if settings.get_current_profile_name() == FAST else wanted


def examples(wanted: int, **more: Any) -> settings:
    """The decorator that draws so many; `more` as of `hypothesis.settings`."""
    return settings(max_examples=drawn(wanted), **more)


def spread(count: int) -> range:
    """Which of the cases 0 to `count` - 1 to try: all, or `FEW` evenly spread ones."""
    return range(0, count, -(-count // drawn(count)) if count else 1)
