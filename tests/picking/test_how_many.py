"""One way or the other of saying how many, read once; what can't be meant is refused with the value found."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomostream.errors import InputError
from tomostream.picking.how_many import Above, AsManyAs, Best, how_many, needed, options_of

numbers = st.none() | st.integers(-3, 10**6)
scores = st.none() | st.floats()


@given(numbers, scores, numbers)
def test_what_is_read_says_again_what_was_given_or_is_refused(count, threshold, expected):
    is_possible = (count is None or expected is None) and all(n is None or n >= 1 for n in (count, expected))
    if not is_possible or (threshold is not None and math.isnan(threshold)):
        with pytest.raises(InputError):
            how_many(count=count, threshold=threshold, expected=expected)
        return
    wanted = how_many(count=count, threshold=threshold, expected=expected)
    assert options_of(wanted) == {"count": count, "expected": expected, "threshold": threshold}
    if wanted is not None:
        assert (wanted.most, wanted.above) == (count or expected, threshold)


def test_each_way_has_its_type():
    assert how_many(count=3) == Best(3)
    assert how_many(count=3, threshold=0.5) == Best(3, above=0.5)
    assert how_many(threshold=0.5) == Above(0.5)
    assert how_many(expected=3, threshold=0.5) == AsManyAs(3, above=0.5)
    assert how_many() is None


@pytest.mark.parametrize(
    ("given_options", "said"),
    [
        ({"count": 5, "expected": 6}, r"--count 5 .* and --expected 6 .* exclude each other; give one"),
        ({"count": 0}, "--count must be at least 1, found 0"),
        ({"expected": -1}, "--expected must be at least 1, found -1"),
        ({"threshold": math.nan}, "--threshold must be a number, found nan"),
        ({"count": 0, "are_options": False}, "^count: it must be at least 1, found 0"),
    ],
)
def test_messages_name_the_option_and_the_value(given_options, said):
    with pytest.raises(InputError, match=said):
        how_many(**given_options)


@pytest.mark.parametrize("make", [lambda: Best(0), lambda: Best(1, math.nan), lambda: Above(math.nan), lambda: AsManyAs(0)])
def test_a_way_that_cant_be_meant_is_never_made(make):
    with pytest.raises(InputError, match="found"):
        make()


def test_nothing_is_refused_where_it_is_needed():
    with pytest.raises(InputError, match="how many picks"):
        needed(None)
    assert needed(Best(1)) == Best(1)
