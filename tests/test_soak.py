"""Two minutes of `bench.soak`: random commands with faults, over one data set."""

import os

import pytest

from bench.soak import soak

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")]


def test_random_commands_with_faults_lose_and_change_nothing(tmp_path):
    done = soak(tmp_path, 100, int(os.environ.get("TOMOSTREAM_SEED", "1")))
    print(done)
    assert sum(done["done"].values()) > 0
