"""Hostile input: files of ours with a value, a byte or a piece changed, and what reads them.

A `Reader` writes a mutated file and reads it as the package does.  All that may come of it is a result or a `TomostreamError`, within
`LIMIT_SECONDS`.
"""

import asyncio
import copy
import json
import random
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from store_files import noise, write_foreign, write_store

from tomostream.errors import TomostreamError
from tomostream.geometry import Box

LIMIT_SECONDS = 10
VALUES = (
    None, True, False, 0, 1, -1, 2, 3.5, -0.0, 1e308, float("nan"), float("inf"), -float("inf"), 2**31, 2**63, 2**64, 10**30, -(10**30), 10**400,
    "", "x", "0", "-1", "nan", "../../..", "/etc/passwd", "a\0b", "é" * 50, "9" * 30, "x" * 10_000, [], {}, [[]], [None], [1, 2, 3], [0, 0, 0],
    [10**9] * 3, [-1, 4, 4], ["a", "b", "c"], [1.5, 2, 3], {"": 1}, {"name": "bytes"}, {"name": "crc32c"}, {"type": "scale", "scale": [1, 2]},
    [2**40, 2**40, 2**40], [[1, 1, 1]], {"a": {"b": {"c": []}}},
)  # fmt: skip


class Hang(BaseException):
    """A case took too long."""


