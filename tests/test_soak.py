"""Two minutes of `bench.soak`: random commands with faults, over one data set.  `TOMOSTREAM_SOAK` is the seed; `.ci/run` draws and prints it."""

import os

import pytest

from bench.soak import soak

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")]


@pytest.mark.skipif(
    "TOMOSTREAM_SOAK" not in os.environ, reason="two minutes and more of one core: set TOMOSTREAM_SOAK to a seed, as .ci/run does"
)
def test_random_commands_with_faults_lose_and_change_nothing(tmp_path):
    done = soak(tmp_path, 100, int(os.environ["TOMOSTREAM_SOAK"]))
    print(done)
    assert sum(done["done"].values()) > 0
