"""The configuration: every key known, every mistake named before work starts."""

import copy

import pytest
import yaml
from repository import REPOSITORY

from tomostream import defaults
from tomostream.config import Configuration, configuration_from, load_configuration
from tomostream.config.configuration import configuration_class
from tomostream.errors import ConfigurationError
from tomostream.units import Length, parse_box, parse_bytes, parse_shape

LEAST = {
    "project": "out",
    "tomograms": ["a.mrc"],
    "species": [{"name": "ribosome", "radius": "135A", "expected": 180}],
    "labels": {"train": ["clicks.csv"]},
}


def with_values(**values: object) -> Configuration:
    return configuration_from(LEAST | values, "c.yaml")


def test_defaults_are_those_of_the_defaults_module():
    found = with_values()
    assert found.train.steps == defaults.STEPS
    assert found.network.channels == defaults.CHANNELS
    assert found.memory_bytes == 2 * 10**9
    assert str(found.tolerance) == defaults.TOLERANCE


def test_resolved_form_reads_back_as_itself(tmp_path):
    found = with_values(pick={"smooth": "40A", "count": 7}, network={"level": 1})
    path = tmp_path / "resolved.yaml"
    found.write(path)
    assert load_configuration(path).resolved() == found.resolved()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"memry": "2GB"}, r"unknown key 'memry'; did you mean 'memory'\?"),
        ({"train": {"step": 5}}, r"unknown key 'train.step'; did you mean 'steps'\?"),
        ({"species": [{"name": "a", "radius": "135A", "expectd": 1}]}, r"unknown key 'species\[0\]\.expectd'; did you mean 'expected'\?"),
        ({"species": [{"name": "a", "radius": 135, "expected": 1}]}, "'135' is not a length"),
        ({"species": [{"name": "a", "radius": "-5A", "expected": 1}]}, "'-5A' is not a length"),
        ({"memory": "2"}, "'2' is not a size"),
        ({"objective": {"name": "dice"}}, r"objective.name.*average, .*nnpu, pn.*found 'dice'"),
        ({"pick": {"count": "truth"}}, "pick.count: truth needs a table of truth"),
        ({"pick": {"count": 0}}, r"pick\.count: must be a whole number \(at least 1\), truth or auto, found 0"),
        ({"species": []}, "species"),
        ({"species": [{"name": "a_b", "radius": "135A", "expected": 1}]}, r"species\[0\]\.name: must be letters, digits, .* found 'a_b'"),
        ({"species": [{"name": "FAS"}, {"name": "fas"}]}, r"'FAS' and 'fas' differ in case only, .*rename one"),
        ({"predict": {"block_size": "0"}}, "one positive integer or three"),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(ConfigurationError, match=message):
        with_values(**values)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"species": [{"name": "a", "expected": "many"}]},
            "species[0].expected: must be a whole number (at least 0) or one for each tomogram, {NAME: VALUE, ...}, found 'many'",
        ),
        ({"species": [{"name": "a", "expected": {"t1": "x"}}]}, "species[0].expected.t1: must be a whole number (at least 0), found 'x'"),
        (
            {"species": [{"name": "a", "radius": None}]},
            "species[0].radius has no value: it must be a length, as 135A or 10vox; or leave the key out",
        ),
        ({"labels": {}}, "missing key 'labels.train': it must be a list of texts (at least 1 of them)"),
        (
            {"labels": {"train": "c.csv"}},
            "labels.train: must be a list of texts (at least 1 of them), found 'c.csv'; write it in brackets: [c.csv]",
        ),
        ({"pick": {"count": 2.5}}, "pick.count: must be a whole number (at least 1), truth or auto, found 2.5"),
        ({"network": {"level": "fine"}}, "network.level: must be a whole number (at least 0) or auto, found 'fine'"),
        ({"network": {"channels": ["a"]}}, "network.channels[0]: must be a whole number, found 'a'"),
        ({"train": 3, "pick": []}, "pick: must be a mapping with the keys count, threshold, smooth, border, method, found []"),
        ({"region": {"mask": 3}}, "region.mask: must be a text or one for each tomogram, {NAME: VALUE, ...}, found 3"),
        ({"region": {"labels": {"a": "0vox"}, "mask": "m"}}, "region.labels.a: the key must be a whole number, found 'a'"),
        (
            {"species": [{"name": "a", "expected": {1: 2}}]},
            'species[0].expected.1: the key must be a text, found 1; write it in quotes: "1"',
        ),
        (
            {"region": {"box": "x"}},
            "region.box: 'x' must be z0:z1,y0:y1,x0:x1 in voxels, each start below its stop, as 0:64,100:300,100:300",
        ),
        ({"voxel_size": "x"}, "voxel_size: must be a number of angstrom above 0, as 13.48, found 'x'"),
        ({"memory": 2}, "memory: '2' is not a size; write it as 500MB or 2GB (GB = 10^9 bytes)"),
    ],
)
def test_a_mistake_is_told_by_the_key_as_it_is_written_with_all_that_is_allowed(values, line):
    with pytest.raises(ConfigurationError) as told:
        with_values(**values)
    assert line in str(told.value).splitlines()[1:][-1]
    assert not any(word in str(told.value) for word in ("Input should", "dict[", "literal[", "function-", "valid"))


WRONG = [None, True, -1, 0, 2.5, 10**12, "", "x", [], ["x"], [1], {}, {"a": 1}, {"a": "x"}, {1: 2}, [[]], [{}]]


