"""Draw particles of random shape as clouds of beads: solid, hollow, lumpy, elongated, barrels, several domains, halves.

1. A bead's direction is uniform; its distance from the middle fills a shell between a hollow part and 1, stretched by lumps in random
   directions and along three axes.
2. Some species are sums of several such domains, some are barrels.
3. Slow random waves vary the mass of the beads (nucleic acid, holes).
4. Look-alikes: a species may be another one scaled, cut by a plane, or with another density.
5. The cloud is centred on its mass, scaled to a radius, and weighted to the wanted mean density.

All arrays are on one device; all random numbers come from one generator.
"""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Species:
    """Bead clouds.

    Parameters
    ----------
    beads
        (..., k, 3), voxels z y x from the centre of mass.
    mass
        (..., k); a bead's integral of density, so that the mean density inside is about `density`.
    radius
        (...), voxels: 95 % of the beads lie within.
    """

    beads: torch.Tensor
    mass: torch.Tensor
    radius: torch.Tensor


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    """Return uniform deviates."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def log_uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    """Return deviates whose logarithm is uniform."""
    return uniform(shape, math.log(low), math.log(high), generator).exp()


def happens(shape: tuple[int, ...], chance: float, generator: torch.Generator) -> torch.Tensor:
    """Return booleans that are true with probability `chance`."""
    return torch.rand(shape, generator=generator, device=generator.device) < chance


def directions(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Return unit vectors (..., 3), uniform on the sphere."""
    drawn = torch.randn((*shape, 3), generator=generator, device=generator.device)
    return drawn / drawn.norm(dim=-1, keepdim=True).clamp_min(1e-6)


def rotations(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Return uniform rotation matrices (..., 3, 3), from quaternions."""
    q = torch.randn((*shape, 4), generator=generator, device=generator.device)
    w, x, y, z = (q / q.norm(dim=-1, keepdim=True).clamp_min(1e-6)).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).reshape(*shape, 3, 3)


def draw_species(radius: torch.Tensor, density: torch.Tensor, *, beads: int, look_alikes: bool, generator: torch.Generator) -> Species:
    """Draw species.

    Parameters
    ----------
    radius, density
        (groups, s): voxels, and the mean density inside.
    beads
        Of each cloud.
    look_alikes
        Whether the second and third species of a group may resemble its first.
    """
    g, s = radius.shape
    cloud = _shapes(g * s, beads, generator).reshape(g, s, beads, 3)
    weight = _weights(cloud, generator)
    if look_alikes and s >= 3:
        cloud, weight, radius = _with_look_alikes(cloud, weight, radius, generator)
    total = weight.sum(-1, keepdim=True).clamp_min(1e-6)
    cloud = cloud - ((weight / total)[..., None] * cloud).sum(-2, keepdim=True)
    # beads without mass don't count for the size
    reach = ((weight > 0) * cloud.norm(dim=-1)).quantile(0.95, dim=-1)
    cloud = cloud * (radius / reach.clamp_min(1e-3))[..., None, None]
    mass = weight / total
    # the density that this mass makes, seen with a soft ball of a quarter of the radius
    sigma = (0.25 * radius + 0.3)[..., None, None]
    squared = torch.cdist(cloud, cloud) ** 2
    seen = (torch.exp(-squared / (2 * sigma**2)) * mass[..., None, :]).sum(-1) / ((2 * math.pi) ** 1.5 * sigma[..., 0] ** 3)
    mass = mass * (density / (seen * mass).sum(-1).clamp_min(1e-9))[..., None]
    return Species(cloud, mass, radius)


def _shapes(n: int, k: int, generator: torch.Generator) -> torch.Tensor:
    """Return clouds (n, k, 3) of about unit radius."""
    u = directions((n, k), generator)
    hollow = happens((n, 1), 0.45, generator) * uniform((n, 1), 0.35, 0.85, generator)
    filled = torch.rand((n, k), generator=generator, device=u.device)
    distance = (hollow**3 + (1 - hollow**3) * filled) ** (1 / 3)
    bumps = directions((n, 6), generator)
    height = uniform((n, 6), -0.5, 0.6, generator) * happens((n, 1), 0.6, generator)
    lumps = (torch.exp(3.0 * (torch.einsum("nki,nji->nkj", u, bumps) - 1)) * height[:, None]).sum(-1)
    cloud = u * (distance * (1 + lumps).clamp_min(0.25))[..., None]
    axes = torch.exp(torch.randn((n, 1, 3), generator=generator, device=u.device) * uniform((n, 1, 1), 0.0, 0.4, generator))
    cloud = cloud * axes
    # several domains
    domains = 7
    number = torch.randint(2, domains + 1, (n, 1), generator=generator, device=u.device)
    which = (torch.rand((n, k), generator=generator, device=u.device) * number).long()
    middle = directions((n, domains), generator) * uniform((n, domains, 1), 0.35, 1.0, generator)
    size = uniform((n, domains, 1), 0.25, 0.6, generator)
    index = which[..., None].expand(-1, -1, 3)
    parts = middle.gather(1, index) + size.expand(-1, -1, 3).gather(1, index) * u * filled[..., None] ** (1 / 3)
    # barrels
    angle = uniform((n, k), 0.0, 2 * math.pi, generator)
    inner = uniform((n, 1), 0.0, 0.7, generator)
    ring = (inner**2 + (1 - inner**2) * filled).sqrt()
    length = uniform((n, 1), 0.3, 2.0, generator) * uniform((n, k), -1.0, 1.0, generator)
    barrel = torch.stack([length, ring * angle.cos(), ring * angle.sin()], dim=-1)
    kind = torch.rand((n, 1, 1), generator=generator, device=u.device)
    return torch.where(kind < 0.3, parts, torch.where(kind < 0.45, barrel, cloud))


def _weights(cloud: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return positive weights (g, s, k), from a slow wave through each cloud."""
    g, s, _, _ = cloud.shape
    wave = directions((g, s), generator) * uniform((g, s, 1), 1.0, 4.0, generator)
    phase = uniform((g, s, 1), 0.0, 2 * math.pi, generator)
    strength = uniform((g, s, 1), 0.0, 1.0, generator)
    return torch.exp(strength * torch.cos(torch.einsum("gski,gsi->gsk", cloud, wave) + phase))


def _with_look_alikes(
    cloud: torch.Tensor, weight: torch.Tensor, radius: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Often replace the second species of a group by a part of the first, and scale the third to the size of the first."""
    g = len(cloud)
    first, others = cloud[:, 0], weight[:, 0]
    beyond = torch.einsum("gki,gi->gk", first, directions((g,), generator)) > uniform((g, 1), 0.0, 0.35, generator)
    part = others * ~beyond
    like = happens((g, 1), 0.5, generator)
    clouds, weights, radii = cloud.clone(), weight.clone(), radius.clone()
    clouds[:, 1] = torch.where(like[..., None], first, cloud[:, 1])
    weights[:, 1] = torch.where(like, part, weight[:, 1])
    radii[:, 1] = torch.where(like[:, 0], radius[:, 0] * uniform((g,), 0.75, 1.0, generator), radius[:, 1])
    same = happens((g,), 0.5, generator)
    radii[:, 2] = torch.where(same, radius[:, 0] * uniform((g,), 0.85, 1.15, generator), radius[:, 2])
    return clouds, weights, radii
