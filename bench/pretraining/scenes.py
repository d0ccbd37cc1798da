"""Place particles in small volumes, and compute their density.

The volume is periodic: a particle that leaves it at one face enters at the opposite one, so that particles at the faces are cut, as in a
tomogram.  Membranes and filaments are not periodic.

1. Each volume has places for particles; the share of the volume to fill decides how many are used, largest first.
2. Positions are drawn uniformly, or touching an earlier particle (polysomes, clusters); the first without overlap is taken.
3. A crowd of small proteins fills the rest; gold, membranes (bent sheets, vesicles) and filaments come on top.
4. In some volumes the ice ends at a plane, with nothing beyond.
5. All beads are added to the grid, each shared by eight voxels.
"""

import math
from dataclasses import dataclass

import torch

from bench.pretraining.species import Species, directions, happens, log_uniform, rotations, uniform

_CANDIDATES = 12
_SHEET = 72  # points along each edge of a membrane


@dataclass(frozen=True, slots=True)
class Placed:
    """Particles of each volume.

    Parameters
    ----------
    position
        (b, i, 3), voxels z y x, within the volume.
    species
        (b, i), which of the volume's group.
    radius
        (b, i), voxels.
    is_there
        (b, i); places that were not taken are False.
    """

    position: torch.Tensor
    species: torch.Tensor
    radius: torch.Tensor
    is_there: torch.Tensor


@dataclass(frozen=True, slots=True)
class Ice:
    """A half-space that holds sample: normal . x < offset; (b, 3) and (b,), from the volume's middle."""

    normal: torch.Tensor
    offset: torch.Tensor

    def holds(self, position: torch.Tensor, edge: int) -> torch.Tensor:
        """Return whether points (b, ..., 3) lie in the ice."""
        shape = [len(position)] + [1] * (position.ndim - 2)
        along = ((position - edge / 2) * self.normal.reshape(*shape, 3)).sum(-1)
        return along < self.offset.reshape(shape)


def draw_ice(volumes: int, edge: int, generator: torch.Generator) -> Ice:
    """Draw half-spaces of ice; in a third of the volumes the ice ends inside, mostly along z."""
    normal = torch.randn((volumes, 3), generator=generator, device=generator.device)
    normal = torch.cat([normal[:, :1], 0.15 * normal[:, 1:]], dim=1)
    normal = normal / normal.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    ends = uniform((volumes,), -0.3, 0.5, generator) * edge
    offset = torch.where(happens((volumes,), 0.35, generator), ends, 9.0 * edge)
    return Ice(normal, offset)


def place(
    radius: torch.Tensor,
    frequency: torch.Tensor,
    *,
    places: int,
    filled: torch.Tensor,
    tightness: torch.Tensor,
    clustered: torch.Tensor,
    ice: Ice,
    edge: int,
    generator: torch.Generator,
) -> Placed:
    """Place particles.

    Parameters
    ----------
    radius, frequency
        (b, s): of each species; how often it comes, relative to the others.
    places
        Particles of a volume, at most.
    filled, tightness, clustered
        (b,): share of the volume inside particles; least distance, in sums of radii; share of candidates that touch another one.
    """
    b = len(radius)
    device = radius.device
    species = torch.multinomial(frequency, places, replacement=True, generator=generator)
    size = radius.gather(1, species)
    volume = torch.cumsum(4 / 3 * math.pi * size**3, dim=1)
    wanted = volume < filled[:, None] * edge**3
    order = torch.argsort(torch.where(wanted, size, -size), dim=1, descending=True)
    species, size, wanted = species.gather(1, order), size.gather(1, order), wanted.gather(1, order)
    free = uniform((b, places, _CANDIDATES, 3), 0.0, float(edge), generator)
    step = directions((b, places, _CANDIDATES), generator) * uniform((b, places, _CANDIDATES, 1), 1.0, 1.12, generator)
    partner = torch.rand((b, places, _CANDIDATES), generator=generator, device=device)
    touching = torch.rand((b, places, _CANDIDATES), generator=generator, device=device) < clustered[:, None, None]
    position = torch.zeros((b, places, 3), device=device)
    is_there = torch.zeros((b, places), dtype=torch.bool, device=device)
    for i in range(places):
        candidates = free[:, i]
        if i:
            other = (partner[:, i] * i).long()
            apart = tightness[:, None] * (size[:, i : i + 1] + size.gather(1, other))
            beside = position.gather(1, other[..., None].expand(-1, -1, 3)) + step[:, i] * apart[..., None]
            candidates = torch.where((touching[:, i] & is_there.gather(1, other))[..., None], beside % edge, candidates)
            difference = candidates[:, :, None] - position[:, None, :i]
            difference = difference - edge * torch.round(difference / edge)
            least = tightness[:, None] * (size[:, i : i + 1] + size[:, :i])
            clear = ((difference**2).sum(-1) >= (0.98 * least[:, None]) ** 2) | ~is_there[:, None, :i]
            fits = clear.all(-1)
        else:
            fits = torch.ones((b, _CANDIDATES), dtype=torch.bool, device=device)
        fits &= ice.holds(candidates, edge) & wanted[:, i : i + 1]
        best = fits.to(torch.uint8).argmax(1)
        position[:, i] = candidates.gather(1, best[:, None, None].expand(-1, 1, 3))[:, 0]
        is_there[:, i] = fits.any(1)
    return Placed(position, species, size, is_there)


