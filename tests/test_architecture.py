"""The house: who may import whom, and who may know whom by name.  A file that can't be parsed fails; a module that the table does not name fails."""

import ast
import re

from house import PACKAGE, House, plug_ins
from house_rules import ABOVE_THE_RESOLVED_RUN, FLOORS, OPEN_VALUES, room_of, strategies_named, upward_imports
from repository import REPOSITORY

HOUSE = House()

PUBLIC_FUNCTIONS = {
    "open",
    "convert",
    "statistics",
    "label_mask",
    "train",
    "load_model",
    "predict",
    "orient",
    "pick",
    "evaluate",
    "read_particles",
    "write_particles",
    "run",
}
TORCH_ROOMS = ("learn", "inference", "stream", "strategies", "stages", "testing", "cli")


def stems() -> set[str]:
    return {name.split(".")[-1] for name in HOUSE.trees}


def test_modules_import_only_lower_floors_or_their_own_room():
    without = {room_of(name) for name in HOUSE.trees} - FLOORS.keys()
    assert not without, f"give these a floor in tests/support/house_rules.py and in docs/design.md: {without}"
    found = upward_imports(HOUSE)
    assert not found, "\n".join(found)


def test_imports_are_absolute():
    found = [
        f"{name}:{node.lineno}"
        for name, tree in HOUSE.trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not found


def test_no_modules_import_each_other_in_a_circle():
    assert not HOUSE.circles()


def test_a_circle_is_found_wherever_its_imports_stand(tmp_path):
    """Else the test above would prove nothing."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store/__init__.py").write_text("")
    (tmp_path / "store/a.py").write_text("def f():\n    from tomostream.store.b import x\n")
    (tmp_path / "store/b.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tomostream.store import c\nx = 1\n")
    (tmp_path / "store/c.py").write_text("import tomostream.store.a\n")
    (tmp_path / "store/d.py").write_text("from tomostream.store.a import f\n")
    assert House(tmp_path).circles() == {"store.a": ["store.b"], "store.b": ["store.c"], "store.c": ["store.a"]}


def test_no_strategy_is_known_by_name_outside_its_folder():
    """Names in code, not in docstrings: whatever is decided by a strategy's name is decided in the strategy."""
    found = strategies_named(HOUSE)
    assert not found, "\n".join(found)


def test_no_queue_is_known_by_name_outside_its_module():
    """Neither by itself nor as `--cluster NAME`, and no message speaks of SLURM: whatever is decided by a queue's name is decided in the queue."""
    queues = plug_ins("tomostream.queues")
    homes = {address.partition(":")[0].removeprefix("tomostream.") for address in queues.values()}
    named = re.compile(rf"({'|'.join(queues)})|.*--cluster ({'|'.join(queues)}).*|.*slurm.*", re.DOTALL | re.IGNORECASE)
    found = [
        f"{name}:{text.lineno}: {text.value!r}"
        for name in HOUSE.trees
        if name not in homes
        for text in HOUSE.texts_of_code(name)
        if named.fullmatch(str(text.value))
    ]
    found += [f"{name} imports {other}" for name, others in HOUSE.imports.items() if name not in homes for other in others & homes]
    assert not found, "\n".join(found)


def test_no_picker_is_known_by_name_outside_picking():
    """Models name the picker of their scores, and `defaults.PICKER` that of all else."""
    pickers = plug_ins("tomostream.pickers")
    found = [
        f"{name}:{text.lineno}: {text.value!r}"
        for name in HOUSE.trees
        if not name.startswith(("picking.", "strategies.")) and name != "defaults"
        for text in HOUSE.texts_of_code(name)
        if set(str(text.value).split("|")) & pickers.keys()
    ]
    assert not found, "\n".join(found)


def test_no_table_format_is_known_by_name_outside_its_module():
    """Neither by itself nor as `--format NAME`; `csv` is also the table that tomostream itself writes."""
    formats = plug_ins("tomostream.formats")
    homes = {address.partition(":")[0].removeprefix("tomostream.") for address in formats.values()}
    others = {"orientations": "conventions of angles are called after their software", "formats.star_tables": "what the STAR formats share"}
    named = re.compile(rf"({'|'.join(formats.keys() - {'csv'})})|.*--format ({'|'.join(formats)})\b.*", re.DOTALL)
    found = [
        f"{name}:{text.lineno}: {text.value!r}"
        for name in HOUSE.trees.keys() - homes - others.keys()
        for text in HOUSE.texts_of_code(name)
        if named.fullmatch(str(text.value)) or (name.startswith("formats.") and text.value == "csv")
    ]
    assert not found, "\n".join(found)
    imported = {other for name, others in HOUSE.imports.items() if not name.startswith("formats.") for other in others & homes}
    assert imported == {"formats.csv_table"}, imported


def test_nothing_below_the_resolved_run_takes_a_configuration():
    assert not HOUSE.takers_of_a_configuration(*ABOVE_THE_RESOLVED_RUN)


def test_values_without_a_declared_type_have_a_reason():
    assert HOUSE.open_values().keys() == OPEN_VALUES.keys(), "declare a type, or say in OPEN_VALUES why there is none"


def test_torch_is_imported_only_where_learning_happens():
    found: list[str] = []
    for name, tree in HOUSE.trees.items():
        if room_of(name).split(".")[0] in TORCH_ROOMS:
            continue
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if "torch" in {other.split(".")[0] for other in names}:
                found.append(f"{name}:{node.lineno}")
    assert not found, found


def test_no_module_has_the_name_of_a_public_function():
    assert not stems() & PUBLIC_FUNCTIONS


def test_every_suppression_says_why():
    """Of the linter in brackets behind its codes, of the type checker in a comment of its own."""
    for name, text in HOUSE.texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            if "# noqa" in line:
                assert re.search(r"# noqa: [A-Z]+\d+(, [A-Z]+\d+)* *\(.+\)", line), f"{name}:{number}: {line.strip()}"
            if "# type: ignore" in line:
                assert re.search(r"# type: ignore\[[\w,-]+\]  # .+", line), f"{name}:{number}: {line.strip()}"


def test_no_drawer_for_odds_and_ends():
    assert not stems() & {"utils", "helpers", "common", "misc", "util"}


def test_modules_say_what_they_are_for():
    found = [name for name, tree in HOUSE.trees.items() if not ast.get_docstring(tree)]
    assert not found, f"without a docstring: {found}"


# the folders of tests that mirror no folder of the package
OTHER_FOLDERS = {"copick", "data", "gpu", "packaging", "slurm", "support"}


def test_tests_are_written_in_one_way():
    """In folders that mirror the package; without annotations; and no test module needs another."""
    tests = REPOSITORY / "tests"
    for path in sorted(tests.rglob("*.py")):
        folder = path.relative_to(tests).parent
        assert folder.parts[:1] == () or folder.parts[0] in OTHER_FOLDERS or (PACKAGE / folder).is_dir(), (
            f"{path}: tomostream has no {folder}"
        )
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").split(".")[-1].startswith("test_"), (
                    f"{path}:{node.lineno}: what tests share is in tests/support"
                )
            elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                annotations = [one for one in (node.returns, *(one.annotation for one in given)) if one is not None]
                assert not annotations, f"{path}:{node.lineno}: {node.name} has annotations"
