"""How is a damaged part made again, with the same bytes, by the code that made it first?

- a coarser shard: the mean of the finer one;
- a tomogram's shard: from its source file, whose identity the store records;
- a score map's shard: from its model and tomogram, on a machine of the same kind;
- a label mask's shard: from the table of its points, of which it records the hash, and beside the tomogram it was made for;
- statistics: measured again;
- picks: from their score maps, with the settings beside them;
- the model of one of several species: from those that are packed, and these from it (`models`).

What takes the damaged part's place is whole and was checked, or nothing is changed.
"""

from __future__ import annotations

import ast
import json
import platform
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tomostream.defaults import SCORE_GRID
from tomostream.errors import InputError, TomostreamError
from tomostream.fingerprint import Fingerprint
from tomostream.geometry import Box, Triple, triple
from tomostream.progress import Progress
from tomostream.remote.atomic_files import replacing
from tomostream.stages.checking.mask_points import MaskPainter
from tomostream.stages.checking.sources import Sources
from tomostream.stages.checking.store_voxels import ShardReader
from tomostream.stages.shared.sidecar import MadeBy
from tomostream.store.casting import Casting
from tomostream.store.decompress import peek_header, plain_file
from tomostream.store.mrc_voxels import MrcReader
from tomostream.store.pyramid import mean_pooled, rounded_to
from tomostream.store.shard_file import write_shard_bytes
from tomostream.store.stored_levels import StoredLevel
from tomostream.tomogram import Tomogram, open_tomogram, store_normalisation
from tomostream.units import Length, parse_box

if TYPE_CHECKING:
    from tomostream.stages.prediction.shard_task import ShardTask


def remake_shard(tomogram: Tomogram, sources: Sources, level: int, index: Triple, *, memory: int, painter: MaskPainter) -> None:
    """Make a shard of a store again; `painter` is the store's, should it be a mask.

    Raises
    ------
    TomostreamError
        If what it was made from is not here, or has changed.
    """
    reader = ShardReader(tomogram)
    if tomogram.coarse is not None:
        _write(tomogram, level, index, _from_model_at_level(tomogram, sources, index, memory)[level])
        return
    if level > 0:
        _write(tomogram, level, index, _coarser(reader.read(level - 1, index), reader.levels[level].dtype))
        return
    kind = tomogram.attributes.get("kind")
    makers: dict[str | None, Callable[[], np.ndarray]] = {
        None: lambda: _from_source(tomogram, sources, index),
        "scores": lambda: _from_model(tomogram, sources, index, memory),
        "labels": lambda: painter.shard(index),
    }
    if kind not in makers:
        raise InputError(f"nothing is known of how stores of kind '{kind}' are made; make it again with --overwrite")
    _write(tomogram, 0, index, makers[kind]())


def remake_statistics(path: str, level: int, *, memory: int) -> None:
    """Measure a level again."""
    from tomostream.stages.voxel_statistics.stage import measure_array

    tomogram = open_tomogram(path, level=level)
    store_normalisation(path, level, measure_array(tomogram, memory=memory, workers=1, name=tomogram.name))


def remake_picks(table: Path, record: MadeBy, sources: Sources, *, memory: int, progress: Progress) -> None:
    """Pick again, with the settings that are recorded beside the table.

    Raises
    ------
    TomostreamError
        If the score maps are not here, or other picks come out.
    """
    from tomostream.cluster import Resources
    from tomostream.stages.picks.stage import PickTask, pick_one

    maps = []
    for one in record.fingerprint["maps"]:
        recorded = dict(one)
        scores = sources.score_map(recorded.pop("scores"))
        maps.append((scores.path, _pick_settings(recorded)))
    was = record.sha256
    pick_one(PickTask(table.stem, tuple(maps), table.parent, Resources(memory=memory)), progress)
    from tomostream.remote.hashing import file_sha256

    if file_sha256(table) != was:
        raise InputError(
            "a new copy has other bytes: another version of tomostream made it; use that version, or make it again with --overwrite"
        )


def _write(tomogram: Tomogram, level: int, index: Triple, block: np.ndarray) -> None:
    one: StoredLevel = tomogram.arrays[level]
    if one.codec is None:
        raise TypeError(f"level {one.path} does not use tomostream's codecs")
    if tomogram.path.partition("://")[1]:
        raise InputError("a store on a server is not repaired in place; make it again with --overwrite")
    folder = Path(tomogram.path)
    file = folder.joinpath(one.path, "c", *map(str, index))
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary, temporary.open("wb") as handle:
        write_shard_bytes(handle, block, chunk=one.layout.chunk, shard=one.layout.shard, codec=one.codec)


