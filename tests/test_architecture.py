"""The layers: who may import whom.  A file that can't be parsed fails; a module that the table does not name fails."""

import ast
from pathlib import Path

import pytest
from repository import REPOSITORY

ROOT = REPOSITORY / "tomostream"

# layer of each module or package, lowest first; a module imports only from lower layers, or from its own package
LAYERS: dict[str, int] = {
    "redaction": -0.1,
    "errors": 0, "defaults": 0, "progress": 0,
    "geometry": 0.1, "particles": 0.1, "pick_records": 0.1,
    "units": 0.2, "normalisation": 0.2, "masks": 0.2, "moments": 0.3, "budget": 0.2,
    "remote": 0.5,
    "store": 1, "formats": 1, "evaluation": 1, "config": 1, "learn": 1,
    "tomogram": 1.5,
    "graph": 2, "stream": 2, "inference": 2, "picking": 2,
    "strategies": 2.5,
    "cluster": 3, "simulation": 3, "report": 3,
    "stages": 3.5,
    "api": 4,
    "cli": 5, "__init__": 5, "__main__": 6,
}  # fmt: skip

# the one sideways edge: what is streamed is what is learnt from
# a table's tomogram is named as a store is (store.naming)
EXTRA_EDGES = {("stream", "learn"), ("inference", "learn"), ("formats", "store")}

PUBLIC_FUNCTIONS = {
    "open",
    "convert",
    "statistics",
    "label_mask",
    "train",
    "load_model",
    "predict",
    "pick",
    "evaluate",
    "read_particles",
    "write_particles",
}
TORCH_PACKAGES = {"learn", "inference", "stream", "strategies", "stages", "cli"}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def part_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports_of(path: Path) -> list[str]:
    """Modules that a file imports when it is imported or called; those only for the type checker don't count."""
    tree = ast.parse(path.read_text(), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            # `from tomostream import defaults` imports a module
            found += [f"{node.module}.{alias.name}" if node.module == "tomostream" else str(node.module) for alias in node.names]
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_module_imports_only_lower_layers_or_its_own_package(path: Path) -> None:
    own = part_of(path)
    assert own in LAYERS, f"{path}: give '{own}' a layer in this table and in docs/design.md"
    for name in imports_of(path):
        if not name.startswith("tomostream."):
            continue
        other = name.split(".")[1]
        if other in (own, "__version__"):
            continue
        assert LAYERS[other] < LAYERS[own] or (own, other) in EXTRA_EDGES, f"{path} ({own}) imports {name} ({other})"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_torch_is_imported_only_where_learning_happens(path: Path) -> None:
    if part_of(path) not in TORCH_PACKAGES:
        assert not any(name.split(".")[0] == "torch" for name in imports_of(path))


def test_no_module_has_the_name_of_a_public_function() -> None:
    assert not {path.stem for path in modules()} & PUBLIC_FUNCTIONS


def test_no_drawer_for_odds_and_ends() -> None:
    assert not {path.stem for path in modules()} & {"utils", "helpers", "common", "misc", "util"}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"
