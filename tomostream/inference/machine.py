"""Describe the parts of this machine that decide the bits of scores."""

import platform

import numpy as np
import torch

from tomostream.learn.precision import resolve_device


def environment(device: str) -> dict[str, str]:
    """Return what decides the bits of scores besides precision, block grid and threads: device, instruction set, library versions.

    Parameters
    ----------
    device
        See `resolve_device`.
    """
    used = resolve_device(device)
    if used.type == "cuda":
        kind = f"{torch.cuda.get_device_name(used)}, cuDNN {torch.backends.cudnn.version()}"
    else:
        kind = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {"device": kind, "torch": torch.__version__, "numpy": np.__version__}
