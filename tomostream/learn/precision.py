"""Choose precision and device: what `auto` means on this machine.

bf16 halves the memory traffic and, on a processor with instructions for it, is much faster; without them it is emulated and slower than
float32, and where oneDNN has no bf16 at all (x86 without AVX-512) a step of training would take a hundred times as long.  So `auto` asks the
processor for its features, and training in `bf16` computes in float32 there.  Weights, batch statistics and losses stay float32; bf16 is used through autocast,
where convolutions round their inputs.
"""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch

from tomostream.errors import InputError

PRECISIONS = ("auto", "float32", "bf16")
_TYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
# names of the processor features, as Linux lists them: x86 (two kinds), ARM
_BF16_FEATURES = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}
_PROCESSOR_FACTS = Path("/proc/cpuinfo")


def processor_features(facts: Path = _PROCESSOR_FACTS) -> set[str]:
    """Return the features of this processor, as Linux names them; empty if the system does not list them."""
    try:
        lines = facts.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.lower().startswith(("flags", "features"))), set())


def resolve_device(name: str) -> torch.device:
    """Return the device for `auto` (a GPU if there is one), `cpu` or `cuda`; a GPU is the one of this process, with its number.

    Raises
    ------
    InputError
        If the name is unknown or there is no GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device must be auto, cpu or cuda, found '{name}'")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda is not available (no GPU, or a torch without CUDA); use --device cpu or auto")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def resolve_precision(name: str, device: torch.device) -> str:
    """Return the precision of training for `auto` (bf16 if the device has instructions for it, else float32), `float32` or `bf16`.

    A processor on which oneDNN has no bf16 computes in float32, whatever is asked.

    Returns
    -------
    str
        "float32" or "bf16".

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if name not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, found '{name}'")
    if name == "bf16" and device.type == "cpu" and not onednn_takes(torch.bfloat16):
        return "float32"
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "float32"
    return "bf16" if processor_features() & _BF16_FEATURES else "float32"


@functools.cache
def onednn_takes(dtype: torch.dtype) -> bool:
    """Return whether oneDNN convolves this type on this processor, by trying it."""
    if not torch.backends.mkldnn.is_available():
        return False
    one = torch.zeros(1, 1, 1, 1, 1, dtype=dtype)
    try:
        torch.mkldnn_convolution(one, one, None, [0, 0, 0], [1, 1, 1], [1, 1, 1], 1)
    except RuntimeError:
        return False
    return True


def inference_type(precision: str) -> torch.dtype:
    """Return the type of weights and feature maps in prediction.

    Raises
    ------
    InputError
        If the precision is neither float32 nor bf16.
    """
    if precision not in _TYPES:
        raise InputError(f"precision of prediction must be float32 or bf16, found '{precision}'")
    return _TYPES[precision]


def exact_kernels() -> AbstractContextManager[object]:
    """Return a context in which kernels give the same bits every time, and float32 is not rounded to TF32."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


@contextmanager
def exact_inference(device: torch.device) -> Iterator[None]:
    """Switch off gradients and autocast, and use `exact_kernels`, so that validation during training has the bits of a prediction."""
    with torch.inference_mode(), torch.autocast(device.type, enabled=False), exact_kernels():
        yield


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return a context in which convolutions run in `precision` ("float32" or "bf16")."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
