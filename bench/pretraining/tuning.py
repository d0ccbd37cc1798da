"""Self-training: does it help to train the whole network on the best peaks of the few-shot head?

1. In each tomogram, clicked or not, the head's best peaks (`SURE` of the expected number) and the clicks are centres; the next ones, up to
   `DOUBTFUL` of that number, are left out; everything else is background.
2. The whole network is trained on heat maps of the centres in random crops, with flips and rotations about the beam, at a low learning
   rate, starting from the few-shot head.
3. The mean of the weights over the steps is used.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bench.pretraining.backbone import Backbone

SURE, DOUBTFUL = 0.6, 1.6
_CROP = 48


class Tuned(nn.Module):
    """A body and its head: logits (n, 1, z, y, x)."""

    def __init__(self, backbone: Backbone, weights: np.ndarray, bias: np.ndarray) -> None:
        super().__init__()
        self.body = backbone.body
        self.head = nn.Conv3d(weights.shape[1], 1, 1)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(weights)[:, :, None, None, None])
            self.head.bias.copy_(torch.from_numpy(bias))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits of an image."""
        logits: torch.Tensor = self.head(self.body(image))
        return logits


def targets(shape: tuple[int, ...], sure: np.ndarray, doubtful: np.ndarray, *, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return heat map and weights of a volume; centres (n, 3)."""
    sigma = 0.2 * radius + 0.6
    heat, weight = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    reach = int(np.ceil(max(3 * sigma, 0.8 * radius)))
    for centre, is_sure in [(c, False) for c in doubtful] + [(c, True) for c in sure]:
        low = np.maximum(0, np.rint(centre).astype(int) - reach)
        high = np.minimum(shape, np.rint(centre).astype(int) + reach + 1)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        grid = np.stack(np.meshgrid(*[np.arange(a, b) for a, b in zip(low, high, strict=True)], indexing="ij"), -1)
        squared = ((grid - centre) ** 2).sum(-1)
        if is_sure:
            value = np.exp(-squared / (2 * sigma**2))
            heat[box] = np.maximum(heat[box], value)
            weight[box] = np.maximum(weight[box], 1 + 30 * value)
        else:
            weight[box] = np.where(squared <= (0.8 * radius) ** 2, 0.0, weight[box])
    return heat, weight


def tuned(
    backbone: Backbone,
    head: tuple[np.ndarray, np.ndarray],
    volumes: list[np.ndarray],
    heats: list[tuple[np.ndarray, np.ndarray]],
    *,
    steps: int,
    learning_rate: float,
    seed: int,
) -> Tuned:
    """Train on all volumes in turn; the crops of a step come from one tomogram, so that batch-norm sees a single one."""
    rng = np.random.default_rng(seed)
    network = Tuned(backbone, *head).train()
    average = [p.detach().clone() for p in network.parameters()]
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4)
    for step in range(steps):
        for part in optimiser.param_groups:
            part["lr"] = learning_rate * min(1.0, (step + 1) / 10) * (0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * step / steps)))
        which = step % len(volumes)
        volume, (heat, weight) = volumes[which], heats[which]
        edges = [min(_CROP, n // 4 * 4) for n in volume.shape]
        crops = []
        for _ in range(4):
            start = [int(rng.integers(0, n - e + 1)) for n, e in zip(volume.shape, edges, strict=True)]
            box = tuple(slice(a, a + e) for a, e in zip(start, edges, strict=True))
            crop = np.stack([volume[box], heat[box], weight[box]])
            for axis in (1, 2, 3):
                if rng.integers(2):
                    crop = np.flip(crop, axis)
            crops.append(np.rot90(crop, int(rng.integers(4)), (2, 3)) if edges[1] == edges[2] else crop)
        batch = torch.from_numpy(np.ascontiguousarray(np.stack(crops)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = network.body(batch[:, :1])
        logits = F.conv3d(features.float(), network.head.weight, network.head.bias)
        loss = F.binary_cross_entropy_with_logits(logits, batch[:, 1:2], reduction="none")
        total = (loss * batch[:, 2:]).sum() / batch[:, 2:].sum()
        optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        decay = min(0.98, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, p in zip(average, network.parameters(), strict=True):
                mean.lerp_(p, 1 - decay)
    with torch.no_grad():
        for mean, p in zip(average, network.parameters(), strict=True):
            p.copy_(mean)
    return network
