"""Where the stores of the tests lie on an object store."""

import pytest


@pytest.fixture
def bucket(bucket):
    """A folder in a bucket of the test's own."""
    return bucket / "run"
