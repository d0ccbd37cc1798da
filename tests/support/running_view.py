"""`tomostream view` in a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from repository import REPOSITORY


@dataclass
class Running:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    address: str
    stderr: Path
    folder: Path

    @property
    def port(self) -> int:
        return int(re.match(r"http://127\.0\.0\.1:(\d+)/\?token=", self.address)[1])

    @property
    def token(self) -> str:
        return self.address.partition("token=")[2]

    def end(self, number: int = 15) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TOMOSTREAM_DEBUG": ""}


@contextmanager
def started(*arguments: str | Path, cwd: Path, with_browser: bool = False, **variables: str) -> Iterator[Running]:
    """Start `tomostream view ARGUMENTS` in a folder, with these variables of the environment, and end it."""
    stderr = cwd / f"view-{os.urandom(4).hex()}.err"
    with stderr.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tomostream", "view", *([] if with_browser else ["--no-browser"]), *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=cwd, env=environment() | variables,
        )  # fmt: skip
    with process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address, stderr.read_text()
            yield Running(process, address, stderr, cwd)
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:  # told, not waited for
                process.kill()
                raise
