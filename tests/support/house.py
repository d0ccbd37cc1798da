"""The package as syntax trees, for the tests of its structure and the script that prints its figures.

All imports count, those inside functions and under `TYPE_CHECKING` too: a name that is needed only there is needed all the same.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from repository import REPOSITORY

Function = ast.FunctionDef | ast.AsyncFunctionDef
PACKAGE = REPOSITORY / "tomostream"
OPEN_VALUE = re.compile(r"\bdict\[str, Any\]")


def parameters(function: Function) -> int:
    """How many parameters a caller sees: `self` and `cls` don't count."""
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return len([one for one in given if one.arg not in ("self", "cls")])


def lines(function: Function) -> int:
    """The lines of a function, without its decorators."""
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def plug_ins(group: str) -> dict[str, str]:
    """Our entry points of a group, such as `tomostream.strategies`."""
    found: dict[str, str] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["entry-points"][group]
    return found


@dataclass(frozen=True)
class House:
    """A package in a folder.  A file that can't be parsed is an error."""

    root: Path = PACKAGE

    @cached_property
    def texts(self) -> dict[str, str]:
        """The source of each module, by its name below the package, such as `store.mrc`; of a package itself its folder's name."""
        return {self._name(path): path.read_text() for path in sorted(self.root.rglob("*.py"))}

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """The syntax tree of each module."""
        return {name: ast.parse(text, name) for name, text in self.texts.items()}

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """The modules of the package that each module imports anywhere."""
        return {name: set(self._imports_of(tree)) & self.trees.keys() - {name} for name, tree in self.trees.items()}

    def functions(self) -> Iterator[tuple[str, Function]]:
        """All functions, with the names of their modules."""
        for name, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield name, node

    def circles(self) -> dict[str, list[str]]:
        """The modules that reach themselves by imports, and those of their imports that do."""
        return {name: sorted(self.imports[name] & reached) for name in self.imports if name in (reached := self._reached(name))}

    def texts_of_code(self, name: str) -> Iterator[ast.Constant]:
        """The strings of a module that are code, not docstrings."""
        tree = self.trees[name]
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                yield node

    def takers_of_a_configuration(self, *but: str) -> list[str]:
        """The functions that take a `Configuration`, except in modules whose names begin so."""
        return [
            f"{name}.{node.name}"
            for name, node in self.functions()
            if not name.startswith(but)
            for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            if one.annotation and ast.unparse(one.annotation).split(" |")[0] == "Configuration"
        ]

    def open_values(self) -> dict[str, int]:
        """How often each module says `dict[str, Any]`."""
        counts = {name: len(OPEN_VALUE.findall(text)) for name, text in self.texts.items()}
        return {name: count for name, count in counts.items() if count}

    def _name(self, path: Path) -> str:
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)

    def _imports_of(self, tree: ast.Module) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name.removeprefix("tomostream.") for alias in node.names if alias.name.startswith("tomostream."))
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "tomostream":
                base = (node.module or "").removeprefix("tomostream").removeprefix(".")
                for alias in node.names:
                    full = f"{base}.{alias.name}" if base else alias.name
                    yield full if full in self.trees else base or "__init__"  # a module of a package, or a name of a module

    def _reached(self, start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(self.imports[start])
        while waiting:
            one = waiting.pop()
            if one not in seen:
                seen.add(one)
                waiting += self.imports[one]
        return seen
