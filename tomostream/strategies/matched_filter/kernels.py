"""Make kernels from a radial profile or a density, with zero mean and unit norm in a ball."""

import numpy as np
from jaxtyping import Float64

from tomostream.geometry import Box
from tomostream.strategies.matched_filter.correlation import Target
from tomostream.strategies.matched_filter.density import RotatedKernels, Wedge
from tomostream.strategies.matched_filter.profile import Reader, kernel_of
from tomostream.strategies.matched_filter.rotations import rotation_set
from tomostream.strategies.matched_filter.tensorial import COEFFICIENTS, evaluated
from tomostream.tomogram import Tomogram


def padded_reader(tomogram: Tomogram) -> Reader:
    """Return a function that reads standardised boxes; voxels outside of the volume are 0, the mean."""

    def read(box: Box) -> np.ndarray:
        result = np.zeros(box.shape, dtype=np.float32)
        inside = box.clipped(Box.whole(tomogram.shape))
        if not inside.is_empty:
            result[inside.relative_to(box.start).slices] = tomogram.read_standardised(inside)
        return result

    return read


def profile_target(profile: Float64[np.ndarray, " r"], support: float, *, slope: float = 1.0) -> Target:
    """Return the target of a radial profile in a ball of `support` voxels; logits are `slope` times the correlation."""
    return Target([kernel_of(profile, support)], half=int(np.floor(support)), radius=support, offset=0.0, slope=slope)


def density_target(density: np.ndarray, support: float, *, angle_step: float, wedge: Wedge) -> Target:
    """Return the target of a density in all orientations, in a ball of `support` voxels; logits are the correlation."""
    kernels = rotated_kernels(density, support, angle_step=angle_step, wedge=wedge)
    return Target(kernels, half=int(np.floor(support)), radius=support, offset=0.0, slope=1.0)


def tensor_target(kernels: np.ndarray, support: float) -> Target:
    """Return the target of the 35 kernels that stand for all orientations (`tensorial`), in a ball of `support` voxels."""
    half = int(np.floor(support))
    if kernels.shape != (COEFFICIENTS, *(2 * half + 1,) * 3):
        raise ValueError(f"kernels of the shape {kernels.shape} for a ball of {support:g} voxels")
    return Target(list(kernels.astype(np.float32)), half=half, radius=support, offset=0.0, slope=1.0, mixing=evaluated())


def planned_tensor(support: float) -> np.ndarray:
    """Return kernels of zeros, of the shape that `tensor_target` takes."""
    return np.zeros((COEFFICIENTS, *(2 * int(np.floor(support)) + 1,) * 3), dtype=np.float32)


def rotated_kernels(density: np.ndarray, support: float, *, angle_step: float, wedge: Wedge) -> RotatedKernels:
    """Return the kernels of a density in all orientations, in a ball of `support` voxels."""
    return RotatedKernels(density, rotation_set(angle_step), half=int(np.floor(support)), radius=support, wedge=wedge)
