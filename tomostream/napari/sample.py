"""Sample data: the first tomogram of `tomostream demo`, simulated when it is opened."""

from __future__ import annotations

import numpy as np

from tomostream.napari.layers import KEY, UNIT, LayerData, Place, points_layer
from tomostream.simulation.tomograms import SimulationSettings, simulate_tomogram

NAME = "demo_1"
_SPECIES, _RADIUS = "ribosome", 135.0  # angstrom


def simulated() -> list[LayerData]:
    """Return the tomogram as an image, and its ribosomes as clicks."""
    settings = SimulationSettings.demo(seed=0)
    made = simulate_tomogram(settings, NAME)
    mean, std = float(np.mean(made.volume)), float(np.std(made.volume))
    image = {
        "name": NAME, "scale": (settings.spacing,) * 3, "units": (UNIT,) * 3, "contrast_limits": (mean - 3 * std, mean + 3 * std),
        "projection_mode": "none",
        "metadata": {KEY: {"kind": "tomogram", "tomogram": NAME, "spacing": settings.spacing}},
    }  # fmt: skip
    truth = made.truth.of(species=_SPECIES)
    return [(made.volume, image, "image"), points_layer(truth, Place(NAME, settings.spacing, {_SPECIES: _RADIUS}))]
