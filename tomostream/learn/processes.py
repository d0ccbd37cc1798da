"""Train one network in several processes as if in one, by exchanges through torch.distributed.

The loss of a step is that of all processes' batches together.  Objectives are nonlinear in sums over voxels (ratios, `max`, logarithms),
so the sums are exchanged, not the losses:

1. `total` adds a tensor over the processes; every process then computes the same loss L.  Its derivative is the true one of
   the mean over processes (1/N) sum_r L_r: the gradients that arrive are added over the processes as well.
2. So the parameters' gradient is the mean over the processes (`average_gradients`): that of one process with the whole batch.
3. `from_first` sends the others the result of what only the first process does: reading the checkpoint, validating, looking at the clock.
4. If a process ends, the others find their connection closed and raise `PeerEndedError`.

`ALONE` is a single process: nothing is exchanged.

Limits: all processes take the same steps in the same order, with batches of one shape; their weights stay identical only on processors of
one kind.
"""

import datetime
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn

from tomostream.errors import InputError, PeerEndedError, TomostreamError
from tomostream.learn.torchrun import launched

T = TypeVar("T")

_LOOPBACK = Path("/sys/class/net/lo")  # as Linux has it; elsewhere gloo finds the interface
_FIRST_SPEAKS_SECONDS = 5.0
_PATIENCE = datetime.timedelta(days=2)  # how long to wait while the first converts or validates; a process that ends is noticed at once


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes that train together, and this one's number."""

    rank: int
    world: int

    @property
    def is_first(self) -> bool:
        """Whether this process reads and writes the model folder, validates, and writes to the console."""
        return self.rank == 0

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add a tensor over the processes; differentiable.

        Raises
        ------
        PeerEndedError
            If another process has ended.
        """
        if self.world == 1:
            return tensor
        return cast(torch.Tensor, _Total.apply(tensor))  # type: ignore[no-untyped-call]  # torch leaves it so

    def average_gradients(self, network: nn.Module) -> None:
        """Replace each parameter's gradient by its mean over the processes, in one exchange.

        Raises
        ------
        PeerEndedError
            If another process has ended.
        """
        if self.world == 1:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        _exchange(dist.all_reduce, flat)
        parts = (flat / self.world).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.reshape(gradient.shape))

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what `make` gives in the first process; it is called there only, and its result (picklable) is sent.

        Raises
        ------
        PeerEndedError
            If another process has ended.
        """
        if self.world == 1:
            return make()
        held: list[Any] = [make() if self.is_first else None]
        _exchange(dist.broadcast_object_list, held, src=0, device=torch.device("cpu"))
        return cast(T, held[0])


ALONE = Processes(0, 1)


class _Total(torch.autograd.Function):
    """The sum over the processes; backwards the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        del ctx
        return _added(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        del ctx
        return _added(gradients[0])


def _added(tensor: torch.Tensor) -> torch.Tensor:
    result = tensor.detach().clone(memory_format=torch.contiguous_format)
    _exchange(dist.all_reduce, result)
    return result


def _exchange(operation: Callable[..., object], *values: Any, **options: Any) -> None:
    try:
        operation(*values, **options)
    except RuntimeError as error:  # gloo and NCCL raise nothing more specific
        reason = (str(error).splitlines() or ["no details"])[0]
        raise PeerEndedError(
            f"another process of this training ended or can't be reached ({reason}); see its message, and torchrun's. "
            "The same command goes on from the last checkpoint"
        ) from None


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, and leave them at the end; yield `ALONE` without torchrun.

    CPU tensors are exchanged by gloo, those of GPUs by NCCL; each process takes the GPU of its number on its machine.  If all processes
    are on one machine they use its loopback interface, because its host name may resolve to an address that does not work.

    Parameters
    ----------
    device
        `auto`, `cpu` or `cuda`.

    Raises
    ------
    InputError
        If there are more processes on this machine than GPUs.
    PeerEndedError
        If the others can't be reached.
    """
    launch = launched()
    if launch.world == 1:
        yield ALONE
        return
    backend = "gloo"
    if device != "cpu" and torch.cuda.is_available():
        gpus = torch.cuda.device_count()
        if launch.local_rank >= gpus:
            here = os.environ.get("LOCAL_WORLD_SIZE", "more")
            raise InputError(
                f"torchrun started {here} processes on this machine, which shows {gpus} GPUs; use --nproc-per-node {gpus}, or predict.device: cpu"
            )
        torch.cuda.set_device(launch.local_rank)
        backend = "cpu:gloo,cuda:nccl"
    if os.environ.get("LOCAL_WORLD_SIZE") == str(launch.world) and _LOOPBACK.exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK.name)
    _exchange(dist.init_process_group, backend, timeout=_PATIENCE)
    try:
        yield Processes(launch.rank, launch.world)
    except PeerEndedError:
        raise
    except TomostreamError:
        if launch.rank:
            time.sleep(_FIRST_SPEAKS_SECONDS)  # an error in all processes is reported by the first; torchrun then ends the others
        raise
    finally:
        dist.destroy_process_group()
