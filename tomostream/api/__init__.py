"""The Python functions: each stage on files, as on the command line, and on plain arrays.

The package exports them (`ts.open`, `ts.pick`, ...).  With files, lengths are text with a unit (`"135A"`, `"10vox"`); with plain arrays they
are numbers of voxels.
"""

from tomostream.api.orienting import orient
from tomostream.api.picks import pick
from tomostream.api.projects import run, train
from tomostream.api.scoring import predict
from tomostream.api.tables import evaluate, read_particles, write_particles
from tomostream.api.volumes import convert, label_mask, open, statistics

__all__ = [
    "convert",
    "evaluate",
    "label_mask",
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
