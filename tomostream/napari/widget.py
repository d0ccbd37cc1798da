"""The panel in napari: choose how many picks to show, click particles and places without one, and save the clicks.

    Picks     a slider and two fields, by number or by score; hidden picks stay in the layer, and are left out when it is saved
    Clicks    make a layer for the open tomogram, choose what the next click means, save in a table

The panel has no state of its own: layers keep it in their metadata.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QRadioButton,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from tomostream.errors import TomostreamError
from tomostream.napari.clicks import clicks_of, save_clicks
from tomostream.napari.layers import CLICK_COLOURS, CLICK_SYMBOLS, KEY, UNKNOWN_RADIUS_VOX, Place, points_layer
from tomostream.particles import Particles

_DECIMALS = 6


class PicksAndClicks(QWidget):  # type: ignore[misc]  # Qt is not there when types are checked
    """The panel.

    Parameters
    ----------
    napari_viewer
        The viewer that the panel belongs to.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self._is_setting = False
        self._is_species_typed = False
        layout = QVBoxLayout(self)
        layout.addWidget(self._make_picks())
        layout.addWidget(self._make_clicks())
        self.message = QLabel("")
        self.message.setWordWrap(True)
        layout.addWidget(self.message)
        layout.addStretch()
        for event in (self.viewer.layers.events.inserted, self.viewer.layers.events.removed):
            event.connect(self.refresh)
        self.refresh()

    def _make_picks(self) -> QGroupBox:
        group = QGroupBox("Picks")
        form = QFormLayout(group)
        self.picks = QComboBox()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.count, self.threshold = QSpinBox(), QDoubleSpinBox()
        self.threshold.setDecimals(_DECIMALS)
        self.threshold.setRange(-1e9, 1e9)
        self.threshold.setSingleStep(0.01)
        self.shown = QLabel("")
        for name, part in (("Layer", self.picks), ("How many", self.slider), ("", self.count), ("Score at least", self.threshold)):
            form.addRow(name, part)
        form.addRow(self.shown)
        self.picks.currentIndexChanged.connect(lambda _: self._adopt_picks())
        self.slider.valueChanged.connect(self.show_best)
        self.count.valueChanged.connect(self.show_best)
        self.threshold.editingFinished.connect(lambda: self.show_above(self.threshold.value()))
        return group

    def _make_clicks(self) -> QGroupBox:
        group = QGroupBox("Clicks")
        form = QFormLayout(group)
        self.clicks, self.species = QComboBox(), QLineEdit("particle")
        self.radius = QDoubleSpinBox()
        self.radius.setRange(0.0, 1e5)
        self.radius.setSuffix(" Å")
        self.radius.setValue(10 * UNKNOWN_RADIUS_VOX)
        self.particle, self.none = QRadioButton("a particle"), QRadioButton("none is there")
        self.particle.setChecked(True)
        meaning = QHBoxLayout()
        meaning.addWidget(self.particle)
        meaning.addWidget(self.none)
        self.new, self.save, self.save_as = QPushButton("New clicks"), QPushButton("Save clicks"), QPushButton("Save in…")
        buttons = QHBoxLayout()
        for button in (self.save, self.save_as):
            buttons.addWidget(button)
        form.addRow("Species", self.species)
        form.addRow("Radius", self.radius)
        form.addRow(self.new)
        form.addRow("Layer", self.clicks)
        form.addRow("The next click:", meaning)
        form.addRow(buttons)
        self.species.textEdited.connect(self._note_typed)
        # Qt passes whether the button is down, which is not needed
        self.new.clicked.connect(lambda _: self.add_clicks())
        self.particle.toggled.connect(lambda _: self._say_what_is_next())
        self.clicks.currentIndexChanged.connect(lambda _: self._say_what_is_next())
        self.save.clicked.connect(lambda _: self.save_into(None))
        self.save_as.clicked.connect(lambda _: self._ask_and_save())
        return group

    def refresh(self, event: Any = None) -> None:
        """Update the lists of layers."""
        del event
        for box, kind in ((self.picks, "picks"), (self.clicks, "clicks")):
            before = box.currentText()
            names = [layer.name for layer in self.viewer.layers if _kind(layer) == kind]
            box.blockSignals(True)
            box.clear()
            box.addItems(names)
            box.setCurrentIndex(names.index(before) if before in names else len(names) - 1)
            box.blockSignals(False)
        self._adopt_picks()
        self._adopt_species()
        self._say_what_is_next()
        self._thicken()

    def _note_typed(self, text: str) -> None:
        self._is_species_typed = bool(text.strip())

    def _adopt_species(self) -> None:
        """Call the next click what is clicked or looked for already, unless somebody has typed a name."""
        if self._is_species_typed:
            return
        layers = [self.clicks_layer, self.picks_layer, *(one for one in reversed(self.viewer.layers) if _kind(one) == "tomogram")]
        for layer in layers:
            known = [] if layer is None else _species_of(layer)
            if known:
                self.species.setText(known[0])
                self.radius.setValue(layer.metadata[KEY]["radii"].get(known[0], self.radius.value()))
                return

    @property
    def picks_layer(self) -> Any:
        """The chosen layer of picks; None if there is none."""
        return self._layer(self.picks)

    @property
    def clicks_layer(self) -> Any:
        """The chosen layer of clicks; None if there is none."""
        return self._layer(self.clicks)

    def show_best(self, count: int) -> None:
        """Show the `count` best picks; of picks with equal scores, the first in the table."""
        layer = self.picks_layer
        if layer is None or self._is_setting:
            return
        scores = _scores(layer)
        kept = np.argsort(-scores, kind="stable")[:count]
        mask = np.zeros(len(scores), dtype=bool)
        mask[kept] = True
        layer.shown = mask
        self._tell(count, scores)

    def show_above(self, threshold: float) -> None:
        """Show the picks with at least this score."""
        layer = self.picks_layer
        if layer is not None:
            # the field shows a rounded threshold: keep scores that round to the same value
            self.show_best(int(np.count_nonzero(_scores(layer) >= threshold - 0.5 * 10**-_DECIMALS)))

    def add_clicks(self) -> None:
        """Make a layer for clicks in the open tomogram."""
        image = next((layer for layer in reversed(self.viewer.layers) if _kind(layer) == "tomogram"), None)
        if image is None:
            self.message.setText("Open a tomogram first: drop its .zarr folder on the window, or open the sample.")
            return
        known = image.metadata[KEY]
        species = self.species.text().strip() or "particle"
        place = Place(known["tomogram"], known["spacing"], {species: self.radius.value()})
        empty = Particles.build(
            np.empty((0, 3)), unit="voxel" if known["spacing"] else "angstrom", tomogram=place.tomogram, species=species
        )
        data, values, _ = points_layer(empty, place)
        layer = self.viewer.add_points(data, **values)
        self.clicks.setCurrentText(layer.name)
        self._say_what_is_next()
        layer.mode = "add"
        self.message.setText(f"Click particles in {place.tomogram}, then save.")

    def save_into(self, path: Path | None) -> None:
        """Save the clicks in a table; None: the one that they were read from or last saved in."""
        layer = self.clicks_layer
        if layer is None:
            self.message.setText("There is no layer of clicks: make one with 'New clicks'.")
            return
        known = layer.metadata[KEY]
        before = known.get("saved")
        if path is None or str(path) == known.get("path"):
            path = Path(known["path"]) if known.get("path") else None
        else:
            before = []  # another table: this layer has saved nothing in it yet
        if path is None:
            self._ask_and_save()
            return
        try:
            done = save_clicks(path, layer.data, _attributes(layer), before or [])
        except TomostreamError as error:
            self.message.setText(str(error))
            return
        layer.metadata[KEY] = known | {"path": str(path), "saved": done.clicks}
        self.message.setText(done.message)

    def _ask_and_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Table of clicks", "clicks.csv", "Tables (*.csv)", options=QFileDialog.Option.DontConfirmOverwrite
        )
        if path:
            self.save_into(Path(path))

    def _layer(self, box: QComboBox) -> Any:
        name = box.currentText()
        return self.viewer.layers[name] if name and name in self.viewer.layers else None

    def _adopt_picks(self) -> None:
        layer = self.picks_layer
        scores = np.empty(0) if layer is None else _scores(layer)
        self._is_setting = True
        for part in (self.slider, self.count):
            part.setRange(0, len(scores))
        self._is_setting = False
        self._tell(0 if layer is None else int(np.count_nonzero(layer.shown)), scores)

    def _tell(self, count: int, scores: np.ndarray) -> None:
        self._is_setting = True
        self.slider.setValue(count)
        self.count.setValue(count)
        if count:
            self.threshold.setValue(float(np.sort(scores)[::-1][min(count, len(scores)) - 1]))
        self._is_setting = False
        self.shown.setText(f"{count} of {len(scores)} picks are shown" if len(scores) else "There are no picks: open a table of picks.")

    def _say_what_is_next(self) -> None:
        """Give the next point the chosen meaning."""
        layer = self.clicks_layer
        if layer is None:
            return
        if layer.metadata[KEY].get("saved") is None and layer.metadata[KEY].get("path"):
            layer.metadata[KEY] = layer.metadata[KEY] | {"saved": clicks_of(layer.data, _attributes(layer))}
        label = 1 if self.particle.isChecked() else 0
        layer.selected_data = set()  # otherwise the settings below would change the selected points
        layer.feature_defaults = {"label": label, "score": np.nan, "species": self.species.text().strip() or "particle"}
        layer.current_symbol = CLICK_SYMBOLS[label]
        layer.current_border_color = CLICK_COLOURS[label]
        layer.current_face_color = "transparent"
        radii = layer.metadata[KEY]["radii"]
        known = radii.get(self.species.text().strip(), self.radius.value())
        layer.current_size = 2 * known / float(layer.scale[-1])
        self._thicken()

    def _thicken(self) -> None:
        """Make slices as thick as the largest particle, so that napari finds all balls that a slice cuts.  Images still show one plane."""
        layers = [layer for layer in self.viewer.layers if _kind(layer) in ("picks", "clicks")]
        widest = max((float(layer.scale[-1]) * max(layer.current_size, *layer.size, 0.0) for layer in layers), default=0.0)
        thick = tuple(max(known, widest) for known in self.viewer.dims.thickness)
        if thick != self.viewer.dims.thickness:
            self.viewer.dims.thickness = thick


def _kind(layer: Any) -> str | None:
    known = layer.metadata.get(KEY)
    return None if known is None else str(known["kind"])


def _species_of(layer: Any) -> list[str]:
    """The species of a layer's points, the most frequent first; of an image those of its project."""
    if _kind(layer) == "tomogram":
        return list(layer.metadata[KEY].get("radii", {}))
    return [str(name) for name in layer.features["species"].value_counts().index] if len(layer.data) else []


def _scores(layer: Any) -> np.ndarray:
    scores: np.ndarray = np.nan_to_num(np.asarray(layer.features["score"], dtype=np.float64), nan=-np.inf)
    return scores


def _attributes(layer: Any) -> dict[str, Any]:
    return {"name": layer.name, "scale": layer.scale, "features": layer.features, "metadata": layer.metadata}
