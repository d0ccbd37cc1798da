"""Where do picks lie, and what are the wrong ones?

    python -m bench.accuracy.mistakes PICKS... --truth TABLE --species NAME --tolerance 10vox --shape 112,320,320 --voxel-size 13.48

For each tomogram: the median distance of right picks from their particle; second picks of one particle; how many wrong picks and how many missed
particles lie within `--near` of a face of the volume, beside the share of the volume there; and on which other species of the truth wrong picks lie.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

import tomostream as ts
from tomostream.units import Length


def near_faces(centres: np.ndarray, shape: np.ndarray, reach: float) -> int:
    """Return how many centres (n, 3) lie within `reach` voxels of a face of a volume of this shape."""
    return int((np.minimum(centres, shape - 1 - centres).min(axis=1) < reach).sum()) if len(centres) else 0


def others_at(places: np.ndarray, truth: ts.Particles, wanted: str, reach: float) -> Counter[str]:
    """Return how many places (n, 3) lie within `reach` of a particle of each other species, counted for the nearest one; `-`: of none."""
    names = sorted(set(truth.species.tolist()) - {wanted})
    if not names or not len(places):
        return Counter({"-": len(places)}) if len(places) else Counter()
    distance = np.array([cKDTree(truth.of(species=name).position_zyx).query(places)[0] for name in names])
    nearest = distance.argmin(axis=0)
    return Counter(names[one] if distance[one, place] <= reach else "-" for place, one in enumerate(nearest))


def main() -> None:
    """Print a line per tomogram."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accuracy.mistakes", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("picks", type=Path, nargs="+")
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--species", required=True)
    parser.add_argument("--tolerance", required=True, help="as 135A or 10vox")
    parser.add_argument("--shape", required=True, help="of the tomograms, voxels: Z,Y,X")
    parser.add_argument("--voxel-size", type=float, required=True, help="angstrom")
    parser.add_argument("--near", default="6vox", help="distance from a face")
    given = parser.parse_args()
    spacing = given.voxel_size
    tolerance, near = (Length.parse(text).in_voxels(spacing) for text in (given.tolerance, given.near))
    shape = np.array([int(edge) for edge in given.shape.split(",")])
    share = 1 - math.prod(shape - 2 * near) / math.prod(shape)
    everything = ts.read_particles(given.truth).in_unit("voxel", spacing)
    print(f"within {near:g} voxels of a face is {share:.2f} of the volume")
    for path in given.picks:
        picks = ts.read_particles(path).in_unit("voxel", spacing)
        (name,) = picks.tomograms()
        here = everything.of(tomogram=name)
        truth = here.of(species=given.species).position_zyx
        distance, particle = cKDTree(truth).query(picks.position_zyx)
        hit = distance <= tolerance
        false = picks.position_zyx[~hit]
        missed = truth[cKDTree(picks.position_zyx).query(truth)[0] > tolerance]
        on = ", ".join(f"{count} {what}" for what, count in others_at(false, here, given.species, tolerance / 2).most_common(4))
        print(
            f"{name}: right picks are {np.median(distance[hit]):.2f} voxels off (median); {hit.sum() - len(set(particle[hit]))} of {len(picks)} picks "
            f"are second ones; wrong {len(false)}, {near_faces(false, shape, near)} near a face; missed {len(missed)} of {len(truth)}, "
            f"{near_faces(missed, shape, near)} of {near_faces(truth, shape, near)} near a face; wrong ones lie on: {on or 'none'}"
        )


if __name__ == "__main__":
    main()
