"""Recognise a process that torchrun started, from the environment; does not import torch.

torchrun gives each process its number (`RANK`), the number of processes (`WORLD_SIZE`), and its number on its machine (`LOCAL_RANK`).
"""

import os
from dataclasses import dataclass

from tomostream.errors import InputError


@dataclass(frozen=True, slots=True)
class Launch:
    """A process among those that torchrun started."""

    rank: int  # 0 is the first, which writes the files and the messages
    world: int  # number of processes
    local_rank: int  # number on this machine


ONE = Launch(0, 1, 0)


def launched() -> Launch:
    """Return what torchrun says of this process; `ONE` if torchrun did not start it.

    Raises
    ------
    InputError
        If torchrun's variables are set, but are not numbers.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ONE
    found = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    try:
        rank, world, local_rank = map(int, found.values())
    except ValueError:
        text = ", ".join(f"{name}='{value}'" for name, value in found.items())
        raise InputError(f"torchrun's variables must be numbers, found {text}; start with torchrun, or unset TORCHELASTIC_RUN_ID") from None
    return Launch(rank, world, local_rank)


def refuse_torchrun(command: str) -> None:
    """Refuse a command that does not share its work: each of torchrun's processes would do all of it, in the others' way.

    Raises
    ------
    InputError
        If torchrun started several processes.
    """
    world = launched().world
    if world > 1:
        raise InputError(
            f"torchrun started {world} processes, but only `tomostream train` shares its work among them; start `tomostream {command}` without torchrun"
        )
