"""Place the simulated particles in a slab of ice: crowded, without overlap, some neighbours touching.

Random sequential addition: draw random positions until one is far enough from all earlier particles.

1. Vesicles come first, entirely inside the slab.  A membrane counts as many small spheres, so that particles can lie inside it.
2. Then each species in turn, in the order given.  Some of the particles are placed next to an earlier one of the same species, within a
   tenth of touching it, as in a polysome.
3. Small proteins fill the rest.  They are the crowd, and are not listed in the truth.

Neighbours are looked up in a cell list, whose cells are at least as wide as the largest contact distance, so that everything that may
touch lies in 27 cells.

The slab is periodic in y and x, because a specimen continues beyond the field of view.  Particles near a face lie partly outside, with
their centres well inside.  In z all are complete.  Lengths are in angstrom, from the slab's outer corner.

References
----------
Widom (1966), "Random sequential addition of hard spheres to a volume", J. Chem. Phys. 44.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from tomostream.errors import InputError
from tomostream.simulation.species import Beads, Species, small_protein, vesicle

_TRIES = 2000  # for one particle, before the slab counts as full
_CLUSTERED = 0.5  # share of the tries next to an earlier particle
_CLUSTER_SLACK = 0.1  # ... at most this much farther than touching, as a fraction
_MEMBRANE_CONTACT_ANG = 30.0
_VESICLE_RADIUS_ANG = (220.0, 380.0)
_FACE_ANG = 20.0  # between a particle and the slab's faces along z
_RIM_ANG = 60.0  # between a centre and the faces along y and x: a person does not click a particle that is mostly cut off
_CROWD_SIGMA_ANG = (14.0, 26.0)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A slab and its particles, in angstrom.

    Parameters
    ----------
    beads
        All densities except gold.
    gold_beads
        Separate, because gold is so dense that it would dominate the variance from which the noise is derived.
    names
        Names of the listed particles' species.
    position_zyx
        Their centres of mass.
    """

    beads: Beads
    gold_beads: Beads
    names: list[str]
    position_zyx: Float64[np.ndarray, "n 3"]


