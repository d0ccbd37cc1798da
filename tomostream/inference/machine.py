"""What of this machine decides the bits of scores."""

import platform

import numpy as np
import torch

from tomostream.learn.precision import resolve_device


def environment(device: str) -> dict[str, str]:
    """What besides precision, block grid and threads decides the bits of scores: device, instruction set, versions of the libraries.

    Parameters
    ----------
    device
        As of `Scorer`.
    """
    used = resolve_device(device)
    kind = torch.cuda.get_device_name(used) if used.type == "cuda" else f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {"device": kind, "torch": torch.__version__, "numpy": np.__version__}
