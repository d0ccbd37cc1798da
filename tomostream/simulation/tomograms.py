"""Simulate a small tomogram with known truth, given settings and a name.

1. `scene`: particles of two species, decoys, gold, membranes and a crowd of small proteins in a slab of ice.
2. `tilt_series`: projections, contrast transfer, radiation damage, residual misalignment, noise.
3. `backprojection`: the volume, with its missing wedge.  Particles are dark, as in a tomogram taken in underfocus.

All random numbers come from one generator, seeded by the settings' seed and the name; no global state is read or changed.  The same
settings and name give the same bits on one machine with the same library versions.

Limits: the volume and its images are held in memory, so tomograms must be small.
"""

from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
from jaxtyping import Float32

from tomostream.cores import cores_here
from tomostream.errors import InputError
from tomostream.particles import Particles
from tomostream.simulation.backprojection import reconstruct
from tomostream.simulation.scene import build_scene
from tomostream.simulation.species import decoy, gold, proteasome, ribosome
from tomostream.simulation.tilt_series import Recording, record_tilt_series

_RAMP_CUT_OFF = 0.5  # cycles per voxel


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """The contents of a simulated tomogram, and the conditions under which it is recorded.

    Parameters
    ----------
    shape
        Of the volume (z, y, x), voxels.
    spacing
        Angstrom per voxel, 4 to 25.
    ribosomes, proteasomes, decoys, gold, vesicles
        Number of each; all are listed in the truth.
    crowd
        Number of small proteins, not listed in the truth; fewer if there is no room.
    defocus_um
        Range of the underfocus, micrometres; each tomogram has one value from it.
    dose
        Electrons per square angstrom and image.
    snr
        Signal-to-noise ratio of the untilted image (variances, gold left out), above zero.
    shift_vox
        Standard deviation of the residual misalignment of an image, voxels.
    tilt_deg
        First and last tilt, between -80 and 80 degrees.
    tilt_step_deg
        Step between tilts.
    seed
        Seed of all random numbers, together with the tomogram's name.
    """

    shape: tuple[int, int, int]
    spacing: float
    ribosomes: int
    proteasomes: int
    decoys: int
    gold: int
    vesicles: int
    crowd: int
    defocus_um: tuple[float, float]
    dose: float
    snr: float
    shift_vox: float
    tilt_deg: tuple[float, float]
    tilt_step_deg: float
    seed: int

    @classmethod
    def demo(cls, seed: int) -> "SimulationSettings":
        """Return the settings of `tomostream demo`: 41 tilts, crowded, noisy."""
        return cls(
            shape=(72, 256, 256),
            spacing=13.48,
            ribosomes=90,
            proteasomes=30,
            decoys=80,
            gold=4,
            vesicles=2,
            crowd=1500,
            defocus_um=(3.0, 4.5),
            dose=3.0,
            snr=0.1,
            shift_vox=0.4,
            tilt_deg=(-60.0, 60.0),
            tilt_step_deg=3.0,
            seed=seed,
        )

    @classmethod
    def tiny(cls, seed: int = 0) -> "SimulationSettings":
        """Return settings for tests: a small box with a few particles, simulated fast."""
        return cls(
            shape=(32, 64, 64),
            spacing=13.48,
            ribosomes=5,
            proteasomes=3,
            decoys=3,
            gold=1,
            vesicles=0,
            crowd=20,
            defocus_um=(3.0, 4.5),
            dose=8.0,
            snr=0.5,
            shift_vox=0.2,
            tilt_deg=(-60.0, 60.0),
            tilt_step_deg=10.0,
            seed=seed,
        )

    def __post_init__(self) -> None:
        """Check the values.

        Raises
        ------
        InputError
            If a value is out of its range.
        """
        _require(len(self.shape) == 3 and min(self.shape) >= 16, "shape", self.shape, "three edges of at least 16 voxels (z, y, x)")
        _require(4 <= self.spacing <= 25, "spacing", self.spacing, "4 to 25 angstrom per voxel")
        for name in ("ribosomes", "proteasomes", "decoys", "gold", "vesicles", "crowd", "seed"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        listed = self.ribosomes + self.proteasomes + self.decoys + self.gold + self.vesicles
        _require(listed > 0, "the number of listed particles", listed, "1 or more")
        _require(
            0 < self.defocus_um[0] <= self.defocus_um[1] <= 20, "defocus_um", self.defocus_um, "two values above 0 and up to 20, ascending"
        )
        _require(0 <= self.dose <= 100, "dose", self.dose, "0 to 100 electrons per square angstrom")
        _require(0 < self.snr < float("inf"), "snr", self.snr, "above zero and finite")
        _require(0 <= self.shift_vox <= 10, "shift_vox", self.shift_vox, "0 to 10 voxels")
        first, last = self.tilt_deg
        _require(-80 <= first < last <= 80, "tilt_deg", self.tilt_deg, "two values between -80 and 80 degrees, ascending")
        _require(0.5 <= self.tilt_step_deg <= last - first, "tilt_step_deg", self.tilt_step_deg, f"0.5 to {last - first:g} degrees")

    @property
    def angles_deg(self) -> np.ndarray:
        """The tilts, degrees, float64."""
        steps = int((self.tilt_deg[1] - self.tilt_deg[0]) / self.tilt_step_deg + 1e-9)
        return np.asarray(self.tilt_deg[0] + self.tilt_step_deg * np.arange(steps + 1), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedTomogram:
    """A simulated volume and its truth.

    Parameters
    ----------
    name
        The tomogram's name.
    volume
        Particles dark; no particular mean or standard deviation.
    truth
        Every listed particle, in voxels: `ribosome`, `proteasome`, `decoy`, `gold`, `vesicle`.
    spacing
        Angstrom per voxel.
    """

    name: str
    volume: Float32[np.ndarray, "z y x"]
    truth: Particles
    spacing: float


def simulate_tomogram(settings: SimulationSettings, name: str) -> SimulatedTomogram:
    """Simulate one tomogram; tomograms of different names differ.

    Raises
    ------
    InputError
        If the slab has no room for all particles.
    """
    rng = np.random.default_rng([settings.seed, *name.encode()])
    z, y, x = settings.shape
    species = [(ribosome(), settings.ribosomes), (proteasome(), settings.proteasomes), (decoy(), settings.decoys), (gold(), settings.gold)]
    scene = build_scene(
        size_zyx=(z * settings.spacing, y * settings.spacing, x * settings.spacing),
        counts=species,
        vesicles=settings.vesicles,
        crowd=settings.crowd,
        rng=rng,
    )
    recording = Recording(
        spacing=settings.spacing,
        angles_deg=settings.angles_deg,
        defocus_ang=1e4 * rng.uniform(*settings.defocus_um),
        dose=settings.dose,
        snr=settings.snr,
        shift_vox=settings.shift_vox,
    )
    beads, gold_beads = (part.in_voxels(settings.spacing) for part in (scene.beads, scene.gold_beads))
    series = record_tilt_series(beads, gold_beads, recording, shape=settings.shape, rng=rng)
    volume = reconstruct(series, shape=settings.shape, cut_off=_RAMP_CUT_OFF, workers=cores_here())
    truth = Particles.build(scene.position_zyx / settings.spacing - 0.5, unit="voxel", tomogram=name, species=scene.names)
    return SimulatedTomogram(name, volume, truth, settings.spacing)


def write_mrc(path: Path, simulated: SimulatedTomogram) -> None:
    """Write the volume as an MRC file of mode 2 with its voxel size; an older file is replaced when the new one is complete.

    Raises
    ------
    InputError
        If the file can't be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with mrcfile.new(partial, overwrite=True) as mrc:
            mrc.set_data(simulated.volume)
            mrc.set_volume()
            mrc.voxel_size = simulated.spacing
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}; choose a folder that exists and is writable") from None


def _require(is_right: bool, name: str, found: object, allowed: str) -> None:
    if not is_right:
        raise InputError(f"simulation: {name} is {found}, and must be {allowed}")
