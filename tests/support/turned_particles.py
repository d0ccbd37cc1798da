"""Volumes of many particles in known orientations, dark, in noise, seen through a missing wedge; or of balls."""

import numpy as np
from scipy.spatial.transform import Rotation

from tomostream.strategies.matched_filter.density import Wedge

RADIUS_VOX = 7.0
SPACING = 10.0
STEP = 30  # voxels between particles, on the mean: there must be background
# x y z from the centre, and weights: no symmetry
BLOBS_XYZ = np.array([[4.5, 0.0, 0.0], [-1.5, 4.0, 0.0], [0.0, -1.0, -4.5], [2.0, -3.5, 2.5], [-3.5, -1.0, 1.5]])
WEIGHTS = (1.0, 0.8, 1.2, 0.6, 0.9)


def turned_particles(layout, *, seed, noise, is_ball=False):
    """Return the volume, centres (n, 3; z y x) and rotations (n, 3, 3; on x y z, from the particle's axes to the tomogram's)."""
    rng = np.random.default_rng(seed)
    count = int(np.prod(layout))
    rotations = Rotation.random(count, rng=rng).as_matrix()
    cells = np.stack(np.meshgrid(*map(np.arange, layout), indexing="ij"), axis=-1).reshape(-1, 3)
    centres = cells * STEP + STEP / 2 + rng.uniform(-5, 5, (count, 3))
    volume = np.zeros([n * STEP for n in layout], np.float32)
    for centre, rotation in zip(centres, rotations, strict=True):
        start = np.floor(centre).astype(int) - 9
        stop = start + 19
        low, high = np.maximum(start, 0), np.minimum(stop, volume.shape)
        grid = np.stack(np.meshgrid(*[np.arange(a, b) for a, b in zip(low, high, strict=True)], indexing="ij"), axis=-1)
        away = (grid - centre)[..., ::-1]  # x y z
        if is_ball:
            density = 1.2 / (1 + np.exp(2 * (np.linalg.norm(away, axis=-1) - 5.5)))
        else:
            density = sum(
                weight * np.exp(-((away - blob) ** 2).sum(axis=-1) / (2 * 1.8**2))
                for blob, weight in zip(BLOBS_XYZ @ rotation.T, WEIGHTS, strict=True)
            )
        volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] -= density
    volume += rng.normal(0, noise, volume.shape).astype(np.float32)
    frequencies = np.meshgrid(*[np.fft.fftfreq(n) for n in volume.shape], indexing="ij")
    seen = np.fft.ifftn(np.fft.fftn(volume) * Wedge(-60.0, 60.0).sees(*frequencies)).real
    return seen.astype(np.float32), centres, rotations


def angles_off(found, true):
    """Return the angles in degrees between rotations (n, 3, 3), after the one turn of the reference that fits most of them."""
    relative = np.swapaxes(true, 1, 2) @ found

    def angles(turn):
        return np.degrees((Rotation.from_matrix(turn).inv() * Rotation.from_matrix(relative)).magnitude())

    def refined(turn):
        nearest = np.argsort(angles(turn))[: max(3, len(relative) // 2)]
        return Rotation.from_matrix(relative[nearest]).mean().as_matrix()

    return min((angles(refined(refined(refined(turn)))) for turn in relative), key=np.median)


def write_points(path, centres, *, tomogram="t", species="blob", header="tomogram,species,x_voxel,y_voxel,z_voxel"):
    """Write centres as a table; returns its path."""
    rows = [f"{tomogram},{species},{x},{y},{z}" for z, y, x in centres.tolist()]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path
