"""What does the server answer?  One short method for each request of the page; other modules do the work.

Reading and writing of files happens in threads, so that a slow disk or a large slab holds up nobody else.  Pictures have a few threads
of their own; a request whose page has turned away meanwhile (the user scrolls on) is dropped before anything is read for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from tomostream.errors import BusyError, InputError, TomostreamError
from tomostream.formats.registry import working_formats
from tomostream.formats.table_format import TableFormat
from tomostream.tomogram import Tomogram
from tomostream.version import VERSION
from tomostream.view import requests
from tomostream.view.clicks import Click, ClickTable, Outcome
from tomostream.view.configuration_form import write_configuration
from tomostream.view.exports import ExportWish, export, exported, packed
from tomostream.view.jobs import Jobs
from tomostream.view.messages import (
    ClickAnswer,
    ClickRow,
    ClickTablesAnswer,
    ExportAnswer,
    Facts,
    FormatAnswer,
    LevelAnswer,
    Levels,
    OptionAnswer,
    State,
)
from tomostream.view.picks import PickTables
from tomostream.view.rounds import Rounds
from tomostream.view.volumes import AXES, READERS, Axis, Cut, Pictures, thumbnail
from tomostream.view.workspace import Workspace

T = TypeVar("T")
UNNAMED = "particle"  # what is clicked before it has a name
_MOST_THUMBNAILS = 64  # a request
_CIRCLE = "10vox"  # radius that is drawn where the configuration leaves it to the clicks
_THUMBNAIL_RADIUS_VOX = 12.0  # a particle has about so many voxels of the level that is shown
_LEAST_SIZE, _MOST_SIZE = 24, 160
_GONE = 499  # the page has turned away


class Answers:
    """The workbench behind the page.

    Parameters
    ----------
    workspace
        What is open.
    memory
        Budget of the process, bytes.
    """

    def __init__(self, workspace: Workspace, *, memory: int) -> None:
        self.workspace = workspace
        self.pictures = Pictures(memory)
        self.jobs = Jobs(workspace)
        self.picks = PickTables(workspace)
        self.rounds = Rounds(workspace, self.jobs, self.picks)
        only = next(iter(workspace.entries)) if len(workspace.entries) == 1 else ""
        species = workspace.species()
        names = {"tomogram": only, "species": species[0] if species else UNNAMED}
        self.clicks = ClickTable(workspace.clicks, spacing_of=workspace.spacing_of, **names)
        self.unsure = ClickTable(workspace.project / "view" / "unsure.csv", spacing_of=workspace.spacing_of, **names)
        self._tables = asyncio.Lock()  # one patch after the other: each is a few milliseconds
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="pictures")
        self._turn = asyncio.Semaphore(READERS)

    def close(self) -> list[str]:
        """End threads and jobs; return the kinds of jobs that were running."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        return self.jobs.close()

    async def state(self, request: Request) -> Response:
        """Return everything that the page shows beside pictures: tomograms with counts, species, jobs."""
        del request
        return JSONResponse(await asyncio.to_thread(self._state))

    async def tomogram(self, request: Request) -> Response:
        """Shapes and spacing of one tomogram."""
        name = requests.text(request.query_params, "name")
        return JSONResponse(await asyncio.to_thread(self._facts, name))

    async def tile(self, request: Request) -> Response:
        """Grey values of one cut, row by row, one byte each."""
        query = request.query_params
        name = requests.text(query, "name")
        axis = query.get("axis", "")
        if axis not in AXES:
            raise InputError(f"axis must be z, y or x, found '{axis[:40]}'")
        planes, rows, columns = (
            (requests.integer(query, first), requests.integer(query, last)) for first, last in (("z0", "z1"), ("r0", "r1"), ("c0", "c1"))
        )
        sigma = requests.number(query.get("sigma", "0"), "sigma", least=0, most=100)
        cut = Cut(_axis(axis), requests.integer(query, "level", most=30), planes, rows, columns, sigma)
        species = query.get("scores")

        def make() -> np.ndarray:
            volume = self.workspace.tomogram(name) if species is None else self._score_map(name, species)
            return self.pictures.grey(volume, cut)

        async with self._turn:
            if await request.is_disconnected():
                return Response(status_code=_GONE)
            grey = await self._read(make)
        headers = {"x-shape": f"{grey.shape[0]},{grey.shape[1]}", "cache-control": "private, max-age=60"}
        return Response(grey.tobytes(), media_type="application/octet-stream", headers=headers)

    async def thumbnails(self, request: Request) -> Response:
        """Pairs of pictures, x-y and x-z, around positions (angstrom): one byte a pixel, `x-size` pixels an edge."""
        values = await requests.body(request, "name", "positions", "radius")
        name = requests.text(values, "name")
        places = requests.positions(values.get("positions"), "positions", most=_MOST_THUMBNAILS)
        radius = requests.number(values.get("radius"), "radius", least=1e-3, most=1e6)

        def make() -> tuple[np.ndarray, float]:
            tomogram = self.workspace.tomogram(name)
            return _thumbnails(self.pictures, tomogram, places, radius)

        async with self._turn:
            made, pixel = await self._read(make)
        return Response(
            made.tobytes(), media_type="application/octet-stream", headers={"x-size": str(made.shape[-1]), "x-pixel": f"{pixel:g}"}
        )

    async def look(self, request: Request) -> Response:
        """All clicks, and what others have changed."""
        del request
        async with self._tables:
            outcome, unsure = await asyncio.to_thread(lambda: (self.clicks.look(), self.unsure.look()))
        answer: ClickTablesAnswer = {**_told(outcome), "unsure": _rows(unsure.clicks)}
        return JSONResponse(answer)

    async def patch(self, request: Request) -> Response:
        """Remove and add rows of the clicks, or of the places marked as unsure."""
        values = await requests.body(request, "remove", "add", "table")
        which = values.get("table", "clicks")
        if which not in ("clicks", "unsure"):
            raise InputError(f"table must be clicks or unsure, found {str(which)[:40]!r}")
        remove = requests.clicks(values.get("remove", []), "remove")
        add = requests.clicks(values.get("add", []), "add")
        for click in add:
            self.workspace.entry(click.tomogram)
        table = self.clicks if which == "clicks" else self.unsure
        async with self._tables:
            outcome = await asyncio.to_thread(table.patch, remove=remove, add=add)
        return JSONResponse(_told(outcome))

    async def pick_list(self, request: Request) -> Response:
        """The picks of a tomogram."""
        name, species = requests.text(request.query_params, "name"), requests.text(request.query_params, "species")
        self.workspace.entry(name)
        found = await asyncio.to_thread(lambda: (one := self.picks.picks(name, species)) and one.to_json())
        return JSONResponse(found)

    async def suggested(self, request: Request) -> Response:
        """The places that `suggest` wrote last."""
        del request
        return JSONResponse({"places": await asyncio.to_thread(self.rounds.suggested)})

    async def set_up(self, request: Request) -> Response:
        """Write the configuration from the page's form."""
        values = await requests.body(request, "species", "voxel_size", "minutes")
        species = values.get("species")
        if not isinstance(species, list) or not 1 <= len(species) <= 20 or not all(isinstance(one, dict) for one in species):
            raise InputError("species must be a list of 1 to 20 objects name, radius, expected")
        for one in species:
            requests.text(one, "name", most=80)  # of folders and files
        voxel_size = values.get("voxel_size")
        minutes = values.get("minutes")
        before = self.workspace.species()
        await asyncio.to_thread(
            write_configuration,
            self.workspace,
            species,
            voxel_size=None if voxel_size is None else requests.number(voxel_size, "voxel_size", least=1e-3, most=1e4),
            minutes=None if minutes is None else requests.number(minutes, "minutes", least=0.01, most=1e5),
        )
        async with self._tables:
            await asyncio.to_thread(self._rename_clicks, before)
        return JSONResponse(await asyncio.to_thread(self._state))

    async def start(self, request: Request) -> Response:
        """Start a job: convert, run, candidates, suggest."""
        values = await requests.body(request, "kind", "name", "species", "count", "voxel_size")
        starters: dict[str, Callable[[dict[str, Any]], None]] = {
            "convert": lambda v: self.rounds.convert(
                None if v.get("voxel_size") is None else requests.number(v["voxel_size"], "voxel_size", least=1e-3, most=1e4)
            ),
            "run": lambda v: self.rounds.train_and_pick(),
            "candidates": lambda v: self.rounds.widen(requests.text(v, "name"), requests.text(v, "species")),
            "suggest": lambda v: self.rounds.suggest(int(requests.number(v.get("count", 10), "count", least=1, most=1000))),
        }
        kind = requests.text(values, "kind")
        if kind not in starters:
            raise InputError(f"kind must be one of {', '.join(starters)}, found '{kind[:40]}'")
        await asyncio.to_thread(starters[kind], values)
        return JSONResponse(await asyncio.to_thread(self.jobs.to_json))

    async def stop(self, request: Request) -> Response:
        """Stop a job."""
        values = await requests.body(request, "kind")
        await asyncio.to_thread(self.jobs.stop, requests.text(values, "kind"))
        return JSONResponse(await asyncio.to_thread(self.jobs.to_json))

    async def export(self, request: Request) -> Response:
        """Write picks or clicks in the format of other software."""
        keys = ("format", "species", "tomograms", "source", "count", "threshold", "options")
        values = await requests.body(request, *keys)
        wish = _wish(values, list(self.workspace.entries))

        def work() -> ExportAnswer:
            path, count = export(self.workspace, self.picks, self.clicks.look().clicks, wish)
            return {"name": path.name, "path": str(path), "particles": count}

        return JSONResponse(await asyncio.to_thread(work))

    async def download(self, request: Request) -> Response:
        """Return an exported file, or a ZIP of an exported folder."""
        name = requests.text(request.query_params, "name")
        files = await asyncio.to_thread(exported, self.workspace)
        if name not in files:
            raise InputError(f"no export is named '{name[:80]}'; export first")
        path = await asyncio.to_thread(packed, files[name], self.workspace)
        return FileResponse(path, filename=path.name, media_type="application/octet-stream")

    async def _read(self, make: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, make)

    def _rename_clicks(self, before: list[str]) -> None:
        """Rename the species of clicks: those made before there was a name, and those of a species that was renamed."""
        now = self.workspace.species()
        renamed = {old: new for old, new in zip(before or [UNNAMED], now, strict=False) if old not in now}
        for table in (self.clicks, self.unsure):
            old = [click for click in table.look().clicks if click.species in renamed]
            if old:
                table.patch(remove=old, add=[click._replace(species=renamed[click.species]) for click in old])

    def _score_map(self, name: str, species: str) -> Tomogram:
        found = self.workspace.scores(name, requests.text({"species": species}, "species"))
        if found is None:
            raise InputError(f"there is no score map of '{name}' yet; train and pick first")
        return found

    def _state(self) -> State:
        workspace = self.workspace
        configuration = workspace.configuration
        species = [] if configuration is None else configuration.species
        return {
            "version": VERSION,
            "project": str(workspace.project),
            "config": None if workspace.config_path is None or configuration is None else str(workspace.config_path.absolute()),
            "is_ours": workspace.is_ours,
            "table": str(workspace.clicks),
            "only_looking": workspace.only_looking(),
            "species": [{"name": one.name, "radius": str(one.radius or _CIRCLE), "expected": one.expected} for one in species],
            "tomograms": [self.rounds.tomogram_state(name) for name in workspace.entries],
            "jobs": self.jobs.to_json(),
            "formats": {name: _format(form) for name, form in working_formats().items()},
            "exported": list(exported(workspace)),
            "has_truth": configuration is not None and configuration.truth is not None,
            "voxel_size": workspace.voxel_size if configuration is None else configuration.voxel_size,
            "minutes": None if configuration is None else configuration.train.minutes,
            "rounds": self.rounds.to_json(),
        }

    def _facts(self, name: str) -> Facts:
        tomogram = self.workspace.tomogram(name)
        levels: list[LevelAnswer] = [{"shape": list(tomogram.at_level(level).shape)} for level in range(tomogram.level_count)]
        scores: dict[str, Levels] = {}
        for species in self.workspace.species() or ["particle"]:
            found = self.workspace.scores(name, species)
            if found is not None:
                scores[species] = {"levels": [{"shape": list(found.at_level(level).shape)} for level in range(found.level_count)]}
        return {
            "name": name, "spacing": tomogram.spacing, "levels": levels, "dtype": str(tomogram.dtype),
            "warnings": list(tomogram.warnings), "scores": scores,
        }  # fmt: skip


