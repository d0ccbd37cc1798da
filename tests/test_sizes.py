"""A function and a module that a person can hold in mind: how long they may be, how many parameters a function may have.

Below the commands and the public API, where a parameter is an option or a keyword of users.  Exceptions are named in `house_rules`, with the reason.
"""

import ast

import pytest
from house import House, lines, parameters
from house_rules import MANY_PARAMETERS, MOST_LINES_OF_A_FUNCTION, MOST_LINES_OF_A_MODULE, MOST_PARAMETERS

HOUSE = House()


def test_functions_are_short():
    long = {f"{name}.{function.name}" for name, function in HOUSE.functions() if lines(function) > MOST_LINES_OF_A_FUNCTION}
    assert not long, "split it"


def test_functions_have_few_parameters():
    many = {f"{name}.{function.name}" for name, function in HOUSE.functions() if parameters(function) > MOST_PARAMETERS}
    below = {name for name in many if not name.startswith(("cli.", "api."))}
    assert below == set(MANY_PARAMETERS), "give it a settings object; or take from the list what has few by now"


def test_modules_are_short():
    long = {name for name, text in HOUSE.texts.items() if len(text.splitlines()) > MOST_LINES_OF_A_MODULE}
    assert not long, "split it"


@pytest.mark.parametrize(
    ("source", "expected"),
    [("def f(self, a, /, b, *, c=1): ...", 3), ("async def f(a, *rest, **more): ...", 1), ("def f(cls): ...", 0)],
)
def test_parameters_are_counted_as_a_reader_counts(source, expected):
    [function] = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    assert parameters(function) == expected
