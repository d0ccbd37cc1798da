"""Make layers, in angstrom, from stores and tables; and tables from layers of points.

Images have the voxel spacing as scale.  If the spacing is known, points are in voxels with the same scale, so that a CSV that napari itself
saves of them is right too; otherwise they are in angstrom.  A point is as large as the particle: its size is the diameter, and napari shows
the circle in which the slice cuts the ball, if the slices are thick enough (the panel makes them so).

Limits: napari's own CSV names neither tomogram nor species; ours does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tomostream.errors import InputError, TomostreamError
from tomostream.formats.registry import Conversion, read_table, write_table
from tomostream.napari.levels import contrast_of, levels_of
from tomostream.particles import Particles
from tomostream.score_map import SCORES, as_score_map
from tomostream.tomogram import Tomogram, open_tomogram
from tomostream.units import Length

LayerData = tuple[Any, dict[str, Any], str]
KEY = "tomostream"  # key in a layer's metadata, under which its kind and tomogram are kept
UNIT = "angstrom"
UNKNOWN_RADIUS_VOX = 10.0
CLICK_COLOURS = {1: "#56b4e9", 0: "#ff8a65"}  # by label: particle (Okabe and Ito's blue), no particle (orange); the symbols differ too
CLICK_SYMBOLS = {1: "disc", 0: "cross"}
# viridis (Smith and van der Walt 2015), every fifth, its dark end black: added to a tomogram, a score of 0 must not tint it
_VIRIDIS = ["#000000", "#3e4a89", "#26828e", "#35b779", "#b4de2c", "#fde725"]


@dataclass(frozen=True, slots=True)
class Place:
    """The tomogram that points belong to, as far as it is known.

    Parameters
    ----------
    tomogram
        Its name.
    spacing
        Edge of a voxel, angstrom; None if it is not known.
    radii
        Of the species, angstrom.
    """

    tomogram: str
    spacing: float | None
    radii: Mapping[str, float]

    @property
    def scale(self) -> float:
        """Angstrom per unit of the points' coordinates."""
        return self.spacing or 1.0

    def diameter(self, species: str) -> float:
        """Return the diameter of a particle, in units of the points' coordinates."""
        known = self.radii.get(species, next(iter(self.radii.values())) if len(self.radii) == 1 else None)
        return 2 * (UNKNOWN_RADIUS_VOX * (self.spacing or 10.0) if known is None else known) / self.scale


def layer_of_store(path: str) -> LayerData:
    """Make a multiscale image layer from a tomogram or score map.

    Raises
    ------
    InputError
        If the path is not such a store.
    """
    tomogram = open_tomogram(path)
    scores = as_score_map(tomogram).attributes
    spacing = tomogram.known_spacing or 1.0
    values: dict[str, Any] = {
        "name": tomogram.name, "scale": (spacing,) * 3, "units": (UNIT,) * 3, "multiscale": True, "rgb": False,
        "projection_mode": "none",  # show one plane, even if the slices are made thick for the points
        "metadata": {KEY: {"kind": "tomogram", "tomogram": tomogram.name, "spacing": tomogram.known_spacing, "radii": _radii_around(tomogram)}},
    }  # fmt: skip
    if scores.kind != SCORES:
        return levels_of(tomogram), values | {"contrast_limits": contrast_of(tomogram), "colormap": "gray"}, "image"
    values["metadata"][KEY] |= {"kind": "scores", "species": scores.species}
    from napari.utils.colormaps import Colormap  # noqa: PLC0415  (this module is used without a window too, as by the writer)

    limits = (0.0, 1.0) if scores.values == "probability" else contrast_of(tomogram)
    look = {"contrast_limits": limits, "colormap": Colormap(_VIRIDIS, name="viridis from black"), "opacity": 0.5, "blending": "additive"}
    return levels_of(tomogram, scores), values | look | {"name": f"{tomogram.name} scores"}, "image"


def layers_of_table(path: str) -> list[LayerData]:
    """Make points layers from a table of picks or clicks, one per tomogram; those of tomograms that are not open, beside one that is, are hidden.

    Raises
    ------
    InputError
        If the table is broken.
    """
    table = Path(path)
    found = read_table(path, conversion=Conversion(only_tomogram=table.stem))
    folder = _project_of(table)
    radii = {} if folder is None else _radii(folder)
    layers = [points_layer(own, _place(name or table.stem, folder, own, radii), path) for name, own in found.by_tomogram()]
    names = _open_tomograms()
    for _, values, _ in layers:
        values["visible"] = values["metadata"][KEY]["tomogram"] in names or names.isdisjoint(
            one["metadata"][KEY]["tomogram"] for _, one, _ in layers
        )
    return layers


