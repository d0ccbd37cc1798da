"""Start torchrun as a user would."""

import os
import subprocess
import sys

SETTINGS = {"OMP_NUM_THREADS": "1", "COLUMNS": "300"}


def start(*arguments, processes=2):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes, *arguments]
    return subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | SETTINGS
    )


def torchrun(*arguments, processes=2, timeout=300):
    """Its exit code, and all it printed."""
    running = start(*arguments, processes=processes)
    try:
        out, err = running.communicate(timeout=timeout)
    finally:
        running.kill()
    return running.returncode, out + err
