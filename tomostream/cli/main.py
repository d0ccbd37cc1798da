"""The program `tomostream`: its commands, and what its exit codes mean.

0 success; 2 bad input, with one message; 3 some of many inputs failed; 130/143 a signal; 1 an internal fault.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from tomostream import __version__
from tomostream.cli import data, learning, options, tables, whole
from tomostream.errors import TomostreamError

app = typer.Typer(
    name="tomostream",
    help="Pick particles in cryo-electron tomograms from a few clicks, out of core.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for module in (whole, data, learning, tables):
    module.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)] = False,
) -> None:
    del version  # its callback has done all


def _fail(message: str, code: int) -> NoReturn:
    print(f"tomostream: error: {message}", file=sys.stderr)
    sys.exit(code)


_MENDABLE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "permission denied",
    errno.EROFS: "the file system is read-only",
}


def main() -> None:
    """Run a command; the only place that turns errors into exit codes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)
    try:
        app(options.spread_tomograms(sys.argv[1:]))
    except TomostreamError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what reads our output has closed it
        sys.exit(0)
    except MemoryError:
        _fail("out of memory; give a smaller --memory, so that blocks are smaller, or free some", 2)
    except OSError as error:
        if error.errno in _MENDABLE:
            _fail(
                f"{_MENDABLE[error.errno]}: {error.filename or error}; nothing finished is lost, run the same command again when that is mended",
                2,
            )
        _internal(error)
    except Exception as error:  # the last resort: anything else is a bug of ours, and says so
        _internal(error)


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
    # written past Python's buffer: the signal may have come in the midst of a line to it
    os.write(2, b"tomostream: error: interrupted; run the same command again to go on\n")
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