def particle_points(placed: Placed, species: Species, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return beads (b, i k, 3) and masses (b, i k) of placed particles, each rotated at random; `species` has (b, s, k, 3) beads."""
    b, i = placed.species.shape
    k = species.beads.shape[2]
    rows = torch.arange(b, device=placed.species.device)[:, None]
    beads = species.beads[rows, placed.species]
    mass = species.mass[rows, placed.species] * placed.is_there[..., None]
    # no two are quite equal
    mass = mass * log_uniform((b, i, 1), 0.9, 1.1, generator)
    points = torch.einsum("bikc,bidc->bikd", beads, rotations((b, i), generator)) + placed.position[:, :, None]
    return points.reshape(b, i * k, 3), mass.reshape(b, i * k)


def crowd(
    species: Species, count: int, chance: torch.Tensor, placed: Placed, ice: Ice, edge: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Place small proteins between the particles; `chance` (b,) is the share of `count` to place."""
    b, s = species.radius.shape
    device = species.radius.device
    position = uniform((b, count, 3), 0.0, float(edge), generator)
    which = torch.randint(0, s, (b, count), generator=generator, device=device)
    there = (torch.rand((b, count), generator=generator, device=device) < chance[:, None]) & ice.holds(position, edge)
    difference = position[:, :, None] - placed.position[:, None]
    difference = difference - edge * torch.round(difference / edge)
    inside = ((difference**2).sum(-1) < (0.85 * placed.radius[:, None]) ** 2) & placed.is_there[:, None]
    there &= ~inside.any(-1)
    small = Placed(position, which, species.radius.gather(1, which), there)
    return particle_points(small, species, generator)


def gold(volumes: int, radius: torch.Tensor, edge: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Place up to three gold beads in a fifth of the volumes; `radius` (b,), voxels."""
    beads, k = 3, 96
    there = happens((volumes, 1), 0.2, generator) & happens((volumes, beads), 0.6, generator)
    middle = uniform((volumes, beads, 1, 3), 0.0, float(edge), generator)
    out = torch.rand((volumes, beads, k, 1), generator=generator, device=generator.device) ** (1 / 3)
    cloud = directions((volumes, beads, k), generator) * out
    points = middle + cloud * radius[:, None, None, None]
    mass = 4 / 3 * math.pi * radius**3 * log_uniform((volumes,), 4.0, 15.0, generator) / k
    return points.reshape(volumes, -1, 3), (mass[:, None, None] * there[..., None]).expand(-1, -1, k).reshape(volumes, -1)


def membranes(thickness: torch.Tensor, chance: torch.Tensor, edge: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Place two membranes per volume, each with probability `chance` (b,): bent sheets or vesicles of two leaflets; `thickness` (b,)."""
    b, n = len(thickness), _SHEET
    device = thickness.device
    along = torch.arange(n, device=device, dtype=torch.float32)
    grid = torch.stack(torch.meshgrid(along, along, indexing="ij"), -1).reshape(1, 1, -1, 2)
    grid = (grid + torch.rand((b, 2, n * n, 2), generator=generator, device=device)) / n
    # a sheet, bent along two directions
    extent = 1.8 * edge
    u, v = ((grid - 0.5) * extent).unbind(-1)
    bend = happens((b, 2, 1, 2), 0.7, generator) / log_uniform((b, 2, 1, 2), 0.3 * edge, 3.0 * edge, generator)
    height = (0.5 * (bend[..., 0] * u**2 + bend[..., 1] * v**2)).clamp(-edge, edge)
    slope_u, slope_v = -bend[..., 0] * u, -bend[..., 1] * v
    normal = torch.stack([torch.ones_like(u), slope_u, slope_v], dim=-1)
    normal = normal / normal.norm(dim=-1, keepdim=True)
    sheet = torch.stack([height, u, v], dim=-1)
    sheet_area = (extent**2 / n**2) / normal[..., 0]
    # or a sphere
    ball = log_uniform((b, 2, 1), 0.12 * edge, 0.5 * edge, generator)
    cosine, angle = 2 * grid[..., 0] - 1, 2 * math.pi * grid[..., 1]
    sine = (1 - cosine**2).clamp_min(0).sqrt()
    outward = torch.stack([cosine, sine * angle.cos(), sine * angle.sin()], dim=-1)
    is_ball = happens((b, 2, 1), 0.5, generator)
    surface = torch.where(is_ball[..., None], outward * ball[..., None], sheet)
    normal = torch.where(is_ball[..., None], outward, normal)
    area = torch.where(is_ball, 4 * math.pi * ball**2 / n**2, sheet_area)
    half = 0.5 * thickness[:, None, None, None, None] * torch.linspace(-1.0, 1.0, 2, device=device)[:, None]
    points = surface[..., None, :] + half * normal[..., None, :]
    turned = torch.einsum("bmpqc,bmdc->bmpqd", points, rotations((b, 2), generator))
    points = turned + uniform((b, 2, 1, 1, 3), 0.0, float(edge), generator)
    there = torch.rand((b, 2), generator=generator, device=device) < chance[:, None]
    mass = area * 0.4 * thickness[:, None, None] * log_uniform((b, 2, 1), 0.7, 1.8, generator) * there[..., None]
    inside = ((points >= 0) & (points < edge)).all(-1)
    return points.reshape(b, -1, 3), (mass[..., None] * inside).reshape(b, -1)


def filaments(radius: torch.Tensor, chance: torch.Tensor, edge: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Place two hollow rods per volume, each with probability `chance` (b,); `radius` (b,)."""
    b, k = len(radius), 2048
    device = radius.device
    along = uniform((b, 2, k), -0.9 * edge, 0.9 * edge, generator)
    angle = uniform((b, 2, k), 0.0, 2 * math.pi, generator)
    out = radius[:, None, None] * uniform((b, 2, k), 0.6, 1.0, generator)
    rod = torch.stack([along, out * angle.cos(), out * angle.sin()], dim=-1)
    points = torch.einsum("bmkc,bmdc->bmkd", rod, rotations((b, 2), generator)) + uniform((b, 2, 1, 3), 0.0, float(edge), generator)
    there = torch.rand((b, 2), generator=generator, device=device) < chance[:, None]
    mass = (math.pi * 0.64 * radius**2 * 1.8 * edge / k)[:, None, None] * there[..., None]
    inside = ((points >= 0) & (points < edge)).all(-1)
    return points.reshape(b, -1, 3), (mass * inside).reshape(b, -1)


def add_points(grid: torch.Tensor, points: torch.Tensor, mass: torch.Tensor) -> None:
    """Add beads to periodic grids in place: (b, n, n, n), (b, p, 3), (b, p); each shared linearly by eight voxels."""
    b, n = len(grid), grid.shape[-1]
    low = torch.floor(points)
    share = points - low
    low = low.long()
    flat = grid.view(-1)
    offset = (torch.arange(b, device=grid.device) * n**3)[:, None]
    z, y, x = ([low[..., axis] % n, (low[..., axis] + 1) % n] for axis in range(3))
    wz, wy, wx = ([1 - share[..., axis], share[..., axis]] for axis in range(3))
    for corner in range(8):
        i, j, k = corner >> 2, (corner >> 1) & 1, corner & 1
        index = offset + (z[i] * n + y[j]) * n + x[k]
        flat.index_add_(0, index.reshape(-1), (mass * wz[i] * wy[j] * wx[k]).reshape(-1))
