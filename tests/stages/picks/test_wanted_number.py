"""What a run's `pick.count` and `pick.threshold` come to, against the decisions written out one by one."""

import itertools

import pytest

from tomostream.picking.how_many import Above, AsManyAs, Best, how_many
from tomostream.stages.picks.wanted_number import WantedNumber


def asked(value):
    """An expected number, and whether it was asked for."""
    calls = []

    def expected():
        calls.append(1)
        return value

    return expected, calls


@pytest.mark.parametrize(
    ("count", "threshold", "true", "expected", "wanted"),
    [
        (7, None, None, 5, Best(7)),
        (7, 0.5, None, None, Best(7, above=0.5)),
        ("truth", None, 3, 5, Best(3)),
        ("truth", 0.5, 3, 5, Best(3, above=0.5)),
        ("truth", None, 0, 5, 0),
        ("truth", None, None, 5, AsManyAs(5)),
        ("truth", 0.5, None, None, Above(0.5)),
        ("truth", None, None, None, None),
        ("auto", None, None, 5, AsManyAs(5)),
        ("auto", 0.5, None, 5, AsManyAs(5, above=0.5)),
        ("auto", 0.5, None, None, None),
        ("auto", None, None, 0, 0),
        (None, 0.5, None, 5, Above(0.5)),
        (None, None, None, 5, AsManyAs(5)),
        (None, None, None, None, None),
    ],
)
def test_each_way_of_asking(count, threshold, true, expected, wanted):
    assert WantedNumber(count, threshold).of(true=true, expected=asked(expected)[0]) == wanted


def as_before(count, threshold, true, expected):
    """The decision of version 0.1, of `run`."""
    number = count if isinstance(count, int) else true
    guess = None
    if number is None and not (isinstance(count, int) or (count is None and threshold is not None)):
        guess = expected
        if guess is None and count != "truth":
            return None
    if 0 in (number, guess):
        return 0
    return how_many(count=number, expected=guess, threshold=threshold)


def test_every_combination_is_decided_as_by_version_0_1_and_the_expected_number_is_asked_for_only_where_it_counts():
    for count, threshold, true, expected in itertools.product([4, "truth", "auto", None], [None, 0.25], [None, 0, 2], [None, 0, 9]):
        if true is not None and count != "truth":
            continue
        give, calls = asked(expected)
        assert WantedNumber(count, threshold).of(true=true, expected=give) == as_before(count, threshold, true, expected)
        assert bool(calls) == (true is None and WantedNumber(count, threshold).is_by_scores)
