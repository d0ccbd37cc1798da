"""Figures of the house, to compare two states: python tests/support/house_figures.py [FOLDER OF THE PACKAGE].

Modules in circles (imports in functions and under TYPE_CHECKING count), the longest function, the most parameters below the API and the command
line, the largest module, and how many values are `dict[str, Any]`.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path


def name_of(path: Path, root: Path) -> str:
    """The module's name below the package; of a package itself the folder's."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports_of(tree: ast.Module, known: set[str]) -> Iterator[str]:
    """Modules of the package that are imported anywhere in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tomostream":
            base = (node.module or "").removeprefix("tomostream").removeprefix(".")
            for alias in node.names:
                full = f"{base}.{alias.name}" if base else alias.name
                yield full if full in known else base or "__init__"


def in_circles(edges: dict[str, set[str]]) -> int:
    """How many modules lie on a circle: those that reach themselves."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(edges[start])
        while waiting:
            one = waiting.pop()
            if one not in seen:
                seen.add(one)
                waiting += edges.get(one, ())
        return seen

    return sum(name in reached(name) for name in edges)


def parameters(function: ast.FunctionDef) -> int:
    """Of a function, `self` and `cls` apart."""
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return len([one for one in given if one.arg not in ("self", "cls")])


def main(root: Path) -> None:
    """Print the figures."""
    trees = {path: ast.parse(path.read_text()) for path in sorted(root.rglob("*.py"))}
    known = {name_of(path, root) for path in trees}
    edges = {name_of(path, root): set(imports_of(tree, known)) & known - {name_of(path, root)} for path, tree in trees.items()}
    functions = [
        (name_of(path, root), node) for path, tree in trees.items() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    ]
    longest = max(functions, key=lambda pair: (pair[1].end_lineno or 0) - pair[1].lineno)
    widest = max((pair for pair in functions if not pair[0].startswith(("cli", "api."))), key=lambda pair: parameters(pair[1]))
    largest = max(trees, key=lambda path: len(path.read_text().splitlines()))
    print("modules", len(trees), "lines", sum(len(path.read_text().splitlines()) for path in trees))
    print("modules in circles", in_circles(edges))
    print("longest function", longest[0], longest[1].name, (longest[1].end_lineno or 0) - longest[1].lineno + 1)
    print("most parameters below API and command line", widest[0], widest[1].name, parameters(widest[1]))
    print("largest module", name_of(largest, root), len(largest.read_text().splitlines()))
    print("dict[str, Any]", sum(path.read_text().count("dict[str, Any]") for path in trees))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "tomostream"))
