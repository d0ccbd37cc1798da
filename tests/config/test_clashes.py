"""Two packages that give one name, or one section, stop those who ask for them, and nobody else."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tomostream import catalogue
from tomostream.config import configuration, configuration_from
from tomostream.config.fields import Part
from tomostream.errors import ConfigurationError, InputError

LEAST = {
    "project": "out",
    "tomograms": ["a.mrc"],
    "species": [{"name": "a", "radius": "135A", "expected": 9}],
    "labels": {"train": ["c.csv"]},
}


class One(Part):
    edge: int = 3


class Other(Part):
    edge: str = "x"


def _strategy(**sections: type[Part]) -> SimpleNamespace:
    return SimpleNamespace(sections=sections, defaults={}, check=lambda settings: None, summary="", name="", model_kind="x")


THEIRS = {
    "blobs": _strategy(shared=One), "rings": _strategy(shared=Other), "few": _strategy(template=One), "trains": _strategy(train=One), "alone": _strategy(alone=One),
}  # fmt: skip


@pytest.fixture(autouse=True)
def installed_too(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """More strategies than ours: some share a section's name with each other, with one of ours, with a general one."""
    ours = catalogue.installed(catalogue.STRATEGIES)
    find = configuration.find
    monkeypatch.setattr(
        configuration, "installed", lambda group: dict(sorted((dict(ours) | {name: f"their.{name}:S" for name in THEIRS}).items()))
    )
    monkeypatch.setattr("tomostream.config.sections.installed", configuration.installed)
    monkeypatch.setattr(configuration, "find", lambda group, name, *more: THEIRS.get(name) or find(group, name, *more))
    caches = (configuration.configuration_class, configuration._own_sections, configuration._clashes)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("name", [None, "nnpu", "few_shot", "alone"])
def test_strategies_of_clashing_sections_do_not_stop_the_others(name):
    found = configuration_from(LEAST | ({} if name is None else {"objective": {"name": name}}), "c.yaml")
    assert type(found.template).__module__.startswith("tomostream.")
    assert found.alone.edge == 3
    assert not hasattr(found, "shared")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blobs", "'blobs' brings a section 'shared' .*which strategy 'rings' has too"),
        ("rings", "'rings' brings a section 'shared' .*which strategy 'blobs' has too"),
        ("few", "'few' brings a section 'template' .*which strategy 'template' has too"),
        ("trains", "'trains' brings a section 'train' .*which tomostream itself has too"),
    ],
)
def test_who_asks_for_one_of_them_is_told(name, message):
    with pytest.raises(ConfigurationError, match=message):
        configuration_from(LEAST | {"objective": {"name": name}}, "c.yaml")


@pytest.mark.parametrize("name", [["nnpu"], {"a": 1}, None, 3])
def test_a_strategy_s_name_of_another_type_is_one_message(name):
    with pytest.raises(ConfigurationError, match=r"objective\.name"):
        configuration_from(LEAST | {"objective": {"name": name}}, "c.yaml")


def test_a_name_that_two_packages_give_stops_who_asks_for_it_only(monkeypatch):
    group = "tomostream.test_clash"

    def entry(name: str, value: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, value=value, dist=None)

    monkeypatch.setattr(
        catalogue.importlib.metadata,
        "entry_points",
        lambda group: [entry("twice", "math:pi"), entry("twice", "math:e"), entry("once", "math:pi")],
    )
    monkeypatch.setattr(catalogue, "_of_the_checkout", lambda group: None)
    catalogue._installed.cache_clear()
    try:
        assert set(catalogue.installed(group)) == {"once", "twice"}
        assert catalogue.find(group, "once", "thing") == catalogue.importlib.import_module("math").pi
        with pytest.raises(InputError, match="two packages give a thing of the name 'twice': math:pi and math:e"):
            catalogue.find(group, "twice", "thing")
    finally:
        catalogue._installed.cache_clear()
