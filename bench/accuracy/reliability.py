"""Are scores probabilities?  Compute the share of true picks among those with a score near p, for picks and truth of any run.

    python -m bench.accuracy.reliability PICKS... --truth TABLE --tolerance 135A

PICKS are tables of picks with scores between 0 and 1, many more than particles (`tomostream pick --count`); tables are in angstrom.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

import tomostream as ts
from tomostream.units import Length

EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


def shares(scores: np.ndarray, is_true: np.ndarray) -> list[tuple[float, float, int, float]]:
    """Return for each bin of scores its ends, the number of picks in it, and the share of true ones (NaN without picks)."""
    rows = []
    for low, high in itertools.pairwise(EDGES):
        own = is_true[(scores >= low) & ((scores < high) | (high == EDGES[-1]))]
        rows.append((low, high, len(own), float(own.mean()) if len(own) else float("nan")))
    return rows


def is_hit(picks: ts.Particles, truth: ts.Particles, tolerance: float) -> np.ndarray:
    """Return for each pick whether a particle of the same tomogram and species lies within a tolerance, angstrom."""
    hit = np.zeros(len(picks), dtype=bool)
    for tomogram in picks.tomograms():
        for species in set(picks.species.tolist()):
            own = (picks.tomogram == tomogram) & (picks.species == species)
            there = truth.of(tomogram=tomogram, species=species).position_zyx
            if own.any() and len(there):
                hit[own] = cKDTree(there).query(picks.position_zyx[own])[0] <= tolerance
    return hit


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picks", type=Path, nargs="+")
    parser.add_argument("--truth", type=Path, required=True, help="a table in angstrom")
    parser.add_argument("--tolerance", required=True, help="as 135A")
    given = parser.parse_args()
    picks = ts.Particles.concatenate([ts.read_particles(path) for path in given.picks])
    truth = ts.read_particles(given.truth)
    print("| score | picks | true |\n|---|---|---|")
    for low, high, count, share in shares(picks.score, is_hit(picks, truth, Length.parse(given.tolerance).in_angstrom(1.0))):
        print(f"| {low:.1f} to {high:.1f} | {count} | {share:.2f} |")


if __name__ == "__main__":
    main()
