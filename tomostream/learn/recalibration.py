"""Recalibrate batch-norm statistics for whole volumes, from uniform crops.

The running statistics of training come partly from crops around labels, which a whole volume does not look like.  So, in a copy, the mean
and variance of every batch-norm are replaced by the plain average over batches of uniform crops, each normalised by its own statistics.
"""

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch
from jaxtyping import Float32
from torch import nn

from tomostream.errors import TomostreamError

N = TypeVar("N", bound=nn.Module)


def recalibrated(network: N, images: Iterable[Float32[torch.Tensor, "n 1 z y x"]], *, device: torch.device) -> N:
    """Copy `network` in evaluation mode, with batch-norm statistics computed from `images`.

    Parameters
    ----------
    network
        Left as it is.
    images
        Batches of uniformly drawn crops; each counts the same.
    device
        Where the copy lies and computes.

    Raises
    ------
    TomostreamError
        If there is no image.
    """
    result = copy.deepcopy(network).to(device).train()
    norms = [module for module in result.modules() if isinstance(module, nn.BatchNorm3d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the cumulative average
    count = 0
    with torch.no_grad():
        for image in images:
            result(image.to(device))
            count += 1
    if count == 0:
        raise TomostreamError(
            "batch-norm statistics need at least one batch of uniform crops, found none; is the volume smaller than a crop?"
        )
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    return result.eval()
