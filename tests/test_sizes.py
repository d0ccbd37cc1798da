"""A function and a module that a person can hold in mind: how long they may be, how many parameters a function may have.

Below the commands and the public API, where a parameter is an option or a keyword of users.  Exceptions are named, with the reason.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import REPOSITORY

ROOT = REPOSITORY / "tomostream"
MOST_LINES_OF_A_FUNCTION, MOST_PARAMETERS, MOST_LINES_OF_A_MODULE = 80, 8, 400

# what is too long or has too many parameters, and why it may
LONG_FUNCTIONS: dict[str, str] = {}
MANY_PARAMETERS: dict[str, str] = {
    "stream/dataset.py:__init__": "its keywords are the public interface",
}
LONG_MODULES: dict[str, str] = {}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.name}", node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return len([one for one in named if one.arg not in ("self", "cls")])


def lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def test_functions_are_short():
    long = {name for name, function in functions() if lines(function) > MOST_LINES_OF_A_FUNCTION}
    assert long == set(LONG_FUNCTIONS), "split it; or take from the list what is short by now"


def test_functions_have_few_parameters():
    many = {name for name, function in functions() if parameters(function) > MOST_PARAMETERS}
    below = {name for name in many if not name.startswith(("cli/", "api/"))}
    assert below == set(MANY_PARAMETERS), "give it a settings object; or take from the list what has few by now"


def test_modules_are_short():
    long = {str(path.relative_to(ROOT)) for path in modules() if len(path.read_text().splitlines()) > MOST_LINES_OF_A_MODULE}
    assert long == set(LONG_MODULES), "split it; or take from the list what is short by now"


@pytest.mark.parametrize(
    ("source", "expected"),
    [("def f(self, a, /, b, *, c=1): ...", 3), ("async def f(a, *rest, **more): ...", 1), ("def f(cls): ...", 0)],
)
def test_parameters_are_counted_as_a_reader_counts(source, expected):
    [function] = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    assert parameters(function) == expected
