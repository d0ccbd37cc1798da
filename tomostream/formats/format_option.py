"""An option that a table format adds to the commands, and to the keywords of `ts.read_particles` and `ts.write_particles`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tomostream.errors import InputError
from tomostream.units import Length

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatOption(Generic[T]):
    """One option; formats that mean the same share one object.

    Parameters
    ----------
    name
        The keyword, such as `box_size`; the command's option is `--box-size`.
    metavar, help
        What the command's help says; the formats that take it are added.
    parse
        From the text, and what the option is called, to its value; raises an InputError.
    reads, writes
        Whether it is of use for reading, and for writing.
    """

    name: str
    metavar: str
    help: str
    parse: Callable[[str, str], T]
    reads: bool = True
    writes: bool = True

    @property
    def flag(self) -> str:
        """The command's option."""
        return f"--{self.name.replace('_', '-')}"


def plain_text(text: str, where: str) -> str:
    """Parse an option whose value is any text.

    Raises
    ------
    InputError
        If it is empty.
    """
    if not text:
        raise InputError(f"{where} is empty")
    return text


def positive_number(text: str, where: str) -> float:
    """Parse an option whose value is a number above zero.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{where} must be a number, found '{text}'") from None
    if not 0 < value < math.inf:
        raise InputError(f"{where} must be above zero and finite, found {value:g}")
    return value


BOX_SIZE = FormatOption(
    name="box_size",
    metavar="LENGTH",
    help="Edge of the boxes, twice the radius of markers, as 270A or 20vox.",
    parse=Length.parse,
    reads=False,
)