def refused(request: Request, error: Exception) -> Response:
    """Turn an error into an answer with its text; only a fault of ours has status 500."""
    del request
    if isinstance(error, BusyError):
        return JSONResponse({"error": str(error)}, status_code=409)
    if isinstance(error, TomostreamError):
        return JSONResponse({"error": str(error)}, status_code=400)
    if isinstance(error, OSError):
        return JSONResponse({"error": f"{error.strerror or error}: {error.filename}" if error.filename else str(error)}, status_code=400)
    return JSONResponse({"error": f"internal fault, a bug of tomostream ({type(error).__name__}); please report it"}, status_code=500)


def _axis(text: str) -> Axis:
    return "z" if text == "z" else "y" if text == "y" else "x"


def _told(outcome: Outcome) -> ClickAnswer:
    return {
        "clicks": _rows(outcome.clicks),
        "revision": outcome.revision,
        "missing": _rows(outcome.missing),
        "added_by_others": outcome.added_by_others,
        "removed_by_others": outcome.removed_by_others,
        "unreadable": outcome.unreadable,
    }


def _rows(clicks: Iterable[Click]) -> list[ClickRow]:
    return [{"tomogram": one.tomogram, "species": one.species, "x": one.x, "y": one.y, "z": one.z, "label": one.label} for one in clicks]


