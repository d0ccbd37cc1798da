"""How hard is the demo, and how long does it take to simulate?

The yardstick is a picker without learning: average the clicked subtomograms of the first tomogram, then average over rotations, and use the
radial profile as a matched filter for the other tomograms; pick greedily the true number, with a tolerance of 10 voxels.  Its F1 for the
main species should be 0.6 to 0.8, so that a learned picker can be better, and one that is worse stands out.

    python bench/simulation_difficulty.py [--snr S] [--clicks N] [--tomograms N]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import scipy.fft

from tomostream.evaluation import Scores, match
from tomostream.picking.blocks import pick_array
from tomostream.picking.how_many import Best
from tomostream.simulation.clicks import simulate_clicks
from tomostream.simulation.tomograms import SimulatedTomogram, SimulationSettings, simulate_tomogram

REACH = 16  # voxels of the radial profile
SPECIES, RADIUS = "ribosome", 10.0
TOLERANCE = 10.0


def standardised(volume: np.ndarray) -> np.ndarray:
    scaled = np.clip((volume - volume.mean()) / volume.std(), -3, 3)
    return np.asarray((scaled - scaled.mean()) / scaled.std(), dtype=np.float32)


def radial_template(volume: np.ndarray, centres_zyx: np.ndarray) -> np.ndarray:
    """Average the subtomograms at `centres_zyx`, then over rotations; zero mean, edges of 2 * REACH + 1."""
    steps = np.arange(-REACH, REACH + 1)
    padded = np.pad(volume, REACH)
    parts = [
        padded[tuple(slice(c, c + 2 * REACH + 1) for c in np.rint(centre).astype(int).clip(0, np.array(volume.shape) - 1))]
        for centre in centres_zyx
    ]
    average = np.mean(parts, axis=0)
    distance = np.rint(np.sqrt(steps[:, None, None] ** 2 + steps[:, None] ** 2 + steps**2)).astype(int)
    profile = np.bincount(distance.ravel(), average.ravel()) / np.bincount(distance.ravel())
    template = np.where(distance <= REACH, profile[distance], 0.0)
    inside = distance <= REACH
    template[inside] -= template[inside].mean()
    return template


def correlate(volume: np.ndarray, template: np.ndarray) -> np.ndarray:
    shape = [scipy.fft.next_fast_len(n + 2 * REACH, real=True) for n in volume.shape]
    spectrum = scipy.fft.rfftn(volume, shape, workers=-1) * np.conj(scipy.fft.rfftn(template.astype(np.float32), shape, workers=-1))
    full = np.roll(scipy.fft.irfftn(spectrum, shape, workers=-1), REACH, axis=(0, 1, 2))
    return np.ascontiguousarray(full[tuple(slice(0, n) for n in volume.shape)], dtype=np.float32)


def yardstick(first: SimulatedTomogram, other: SimulatedTomogram, clicks: int) -> Scores:
    clicked = simulate_clicks(first.truth, species=SPECIES, count=clicks, jitter_vox=1.0, seed=1)
    scores = correlate(standardised(other.volume), radial_template(standardised(first.volume), clicked.position_zyx))
    truth = other.truth.of(species=SPECIES).position_zyx
    picks = pick_array(scores, radius=RADIUS, how_many=Best(len(truth)), memory=10**9)
    return match(picks.index_zyx.astype(np.float64), truth, tolerance=TOLERANCE, matching="any").scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--snr", type=float, default=None, help="instead of the demo's")
    parser.add_argument("--clicks", type=int, default=20, help="clicked particles of the first tomogram")
    parser.add_argument("--tomograms", type=int, default=4)
    options = parser.parse_args()
    simulated = []
    for seed in range(options.tomograms):
        settings = SimulationSettings.demo(seed=seed)
        if options.snr is not None:
            settings = replace(settings, snr=options.snr)
        start = time.perf_counter()
        simulated.append(simulate_tomogram(settings, f"demo_{seed + 1}"))
        print(f"demo_{seed + 1}: {settings.shape} simulated in {time.perf_counter() - start:.1f} s")
    for other in simulated[1:]:
        scores = yardstick(simulated[0], other, options.clicks)
        print(f"{other.name} {SPECIES}: F1 {scores.f1:.3f} (found {scores.tp}, false {scores.fp}, missed {scores.fn})")


if __name__ == "__main__":
    main()
