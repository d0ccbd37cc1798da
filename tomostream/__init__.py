"""Particle picking in cryo-electron tomograms from a few clicks, out of core.

    import tomostream as ts

Names are imported when they are first used: `import tomostream` costs nothing, and only what learns imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tomostream.version import VERSION

__version__ = VERSION

_HOMES = {
    "Tomogram": "tomogram",
    "open": "api",
    "convert": "api",
    "statistics": "api",
    "label_mask": "api",
    "SubtomogramDataset": "stream.dataset",
    "train": "api",
    "load_model": "strategies.loading",
    "predict": "api",
    "pick": "api",
    "evaluate": "api",
    "read_particles": "api",
    "write_particles": "api",
    "Particles": "particles",
    "Normalisation": "normalisation",
    "TomostreamError": "errors",
}

if TYPE_CHECKING:
    from tomostream.api import convert, evaluate, label_mask, open, pick, predict, read_particles, statistics, train, write_particles
    from tomostream.errors import TomostreamError
    from tomostream.normalisation import Normalisation
    from tomostream.particles import Particles
    from tomostream.strategies.loading import load_model
    from tomostream.stream.dataset import SubtomogramDataset
    from tomostream.tomogram import Tomogram

__all__ = [
    "Normalisation",
    "Particles",
    "SubtomogramDataset",
    "Tomogram",
    "TomostreamError",
    "convert",
    "evaluate",
    "label_mask",
    "load_model",
    "open",
    "pick",
    "predict",
    "read_particles",
    "statistics",
    "train",
    "write_particles",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tomostream' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"tomostream.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
