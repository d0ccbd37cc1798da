"""Run a command as the shell would, in this process: what it printed on either stream, and its exit code."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from unittest.mock import patch

from tomostream.cli.main import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def message(self):
        """The error's text; a traceback fails."""
        assert "Traceback" not in self.err, self.err
        lines = self.err.splitlines()
        starts = [i for i, line in enumerate(lines) if line.startswith("tomostream: error: ")]
        assert len(starts) == 1, self.err
        return "\n".join(lines[starts[0] :])


def tomostream(*arguments):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    out, err = io.StringIO(), io.StringIO()
    with patch.object(sys, "argv", ["tomostream", *map(str, arguments)]), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as leaving:
            code = leaving.code or 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Outcome(code, out.getvalue(), err.getvalue())


def in_process_of_its_own(*arguments, timeout=60, **settings):
    done = subprocess.run(
        [sys.executable, "-m", "tomostream", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        **settings,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)