@dataclass(slots=True)
class _CellList:
    """Spheres in a slab that is periodic in y and x."""

    period: tuple[float, float]
    largest_contact: float
    counts: tuple[int, int] = field(init=False)
    cells: dict[tuple[int, int, int], list[tuple[float, float, float, float]]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        edge = 2 * self.largest_contact
        self.counts = (max(1, int(self.period[0] // edge)), max(1, int(self.period[1] // edge)))

    def cell_of(self, z: float, y: float, x: float) -> tuple[int, int, int]:
        """Return the cell of a point; in y and x a whole number of cells fills the period."""
        rows, columns = self.counts
        return (
            int(z // (2 * self.largest_contact)),
            int(y % self.period[0] / self.period[0] * rows) % rows,
            int(x % self.period[1] / self.period[1] * columns) % columns,
        )

    def add(self, z: float, y: float, x: float, contact: float) -> None:
        """Add a sphere."""
        self.cells.setdefault(self.cell_of(z, y, x), []).append((z, y, x, contact))

    def is_free(self, z: float, y: float, x: float, contact: float) -> bool:
        """Return whether a sphere at this position would touch no other."""
        cell_z, cell_y, cell_x = self.cell_of(z, y, x)
        rows = {(cell_y + step) % self.counts[0] for step in (-1, 0, 1)}
        columns = {(cell_x + step) % self.counts[1] for step in (-1, 0, 1)}
        for key in itertools.product((cell_z - 1, cell_z, cell_z + 1), rows, columns):
            for other_z, other_y, other_x, other_contact in self.cells.get(key, ()):
                dy = abs(y - other_y) % self.period[0]
                dx = abs(x - other_x) % self.period[1]
                dy, dx = min(dy, self.period[0] - dy), min(dx, self.period[1] - dx)
                if (z - other_z) ** 2 + dy**2 + dx**2 < (contact + other_contact) ** 2:
                    return False
        return True


def build_scene(
    *, size_zyx: tuple[float, float, float], counts: Sequence[tuple[Species, int]], vesicles: int, crowd: int, rng: np.random.Generator
) -> Scene:
    """Fill a slab.

    Parameters
    ----------
    size_zyx
        The slab's edges, angstrom.
    counts
        Species and the number of each, in the order in which to place them.
    vesicles
        Number of closed membranes, with radii from 220 to 380 A or what the slab's thickness allows.
    crowd
        Number of small proteins.
    rng
        Source of all random numbers.

    Raises
    ------
    InputError
        If the slab is too thin for a species, or has no room for all particles.
    """
    cells = _CellList(size_zyx[1:], max([_MEMBRANE_CONTACT_ANG, *(species.contact_ang for species, _ in counts)]))
    parts: list[Beads] = []
    gold: list[Beads] = []
    names: list[str] = []
    centres: list[Float64[np.ndarray, " 3"]] = []
    for _ in range(vesicles):
        membrane, centre = _place_vesicle(size_zyx, cells, rng)
        parts.append(membrane)
        names.append("vesicle")
        centres.append(centre)
    for species, count in counts:
        placed = _place_species(species, count, size_zyx, cells, rng)
        for centre, rotation in zip(placed, _rotations(count, rng), strict=True):
            body = species.bodies[int(rng.integers(len(species.bodies)))]
            (gold if species.name == "gold" else parts).append(body.placed(rotation, centre))
        names += [species.name] * count
        centres += placed
    for _ in range(crowd):
        sigma = rng.uniform(*_CROWD_SIGMA_ANG)
        for _ in range(_TRIES):
            at = _anywhere(size_zyx, (2 * sigma, 0.0, 0.0), rng)
            if cells.is_free(*at, 0.5 * sigma):
                parts.append(small_protein(sigma).placed(np.eye(3), np.array(at)))
                break
    return Scene(Beads.join(parts), Beads.join(gold), names, np.array(centres, dtype=np.float64).reshape(-1, 3))


def _place_vesicle(
    size_zyx: tuple[float, float, float], cells: _CellList, rng: np.random.Generator
) -> tuple[Beads, Float64[np.ndarray, " 3"]]:
    """Place one membrane and add it to the cell list; return its beads in their places, and its centre."""
    thickest = size_zyx[0] / 2 - _FACE_ANG - _MEMBRANE_CONTACT_ANG
    smallest, largest = _VESICLE_RADIUS_ANG
    if thickest < smallest:
        raise InputError(
            f"simulation: a vesicle needs a slab of at least {2 * (smallest + _FACE_ANG + _MEMBRANE_CONTACT_ANG):.0f} A, this one has "
            f"{size_zyx[0]:.0f} A; make shape[0] larger or set vesicles to 0"
        )
    for _ in range(_TRIES):
        radius = rng.uniform(smallest, min(largest, thickest))
        centre = np.array(_anywhere(size_zyx, (radius + _MEMBRANE_CONTACT_ANG + _FACE_ANG, _RIM_ANG, _RIM_ANG), rng))
        membrane = vesicle(radius).placed(np.eye(3), centre)
        if all(cells.is_free(z, y, x, _MEMBRANE_CONTACT_ANG) for z, y, x in membrane.position_zyx):
            for z, y, x in membrane.position_zyx:
                cells.add(z, y, x, _MEMBRANE_CONTACT_ANG)
            return membrane, centre
    raise InputError(f"simulation: {size_zyx} A (z, y, x) has no room for so many vesicles; lower vesicles or make shape larger")


def _place_species(
    species: Species, count: int, size_zyx: tuple[float, float, float], cells: _CellList, rng: np.random.Generator
) -> list[Float64[np.ndarray, " 3"]]:
    """Place `count` particles and add them to the cell list; return their centres, angstrom."""
    margin = (species.extent_ang + _FACE_ANG, _RIM_ANG, _RIM_ANG)
    if count and 2 * margin[0] >= size_zyx[0]:
        raise InputError(
            f"simulation: a {species.name} needs a slab of more than {2 * margin[0]:.0f} A, this one has {size_zyx[0]:.0f} A; make shape[0] larger"
        )
    placed: list[Float64[np.ndarray, " 3"]] = []
    for number in range(count):
        for _ in range(_TRIES):
            if placed and rng.random() < _CLUSTERED:
                z, y, x = _beside(placed[int(rng.integers(len(placed)))], species.contact_ang, rng)
            else:
                z, y, x = _anywhere(size_zyx, margin, rng)
            inside = all(m <= p <= edge - m for m, p, edge in zip(margin, (z, y, x), size_zyx, strict=True))
            if inside and cells.is_free(z, y, x, species.contact_ang):
                break
        else:
            raise InputError(
                f"simulation: a slab of {size_zyx[0]:.0f} x {size_zyx[1]:.0f} x {size_zyx[2]:.0f} A (z, y, x) has no room for {count} {species.name} "
                f"particles, only for {number}; ask for fewer or make shape larger"
            )
        cells.add(z, y, x, species.contact_ang)
        placed.append(np.array([z, y, x]))
    return placed


def _anywhere(
    size_zyx: tuple[float, float, float], margin_zyx: tuple[float, float, float], rng: np.random.Generator
) -> tuple[float, float, float]:
    """Return a uniform position in the slab, `margin_zyx` from its faces."""
    z, y, x = (rng.uniform(margin, edge - margin) for margin, edge in zip(margin_zyx, size_zyx, strict=True))
    return (z, y, x)


def _beside(centre: Float64[np.ndarray, " 3"], contact: float, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return a position in a random direction from `centre`, where a particle would touch or nearly touch one there."""
    direction = rng.normal(size=3)
    distance = 2 * contact * (1 + _CLUSTER_SLACK * rng.random())
    z, y, x = centre + direction * (distance / np.linalg.norm(direction))
    return (float(z), float(y), float(x))


def _rotations(count: int, rng: np.random.Generator) -> Float64[np.ndarray, "n 3 3"]:
    """Return uniform random rotations, from normal quaternions.

    References
    ----------
    Shoemake (1992), "Uniform random rotations", Graphics Gems III.
    """
    quaternion = rng.normal(size=(count, 4))
    w, x, y, z = (quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)
