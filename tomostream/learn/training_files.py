"""Names of the files that training keeps beside the model; does not import torch."""

from pathlib import Path

METRICS_NAME = "metrics.csv"  # one row per epoch
CHECKPOINT_NAME = "checkpoint.pt"  # everything needed to resume
SPECIES_COLUMN = "species"  # of the metrics of several models
PARTS_NAME = "parts"  # folder below that of several models, with a model folder per species


def newest(folder: Path, name: str) -> Path:
    """Return the file of a training that was written last: in its folder, or in that of one of several models."""
    found = [(path.stat().st_mtime_ns, path) for path in (folder / name, *folder.glob(f"{PARTS_NAME}/*/{name}")) if path.is_file()]
    return max(found)[1] if found else folder / name