def _thumbnails(
    pictures: Pictures, tomogram: Tomogram, places: list[tuple[float, float, float]], radius: float
) -> tuple[np.ndarray, float]:
    """Pictures (n, 2, size, size) of particles of this radius (angstrom), three radii around, a radius thick; and their pixel (angstrom)."""
    level = 0
    while level + 1 < tomogram.level_count and radius / (tomogram.spacing * 2 ** (level + 1)) >= _THUMBNAIL_RADIUS_VOX:
        level += 1
    volume = tomogram.at_level(level)
    pixel = volume.level_spacing
    size = int(np.clip(round(6 * radius / pixel), _LEAST_SIZE, _MOST_SIZE))
    planes = max(1, round(radius / pixel))
    sigma = min(0.1 * radius / pixel, 4.0)  # noise goes, a particle's shape stays
    made = np.zeros((len(places), 2, size, size), dtype=np.uint8)
    zyx = np.array([(z, y, x) for x, y, z in places]).reshape(-1, 3) / tomogram.spacing
    for i, position in enumerate(np.clip(np.rint(volume.to_level_positions(zyx)), -(10**6), 10**8)):
        centre = (int(position[0]), int(position[1]), int(position[2]))
        for j, axis in enumerate(("z", "y")):
            made[i, j] = thumbnail(pictures, tomogram, centre, _axis(axis), level=level, size=size, planes=planes, sigma=sigma)
    return made, pixel


