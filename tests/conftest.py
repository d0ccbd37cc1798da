"""What tests share: where the tomograms with known truth are."""

import gc
import os
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
from example_counts import FAST, FEW
from hypothesis import settings
from repository import REPOSITORY

# how long an example takes says something of the machine only
settings.register_profile("whole", deadline=None)
settings.register_profile(FAST, deadline=None, max_examples=FEW)

# the tests run side by side, one a core: threads of numerical libraries would only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Draw few examples in the fast tier; before the tests are imported, as their decorators ask."""
    settings.load_profile(FAST if "not slow" in config.option.markexpr else "whole")


def pytest_collection_finish() -> None:
    """Leave what the collection made out of every later garbage collection: it stays for the whole run."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of tomograms with known truth, TOMOSTREAM_DATA; absent, the test is skipped, but never where CI runs."""
    folder = Path(os.environ.get("TOMOSTREAM_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        message = f"no test data at {folder}: set TOMOSTREAM_DATA to the folder that holds pombe_sim"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture
def proxy(monkeypatch, tmp_path):
    """An object store on loopback that fails where a test asks for it; the environment has its address and keys."""
    from remote_server import CREDENTIALS, s3_proxy

    from tomostream.remote import faults, leases

    for key, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": s3_proxy().url, "XDG_CACHE_HOME": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(faults, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(leases, "SETTLE_SECONDS", 0.01)
    s3_proxy().reset()
    return s3_proxy()


@pytest.fixture
def bucket(proxy):
    """A bucket of the test's own."""
    from remote_server import make_bucket

    from tomostream.remote.places import place

    name = f"bucket-{uuid.uuid4().hex}"
    make_bucket(name)
    return place(f"s3://{name}")


@pytest.fixture(scope="session")
def slurm_is_up() -> None:
    """A SLURM answers; absent, the test is skipped, but never where TOMOSTREAM_NEEDS_SLURM is set, as .ci/run does."""
    if shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
        message = "no SLURM answers here; as root on Debian: tests/slurm/start.sh"
        if os.environ.get("TOMOSTREAM_NEEDS_SLURM"):
            pytest.fail(message)
        pytest.skip(message)
