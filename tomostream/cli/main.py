"""The program `tomostream`: where it starts, and what its exit codes mean.

The commands are imported only when signals are handled: they take a few tenths of a second.

0 success; 2 bad input, with one message; 3 some of many inputs failed; 130/143 a signal; 1 an internal fault.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from typing import NoReturn

from tomostream.errors import PeerEndedError, TomostreamError
from tomostream.redaction import redacted


def _fail(message: str, code: int) -> NoReturn:
    print(f"tomostream: error: {redacted(message)}", file=sys.stderr)
    sys.exit(code)


_SYSTEM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "permission denied",
    errno.EROFS: "the file system is read-only",
}


def main() -> None:
    """Run a command; the only place that turns errors into exit codes."""
    let_waiting_threads_sleep()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal's encoding lacks is spelled out, and no fault
            stream.reconfigure(errors="backslashreplace")
    try:
        from tomostream.cli import options
        from tomostream.cli.program import app

        app(options.spread_tomograms(sys.argv[1:]))
    except PeerEndedError as error:
        if _is_follower():
            sys.exit(error.exit_code)  # whose fault it was has said so, or the first process does
        _fail(str(error), error.exit_code)
    except TomostreamError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what reads our output has closed it
        sys.exit(0)
    except MemoryError:
        _fail("out of memory; give a smaller --memory, so that blocks are smaller, or free some", 2)
    except OSError as error:
        if error.errno is None:  # not the system's
            _internal(error)
        what = _SYSTEM.get(error.errno, error.strerror)
        where = f": {error.filename}" if error.filename else ""
        _fail(f"{what}{where}; nothing finished is lost, run the same command again when that is mended", 2)
    except Exception as error:  # the last resort: anything else is a bug of ours, and says so
        _internal(error)


def let_waiting_threads_sleep() -> None:
    """Let threads of numerical libraries sleep while they wait for each other, here and in every process that this one starts.

    By default they spin, and with one neighbour on the machine training takes ten times as long.  OpenMP reads this once, when it is loaded:
    so it is set before anything that uses it.  What the user has set stays.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def _is_follower() -> bool:
    """Whether torchrun started this process beside a first one, which speaks for all."""
    return os.environ.get("RANK", "0") != "0" and "TORCHELASTIC_RUN_ID" in os.environ


def _internal(error: BaseException) -> NoReturn:
    if os.environ.get("TOMOSTREAM_DEBUG"):
        raise error
    _fail(
        f"internal fault, a bug of tomostream ({type(error).__name__}: {error}); set TOMOSTREAM_DEBUG=1 for the traceback, and please report it",
        1,
    )


def _on_signal(number: int, frame: object) -> NoReturn:
    """Leave through the open contexts, so that they close what they hold; unfinished work resumes from what is on disk."""
    del frame
    if not _is_follower():
        # written past Python's buffer: the signal may have come in the midst of a line to it
        os.write(2, b"tomostream: error: interrupted; run the same command again to go on\n")
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
