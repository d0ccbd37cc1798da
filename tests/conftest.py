"""What tests share: where the tomograms with known truth are."""

import os
from pathlib import Path

import pytest

# the tests run side by side, one a core: threads of numerical libraries would only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).parent.parent


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
