"""On which device do the tests of this folder run?  On a GPU; without one they skip, saying so.

To try the tests themselves where there is none: TOMOSTREAM_GPU_TESTS=cpu runs them on the processor (what only a GPU can show still skips).
"""

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> str:
    """`cuda`, or `cpu` where the tests are only tried."""
    if torch.cuda.is_available():
        return "cuda"
    if os.environ.get("TOMOSTREAM_GPU_TESTS") == "cpu":
        return "cpu"
    pytest.skip("no GPU here (torch.cuda.is_available() is false)")


@pytest.fixture(scope="session")
def cuda(device) -> str:
    """`cuda`, and nothing else."""
    if device != "cuda":
        pytest.skip("only a GPU can show this")
    return device


@pytest.fixture(autouse=True)
def free_device():
    """Whatever a test allowed itself of the GPU's memory, the next one starts anew."""
    yield
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