def points_layer(particles: Particles, place: Place, path: str | None = None) -> LayerData:
    """Make a points layer from the particles of one tomogram.

    Parameters
    ----------
    path
        The table that they come from.
    """
    is_picks = bool(np.isfinite(particles.score).any())
    in_data = particles.in_unit("voxel", place.spacing) if place.spacing is not None else particles
    if place.spacing is None and particles.unit == "voxel":
        place = Place(place.tomogram, None, {})
    values = {
        "name": f"{place.tomogram} {'picks' if is_picks else 'clicks'}",
        "features": {
            "species": particles.species.astype(str), "score": particles.score.astype(np.float64), "label": particles.label.astype(np.int64),
        },
        "size": np.array([place.diameter(str(name)) for name in particles.species], dtype=np.float64),
        "symbol": [CLICK_SYMBOLS[int(label)] for label in particles.label] or "disc",
        "face_color": "transparent",
        "border_width": 0.06,
        "projection_mode": "rescale_spherical",
        "scale": (place.scale,) * 3,
        "units": (UNIT,) * 3,
        "ndim": 3,
        "metadata": {
            KEY: {
                "kind": "picks" if is_picks else "clicks", "tomogram": place.tomogram, "spacing": place.spacing, "path": path, "radii": dict(place.radii),
            }
        },
    }  # fmt: skip
    if is_picks:
        values |= {"border_color": "score", "border_colormap": "viridis"}
    else:
        values |= {"border_color": [CLICK_COLOURS[int(label)] for label in particles.label] or CLICK_COLOURS[1]}
    return in_data.position_zyx, values, "points"


def particles_of(data: np.ndarray, attributes: Mapping[str, Any]) -> Particles:
    """Return the particles of a points layer, in angstrom.

    Parameters
    ----------
    data
        (n, 3), z y x.
    attributes
        Of the layer: `scale`, `features`, `name`, `metadata`.

    Raises
    ------
    InputError
        If the points don't have three coordinates, or a label is neither 0 nor 1.
    """
    points = np.asarray(data, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"points of a tomogram have three coordinates, z y x; the layer '{attributes.get('name')}' has {points.shape[-1]}")
    known = attributes.get("metadata", {}).get(KEY, {})
    features = attributes.get("features")
    n = len(points)

    def column(name: str, default: Any) -> np.ndarray:
        values = features[name] if features is not None and name in features else None
        return np.full(n, default) if values is None or len(values) != n else np.asarray(values)

    labels = np.nan_to_num(column("label", 1).astype(np.float64), nan=1.0)
    names = [str(name) if isinstance(name, str) and name else "particle" for name in column("species", "particle").tolist()]
    return Particles.build(
        points * np.asarray(attributes.get("scale", (1.0, 1.0, 1.0)), dtype=np.float64)[-3:],
        unit="angstrom",
        tomogram=known.get("tomogram") or str(attributes.get("name") or "tomogram").split()[0],
        species=names,
        score=column("score", np.nan).astype(np.float64),
        label=labels.astype(np.int64),
    )


def write_points(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a points layer as a CSV table, completely or not at all; hidden points are left out.

    Raises
    ------
    InputError
        If it can't be written.
    """
    particles = particles_of(data, attributes)
    shown = np.broadcast_to(np.asarray(attributes.get("shown", True), dtype=bool), (len(particles),))
    write_table(path, particles.select(np.flatnonzero(shown)), format_name="csv")
    return [path]


def _project_of(table: Path) -> Path | None:
    """Return the project folder that a table lies in; None if there is none."""
    return next(
        (folder for folder in table.resolve().parents if (folder / "resolved.yaml").is_file() or (folder / "tomograms").is_dir()), None
    )


def _open_tomograms() -> set[str]:
    """The names of the tomograms in the window."""
    from napari import current_viewer  # noqa: PLC0415  (as above)

    viewer = current_viewer()
    known = [] if viewer is None else [layer.metadata.get(KEY, {}) for layer in viewer.layers]
    return {one["tomogram"] for one in known if one.get("kind") == "tomogram"}


def _radii_around(tomogram: Tomogram) -> dict[str, float]:
    """The radii of the species (angstrom) of the project that a tomogram lies in; empty if it lies in none."""
    folder = None if "://" in tomogram.path else _project_of(Path(tomogram.path))
    return {} if folder is None else _in_angstrom(_radii(folder), tomogram.known_spacing)


def _place(name: str, folder: Path | None, own: Particles, radii: Mapping[str, str]) -> Place:
    spacing = own.spacings.get(name)
    store = None if folder is None else folder / "tomograms" / f"{name}.ome.zarr"
    if spacing is None and store is not None and store.is_dir():
        spacing = _spacing(store)
    return Place(name, spacing, _in_angstrom(radii, spacing))


def _in_angstrom(radii: Mapping[str, str], spacing: float | None) -> dict[str, float]:
    """Radii in angstrom; those in voxels only where a spacing is known."""
    lengths = {species: Length.parse(radius, "radius") for species, radius in radii.items()}
    return {key: one.in_angstrom(spacing or 1.0) for key, one in lengths.items() if spacing or not one.is_voxels}


def _spacing(store: Path) -> float | None:
    try:
        opened: Tomogram = open_tomogram(store)
    except TomostreamError:
        return None
    return opened.known_spacing


def _radii(folder: Path) -> dict[str, str]:
    """Return the radii of the species in the project's configuration; empty if it can't be read."""
    try:
        values = yaml.safe_load((folder / "resolved.yaml").read_text(encoding="utf-8"))
        return {str(one["name"]): str(one["radius"]) for one in values["species"]}
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return {}
