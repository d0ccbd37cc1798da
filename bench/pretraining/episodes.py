"""The losses of pretraining: denoise, find centres, and recognise a species from ten clicks.

An episode imitates later use: ten particles of one species are clicked in one tomogram, a linear head is fitted in closed form to the
features there, and it must find the species in this tomogram and in another one of its kind.

    w = (S + shrinkage tr(S) / c I)^-1 (m - u),   S = (1 - a) S_u + a S_m

with m, S_m mean and covariance of the clicks' features, u, S_u those of unclicked places: half of them all particles (those of the clicked
species don't change the direction of the weights, see `strategies.discriminant`), half random voxels.  The gradient passes through the
solution, so that the features become those by which few clicks distinguish a species.

References
----------
Bertinetto, Henriques, Torr, Vedaldi 2019, "Meta-learning with differentiable closed-form solvers", ICLR.
Lee, Maji, Ravichandran, Soatto 2019, "Meta-learning with differentiable convex optimization", CVPR.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from bench.pretraining.backbone import SIZE_EDGES, Backbone

CLICKS = 10
FEWEST_CLICKS = 5
_RANDOM_VOXELS = 1024
_REACH = 5  # voxels around a centre in which its peak is drawn
_JITTER = 0.5  # of a click, standard deviation in voxels of the level
_CENTRE_WEIGHT = 30.0  # of a voxel at the centre of a wanted particle, over one far from any
_OTHER_WEIGHT = 15.0  # ... of another particle


@dataclass(frozen=True, slots=True)
class Group:
    """The tomograms of one group: image, clean (t, v, n, n, n); position (t, v, i, 3), species, is_there (t, v, i); radius (s,)."""

    image: torch.Tensor
    clean: torch.Tensor
    position: torch.Tensor
    species: torch.Tensor
    is_there: torch.Tensor
    radius: torch.Tensor


def heat_maps(group: Group) -> torch.Tensor:
    """Return maps with peaks of 1 at the centres, (t, v, s, n, n, n): Gaussians of 0.2 radii + 0.6 voxels."""
    t, v, _ = group.species.shape
    n, s = group.image.shape[-1], len(group.radius)
    device = group.image.device
    steps = torch.arange(-_REACH, _REACH + 1, device=device)
    offsets = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1).reshape(-1, 3)
    nearest = group.position.round()
    voxel = nearest.long()[..., None, :] + offsets
    squared = ((voxel - group.position[..., None, :]) ** 2).sum(-1)
    sigma = 0.2 * group.radius[group.species] + 0.6
    value = torch.exp(-squared / (2 * sigma[..., None] ** 2))
    inside = ((voxel >= 0) & (voxel < n)).all(-1) & group.is_there[..., None]
    value = inside * value
    voxel = voxel.clamp(0, n - 1)
    which = torch.arange(t * v, device=device).reshape(t, v, 1, 1) * s + group.species[..., None]
    index = ((which * n + voxel[..., 0]) * n + voxel[..., 1]) * n + voxel[..., 2]
    heat = torch.zeros(t * v * s * n**3, device=device)
    heat.scatter_reduce_(0, index.reshape(-1), value.reshape(-1), "amax")
    return heat.reshape(t, v, s, n, n, n)


def size_maps(heat: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """Return the peaks of all species of each size class, (t, v, classes, n, n, n)."""
    which = sum((radius > edge).long() for edge in SIZE_EDGES)
    parts = [(heat * (which == c).reshape(1, 1, -1, 1, 1, 1)).amax(2) for c in range(len(SIZE_EDGES) + 1)]
    return torch.stack(parts, dim=2)


def _at(features: torch.Tensor, volume: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Return features (..., c), float32, at the nearest voxels; features (v, c, n, n, n), volume (...), position (..., 3)."""
    n = features.shape[-1]
    z, y, x = position.round().long().clamp(0, n - 1).unbind(-1)
    return features[volume, :, z, y, x].float()


