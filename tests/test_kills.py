"""Every command, killed at random file-system calls and run again, leaves the files of an undisturbed run; two minutes of `bench/kills.py`."""

import json
import os
import subprocess
import sys

import pytest
from repository import REPOSITORY


@pytest.mark.slow
def test_commands_killed_at_random_moments_leave_the_same_files_after_a_rerun(tmp_path):
    seed = os.environ.get("TOMOSTREAM_SEED", "1")
    command = [sys.executable, "-m", "bench.kills", "--kills", "48", "--seconds", "100", "--seed", seed, "--folder", str(tmp_path)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout[done.stdout.index("{") :])
    assert told["failures"] == []
    assert sum(told["trials"].values()) >= 5
    print(f"seed {told['seed']}: {told['trials']}")
