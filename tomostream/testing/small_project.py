"""Make a data set small enough to run all stages in seconds: balls of two sizes in noise, with a configuration."""

from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import yaml

SPACING = 10.0
SHAPE = (40, 64, 56)
RADIUS_VOX = 4.0


def make_volume(seed: int, species: int = 1) -> tuple[np.ndarray, list[np.ndarray]]:
    """Make a volume with dark balls on a jittered grid.

    Parameters
    ----------
    seed
        Of jitter and noise.
    species
        1 or 2; the balls of the second are smaller.

    Returns
    -------
    tuple
        The volume, float32 (z, y, x), and the centres of each species, float64 (n, 3), z y x in voxels.
    """
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid([10, 28], [10, 26, 42, 56], [9, 24, 40], indexing="ij"), axis=-1).reshape(-1, 3)
    centres = grid + rng.uniform(-1.5, 1.5, grid.shape)
    z, y, x = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    volume = rng.normal(0, 0.6, SHAPE).astype(np.float32)
    groups = [centres[i::species] for i in range(species)]
    for number, group in enumerate(groups):
        for cz, cy, cx in group:
            squared = (z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2
            volume -= (2.0 * np.exp(-squared / (2 * (3.0 - 1.2 * number) ** 2))).astype(np.float32)
    return volume, groups


def make_project(folder: Path, *, species: int = 1, **values: Any) -> Path:
    """Write two tomograms, clicks, truth and a configuration.

    Parameters
    ----------
    folder
        Where to write; created if needed.
    species
        1 or 2.
    values
        Keys that replace those of the configuration.

    Returns
    -------
    Path
        The configuration, for `tomostream run`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = ["ribosome", "fas"][:species]
    rows = ["tomogram,species,x_voxel,y_voxel,z_voxel"]
    for number, tomogram in enumerate(("t1", "t2")):
        volume, groups = make_volume(number, species)
        with mrcfile.new(folder / f"{tomogram}.mrc", overwrite=True) as file:
            file.set_data(volume)
            file.voxel_size = SPACING
        rows += [f"{tomogram},{name},{x:.2f},{y:.2f},{z:.2f}" for name, group in zip(names, groups, strict=True) for z, y, x in group]
    (folder / "truth.csv").write_text("\n".join(rows) + "\n")
    for tomogram, purpose in (("t1", "train"), ("t2", "validate")):
        kept = [row for name in names for row in [r for r in rows if r.startswith(f"{tomogram},{name}")][:5]]
        (folder / f"{purpose}.csv").write_text("\n".join([rows[0], *kept]) + "\n")
    configuration = {
        "project": str(folder / "project"),
        "tomograms": [str(folder / "t*.mrc")],
        "species": [{"name": name, "radius": f"{RADIUS_VOX:g}vox", "expected": 24 // species} for name in names],
        "labels": {"train": [str(folder / "train.csv")], "validate": [str(folder / "validate.csv")]},
        "network": {"channels": [4, 8]},
        "train": {"steps": 30, "steps_per_epoch": 10, "crop": 16, "batch": 4, "precision": "float32"},
        "pick": {"count": "truth"},
        "truth": str(folder / "truth.csv"),
        "tolerance": "4vox",
        "cluster": {"threads": 1},
    } | values
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(configuration, sort_keys=False))
    return path
