"""The recipes of docs/extending.md: their files are taken from the page and run."""

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_runner import Outcome
from repository import REPOSITORY
from typer.testing import CliRunner

from tomostream.testing import make_project

pytestmark = pytest.mark.slow

PAGE = (REPOSITORY / "docs" / "extending.md").read_text()


def recipe(title: str) -> dict[str, str]:
    """The marked blocks of one section, by the file (or the line) that they are."""
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
    return dict(re.findall(r"<!-- (?:file|line): (\S+) -->\n```\w+\n(.*?)```", sections[title], re.DOTALL))


def install(files: dict[str, str], folder: Path) -> Path:
    """What `pip install` makes of a package: its modules, and its entry points as metadata."""
    project = tomllib.loads(files["pyproject.toml"])["project"]
    folder.mkdir()
    for name, text in files.items():
        if name.endswith(".py"):
            (folder / name).write_text(text)
    metadata = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in lines.items()) for group, lines in project["entry-points"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(groups) + "\n")
    return folder


def tomostream(installed: Path, *arguments: object) -> Outcome:
    """A command in a process of its own, where the package is installed."""
    where = os.pathsep.join((str(installed), str(REPOSITORY)))
    done = subprocess.run(
        [sys.executable, "-m", "tomostream", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=installed,
        env=os.environ | {"PYTHONPATH": where, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def assert_passes(installed: Path, file: str) -> None:
    """The package's own tests pass, in a process of their own."""
    where = os.pathsep.join((str(installed), str(REPOSITORY)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(installed), str(installed / file)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=installed,
        env=os.environ | {"PYTHONPATH": where, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " skipped" not in done.stdout


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(recipe("A strategy"), tmp_path_factory.mktemp("strategy") / "site")


@pytest.mark.slow
def test_another_packages_strategy_goes_through_the_whole_run(blobs, tmp_path):
    run = make_project(tmp_path / "data", objective={"name": "blobs"}, blobs={"ratio": 1.8})
    listed = tomostream(blobs, "strategies", "--json").json
    assert {"name": "blobs", "summary": "difference of Gaussians; no network, seconds", "module": "blob_picker"} in listed
    planned = tomostream(blobs, "run", run, "--dry-run", "--json")
    assert planned.code == 0, planned.err
    train = next(step for step in planned.json if step["stage"] == "train")
    assert train["work"].startswith("strategy blobs, level 0")
    assert train["memory_bytes"] < 10**9
    done = tomostream(blobs, "run", run, "--json")
    assert done.code == 0, done.err
    assert done.json["evaluation"]["pooled"]["recall"] >= 0.9
    project = tmp_path / "data" / "project"
    assert json.loads((project / "model" / "model.json").read_text())["strategy"] == "blobs"
    assert yaml.safe_load((project / "resolved.yaml").read_text())["blobs"] == {"ratio": 1.8}
    again = tomostream(blobs, "run", run, "--dry-run", "--json")
    assert {step["state"] for step in again.json if step["stage"] in ("train", "predict", "pick")} == {"done"}
    planned_predict = [(s["memory_bytes"], s["work"]) for s in planned.json if s["stage"] == "predict"]
    assert planned_predict == [(s["memory_bytes"], s["work"]) for s in again.json if s["stage"] == "predict"]


@pytest.mark.slow
def test_another_packages_strategy_checks_its_own_section_and_device(blobs, tmp_path):
    wrong = make_project(tmp_path / "a", objective={"name": "blobs"}, blobs={"ratio": 0.5})
    assert "blobs.ratio" in tomostream(blobs, "run", wrong, "--dry-run").message
    unfit = make_project(tmp_path / "b", objective={"name": "blobs"}, predict={"device": "cuda"})
    assert "blobs computes on the processor" in tomostream(blobs, "run", unfit, "--dry-run").message


@pytest.mark.slow
def test_a_strategy_that_is_not_installed_is_refused_with_those_that_are(tmp_path):
    (tmp_path / "empty").mkdir()
    run = make_project(tmp_path / "data", objective={"name": "blobs"})
    message = tomostream(tmp_path / "empty", "run", run, "--dry-run").message
    assert "must be an installed strategy" in message
    assert "nnpu" in message


_SECTION = "from tomostream.config.fields import Part\nclass Own(Part):\n    needed: int\n"
_UNET = "from tomostream.strategies.unet.strategy import UNetStrategy\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "module", "message"),
    [
        ("broken:STRATEGY", "class S:\n    name = summary = 'broken'\nSTRATEGY = S()\n", "lacks sections, defaults, check"),
        ("broken:STRATEGY", _UNET + "STRATEGY = UNetStrategy\n", "is a class"),
        (
            "broken:STRATEGY",
            _SECTION
            + _UNET
            + "class S(UNetStrategy):\n    sections = {'own': Own}\nSTRATEGY = S('broken', 'a:B', 's', needs_prior=False)\n",
            "needs a default that is allowed, as needed has not",
        ),
        ("broken", "", "must name an object"),
    ],
)
def test_a_broken_strategy_is_an_error_only_where_it_is_asked_for(tmp_path, entry, module, message):
    project = f'[project]\nname = "broken"\nversion = "1"\n[project.entry-points."tomostream.strategies"]\nbroken = "{entry}"\n'
    site = install({"pyproject.toml": project, "broken.py": module}, tmp_path / "site")
    other = make_project(tmp_path / "other", objective={"name": "average"})
    found = tomostream(site, "run", other, "--dry-run", "--json")
    assert found.code == 0, found.err
    asked = make_project(tmp_path / "asked", objective={"name": "broken"})
    assert message in tomostream(site, "run", asked, "--dry-run").message


def test_the_recipes_name_their_modules_for_pip():
    """Setuptools refuses a folder of several modules that are not named; pip installs nothing then."""
    for title in ("A strategy", "A network", "An objective", "A picker", "A table format", "A queue"):
        files = recipe(title)
        modules = {Path(name).stem for name in files if name.endswith(".py") and not name.startswith("test_")}
        project = tomllib.loads(files["pyproject.toml"])
        assert set(project["tool"]["setuptools"]["py-modules"]) == modules
        assert project["build-system"]["build-backend"] == "setuptools.build_meta"


def test_the_recipes_model_says_that_it_uses_no_gpu(blobs):
    """Else `auto` would mean CUDA where there is a GPU, which its scorer refuses."""
    code = "import blob_picker; print(blob_picker.BlobModel.uses_gpu)"
    where = os.pathsep.join((str(blobs), str(REPOSITORY)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": where})
    assert done.stdout.split() == ["False"]


def test_installing_a_strategy_imports_no_torch(blobs):
    code = "import sys, tomostream.config.configuration as c; c.configuration_class(); print('blob_picker' in sys.modules, 'torch' in sys.modules)"
    where = os.pathsep.join((str(blobs), str(REPOSITORY)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": where})
    assert done.stdout.split() == ["True", "False"]


@pytest.mark.slow
@pytest.mark.timeout(700)  # a suite of its own; its process has 600 seconds
def test_another_packages_strategy_passes_the_conformance_suite(blobs):
    assert_passes(blobs, "test_blobs.py")


@pytest.fixture(scope="module")
def dilated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(recipe("A network"), tmp_path_factory.mktemp("network") / "site")


@pytest.mark.slow
def test_another_packages_network_is_planned(dilated, tmp_path):
    run = make_project(tmp_path / "data", objective={"name": "dilated"})
    planned = tomostream(dilated, "run", run, "--dry-run")
    assert planned.code == 0, planned.err
    assert "30 steps of 4 crops of 16, level 0, objective dilated" in planned.out


@pytest.mark.slow
@pytest.mark.timeout(700)  # a suite of its own; its process has 600 seconds
def test_another_packages_network_passes_the_conformance_suite(dilated):
    assert_passes(dilated, "test_dilated.py")


@pytest.mark.slow
def test_another_packages_objective_trains_the_network(tmp_path):
    site = install(recipe("An objective"), tmp_path / "site")
    steps = {"steps": 5, "steps_per_epoch": 5, "crop": 16, "batch": 2, "precision": "float32"}
    run = make_project(tmp_path / "data", objective={"name": "focal"}, train=steps)
    done = tomostream(site, "train", run, "-o", tmp_path / "model")
    assert done.code == 0, done.err
    names = (tmp_path / "model" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train_unlabelled_negative", "train_labelled_positive"} <= set(names)
    assert json.loads((tmp_path / "model" / "model.json").read_text())["strategy"] == "unet"


@pytest.mark.slow
@pytest.mark.timeout(700)  # a suite of its own; its process has 600 seconds
def test_another_packages_objective_passes_the_conformance_suite(tmp_path):
    assert_passes(install(recipe("An objective"), tmp_path / "site"), "test_focal.py")


@pytest.fixture(scope="module")
def separate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(recipe("A picker"), tmp_path_factory.mktemp("picker") / "site")


@pytest.mark.slow
def test_another_packages_picker_is_chosen_by_name(separate, tmp_path):
    run = make_project(tmp_path / "data", objective={"name": "average"}, pick={"count": "truth", "method": "separate"})
    done = tomostream(separate, "run", run, "--json")
    assert done.code == 0, done.err
    assert done.json["evaluation"]["pooled"]["recall"] >= 0.9
    absent = tomostream(tmp_path, "run", run, "--dry-run").message
    assert "separate" in absent
    assert "greedy" in absent


@pytest.mark.slow
@pytest.mark.timeout(700)  # a suite of its own; its process has 600 seconds
def test_another_packages_picker_passes_the_conformance_suite(separate):
    assert_passes(separate, "test_separate.py")


@pytest.fixture(scope="module")
def xyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(recipe("A table format"), tmp_path_factory.mktemp("format") / "site")


@pytest.mark.slow
def test_another_packages_format_is_written_and_read_by_the_commands(xyz, tmp_path):
    assert "xyz" in tomostream(xyz, "export", "--help").out
    table = tmp_path / "picks.csv"
    table.write_text("tomogram,species,x_angstrom,y_angstrom,z_angstrom,score\nt1,ribosome,3.0,2.0,1.5,\nt1,fas,50.0,40.0,30.0,\n")
    exported = tmp_path / "t1.xyz"
    assert tomostream(xyz, "export", table, "-o", exported).code == 0
    assert exported.read_text().splitlines()[1:3] == ["particles", "ribosome 3.0 2.0 1.5"]
    assert tomostream(xyz, "export", table, "-o", exported, "--xyz-comment", "made by hand").code == 0
    assert exported.read_text().splitlines()[1] == "made by hand"
    other = tomostream(xyz, "export", table, "-o", tmp_path / "t1.cmm", "--xyz-comment", "x")
    assert "--xyz-comment is for xyz, but the format is cmm; leave it out, or give --format xyz" in other.message
    assert tomostream(xyz, "import", exported, "-o", tmp_path / "back.csv").code == 0
    assert (tmp_path / "back.csv").read_text() == table.read_text()
    exported.write_text("3\nparticles\nribosome 1 2 3\n")
    assert "says 3 atoms but has 1" in tomostream(xyz, "import", exported, "-o", tmp_path / "again.csv").message
    assert not (tmp_path / "again.csv").exists()


def test_a_format_that_cant_be_imported_stops_no_other(tmp_path):
    files = recipe("A table format")
    site = install(files | {"xyz_atoms.py": "raise RuntimeError('no licence')\n"}, tmp_path / "site")
    table = tmp_path / "picks.csv"
    table.write_text("tomogram,species,x_angstrom,y_angstrom,z_angstrom,score\nt1,ribosome,3.0,2.0,1.5,\n")
    assert tomostream(site, "export", table, "-o", tmp_path / "t1.cmm").code == 0
    refused = tomostream(site, "export", table, "-o", tmp_path / "t1.xyz", "--format", "xyz")
    assert refused.code == 2
    assert "table format 'xyz' can't be loaded from xyz_atoms:FORMAT: RuntimeError: no licence" in refused.message


@pytest.mark.slow
@pytest.mark.timeout(700)  # a suite of its own; its process has 600 seconds
def test_another_packages_format_passes_the_conformance_suite(xyz):
    assert_passes(xyz, "test_xyz.py")


@pytest.fixture(scope="module")
def background(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(recipe("A queue"), tmp_path_factory.mktemp("queue") / "site")


@pytest.mark.slow
def test_another_packages_queue_is_one_of_the_clusters(background, tmp_path):
    assert "background" in tomostream(background, "convert", "--help").out
    run = make_project(tmp_path / "data", cluster={"kind": "background", "gpus": 1})
    assert "the queue background has none, found 1" in tomostream(background, "run", run, "--dry-run").message
    absent = tomostream(tmp_path, "run", run, "--dry-run").message
    assert "cluster.kind: must be an installed queue (none, local, slurm), found 'background'" in absent


@pytest.mark.slow
@pytest.mark.timeout(700)  # a suite of its own; its process has 600 seconds
def test_another_packages_queue_passes_the_conformance_suite(background):
    assert_passes(background, "test_background.py")


@pytest.fixture
def in_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose `tomostream/cli` is as good as the package's own."""
    folder = tmp_path / "tomostream" / "cli"
    folder.mkdir(parents=True)
    package = importlib.import_module("tomostream.cli")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    return tmp_path


def test_a_new_command_is_one_of_the_programs(in_the_tree):
    (in_the_tree / "tomostream/cli/counting.py").write_text(recipe("A command")["tomostream/cli/counting.py"])
    table = in_the_tree / "picks.csv"
    table.write_text("tomogram,species,x_angstrom,y_angstrom,z_angstrom\nt1,a,1,2,3\nt1,a,4,5,6\nt2,a,7,8,9\n")
    program = (REPOSITORY / "tomostream" / "cli" / "program.py").read_text()
    for names in (r"(from tomostream\.cli import [^\n]*)()", r"(for module in \([^\n]*)(\):)"):  # the two edits of the recipe
        program, edits = re.subn(names, r"\1, counting\2", program, count=1)
        assert edits == 1
    try:
        namespace: dict[str, Any] = {"__name__": "program_with_count"}
        exec(compile(program, "program.py", "exec"), namespace)
        found = CliRunner().invoke(namespace["app"], ["count", str(table), "--json"])
        assert json.loads(found.stdout) == [
            {"tomogram": "t1", "species": "a", "count": 2},
            {"tomogram": "t2", "species": "a", "count": 1},
        ]
    finally:
        sys.modules.pop("tomostream.cli.counting", None)