def _format(form: TableFormat) -> FormatAnswer:
    options: list[OptionAnswer] = [{"name": one.name, "help": one.help, "metavar": one.metavar} for one in form.options if one.writes]
    return {"one_tomogram": form.one_tomogram, "ending": form.ending, "options": options}


def _wish(values: dict[str, Any], known: list[str]) -> ExportWish:
    names = values.get("tomograms", known)
    if not isinstance(names, list) or not all(name in known for name in names):
        raise InputError("tomograms must be a list of names of tomograms that are open")
    source = values.get("source", "picks")
    if source not in ("picks", "clicks"):
        raise InputError(f"source must be picks or clicks, found {str(source)[:40]!r}")

    options = values.get("options", {})
    if not isinstance(options, dict):
        raise InputError("options must be an object with the format's options by name")

    def optional(name: str, least: float, most: float) -> float | None:
        return None if values.get(name) is None else requests.number(values[name], name, least=least, most=most)

    count = optional("count", 0, 1e9)
    return ExportWish(
        format_name=requests.text(values, "format", most=40),
        species=requests.text(values, "species"),
        tomograms=names,
        source=source,
        count=None if count is None else int(count),
        threshold=optional("threshold", -1e30, 1e30),
        options={str(name): requests.text(options, name, most=40) for name in options if options[name] != ""},
    )
