"""The program `tomostream`: its entry point and its exit codes.

The commands are imported after the signal handlers are installed, because the imports take a few tenths of a second.

0 success; 2 bad input, with one message; 3 some of many inputs failed; 130/143 a signal; 1 an internal fault.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from typing import NoReturn

from tomostream.cli.named_pipes import refuse_named_pipes
from tomostream.cores import cores_here, own_quota
from tomostream.errors import InputError, PeerEndedError, TomostreamError
from tomostream.redaction import redacted

_received: list[int] = []  # the signal that ends this process; it has been told


def _fail(message: str, code: int) -> NoReturn:
    if (
        _received
    ):  # what a signal interrupted may fail for it: Python makes an end in `__set_name__` a RuntimeError, and that may be told as another
        sys.exit(128 + _received[0])
    print(f"tomostream: error: {redacted(message)}", file=sys.stderr)
    sys.exit(code)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SYSTEM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "permission denied",
    errno.EROFS: "the file system is read-only",
}


def main() -> None:
    """Run a command; the only place that turns errors into exit codes."""
    let_waiting_threads_sleep()
    keep_to_the_quota()
    for number in _SIGNALS:
        signal.signal(number, _on_signal)
    _spell_out()
    refuse_named_pipes()
    before, sys.unraisablehook = sys.unraisablehook, _unraisable
    try:
        from tomostream.cli import options
        from tomostream.cli.program import app

        _refuse_zero_bytes(sys.argv[1:])
        app(options.spread_tomograms(sys.argv[1:]))
    except SystemExit as end:  # the commands' parser ends the program itself
        sys.exit(128 + _received[0] if _received else end.code)
    except PeerEndedError as error:
        if _is_follower():
            sys.exit(error.exit_code)  # the error has been reported by the process that failed, or will be by the first one
        _fail(str(error), error.exit_code)
    except TomostreamError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output has closed it
        sys.exit(0)
    except MemoryError:
        _fail("out of memory; lower --memory, so that blocks are smaller, or close other programs", 2)
    except OSError as error:
        if error.errno is None:  # not the system's
            _internal(error)
        what = _SYSTEM.get(error.errno, error.strerror)
        where = f": {error.filename}" if error.filename else ""
        _fail(f"{what}{where}; finished work is kept: fix this, then run the same command again", 2)
    except Exception as error:  # anything else is a bug of tomostream
        _internal(error)
    finally:
        # the result is complete: a signal from here on, while libraries shut down, ends the process silently
        for number in _SIGNALS:
            signal.signal(number, _leave_at_once)
        sys.unraisablehook = before


def let_waiting_threads_sleep() -> None:
    """Let threads of numerical libraries sleep while they wait for each other, in this process and in its children.

    By default they spin, which slows training severely beside one other program.  OpenMP reads the setting once, when it is loaded,
    so it is set first.  A value that the user has set is kept.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def keep_to_the_quota() -> None:
    """Let numerical libraries start no more threads than this process's quota of processor time allows; they look at affinity alone.

    Nothing changes where there is no quota, or the user has set `OMP_NUM_THREADS`.
    """
    quota = own_quota()
    if quota is not None and "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(cores_here())


def _refuse_zero_bytes(arguments: list[str]) -> None:
    """Refuse what no command line can hold, and only a program that calls `main` can give: click looks at paths, and old versions of it fail there."""
    for one in arguments:
        if "\0" in one:
            raise InputError(f"the argument {one!r} holds a zero byte, which no path or value may have; leave it out")


def _spell_out() -> None:
    """Print names that the terminal's encoding lacks with escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_follower() -> bool:
    """Whether torchrun started this process beside a first one, which reports for all."""
    return os.environ.get("RANK", "0") != "0" and "TORCHELASTIC_RUN_ID" in os.environ


def _internal(error: BaseException) -> NoReturn:
    if os.environ.get("TOMOSTREAM_DEBUG"):
        raise error
    _fail(
        f"internal fault, a bug of tomostream ({type(error).__name__}: {error}); set TOMOSTREAM_DEBUG=1 for the traceback, and please report it",
        1,
    )


def _on_signal(number: int, frame: object) -> NoReturn:
    """Exit through the open contexts, so that they close their resources; unfinished work resumes from disk.

    A second signal exits at once.
    """
    del frame
    _received.append(number)
    for each in _SIGNALS:
        signal.signal(each, _leave_at_once)
    if not _is_follower():
        # written past Python's buffer: the signal may have interrupted a line in it
        os.write(2, b"tomostream: error: interrupted; run the same command again to go on\n")
    sys.exit(128 + number)


def _leave_at_once(number: int, frame: object) -> NoReturn:
    del frame
    os._exit(128 + number)


def _unraisable(problem: sys.UnraisableHookArgs) -> None:
    """Exit even if the signal arrived while an object was being deleted, where Python would swallow it."""
    if isinstance(problem.exc_value, SystemExit) and isinstance(problem.exc_value.code, int):
        os._exit(problem.exc_value.code)
    sys.__unraisablehook__(problem)


if __name__ == "__main__":
    main()