def _paths(model, prefix=()):
    for key, field in model.model_fields.items():
        path = (*prefix, field.alias or key)
        yield path
        inner = [one for one in (field.annotation, *getattr(field.annotation, "__args__", ())) if hasattr(one, "model_fields")]
        yield from (each for one in inner for each in _paths(one, path))


def test_no_value_of_any_key_is_answered_in_the_words_of_a_library():
    """Every key gets values of every kind; a section's own list (species) is reached through its first entry."""
    for path in _paths(configuration_class()):
        for wrong in WRONG:
            values = copy.deepcopy(LEAST)
            place = values
            for part in path[:-1]:
                place = place.setdefault(part, {})
                place = place[0] if isinstance(place, list) else place
            place[path[-1]] = wrong
            try:
                configuration_from(values, "c.yaml")
            except ConfigurationError as told:
                text = str(told)
                assert path[-1] in text or path[0] in text
                assert not any(word in text for word in ("Input should", "[int", "dict[", "literal[", "function-")), text


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("project: a\ntomograms: []\nproject: b\n", "project", "lines 1 and 3"),
        ("species: [{name: r, radius: 1A, radius: 2A}]\n", "radius", "lines 1 and 1"),
        ("pick:\n  count: 1\n  count: 2\n", "count", "lines 2 and 3"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(tmp_path, text, key, lines):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=f"the key '{key}' is there twice, in {lines}"):
        load_configuration(tmp_path / "run.yaml")


def test_a_key_that_two_entries_share_is_not_there_twice(tmp_path):
    (tmp_path / "run.yaml").write_text("species: [&one {name: r}, *one, {name: s}]\n")
    with pytest.raises(ConfigurationError, match="missing key 'project'"):
        load_configuration(tmp_path / "run.yaml")


def test_one_message_names_all_mistakes():
    with pytest.raises(ConfigurationError) as caught:
        with_values(memory="x", tolerance=10, trian={})
    for part in ("memory", "tolerance", "trian"):
        assert part in str(caught.value)


def test_variables_come_from_the_environment_or_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "c.yaml"
    path.write_text("# ${NOT_NEEDED_IN_COMMENTS}\n" + yaml.safe_dump(LEAST | {"tomograms": ["${WHERE_IT_IS}/a.mrc"]}))
    monkeypatch.delenv("WHERE_IT_IS", raising=False)
    with pytest.raises(ConfigurationError, match="variable WHERE_IT_IS is not set"):
        load_configuration(path)
    monkeypatch.setenv("WHERE_IT_IS", "/data")
    assert load_configuration(path).tomograms == ["/data/a.mrc"]


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [", "\x00"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"c\.yaml"):
        load_configuration(path)


def test_a_place_in_broken_yaml_is_shown_on_lines_of_its_own(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("project: [a\ntomograms: x\n")
    with pytest.raises(
        ConfigurationError, match=r"c\.yaml is not valid YAML:\n  while parsing.*\n +in line 1, column 10:\n +project: \[a\n +\^\n"
    ):
        load_configuration(path)


@pytest.mark.parametrize("expected", [-3, {"a": 5, "b": -1}])
def test_expected_number_below_zero_is_refused(expected):
    with pytest.raises(ConfigurationError, match=r"species\[0\]\.expected.*must be a whole number \(at least 0\)"):
        configuration_from(LEAST | {"species": [{"name": "ribosome", "radius": "135A", "expected": expected}]}, "test")


def test_expected_number_may_differ_by_tomogram():
    species = with_values(species=[{"name": "a", "radius": "5vox", "expected": {"t1": 7}}]).species[0]
    assert species.expected_in("t1") == 7
    assert species.expected_in("t2") is None


def test_lengths_convert_between_voxels_and_angstrom():
    assert Length.parse("135A").in_voxels(13.5) == pytest.approx(10)
    assert Length.parse("10vox").in_angstrom(13.48) == pytest.approx(134.8)


def test_sizes_are_decimal_unless_binary():
    assert parse_bytes("2GB") == 2 * 10**9
    assert parse_bytes("1GiB") == 2**30


def test_shapes_and_boxes():
    assert parse_shape("64") == (64, 64, 64)
    assert parse_shape("32,64,96") == (32, 64, 96)
    assert parse_box("0:2,1:3,4:9").shape == (2, 2, 5)


@pytest.mark.parametrize("name", ["pombe_sim.yaml", "empiar10988_vpp.yaml", "empiar10988_def.yaml"])
def test_configurations_of_the_repository_are_valid(name, monkeypatch):
    monkeypatch.setenv("TOMOSTREAM_DATA", "/data")
    load_configuration(REPOSITORY / "configs" / name)


@pytest.mark.parametrize("predict", [{"device": "cuda"}, {"precision": "bf16"}])
def test_what_a_matched_filter_cannot_do_is_told_before_it_is_trained(predict):
    with pytest.raises(ConfigurationError, match=r"objective average computes on the processor, in float32"):
        with_values(objective={"name": "average"}, predict=predict)
    with_values(predict=predict)


def test_a_picker_is_any_that_is_installed():
    assert configuration_from(LEAST | {"pick": {"count": 3, "method": "trace"}}, "test").pick.method == "trace"
    with pytest.raises(
        ConfigurationError, match=r"pick\.method: must be an installed picker \(greedy, mean-pool, trace\), found 'tracr'; did"
    ):
        configuration_from(LEAST | {"pick": {"count": 3, "method": "tracr"}}, "test")
