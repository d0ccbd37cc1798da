"""The network to pretrain: the package's residual U-Net, with heads that are used only here.

A head is a 1x1x1 convolution of the body's last features.  Later the clicks make another such head, so that the final model is an ordinary
`ResidualUNet` of the package.
"""

import torch
from torch import nn

from tomostream.strategies.unet.network import ResidualUNet

SIZE_EDGES = (3.0, 4.3, 6.0)  # radii that separate the size classes, voxels


class Backbone(nn.Module):
    """A residual U-Net without its head; `density` and `sizes` are heads of the pretraining.

    Parameters
    ----------
    channels
        Of the levels, finest first.
    seed
        Of the initial weights.
    """

    def __init__(self, channels: tuple[int, ...], *, seed: int) -> None:
        super().__init__()
        self.body = ResidualUNet(channels, 1, seed=seed)
        self.body.head = nn.Identity()  # features instead of logits
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.density = nn.Conv3d(channels[0], 1, 1)
            self.sizes = nn.Conv3d(channels[0], len(SIZE_EDGES) + 1, 1)
        nn.init.constant_(self.sizes.bias, -4.0)  # centres are rare
        # of the few-shot head: shrinkage of the covariance, share of the clicks' own covariance, scale and bias of its logits
        self.shrinkage = nn.Parameter(torch.tensor(-3.0))
        self.own_share = nn.Parameter(torch.tensor(-1.5))
        self.scale = nn.Parameter(torch.tensor(-1.5))
        self.bias = nn.Parameter(torch.tensor(-3.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return features (n, channels, z, y, x) of images (n, 1, z, y, x)."""
        features: torch.Tensor = self.body(image)
        return features
