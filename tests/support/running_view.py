"""`tomostream view` in a process of its own."""

import os
import re
import subprocess
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
        return int(re.match(r"http://127\.0\.0\.1:(\d+)/\?token=", self.address)[1])  # type: ignore[index]

    @property
    def token(self) -> str:
        return self.address.partition("token=")[2]

    def end(self, number: int = 15) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TOMOSTREAM_DEBUG": ""}
