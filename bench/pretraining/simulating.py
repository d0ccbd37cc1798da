"""Simulate batches of small tomograms on the device that trains on them.

A batch holds groups; a group has its own species and kind of microscope, and several tomograms of it, each with its own noise, defocus,
crowding; a tomogram is seen in several volumes (cubes).  Sizes are in voxels of the pyramid level that the network reads, where the
wanted particle's radius is 4 to 8 voxels.

All random numbers come from one generator, seeded by the run's seed and the step.  On a GPU the order of sums varies, so batches are
equal to rounding only.
"""

import math
from dataclasses import dataclass

import torch

from bench.pretraining import scenes
from bench.pretraining.optics import Transfer, draw_optics, transfer_of
from bench.pretraining.species import Species, draw_species, log_uniform, uniform

CLIP = 3.0  # as the package's normalisation


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of a batch.

    Parameters
    ----------
    groups, tomograms, volumes
        Groups of a batch, tomograms of a group, volumes of a tomogram.
    edge
        Of a volume, voxels.
    species
        Listed species of a group.
    places, beads
        Particles of a volume and beads of a particle, at most.
    crowd, crowd_beads
        The same for the small proteins.
    """

    groups: int = 8
    tomograms: int = 2
    volumes: int = 4
    edge: int = 64
    species: int = 6
    places: int = 128
    beads: int = 256
    crowd: int = 2500
    crowd_beads: int = 10


@dataclass(frozen=True, slots=True)
class Batch:
    """g groups of t tomograms of v volumes of n^3 voxels; s species a group; i places a volume.

    Parameters
    ----------
    image
        (g, t, v, n, n, n) standardised, clipped, standardised.
    clean
        Likewise: the density that made it, blurred, in its standard deviations; particles are positive.
    position, species, is_there
        (g, t, v, i, 3), (g, t, v, i), (g, t, v, i).
    radius
        (g, s), voxels.
    """

    image: torch.Tensor
    clean: torch.Tensor
    position: torch.Tensor
    species: torch.Tensor
    is_there: torch.Tensor
    radius: torch.Tensor


def simulate(sizes: Sizes, generator: torch.Generator) -> Batch:
    """Simulate one batch on the generator's device."""
    g, t, v, n, s = sizes.groups, sizes.tomograms, sizes.volumes, sizes.edge, sizes.species
    gt, b = g * t, g * t * v
    # of the wanted particle: its size in voxels first, then the spacing that makes it a protein complex
    wanted = uniform((g,), 3.0, 8.0, generator)
    spacing = (log_uniform((g,), 50.0, 190.0, generator) / wanted).clamp(6.0, 34.0)
    radius = (wanted[:, None] * log_uniform((g, s), 0.35, 1.7, generator)).clamp(1.8, 9.0)
    radius = torch.cat([wanted[:, None], radius[:, 1:]], dim=1)
    density = log_uniform((g, s), 0.75, 1.45, generator)
    listed = draw_species(radius, density, beads=sizes.beads, look_alikes=True, generator=generator)
    small_radius = (log_uniform((g, 8), 14.0, 60.0, generator) / spacing[:, None]).clamp(0.4, 3.5)
    small = draw_species(
        small_radius, log_uniform((g, 8), 0.8, 1.2, generator), beads=sizes.crowd_beads, look_alikes=False, generator=generator
    )

    def of_volumes(values: torch.Tensor, repeats: int) -> torch.Tensor:
        return values.repeat_interleave(repeats, dim=0)

    def spread(some: Species) -> Species:
        return Species(of_volumes(some.beads, t * v), of_volumes(some.mass, t * v), of_volumes(some.radius, t * v))

    # how full: shared by a group, varied among its tomograms
    filled = of_volumes(log_uniform((g,), 0.02, 0.45, generator), t) * log_uniform((gt,), 0.6, 1.6, generator)
    frequency = of_volumes(log_uniform((g, s), 0.15, 3.0, generator), t) * log_uniform((gt, s), 0.7, 1.4, generator)
    # small ones are more frequent
    rarity = of_volumes(listed.radius, t) ** 0.8
    ice = scenes.draw_ice(b, n, generator)
    placed = scenes.place(
        of_volumes(listed.radius, t * v),
        of_volumes(frequency / rarity, v),
        places=sizes.places,
        filled=of_volumes(filled, v) * log_uniform((b,), 0.7, 1.4, generator),
        tightness=of_volumes(of_volumes(uniform((g,), 0.72, 1.05, generator), t), v),
        clustered=of_volumes(of_volumes(uniform((g,), 0.0, 0.9, generator), t), v),
        ice=ice,
        edge=n,
        generator=generator,
    )
    # a share of the room, at most, is filled with small proteins
    room = uniform((g,), 0.0, 0.3, generator) * n**3 / (4 / 3 * math.pi * small.radius**3).mean(1)
    chance = of_volumes(of_volumes((room / sizes.crowd).clamp_max(1.0), t) * log_uniform((gt,), 0.5, 1.4, generator), v)
    physical = of_volumes(of_volumes(spacing, t), v)
    has_membranes = of_volumes(of_volumes(uniform((g,), -0.5, 0.5, generator).clamp_min(0.0), t), v)
    has_filaments = of_volumes(of_volumes(uniform((g,), -0.6, 0.3, generator).clamp_min(0.0), t), v)
    density_map = torch.zeros((b, n, n, n), device=generator.device)
    for points, mass in (
        scenes.particle_points(placed, spread(listed), generator),
        scenes.crowd(spread(small), sizes.crowd, chance, placed, ice, n, generator),
        scenes.membranes(uniform((b,), 30.0, 45.0, generator) / physical, has_membranes, n, generator),
        scenes.filaments((log_uniform((b,), 35.0, 125.0, generator) / physical).clamp_min(0.5), has_filaments, n, generator),
    ):
        scenes.add_points(density_map, points, mass)
    with_gold = density_map.clone()
    scenes.add_points(with_gold, *scenes.gold(b, uniform((b,), 35.0, 60.0, generator) / physical, n, generator))
    optics = draw_optics(spacing, t, generator)
    transfer = transfer_of(optics, of_volumes(wanted, t), n)
    image, clean = _record(density_map, with_gold, transfer, gt, generator)
    shape = (g, t, v)
    return Batch(
        image=_standardised(image, gt).reshape(*shape, n, n, n),
        clean=clean.reshape(*shape, n, n, n),
        position=placed.position.reshape(*shape, -1, 3),
        species=placed.species.reshape(*shape, -1),
        is_there=placed.is_there.reshape(*shape, -1),
        radius=listed.radius,
    )


