"""An object store on loopback, for the tests of stores."""

import uuid

import pytest
from remote_server import CREDENTIALS, make_bucket, s3_proxy

from tomostream.remote import faults, leases
from tomostream.remote.places import place


@pytest.fixture
def proxy(monkeypatch):
    """The endpoint, as the environment has it."""
    for key, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": s3_proxy().url}).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(faults, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(leases, "SETTLE_SECONDS", 0.01)
    s3_proxy().reset()
    return s3_proxy()


@pytest.fixture
def bucket(proxy):
    """A folder in a bucket of the test's own."""
    name = f"bucket-{uuid.uuid4().hex}"
    make_bucket(name)
    return place(f"s3://{name}/run")
