"""Hostile metadata, ledgers, models and configurations end in a message: no traceback, no hang.  More cases: `python -m bench.fuzz`.

Each list of single cases below was found by that, and had been a traceback or a hang.
"""

import json
import time
import warnings

import pytest
from cli_runner import tomostream
from example_counts import examples
from fuzzing import limited, readers, use_store
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from small_project import make_project
from store_files import noise, write_foreign, write_store

from tomostream.catalogue import STRATEGIES, installed
from tomostream.config import load_configuration
from tomostream.errors import ConfigurationError, InputError, TomostreamError
from tomostream.formats.catalogued import FORMATS
from tomostream.store.ledger import Ledger
from tomostream.store.typed_json import check_json, parse_json
from tomostream.strategies.loading import load_model

NAMES = (
    "our store", "our array", "foreign 0.4 .zattrs", "foreign 0.4 .zgroup", "foreign 0.4 0/.zarray", "foreign 0.5 zarr.json",
    "foreign 0.5 0/zarr.json", "ledger", "model.json", "model.safetensors", "configuration",
    *(f"MRC, {kind}" for kind in ("plain.mrc", "swapped.mrc", "imod.rec", "packed.gz", "in.gz", "packed.bz2", "in.bz2")),
    *(f"table {name}" for name in (*(name for name in FORMATS if name != "copick"), "copick")),
    *(f"table {name}" for name in (
        "cbox, TS_1.cbox", "cmm, TS_1.cmm", "coords, TS_1.coords", "em, TS_1.em", "imod, TS_1.mod", "portal-ndjson, TS_1.ndjson", "dynamo, TS_1.tbl",
        "star-relion4, TS_1_relion3.star", "star-relion4, pytom.star", "star-relion4, relion4.star", "star-relion4, relion5.star",
    )),
    *(f"YAML, {name}" for name in installed(STRATEGIES)),
)  # fmt: skip
CASES = {"YAML": 6}  # of the others: 60; a configuration is resolved with all its files


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return readers(tmp_path_factory.mktemp("fuzz"))


def test_every_reader_is_tried(found):
    assert tuple(found) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_changed_files_end_in_a_message(found, name):
    @examples(60, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def tried(draw):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            problem = found[name].try_one(draw)
        assert problem is None, problem

    tried()


HUGE = 10**400
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("file", "change"),
    [
        (".zattrs", lambda v: v["multiscales"][0]["datasets"][0]["coordinateTransformations"][0].update(scale=[1, 1, HUGE])),
        ("0/.zarray", lambda v: v.update(chunks=[0, 8, 8])),
        ("0/.zarray", lambda v: v.update(shape=[2**40] * 3)),
        ("0/.zarray", lambda v: v.update(shape=[2**20] * 3, chunks=[1, 1, 1])),
        ("0/.zarray", lambda v: v.update(chunks=[2**15] * 3, shape=[2**15] * 3)),
        ("0/.zarray", lambda v: v.update(shape=[HUGE, 16, 16])),
    ],
)
def test_absurd_zarr_2_metadata_are_refused_at_once(tmp_path, file, change):
    path = write_foreign(tmp_path / "f.zarr", [noise(16, 16, 16)])
    values = json.loads((path / file).read_text())
    change(values)
    (path / file).write_text(json.dumps(values))
    with limited(5), pytest.raises(TomostreamError):
        use_store(path)
    with limited(5):
        assert tomostream("inspect", path).code in (0, 2)


def test_a_store_that_claims_far_more_chunks_than_there_are_is_inspected_at_once(tmp_path):
    path = write_foreign(tmp_path / "f.zarr", [noise(16, 16, 16)])
    values = json.loads((path / "0" / ".zarray").read_text())
    (path / "0" / ".zarray").write_text(json.dumps(values | {"shape": [2**16] * 3, "chunks": [1, 1, 1]}))
    with limited(10):
        done = tomostream("inspect", path)
    assert f"of {2**48} files of level 0 are missing" in done.out


