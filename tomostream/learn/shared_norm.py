"""Batch-norm over the voxels of all processes that train together.

Otherwise the network would depend on how a batch is divided, and each small part would be normalised by few voxels.  (torch offers this
for GPUs only.)

1. Each process computes mean m_r and variance v_r of its own voxels per channel; all are exchanged at once.
2. Every process has the same number of voxels, so mean = mean of m_r, and variance = mean of v_r + mean of (m_r - mean)^2.
3. Gradients flow back through the exchange (`Processes.total`).

References
----------
Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances".
"""

import copy
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import nn

from tomostream.learn.processes import Processes

N = TypeVar("N", bound=nn.Module)


class SharedBatchNorm(nn.Module):
    """Batch-norm for training over the voxels of all processes; it uses the parameters and running statistics of an ordinary one."""

    def __init__(self, norm: nn.BatchNorm3d, processes: Processes) -> None:
        super().__init__()
        self.norm, self.processes = norm, processes

    def forward(self, x: Float[torch.Tensor, "n c z y x"]) -> Float[torch.Tensor, "n c z y x"]:
        """Normalise, and update the running statistics as an ordinary batch-norm does."""
        norm, world = self.norm, self.processes.world
        wide = x.float()
        own = torch.stack(torch.var_mean(wide, dim=(0, 2, 3, 4), correction=0))
        places = [own if rank == self.processes.rank else torch.zeros_like(own) for rank in range(world)]
        variances, means = self.processes.total(torch.stack(places)).unbind(dim=1)
        mean = means.mean(dim=0)
        variance = variances.mean(dim=0) + ((means - mean) ** 2).mean(dim=0)
        self._remember(mean.detach(), variance.detach(), world * x.numel() // x.shape[1])
        scale = torch.rsqrt(variance + norm.eps) * norm.weight
        each = (slice(None), None, None, None)
        return ((wide - mean[each]) * scale[each] + norm.bias[each]).to(x.dtype)

    def _remember(self, mean: torch.Tensor, variance: torch.Tensor, voxels: int) -> None:
        norm = self.norm
        if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None or norm.momentum is None:
            raise TypeError("SharedBatchNorm takes the place of a batch-norm with a moving average only")
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * voxels / (voxels - 1), norm.momentum)


def with_shared_norms(network: N, processes: Processes) -> N:
    """Return a network that shares `network`'s parameters and statistics (the same memory), and normalises over all processes.

    Parameters
    ----------
    network
        Left as it is, so that it can run without the other processes.  Returned itself if there is only one process.
    """
    if processes.world == 1:
        return network
    kept = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    result = copy.deepcopy(network, kept)
    for module in list(result.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm3d):
                setattr(module, name, SharedBatchNorm(child, processes))
    return result
