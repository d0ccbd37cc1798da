"""Densities for the strategy `template`."""

import mrcfile
import numpy as np
from small_project import SPACING


def density_file(folder, sigma_vox=3.0):
    """The small project's particle, bright, at another voxel size."""
    folder.mkdir(parents=True, exist_ok=True)
    axis = (np.arange(41) - 20.0) ** 2
    squared = axis[:, None, None] + axis[None, :, None] + axis[None, None, :]
    path = folder / f"ball{sigma_vox:g}.mrc"
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.exp(-squared / (2 * (2 * sigma_vox) ** 2)).astype(np.float32))
        file.voxel_size = SPACING / 2
    return str(path)
