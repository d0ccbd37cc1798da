"""Share a GPU: one error for memory that is too small, the limit that a user may set, and turns for threads.

Local variables of a failed call would hold memory that the next try needs, so `device_memory` clears them.
"""

import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tomostream.errors import DeviceMemoryError
from tomostream.learn.precision import exact_inference
from tomostream.units import format_bytes

_WORDS = ("out of memory", "ALLOC_FAILED")  # in the errors of CUDA, cuDNN, cuBLAS and cuFFT
_NO_CARD = 4 * 10**9  # for tests, which run the GPU's code on a processor
_turn = threading.RLock()


@contextmanager
def device_memory(device: torch.device, what: str, remedy: str) -> Iterator[None]:
    """Turn any error about too little GPU memory into a `DeviceMemoryError` that says what did not fit, and the remedy."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the libraries raise nothing more specific
        if not isinstance(error, torch.OutOfMemoryError) and not any(word in str(error) for word in _WORDS):
            raise
        traceback.clear_frames(error.__traceback__)
        raise DeviceMemoryError(f"{what} does not fit into the GPU's memory{_size_of(device)}; {remedy}") from None


@contextmanager
def exact_turn(device: torch.device) -> Iterator[None]:
    """Let one thread at a time hand work to the device, inside `exact_inference`.

    So only one thread's intermediate values take memory, and the choice of kernels, which is global, does not change under another thread.
    """
    with _turn, exact_inference(device):
        yield


def limit_device_memory(device: torch.device, most: int | None) -> None:
    """Limit this process to `most` bytes of the GPU's memory; None: all of it."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(1.0 if most is None else min(1.0, most / total), device)


def device_budget(device: torch.device, most: int | None) -> int:
    """Return the bytes of a GPU that blocks are planned for: the user's limit `most`, by default four fifths of the card.

    The memory that is free at the moment plays no part: it would make the bits of the scores change from day to day.
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
