"""Recognise a process that torchrun started beside others. Read from the environment; torch itself is not needed.

torchrun tells each process its number among all (`RANK`), how many there are (`WORLD_SIZE`), and its number on its machine (`LOCAL_RANK`).
"""

import os
from dataclasses import dataclass

from tomostream.errors import InputError


@dataclass(frozen=True, slots=True)
class Launch:
    """Which one of torchrun's processes we are."""

    rank: int  # 0: the first, which speaks and writes for all
    world: int  # how many there are
    local_rank: int  # on this machine


ONE = Launch(0, 1, 0)


def launched() -> Launch:
    """What torchrun says; `ONE` if this process was not started by it.

    Raises
    ------
    InputError
        If torchrun's variables are there, but are no numbers.
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
    """Stop a command of which torchrun's processes would each do all the work, in each other's way.

    Raises
    ------
    InputError
        If torchrun started several.
    """
    world = launched().world
    if world > 1:
        raise InputError(
            f"torchrun started {world} processes, but only `tomostream train` shares its work among them; start `tomostream {command}` without torchrun"
        )