def _record(
    density: torch.Tensor, with_gold: torch.Tensor, transfer: Transfer, tomograms: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and blurred densities, (b, n, n, n)."""
    b, n = len(density), density.shape[-1]
    axes, size = (1, 2, 3), (n, n, n)

    def times(volumes: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfftn(volumes, dim=axes)
        spectrum = spectrum.reshape(tomograms, -1, *spectrum.shape[1:]) * factor[:, None]
        return torch.fft.irfftn(spectrum.reshape(b, *spectrum.shape[2:]), s=size, dim=axes)

    white = torch.randn((b, n, n, n), generator=generator, device=density.device)
    # contrast varies across the field
    image = times(with_gold * _slow_field(b, n, 0.45, generator), transfer.signal)
    image = (image + times(white, transfer.noise)) * _slow_field(b, n, 0.15, generator)
    clean = times(density, transfer.clean)
    per = clean.reshape(tomograms, -1)
    middle, spread = per.mean(1, keepdim=True), per.std(1, keepdim=True).clamp_min(1e-3)
    return image, ((per - middle) / spread).clamp(-2.0, 6.0).reshape(b, n, n, n)


def _slow_field(b: int, n: int, strength: float, generator: torch.Generator) -> torch.Tensor:
    """Positive fields around 1 that vary across a volume; in half of the volumes nearly constant."""
    grid = (torch.arange(n, device=generator.device) + 0.5) / n
    field = torch.zeros((b, 1, 1, 1), device=generator.device)
    for shape in ((1, n, 1, 1), (1, 1, n, 1), (1, 1, 1, n)):
        height = uniform((b, 1, 1, 1), -strength, strength, generator) * uniform((b, 1, 1, 1), 0.0, 1.0, generator)
        rate = uniform((b, 1, 1, 1), 0.3, 1.0, generator)
        field = field + height * torch.cos(math.pi * rate * (grid.reshape(shape) + uniform((b, 1, 1, 1), 0.0, 2.0, generator)))
    return torch.exp(field)


def _standardised(image: torch.Tensor, tomograms: int) -> torch.Tensor:
    """Stored as 8-bit numbers, standardised, clipped, standardised; statistics are a tomogram's."""
    flat = image.reshape(tomograms, -1)
    flat = (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True).clamp_min(1e-6)
    flat = (flat * 32).round().clamp(-127, 127) / 32
    flat = ((flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True).clamp_min(1e-6)).clamp(-CLIP, CLIP)
    return ((flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True).clamp_min(1e-6)).reshape(image.shape)
