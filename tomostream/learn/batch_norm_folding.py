"""Fold every batch-norm into its convolution, in float32, for inference.

In evaluation mode batch-norm is one affine step per channel, y = (x - mean) / sqrt(var + eps) * gamma + beta, which can be part of the
convolution before it.  Folding saves a pass over every feature map.  The result is the same up to rounding; scores are always those of the
folded network.
"""

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tomostream.learn.layers import ConvNorm

N = TypeVar("N", bound=nn.Module)


def deployed(network: N) -> N:
    """Copy `network` for inference: evaluation mode, batch-norm folded, no gradients.

    Parameters
    ----------
    network
        A float32 network made of `ConvNorm`s; it is left as it is.

    Returns
    -------
    torch.nn.Module
        The same function within 1e-5 of its outputs, without batch-norm; it may be converted to bf16 and to `channels_last_3d`.
    """
    result = copy.deepcopy(network).eval().float()
    for module in result.modules():
        if isinstance(module, ConvNorm) and isinstance(module.norm, nn.BatchNorm3d):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()
    return result.requires_grad_(False)