@pytest.mark.parametrize("name", ["zarr.json", "0/zarr.json"])
def test_deeply_nested_metadata_of_our_store_are_one_message(tmp_path, name):
    path = write_store(tmp_path / "t.ome.zarr", noise(8, 8, 8))
    for text in (DEEP, '{"a":' * 100_000):
        (path / name).write_text(text)
        for command in (("stats", path), ("check", path), ("pick", path, "--radius", "2vox", "--count", 1, "-o", tmp_path / "p")):
            done = tomostream(*command)
            assert done.code == 2
            assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "line", ['{"shard": 3}', '{"shard": [1, 2]}', '{"shard": ["a", 0, 0]}', '{"note": 1}', '{"holder": []}', "[1]", DEEP]
)
def test_a_ledger_s_line_of_another_kind_ends_it(tmp_path, line):
    with (tmp_path / "l").open("w") as file:
        file.write(f'{{"fingerprint": {{}}, "layout": {{}}}}\n{{"shard": [0, 0, 0]}}\n{line}\n{{"shard": [0, 0, 1]}}\n')
    ledger = Ledger(tmp_path / "l")
    assert ledger.done == {(0, 0, 0)}
    ledger.close()


@pytest.mark.parametrize(
    "change",
    [
        {"channels": [10**6, 10**6]}, {"channels": [10**9]}, {"channels": []}, {"channels": [0]}, {"channels": "4"}, {"level": 10**9},
        {"level": -1}, {"spacing": float("inf")}, {"spacing": float("nan")}, {"spacing": None}, {"species": []}, {"species": 3},
        {"radius_ang": [1, 2]}, {"objective": [1]}, {"matched": {"floor": 1}},
    ],
)  # fmt: skip
def test_a_model_of_absurd_settings_is_refused_at_once(found, change):
    one = found["model.json"]
    values = json.loads(one.original)
    values["settings"] |= change
    one.file.write_text(json.dumps(values))
    try:
        with limited(10), pytest.raises(InputError):
            load_model(one.file.parent)
    finally:
        one.file.write_bytes(one.original)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("predict", "{block_size: {a: 1}}"), ("predict", "{block_size: [a, 1, 2]}"), ("predict", "{block_size: 1.5}"), ("project", "true"), ("project", "[1]"), ("truth", "{a: 1}"), ("truth", "12"), ("tomograms", "[true]"), ("tomograms", "3"),
        ("memory", "{a: 1}"), ("memory", "true"), ("project", '"a\\0b"'), ("voxel_size", "[1]"), ("tolerance", "true"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_in_the_configuration_names_its_key(tmp_path, key, value):
    path = make_project(tmp_path)
    lines = [line for line in path.read_text().splitlines() if not line.startswith((f"{key}:", "tomograms:", "- /"))]
    path.write_text("\n".join([*lines, f"{key}: {value}", *([] if key == "tomograms" else [f"tomograms: ['{tmp_path}/t*.mrc']"])]) + "\n")
    done = tomostream("run", path, "--dry-run")
    assert done.code == 2
    assert key in done.message


@pytest.mark.parametrize(
    "text", [DEEP, "{a: " * 10_000, "&a [*a]", "!!python/object/apply:os.system ['true']", "a: &a [b]\n" + "c: [*a, *a]\n"]
)
def test_hostile_yaml_is_one_message(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with limited(10), pytest.raises(TomostreamError):
        load_configuration(tmp_path / "c.yaml")


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 100_000, "{a: " * 10_000, "- " * 10_000, "? " * 10_000])
def test_deep_nesting_is_refused_at_once(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    start = time.process_time()
    with pytest.raises(ConfigurationError, match="more than 64 levels deep"):
        load_configuration(tmp_path / "c.yaml")
    assert time.process_time() - start < 3  # some tenths of a second; five seconds before


def test_typed_json_says_where_and_what():
    with pytest.raises(InputError, match=r"f\.json is damaged or was changed: a\.1: .*integer, found 'x'"):
        parse_json(b'{"a": [1, "x"]}', dict[str, list[int]], "f.json")
    with pytest.raises(InputError, match=r"f\.json"):
        parse_json(b"[" * 10**6, list[object], "f.json")
    with pytest.raises(InputError, match="found None"):
        check_json(None, dict[str, int], "f.json")


@pytest.mark.parametrize(
    "command", [("inspect",), ("stats",), ("check",), ("convert", "-o", "out"), ("status",), ("report", "-o", "r.html")]
)
def test_a_zero_byte_in_a_name_is_one_message(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    for name in ("a\0b.mrc", "a\0b.zarr", "a\0b"):
        done = tomostream(command[0], name, *command[1:])
        assert done.code == 2, done.err
        assert "internal fault" not in done.err