def _coarser(finer: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    return rounded_to(mean_pooled(finer), dtype)


def _from_source(tomogram: Tomogram, sources: Sources, index: Triple) -> np.ndarray:
    source = sources.source_file(tomogram.attributes["fingerprint"].get("source"))
    level = tomogram.levels[0]
    header = peek_header(source)
    if header.shape != level.shape:
        raise InputError(f"{source} has another shape than the store; convert it again with --overwrite")
    casting = Casting(level.dtype, tomogram.attributes.get("stored_scale"), tomogram.attributes.get("stored_offset"))
    with plain_file(header, Path(tomogram.path).parent, lambda _: None) as plain, MrcReader(replace(header, path=plain)) as reader:
        return casting.apply(reader.read(level.layout.shards.core(index)))


def _from_model(store: Tomogram, sources: Sources, index: Triple, memory: int) -> np.ndarray:
    from tomostream.stages.prediction.shard_task import as_stored, score_shard

    task, species = _scoring(store, sources, index, memory)
    scores, _ = score_shard(task)
    return as_stored(scores[species], task.settings.score_dtype)


def _from_model_at_level(store: Tomogram, sources: Sources, index: Triple, memory: int) -> tuple[np.ndarray, ...]:
    """The shard of the network's level, and the row of its seams."""
    from tomostream.stages.prediction.shard_task import score_shard_at_level

    task, species = _scoring(store, sources, index, memory)
    values, rows, _ = score_shard_at_level(task)
    return values[species], rows[species][None, None]


def _scoring(store: Tomogram, sources: Sources, index: Triple, memory: int) -> tuple[ShardTask, int]:
    """The task that scored a shard, and the number of the store's species."""
    from tomostream.stages.prediction.network_grid import plan_on_grid
    from tomostream.stages.prediction.prepare_task import PrepareTask, prepare_tomogram
    from tomostream.stages.prediction.shard_task import PredictSettings, ScorerLoad, ShardTask, machine_environment
    from tomostream.strategies.loading import load_model
    from tomostream.strategies.several_models import parts_of

    made: Fingerprint = store.attributes["fingerprint"]
    if "candidates" in made:
        raise InputError("only candidates were kept of these scores; predict the tomogram again with --overwrite")
    if "mixed_devices" in store.attributes:
        raise InputError("machines of several kinds made it, and it is unknown which made this shard; predict again with --overwrite")
    device = _device_of(made)
    environment = machine_environment(device)
    other = {key: (made.get(key), value) for key, value in environment if made.get(key) != value}
    if other:
        raise InputError(f"it was made on another kind of machine ({'; '.join(f'{k} {a}, here {b}' for k, (a, b) in other.items())})")
    folder, source = sources.model(made), sources.tomogram(made.get("tomogram"))
    loaded = load_model(folder)
    wanted = store.attributes["species"]
    parts = parts_of(loaded)
    number = next((place for place, part in enumerate(parts) if wanted in part.settings.species), 0)
    model = parts[number]
    load = ScorerLoad(str(folder), device, made["precision"], made["threads"], None, number)
    settings = PredictSettings(
        precision=made["precision"],
        score_dtype=made["score_dtype"],
        logits=made["logits"],
        box=None if made["box"] == "None" else parse_box(made["box"].replace(" ", "")),
        mask=None if made["mask"] is None else sources.tomogram(made["mask"]).path,
        grid=made.get("grid", SCORE_GRID),
        block_size=triple(made["core"]),
    )
    plan = plan_on_grid(model, source.shape, settings, memory=memory, name=source.name)
    if list(plan.core) != made["core"]:
        raise InputError(
            f"this version would score it in blocks of {plan.core} voxels instead of {made['core']}; predict again with --overwrite"
        )
    plan = replace(plan, shard=triple(made["shard"]))  # blocks are counted from a shard's corner
    prepared = prepare_tomogram(PrepareTask(source.name, source.path, memory, load, environment))
    species = model.settings.species.index(wanted)
    task = ShardTask(
        source.name, source.path, prepared.normalisation, prepared.statistics, load, plan, index, (), len(model.settings.species), settings,
        environment,
    )  # fmt: skip
    return task, species


def _device_of(made: Fingerprint) -> str:
    """What kind of device a fingerprint names: processors by their instruction set, GPUs by their names."""
    return "cpu" if str(made.get("device", "")).startswith(platform.machine()) else "cuda"


def _pick_settings(recorded: Fingerprint) -> Any:
    """The settings whose fingerprint was recorded.

    Raises
    ------
    InputError
        If this version can't read them.
    """
    from tomostream.picking.how_many import how_many
    from tomostream.stages.picks.stage import PickSettings

    values: dict[str, Any] = {key: value for key, value in recorded.items() if key in ("species", "method")}
    values |= {key: _from_repr(str(recorded.get(key))) for key in ("radius", "smooth", "border", "box")}
    if recorded.get("mask") is not None:
        raise InputError("it was picked within a mask; pick again with that mask")
    try:
        wanted = how_many(count=recorded.get("count"), expected=recorded.get("expected"), threshold=recorded.get("threshold"))
        settings = PickSettings(how_many=wanted, **values)
        is_same = json.loads(json.dumps(settings.fingerprint())) == recorded
    except (TypeError, TomostreamError):
        is_same = False
    if not is_same:
        raise InputError("the recorded settings belong to another version; pick again")
    return settings


def _from_repr(text: str) -> Any:
    """Read the `repr` of None, a Length or a Box, and nothing else."""
    kinds: dict[str, type] = {"Length": Length, "Box": Box}
    try:
        node = ast.parse(text, mode="eval").body
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds and not node.args:
            kind = kinds[node.func.id]
            values = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
            return kind(**values) if set(values) == {field.name for field in fields(kind)} else None
        return ast.literal_eval(node)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
