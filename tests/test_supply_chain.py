"""What an installation brings: the checks of `.ci/supply_chain` find what they are for."""

import importlib.util
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from repository import REPOSITORY


def script(name):
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOCKED = (REPOSITORY / "configs" / "locked.txt").read_text()


def test_the_locked_versions_fulfil_what_is_asked_for_and_have_hashes():
    assert script("locked").problems(LOCKED) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: re.sub(r"(?m)^zarr==\S+", "zarr==2.18.0", text), r"zarr<4,>=3\.1\.6 is asked for, 2\.18\.0 is locked"),
        (lambda text: re.sub(r"(?m)^numpy==", "numpie==", text), "numpy>=2.0 is asked for and not locked"),
        (lambda text: re.sub(r"(?ms)^(rich==\S+).*?(?=^\S)", r"\1\n", text), r"rich \S+ has no hash"),
        (lambda text: re.sub(r"(?m)^torch==\S+", "torch==2.7.0", text), r"torch==\S+ is asked for, 2\.7\.0 is locked"),
    ],
)
def test_a_version_that_does_not_fulfil_them_or_has_no_hash_is_told(change, problem):
    changed = change(LOCKED)
    assert changed != LOCKED
    assert any(re.search(problem, one) for one in script("locked").problems(changed))


def test_the_oldest_versions_that_are_tested_are_the_oldest_that_are_allowed():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for extra in ("test", "slurm", "remote") for text in extras[extra])]
    tested = dict(re.findall(r"(?m)^([a-z0-9-]+)==(\S+)$", (REPOSITORY / "configs" / "oldest.txt").read_text()))
    for one in map(Requirement, texts):
        if one.name == "torch":  # older builds bring 3 GB for GPUs
            continue
        [bound] = [part.version for part in one.specifier if part.operator == ">="]
        found = Version(tested[canonicalize_name(one.name)])
        assert found in one.specifier
        assert found.release[: len(Version(bound).release)] == Version(bound).release, f"{one} is asked for, {found} is tested"


@pytest.mark.parametrize(
    ("name", "licence", "permitted"),
    [
        ("a", "BSD-3-Clause", True), ("a", "MIT License", True), ("a", "GPL-3.0-only", False), ("a", "MIT OR GPL-2.0", True), ("a", "none given", False),
        ("a", "GNU Affero General Public License v3", False), ("a", "Proprietary", False), ("nvidia-cublas", "NVIDIA Proprietary", True),
        ("a", "GNU General Public License v3 (GPLv3), BSD License", False),
    ],
)  # fmt: skip
def test_only_permissive_licences_pass(name, licence, permitted):
    assert script("licences").is_permitted(name, licence) is permitted


def test_all_that_is_installed_for_users_is_permissive():
    done = subprocess.run([sys.executable, REPOSITORY / ".ci" / "licences.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(re.search(r"licences of (\d+) packages", done.stdout)[1]) > 30
