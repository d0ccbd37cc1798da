"""Particle picking in cryo-electron tomograms from a few clicks, out of core.

    import tomostream as ts

Names are imported when they are first used: `import tomostream` costs nothing, and only what learns imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import tomostream.forking  # noqa: F401  (what it does is done by importing it)
from tomostream.version import VERSION

__version__ = VERSION

_HOMES = {
    "Tomogram": "tomogram",
    "MrcVolume": "mrc_volume",
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
    "orient": "api",
    "run": "api",
    "read_particles": "api",
    "write_particles": "api",
    "Particles": "particles",
    "PickRecord": "pick_records",
    "PickRecords": "pick_records",
    "Evaluation": "evaluation",
    "Scores": "evaluation.counts",
    "Normalisation": "normalisation",
    "Box": "geometry",
    "Length": "units",
    "Progress": "progress",
    "RemotePath": "remote.places",
    "TomostreamError": "errors",
    "InputError": "errors",
    "SomeFailedError": "errors",
    "TomostreamWarning": "python_words",
    "Model": "strategies.protocol",
    "MrcHeader": "store.mrc",
    "Volume": "stream.fetch",
    "SpeciesEvaluation": "evaluation",
    "Curve": "evaluation.curves",
    "EvaluationAnswer": "evaluation.answer",
    "TomogramsAnswer": "evaluation.answer",
    "ScoresAnswer": "evaluation.answer",
    "Bar": "progress",
    "ByteSink": "remote.remote_path",
}

if TYPE_CHECKING:
    from tomostream.api import (
        convert,
        evaluate,
        label_mask,
        open,
        orient,
        pick,
        predict,
        read_particles,
        run,
        statistics,
        train,
        write_particles,
    )
    from tomostream.errors import InputError, SomeFailedError, TomostreamError
    from tomostream.evaluation import Evaluation, SpeciesEvaluation
    from tomostream.evaluation.answer import EvaluationAnswer, ScoresAnswer, TomogramsAnswer
    from tomostream.evaluation.counts import Scores
    from tomostream.evaluation.curves import Curve
    from tomostream.geometry import Box
    from tomostream.mrc_volume import MrcVolume
    from tomostream.normalisation import Normalisation
    from tomostream.particles import Particles
    from tomostream.pick_records import PickRecord, PickRecords
    from tomostream.progress import Bar, Progress
    from tomostream.python_words import TomostreamWarning
    from tomostream.remote.places import RemotePath
    from tomostream.remote.remote_path import ByteSink
    from tomostream.store.mrc import MrcHeader
    from tomostream.strategies.loading import load_model
    from tomostream.strategies.protocol import Model
    from tomostream.stream.dataset import SubtomogramDataset
    from tomostream.stream.fetch import Volume
    from tomostream.tomogram import Tomogram
    from tomostream.units import Length

__all__ = [
    "Bar",
    "Box",
    "ByteSink",
    "Curve",
    "Evaluation",
    "EvaluationAnswer",
    "InputError",
    "Length",
    "Model",
    "MrcHeader",
    "MrcVolume",
    "Normalisation",
    "Particles",
    "PickRecord",
    "PickRecords",
    "Progress",
    "RemotePath",
    "Scores",
    "ScoresAnswer",
    "SomeFailedError",
    "SpeciesEvaluation",
    "SubtomogramDataset",
    "Tomogram",
    "TomogramsAnswer",
    "TomostreamError",
    "TomostreamWarning",
    "Volume",
    "convert",
    "evaluate",
    "label_mask",
    "load_model",
    "open",
    "orient",
    "pick",
    "predict",
    "read_particles",
    "run",
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