@contextmanager
def limited(seconds: int = LIMIT_SECONDS):
    """Raise `Hang` after so many seconds of processor time (a busy machine is no hang), or thirty times as many on the clock (waiting is one)."""

    def late(number, frame):
        raise Hang

    before = {number: signal.signal(number, late) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(30 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


def places_in(value, path=()):
    """Every place in JSON values."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places_in(value[key], (*path, key))
    elif isinstance(value, list):
        for number in range(len(value)):
            yield from places_in(value[number], (*path, number))


def mutated_values(values, draw: random.Random):
    """The values with one to three places replaced, removed, renamed or doubled."""
    values = json.loads(json.dumps(values))
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        path = draw.choice(list(places_in(values)))
        if not path:
            if draw.random() < 0.1:
                values = copy.deepcopy(draw.choice(VALUES))
            continue
        holder = values
        for key in path[:-1]:
            holder = holder[key]
        key, action = path[-1], draw.random()
        if action < 0.7:
            holder[key] = copy.deepcopy(draw.choice(VALUES))
        elif action < 0.85:
            del holder[key]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[str(draw.choice(VALUES))[:40]] = holder.pop(key)
    return values


def mutated_text(text: bytes, draw: random.Random, values=None) -> bytes:
    """A file with a value, bytes, or a piece of it changed; now and then nested deeply."""
    action = draw.random()
    if values is not None and action < 0.75:
        try:
            return json.dumps(mutated_values(values, draw)).encode()
        except ValueError:  # an integer with too many digits to be printed
            return text
    if action < 0.78:
        depth = draw.choice((100, 2000, 100_000))
        return draw.choice((b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth))
    data = bytearray(text)
    if action < 0.88:
        for _ in range(draw.randint(1, 8)):
            data[draw.randrange(len(data))] = draw.randrange(256)
    elif action < 0.94:
        del data[draw.randrange(len(data)) :]
    else:
        start = draw.randrange(len(data))
        data[start:start] = bytes(draw.randrange(256) for _ in range(draw.randint(1, 40)))
    return bytes(data)


@dataclass
class Reader:
    """One kind of file, and what reads it."""

    name: str
    file: Path
    read: Callable[[], object]
    values: object = None
    prepare: Callable[[], object] = lambda: None
    mutate: Callable[[bytes, random.Random], bytes] | None = None

    def __post_init__(self) -> None:
        self.original = self.file.read_bytes()

    def mutated(self, content: bytes, draw: random.Random) -> bytes:
        """Change some content of the file."""
        return self.mutate(content, draw) if self.mutate is not None else mutated_text(content, draw, self.values)

    def try_one(self, draw: random.Random) -> str | None:
        """What went wrong with one case; None if nothing did."""
        return self.try_content(self.mutated(self.original, draw))

    def try_content(self, content: bytes) -> str | None:
        """What went wrong with a file of this content."""
        self.prepare()
        self.file.write_bytes(content)
        try:
            with limited():
                self.read()
        except TomostreamError as error:
            return f"a message of several lines or none: {error!s:.300}" if not str(error).strip() else None
        except Hang:
            return f"hung on {content[:2000]!r}"
        except Exception as error:
            import traceback

            where = "".join(traceback.format_tb(error.__traceback__)[-3:])
            return f"{type(error).__name__}: {error!s:.300}\n{where}\non {content[:1500]!r}"
        finally:
            if self.file.parent.is_dir():  # a finished store has another name
                self.file.write_bytes(self.original)
        return None


def use_store(path) -> None:
    """Look at a store as inspect, stats and pick do."""
    from tomostream.score_map import as_score_map
    from tomostream.stages.shared.fingerprints import tomogram_fingerprint
    from tomostream.store.existing_output import store_state
    from tomostream.store.preflight import inspect_file
    from tomostream.tomogram import open_tomogram

    inspected = inspect_file(path)
    inspected.describe()
    json.dumps(inspected.to_json())
    store_state(path, {"made": "for a test"})
    tomogram = open_tomogram(path)
    tomogram_fingerprint(tomogram)
    for level in range(min(2, tomogram.level_count)):
        one = tomogram.at_level(level)
        if one.normalisation is not None and not one.normalisation.is_constant:
            _ = one.normalisation.scale, one.normalisation.offset
        box = Box.whole(one.shape).clipped(Box((0, 0, 0), (16, 16, 16)))
        as_score_map(one).read(box)


def readers(folder: Path) -> dict[str, Reader]:
    """All of them; files are made below `folder`."""
    from fuzzed_files import table_readers, volume_readers, yaml_readers

    found: list[Reader] = []
    statistics = {"mean": 0.0, "std": 1.0, "clipped_mean": 0.0, "clipped_std": 1.0, "finite": 4096, "total": 4096, "clip_sigma": 3.0}

    def add(name, file, read, values=None, **more):
        found.append(Reader(name, file, read, values, **more))

    ours = write_store(
        folder / "ours.ome.zarr", noise(16, 16, 16), levels=2, kind="scores", species="a", normalisation={"0": statistics}, logits=True
    )
    bare = json.loads((ours / "zarr.json").read_text())
    del bare["attributes"]["tomostream"]["seal"], bare["attributes"]["tomostream"]["levels_sha256"]
    (ours / "zarr.json").write_text(json.dumps(bare))  # a seal would tell every change at once
    add("our store", ours / "zarr.json", lambda: use_store(ours), bare)
    add("our array", ours / "0" / "zarr.json", lambda: use_store(ours), json.loads((ours / "0" / "zarr.json").read_text()))
    for version, metadata in (("0.4", (".zattrs", ".zgroup", "0/.zarray")), ("0.5", ("zarr.json", "0/zarr.json"))):
        foreign = write_foreign(folder / f"foreign{version}.zarr", [noise(16, 16, 16), noise(8, 8, 8)], version=version)
        for name in metadata:
            add(
                f"foreign {version} {name}",
                foreign / name,
                lambda path=foreign: use_store(path),
                json.loads((foreign / name).read_text()),
            )
    found += _ledgers(folder)
    found += _models(folder)
    found += _configuration(folder)
    found += [*volume_readers(folder / "volumes"), *table_readers(folder / "tables"), *yaml_readers(folder / "yaml")]
    return {one.name: one for one in found}


def _ledgers(folder):
    from store_files import spec_of

    from tomostream.store.omezarr import StoreWriter

    volume = noise(16, 16, 16)
    path = folder / "half.ome.zarr"

    def begin(finish):
        with StoreWriter.create_or_resume(
            path, spec_of(volume, shard=(8, 8, 8)), fingerprint={"made": "for a test"}, overwrite=False
        ) as writer:
            for index in writer.pending()[: None if finish else 2]:
                writer.write(index, volume[writer.shards.core(index).slices])
                writer.mark_done(index)
            writer.add_note({"machine": {"threads": 1}})
            if finish:
                writer.finish()

    begin(False)
    ledger = folder / "half.ome.zarr.partial" / "ledger.jsonl"
    kept = folder / "kept"
    shutil.copytree(ledger.parent, kept)

    def prepare():
        for one in (path, ledger.parent):
            shutil.rmtree(one, ignore_errors=True)
        shutil.copytree(kept, ledger.parent)

    def read():
        from tomostream.store.existing_output import half_written_head

        half_written_head(path)
        begin(True)

    def mutate(content, draw):
        lines = content.splitlines()
        if not lines:
            return content
        number = draw.randrange(len(lines))
        try:
            lines[number] = mutated_text(lines[number], draw, json.loads(lines[number]))
        except (ValueError, RecursionError, IndexError):
            lines[number] = lines[number][: draw.randrange(len(lines[number]) + 1)]
        return b"\n".join(lines) + b"\n"

    return [Reader("ledger", ledger, read, None, prepare, mutate)]


def _models(folder):
    from tomostream.strategies.loading import load_model, plan_model
    from tomostream.strategies.model_folder import TrainingSummary
    from tomostream.strategies.unet.model import UNetSettings, save_model
    from tomostream.strategies.unet.network import ResidualUNet

    settings = UNetSettings(
        channels=(4, 8), species=("ribosome",), radius_ang=(40.0,), level=0, spacing=10.0, clip_sigma=3.0, label_shape="sphere",
        objective={"name": "nnpu"}, precision="float32", trained_on=(), version="0", batch_statistics="tomogram",
    )  # fmt: skip
    save_model(folder / "model", ResidualUNet((4, 8), 1, seed=0), settings, TrainingSummary(best_epoch=1))
    path = folder / "model" / "model.json"
    values = json.loads(path.read_text())
    del values["seal"]
    path.write_text(json.dumps(values))

    def read():
        model = load_model(folder / "model")
        plan_model(model, (32, 32, 32), precision="float32", memory=2 * 10**9, block_size=None, name="t")

    return [Reader("model.json", path, read, values), Reader("model.safetensors", folder / "model" / "model.safetensors", read)]


def _configuration(folder):
    from small_project import make_project

    from tomostream.config import load_configuration

    path = make_project(folder / "project")
    values = yaml.safe_load(path.read_text())
    values |= {
        "predict": {"score_dtype": "float32", "block_size": "64"}, "pick": {"count": 10, "threshold": 0.5, "smooth": "2vox"}, "memory": "2GB",
        "matching": "any", "voxel_size": 10.0,
    }  # fmt: skip
    path.write_text(json.dumps(values))  # JSON is YAML

    def read():
        from tomostream.stages.shared.resolved_run import resolve

        configuration = load_configuration(path)
        resolve(configuration, with_clicks=True)

    return [Reader("configuration", path, read, values)]


class _Inline(ThreadPoolExecutor):
    """Does at once, in the calling thread, what it is given."""

    def submit(self, fn, /, *args, **kwargs):
        done = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


def read_zarr_in_this_thread() -> None:
    """Let zarr-python work without its loop's thread and the pool behind it: a case that reads a store takes a fraction of the time, most of which is waiting."""
    from zarr.core import sync as zarr_sync

    loop = asyncio.new_event_loop()
    loop.set_default_executor(_Inline())
    original = zarr_sync.sync

    def sync(coroutine, loop_of_zarr=None, timeout=None):
        return loop.run_until_complete(coroutine)

    for module in list(sys.modules.values()):
        if module.__name__.startswith("zarr.") and getattr(module, "sync", None) is original:
            module.sync = sync


def limit_memory(gigabytes: float) -> None:
    """Of this process: what takes more fails."""
    resource.setrlimit(resource.RLIMIT_AS, (int(gigabytes * 2**30),) * 2)
