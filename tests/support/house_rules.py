"""The rules of the house, as tables: who may import whom, how large a room may be, which values may be open; and what breaks them."""

from house import House, plug_ins

# floor of each room, lowest first; a module imports only from lower floors, or from its own room
FLOORS: dict[str, float] = {
    "redaction": -0.1,
    "errors": 0, "defaults": 0, "progress": 0, "version": 0, "fingerprint": 0, "forking": 0, "cores": 0,
    "orientations": 0.05, "particle_columns": 0.06, "geometry": 0.1, "particles": 0.1, "pick_records": 0.1,
    "units": 0.2, "normalisation": 0.2, "masks": 0.2, "moments": 0.3, "robust_statistics": 0.3, "budget": 0.2, "python_words": 0.2,
    "grey_pictures": 0.2, "upsample": 0.2,
    "remote": 0.5, "catalogue": 0.5,
    "store": 1, "evaluation": 1, "config": 1, "learn": 1,
    "formats": 1.1,  # a table's tomogram is named as a store is
    "volume_view": 1.2, "coarse_grid": 1.2, "coarse_scores": 1.3,
    "tomogram": 1.5, "mrc_volume": 1.5, "project": 1.5, "candidate_bounds": 1.5, "score_map": 1.6,
    "graph": 2, "stream": 2, "inference": 2, "picking": 2,
    "strategies": 2.5, "strategies.matched_filter": 2.6,
    "strategies.unet": 2.7, "strategies.deepetpicker": 2.7, "strategies.slices2d": 2.7, "strategies.sphere": 2.7,
    "orienting": 2.7,  # rotations and wedge are the matched filter's
    "strategies.few_shot": 2.8,  # its models are the U-Net's
    "cluster": 3, "simulation": 3, "report": 3,
    "stages": 3.5, "stages.shared": 3.5, "stages.voxel_statistics": 3.6, "stages.conversion": 3.6,
    "stages.labels": 3.7, "stages.training": 3.7, "stages.prediction": 3.7, "stages.picks": 3.7, "stages.orientation": 3.7,
    "stages.evaluation": 3.8, "stages.checking": 3.9,
    "pipeline": 4,
    "view": 4.2, "napari": 4.3, "api": 4.5, "testing": 4.5,
    "cli": 5, "__init__": 5, "__main__": 6,
}  # fmt: skip

# the one sideways edge: what is streamed, and what scores, is made of what is learnt
EXTRA_EDGES = {("stream", "learn"), ("inference", "learn")}

SHAPES_OF_LABELS = ("masks", "config.sections", "cli.data")  # where `sphere` is a label's shape, not the strategy

# what may take a `Configuration`: what makes the resolved run of it, and what is above
ABOVE_THE_RESOLVED_RUN = ("config", "pipeline", "cli", "api", "view", "stages.shared.resolved_run")

MOST_LINES_OF_A_FUNCTION, MOST_PARAMETERS, MOST_LINES_OF_A_MODULE = 80, 8, 400

# what has more parameters, and why it may: below the commands and the public API, where a parameter is an option or a keyword of users
MANY_PARAMETERS = {"stream.dataset.__init__": "its keywords are the public interface"}

# the modules where a value is `dict[str, Any]`, and why it has no declared type
_ADDED_TO = "keys that others add: fingerprints, attributes, notes, settings of strategies"
_FOREIGN = "metadata and state of other software"
_KEYWORDS = "keywords that are passed on to a function that declares them"
_UNCHECKED = "JSON or YAML before a model has checked it, or after it has written it"
OPEN_VALUES: dict[str, str] = {
    "api.projects": _UNCHECKED,
    "api.tables": _KEYWORDS,
    "cli.resource_options": _KEYWORDS,
    "cluster.dask_pool": _FOREIGN,
    "config.configuration": _UNCHECKED,
    "config.explaining": _UNCHECKED,
    "config.loading": _UNCHECKED,
    "fingerprint": _ADDED_TO,
    "formats.copick_picks": _FOREIGN,
    "formats.portal_ndjson": _FOREIGN,
    "learn.checkpoint": _FOREIGN,
    "learn.fit": _FOREIGN,
    "napari.layers": _FOREIGN,
    "napari.widget": _FOREIGN,
    "normalisation": _KEYWORDS,
    "particle_columns": _KEYWORDS,
    "picking.how_many": _KEYWORDS,
    "remote.filesystems": _FOREIGN,
    "remote.remote_path": _FOREIGN,
    "score_map": _UNCHECKED,
    "stages.checking.folders": _UNCHECKED,
    "stages.checking.remaking": _KEYWORDS,
    "stages.conversion.volume_export": _FOREIGN,
    "store.build_records": _ADDED_TO,
    "store.ngff": _FOREIGN,
    "store.preflight": _ADDED_TO,
    "store.records": _ADDED_TO,
    "store.seals": _ADDED_TO,
    "store.specification": _FOREIGN,
    "store.typed_json": _UNCHECKED,
    "strategies.matched_filter.training": _KEYWORDS,
    "strategies.model_folder": _ADDED_TO,
    "strategies.network_training": _KEYWORDS,
    "strategies.several_models": _ADDED_TO,
    "stream.dataset": _KEYWORDS,
    "testing.formats": _KEYWORDS,
    "testing.objectives": _KEYWORDS,
    "testing.queues": _KEYWORDS,
    "testing.strategies": _UNCHECKED,
    "view.answers": _UNCHECKED,
    "view.requests": _UNCHECKED,
}


def room_of(name: str) -> str:
    """The room of a module: a folder of its own inside `strategies` and `stages`, else the first part."""
    parts = name.split(".")
    inner = ".".join(parts[:2])
    return inner if inner in FLOORS else parts[0]


def upward_imports(house: House) -> list[str]:
    """Imports of a higher floor, or sideways; a room without a floor is an error."""
    return [
        f"{name} ({own}) imports {other} ({room})"
        for name, others in house.imports.items()
        for own in [room_of(name)]
        for other in sorted(others)
        for room in [room_of(other)]
        if room != own and FLOORS[room] >= FLOORS[own] and (own, room) not in EXTRA_EDGES
    ]


def strategies_named(house: House) -> list[str]:
    """Places in code that know a strategy by its name, outside its folder."""
    names = plug_ins("tomostream.strategies").keys() | {"unet"}
    found: list[str] = []
    for name in house.trees:
        # `defaults.OBJECTIVE` is the default's name; models of version 0.1 don't say their kind
        if (
            room_of(name).startswith("strategies.")
            or name.startswith("learn.objectives")
            or name in ("defaults", "strategies.model_folder")
        ):
            continue
        own = names - ({"sphere"} if name in SHAPES_OF_LABELS else set())
        found += [f"{name}:{text.lineno}: {text.value!r}" for text in house.texts_of_code(name) if text.value in own]
    return found
