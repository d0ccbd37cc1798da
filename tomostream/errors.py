"""What can go wrong, and which exit code it becomes.

Every error that a user can cause is a `TomostreamError`: its text says what is wrong, the value found, what is allowed, where, and
what to do.  The command line prints the text, without a traceback, and exits with `exit_code`.  Anything else is a bug of ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from tomostream.redaction import redacted


class TomostreamError(Exception):
    """Base of all errors that a user can cause or mend; secrets in the URLs of its text are masked."""

    exit_code = 2

    def __init__(self, message: str = "") -> None:
        super().__init__(redacted(message))


class InputError(TomostreamError):
    """A file, table, option or value is not what it must be."""


class ConfigurationError(InputError):
    """The YAML configuration is wrong (unknown key, bad value, missing key)."""


class BudgetError(TomostreamError):
    """The projected memory or disk does not fit; raised before any work."""


class DeviceMemoryError(BudgetError):
    """A block did not fit into the GPU's memory; a smaller one may."""


class ExistsError(TomostreamError):
    """The output exists and was made with other settings; `--overwrite` replaces it."""


class BusyError(TomostreamError):
    """Another process is writing the same output."""


class MachineError(TomostreamError):
    """A machine can't do what another may: its disk is full, a folder is not mounted, its GPU is missing."""


class PeerEndedError(TomostreamError):
    """Another process of a training on several processes ended; its own message, or torchrun's, says why."""


class SomeFailedError(TomostreamError):
    """Some of many inputs failed, the others are done.

    Parameters
    ----------
    failures
        Pairs of input name and the message of what went wrong there.
    total
        Number of inputs.
    done
        The results of the others.
    """

    exit_code = 3

    def __init__(self, failures: list[tuple[str, str]], total: int, done: Sequence[object] = ()) -> None:
        self.failures = failures
        self.total = total
        self.done = done
        rows = "\n".join(f"  {name}: {message}" for name, message in failures)
        super().__init__(f"{len(failures)} of {total} inputs failed, the others are done:\n{rows}")
