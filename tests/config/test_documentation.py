"""docs/configuration.md says what the models say."""

import importlib.util
import re
from types import ModuleType

import pytest
import yaml
from repository import REPOSITORY

from tomostream.config import configuration_from

PAGE = (REPOSITORY / "docs" / "configuration.md").read_text()


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_configuration_table", REPOSITORY / "docs" / "make_configuration_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_models(script):
    assert script.with_tables(PAGE) == PAGE, "run: python docs/make_configuration_table.py"


def test_every_key_of_a_resolved_configuration_has_a_row():
    least = {
        "project": "out",
        "tomograms": ["a.mrc"],
        "species": [{"name": "ribosome", "radius": "135A"}],
        "labels": {"train": ["clicks.csv"]},
    }
    rows = set(re.findall(r"^\| `([a-z_.\[\]]+)` \|", PAGE.split("A strategy may have")[0], re.MULTILINE))
    keys = set()
    for key, value in configuration_from(least, "test").resolved().items():
        inner = value[0] if key == "species" else value
        prefix = f"{key}[]" if key == "species" else key
        keys |= {f"{prefix}.{name}" for name in inner} if isinstance(inner, dict) else {key}
    assert keys == rows


def test_a_change_of_a_default_is_seen(script):
    assert script.with_tables(PAGE.replace("| `400` |", "| `500` |")) != PAGE.replace("| `400` |", "| `500` |")


def test_the_example_is_valid():
    example = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    found = configuration_from(yaml.safe_load(example[1]), "docs/configuration.md")
    assert found.species[0].expected_in("any") == 180
