"""Two minutes of `bench.soak`: random commands with faults, over one data set.  The seed is printed; TOMOSTREAM_SEED repeats a run."""

import os
import secrets

import pytest

from bench.soak import soak

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")]


@pytest.mark.skipif("TOMOSTREAM_SOAK" not in os.environ, reason="two minutes and more of one core: set TOMOSTREAM_SOAK=1, as .ci/run does")
def test_random_commands_with_faults_lose_and_change_nothing(tmp_path, capsys):
    seed = int(os.environ.get("TOMOSTREAM_SEED") or secrets.randbelow(2**31))
    with capsys.disabled():
        print(f"\nsoak: to repeat this, set TOMOSTREAM_SEED={seed}", flush=True)
    done = soak(tmp_path, 100, seed)
    with capsys.disabled():
        print(f"soak: {done}", flush=True)
    assert sum(done["done"].values()) > 0
