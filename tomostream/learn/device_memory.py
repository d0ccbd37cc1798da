"""What if a GPU's memory is too small, and who may compute on it when?  One error of ours, the limit that a user may set, and turns.

What a failed call left in its local variables would keep the memory from whoever tries again with less, so it is dropped here.
"""

import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tomostream.errors import DeviceMemoryError
from tomostream.learn.precision import exact_inference
from tomostream.units import format_bytes

_WORDS = ("out of memory", "ALLOC_FAILED")  # of CUDA's, cuDNN's, cuBLAS's and cuFFT's own errors
_NO_CARD = 4 * 10**9  # where the device's way is tried on a processor, in tests
_turn = threading.RLock()


@contextmanager
def device_memory(device: torch.device, what: str, remedy: str) -> Iterator[None]:
    """Tell of GPU memory that is short as a `DeviceMemoryError`: `what` does not fit into the GPU's memory; `remedy`."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; libraries have no narrower one
        if not isinstance(error, torch.OutOfMemoryError) and not any(word in str(error) for word in _WORDS):
            raise
        traceback.clear_frames(error.__traceback__)
        raise DeviceMemoryError(f"{what} does not fit into the GPU's memory{_size_of(device)}; {remedy}") from None


@contextmanager
def exact_turn(device: torch.device) -> Iterator[None]:
    """One thread at a time hands work to the device, by kernels that give the same bits every time; float32 is float32.

    Its intermediate values are gone before the next thread's are made, and the choice of kernels is one for the whole process.
    """
    with _turn, exact_inference(device):
        yield


def limit_device_memory(device: torch.device, most: int | None) -> None:
    """Let this process take so many bytes of the GPU's memory and no more; None: all of it."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(1.0 if most is None else min(1.0, most / total), device)


def device_budget(device: torch.device, most: int | None) -> int:
    """Bytes of a GPU that blocks are planned for: what the user allows, else four fifths of the card.

    It does not depend on what is free at the moment, or the same command would give other bits on another day.
    """
    if most is not None or device.type != "cuda":
        return _NO_CARD if most is None else most
    return torch.cuda.get_device_properties(device).total_memory * 4 // 5


def _size_of(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    return f" ({format_bytes(free)} of {format_bytes(total)} are free)"