def few_shot_head(
    backbone: Backbone, features: torch.Tensor, group: Group, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fit a head for each species on clicks in the first tomogram.

    Parameters
    ----------
    features
        (v, c, n, n, n), of the first tomogram.

    Returns
    -------
    tuple
        Weights (s, c), biases (s,), and whether there were clicks enough (s,).
    """
    v, i = group.species.shape[1:]
    n, s = features.shape[-1], len(group.radius)
    device = features.device
    flat = group.species[0].reshape(-1)
    there = group.is_there[0].reshape(-1)
    candidates = (flat[None] == torch.arange(s, device=device)[:, None]) & there[None]
    keys = torch.rand(candidates.shape, generator=generator, device=device) + candidates
    found, chosen = keys.topk(CLICKS, dim=1)
    is_click = found >= 1
    position = group.position[0].reshape(-1, 3)
    jitter = _JITTER * torch.randn((s, CLICKS, 3), generator=generator, device=device)
    clicks = _at(features, chosen // i, position[chosen] + jitter)
    all_particles = _at(features, torch.arange(v * i, device=device) // i, position)
    anywhere = torch.randint(0, n, (_RANDOM_VOXELS, 3), generator=generator, device=device)
    voxels = _at(features, torch.randint(0, v, (_RANDOM_VOXELS,), generator=generator, device=device), anywhere)
    weight = torch.cat([there.float() / there.sum().clamp_min(1), torch.full((_RANDOM_VOXELS,), 1 / _RANDOM_VOXELS, device=device)])
    weight = weight / weight.sum()
    unclicked = torch.cat([all_particles, voxels])
    return lda_head(clicks, is_click.float(), unclicked, weight, backbone)


def lda_head(
    clicks: torch.Tensor, is_click: torch.Tensor, unclicked: torch.Tensor, weight: torch.Tensor, backbone: Backbone
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the linear head of the module's formula.

    Parameters
    ----------
    clicks, is_click
        Features (s, k, c), and 1 or 0 (s, k).
    unclicked, weight
        Features (m, c), and weights that sum to 1 (m,).
    """
    c = clicks.shape[-1]
    number = is_click.sum(1)
    share = is_click / number.clamp_min(1)[:, None]
    mean = (share[..., None] * clicks).sum(1)
    off = clicks - mean[:, None]
    own = torch.einsum("sk,ski,skj->sij", share, off, off)
    background = (weight[:, None] * unclicked).sum(0)
    off = unclicked - background
    common = torch.einsum("m,mi,mj->ij", weight, off, off)
    a = torch.sigmoid(backbone.own_share)
    spread = (1 - a) * common + a * own
    level = spread.diagonal(dim1=1, dim2=2).mean(1)
    spread = spread + (torch.exp(backbone.shrinkage) * level + 1e-6)[:, None, None] * torch.eye(c, device=clicks.device)
    difference = mean - background
    solved = torch.linalg.solve_ex(spread, difference[..., None])[0][..., 0]
    middle = (solved * (mean + background)).sum(1) / 2
    scale = torch.exp(backbone.scale)
    return scale * solved, backbone.bias - scale * middle, number >= FEWEST_CLICKS


def group_loss(backbone: Backbone, features: list[torch.Tensor], group: Group, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Return the parts of the loss; features (v, c, n, n, n) of each tomogram."""
    with torch.no_grad():
        heat = heat_maps(group)
        sizes = size_maps(heat, group.radius)
        anything = heat.amax(2, keepdim=True)
    weights, biases, is_known = few_shot_head(backbone, features[0], group, generator)
    losses: dict[str, list[torch.Tensor]] = {"density": [], "sizes": [], "same": [], "other": []}
    # one pass over the features for all heads, in float32
    classes = len(SIZE_EDGES) + 1
    weight = torch.cat([backbone.density.weight, backbone.sizes.weight, weights[:, :, None, None, None]])
    bias = torch.cat([backbone.density.bias, backbone.sizes.bias, biases])
    for number, some in enumerate(features):
        seen, size_logits, logits = F.conv3d(some.float(), weight, bias).split([1, classes, len(biases)], dim=1)
        losses["density"].append(F.mse_loss(seen[:, 0], group.clean[number]))
        size_weight = 1 + _CENTRE_WEIGHT * sizes[number]
        size_loss = F.binary_cross_entropy_with_logits(size_logits, sizes[number], reduction="none")
        losses["sizes"].append((size_loss * size_weight).sum() / size_weight.sum())
        one = F.binary_cross_entropy_with_logits(logits, heat[number], reduction="none")
        one_weight = (1 + _CENTRE_WEIGHT * heat[number] + _OTHER_WEIGHT * anything[number]) * is_known.reshape(1, -1, 1, 1, 1)
        losses["same" if number == 0 else "other"].append((one * one_weight).sum() / one_weight.sum().clamp_min(1.0))
    return {name: torch.stack(parts).mean() for name, parts in losses.items() if parts}
