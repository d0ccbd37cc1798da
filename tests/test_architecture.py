"""The house: who may import whom, and how large a room may be.  A file that can't be parsed fails; a module that the table does not name fails.

All imports count, those inside functions and under `TYPE_CHECKING` too: a name that is needed only there is needed all the same.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from repository import REPOSITORY

ROOT = REPOSITORY / "tomostream"

# floor of each room, lowest first; a module imports only from lower floors, or from its own room
FLOORS: dict[str, float] = {
    "redaction": -0.1,
    "errors": 0, "defaults": 0, "progress": 0, "version": 0, "fingerprint": 0, "forking": 0,
    "orientations": 0.05, "particle_columns": 0.06, "geometry": 0.1, "particles": 0.1, "pick_records": 0.1,
    "units": 0.2, "normalisation": 0.2, "masks": 0.2, "moments": 0.3, "robust_statistics": 0.3, "budget": 0.2, "python_words": 0.2,
    "grey_pictures": 0.2,
    "remote": 0.5, "catalogue": 0.5,
    "store": 1, "evaluation": 1, "config": 1, "learn": 1,
    "formats": 1.1,  # a table's tomogram is named as a store is
    "volume_view": 1.2,
    "tomogram": 1.5, "mrc_volume": 1.5, "project": 1.5, "candidate_bounds": 1.5, "score_map": 1.6,
    "graph": 2, "stream": 2, "inference": 2, "picking": 2,
    "strategies": 2.5, "strategies.matched_filter": 2.6,
    "strategies.unet": 2.7, "strategies.deepetpicker": 2.7, "strategies.slices2d": 2.7, "strategies.sphere": 2.7,
    "strategies.few_shot": 2.8,  # its models are the U-Net's
    "cluster": 3, "simulation": 3, "report": 3,
    "stages": 3.5, "stages.shared": 3.5, "stages.voxel_statistics": 3.6, "stages.conversion": 3.6,
    "stages.labels": 3.7, "stages.training": 3.7, "stages.prediction": 3.7, "stages.picks": 3.7,
    "stages.evaluation": 3.8, "stages.checking": 3.9,
    "pipeline": 4,
    "view": 4.2, "napari": 4.3, "api": 4.5, "testing": 4.5,
    "cli": 5, "__init__": 5, "__main__": 6,
}  # fmt: skip

# the one sideways edge: what is streamed, and what scores, is made of what is learnt
EXTRA_EDGES = {("stream", "learn"), ("inference", "learn")}

SHAPES_OF_LABELS = ("masks", "config.sections", "cli.data")  # where `sphere` is a label's shape, not the strategy

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
    "run",
}
TORCH_ROOMS = ("learn", "inference", "stream", "strategies", "stages", "testing", "cli")


@cache
def modules() -> tuple[Path, ...]:
    return tuple(sorted(ROOT.rglob("*.py")))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def room_of(name: str) -> str:
    """The room of a module: a folder of its own inside `strategies` and `stages`, else the first part."""
    parts = name.split(".")
    inner = ".".join(parts[:2])
    return inner if inner in FLOORS else parts[0]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def known() -> frozenset[str]:
    return frozenset(map(name_of, modules()))


def imports_of(path: Path) -> Iterator[str]:
    """Modules of this package that a file imports anywhere, as `store.mrc`."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("tomostream.") for alias in node.names if alias.name.startswith("tomostream."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tomostream":
            assert node.level == 0, f"{path}: imports are absolute"
            base = (node.module or "").removeprefix("tomostream").removeprefix(".")
            for alias in node.names:
                full = f"{base}.{alias.name}" if base else alias.name
                yield full if full in known() else base or "__init__"  # a module of a package, or a name of a module


def test_modules_import_only_lower_floors_or_their_own_room():
    found: list[str] = []
    for path in modules():
        own = room_of(name_of(path))
        assert own in FLOORS, f"{path}: give '{own}' a floor in this table and in docs/design.md"
        for name in imports_of(path):
            other = room_of(name)
            if other != own and FLOORS[other] >= FLOORS[own] and (own, other) not in EXTRA_EDGES:
                found.append(f"{name_of(path)} ({own}) imports {name} ({other})")
    assert not found, "\n".join(found)


