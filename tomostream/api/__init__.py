"""The Python functions: each stage on files as the command line has it, and on plain arrays.

Names are exported by the package (`ts.open`, `ts.pick`, ...).  Lengths are text with a unit (`"135A"`, `"10vox"`) where files are meant, and
voxels where plain arrays are.
"""

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
    "pick",
    "predict",
    "read_particles",
    "run",
    "statistics",
    "train",
    "write_particles",
]
