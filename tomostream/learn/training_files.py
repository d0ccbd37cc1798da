"""Names of the files that training keeps beside the model; does not import torch."""

from pathlib import Path

METRICS_NAME = "metrics.csv"  # one row per epoch
CHECKPOINT_NAME = "checkpoint.pt"  # everything needed to resume
SPECIES_COLUMN = "species"  # of the metrics of several models
CONFIGURATION_NAME = "resolved.yaml"  # of this training; written when it begins or goes on
PARTS_NAME = "parts"  # folder below that of several models, with a model folder per species
NEXT_NAME = "next"  # folder below that of a model, in which its successor is trained


def newest(folder: Path, name: str) -> Path:
    """Return the file of a training that was written last: in its folder, in that of one of several models, or in that of a successor."""
    places = [
        folder / name,
        folder / NEXT_NAME / name,
        *folder.glob(f"{PARTS_NAME}/*/{name}"),
        *folder.glob(f"{NEXT_NAME}/{PARTS_NAME}/*/{name}"),
    ]
    found = [(path.stat().st_mtime_ns, path) for path in places if path.is_file()]
    return max(found)[1] if found else folder / name