def test_no_modules_import_each_other_in_a_circle():
    edges = {name_of(path): set(imports_of(path)) & known() - {name_of(path)} for path in modules()}
    # a package's __init__ hands out its modules' names: asking the package is asking them
    order: list[str] = []
    left = {name: set(others) for name, others in edges.items()}
    while ready := [name for name, others in left.items() if not others & left.keys()]:
        order += ready
        for name in ready:
            del left[name]
    circles = {name: sorted(others & left.keys()) for name, others in left.items()}
    assert not circles, f"these import each other in a circle, or what does: {circles}"


def strategy_names() -> set[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return set(project["entry-points"]["tomostream.strategies"])


def test_no_strategy_is_known_by_name_outside_its_folder():
    """Names in code, not in docstrings: whatever is decided by a strategy's name is decided in the strategy."""
    names = strategy_names()
    found: list[str] = []
    for path in modules():
        name = name_of(path)
        # `defaults.OBJECTIVE` is the default's name; models of version 0.1 don't say their kind
        if (
            room_of(name).startswith("strategies.")
            or name.startswith("learn.objectives")
            or name in ("defaults", "strategies.model_folder")
        ):
            continue
        tree = tree_of(path)
        own = names - ({"sphere"} if name in SHAPES_OF_LABELS else set())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
        constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings]
        found += [f"{name}:{node.lineno}: {node.value!r}" for node in constants if node.value in own | {"unet"}]
    assert not found, "\n".join(found)


def test_no_queue_is_known_by_name_outside_its_module():
    """Neither by itself nor as `--cluster NAME`, and no message speaks of SLURM: whatever is decided by a queue's name is decided in the queue."""
    queues = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["entry-points"]["tomostream.queues"]
    homes = {address.partition(":")[0].removeprefix("tomostream.") for address in queues.values()}
    named = re.compile(rf"({'|'.join(queues)})|.*--cluster ({'|'.join(queues)}).*|.*slurm.*", re.DOTALL | re.IGNORECASE)
    found: list[str] = []
    for path in modules():
        if name_of(path) in homes:
            continue
        tree = tree_of(path)
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
        constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings]
        found += [
            f"{name_of(path)}:{node.lineno}: {node.value!r}"
            for node in constants
            if isinstance(node.value, str) and named.fullmatch(node.value)
        ]
        found += [f"{name_of(path)} imports {other}" for other in imports_of(path) if other in homes]
    assert not found, "\n".join(found)


def test_nothing_below_the_resolved_run_takes_a_configuration():
    found: list[str] = []
    for path in modules():
        name = name_of(path)
        if name.startswith(("config", "pipeline", "cli", "api", "view")) or name == "stages.shared.resolved_run":
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                found += [f"{name}.{node.name}" for one in given if one.annotation and ast.unparse(one.annotation) == "Configuration"]
    assert not found, found


def test_torch_is_imported_only_where_learning_happens():
    found: list[str] = []
    for path in modules():
        if room_of(name_of(path)).split(".")[0] in TORCH_ROOMS:
            continue
        for node in ast.walk(tree_of(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if "torch" in {name.split(".")[0] for name in names}:
                found.append(f"{name_of(path)}:{node.lineno}")
    assert not found, found


def test_no_module_has_the_name_of_a_public_function():
    assert not {path.stem for path in modules()} & PUBLIC_FUNCTIONS


def test_every_suppression_says_why():
    """Of the linter in brackets behind its codes, of the type checker in a comment of its own."""
    for path in modules():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if "# noqa" in line:
                assert re.search(r"# noqa: [A-Z]+\d+(, [A-Z]+\d+)* *\(.+\)", line), f"{path}:{number}: {line.strip()}"
            if "# type: ignore" in line:
                assert re.search(r"# type: ignore\[[\w,-]+\]  # .+", line), f"{path}:{number}: {line.strip()}"


def test_no_drawer_for_odds_and_ends():
    assert not {path.stem for path in modules()} & {"utils", "helpers", "common", "misc", "util"}


def test_modules_say_what_they_are_for():
    found = [name_of(path) for path in modules() if not ast.get_docstring(tree_of(path))]
    assert not found, f"without a docstring: {found}"
