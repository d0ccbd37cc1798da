"""Every installed queue keeps the promises of `tomostream.testing.QueueTests`."""

import pytest
from repository import WORKERS_PATH

from tomostream.catalogue import QUEUES, installed
from tomostream.cluster import job, job_keeper
from tomostream.testing import JobQueueTests, QueueTests

pytestmark = pytest.mark.slow


class TestLocal(QueueTests):
    name = "local"


@pytest.mark.slurm
class TestSlurm(JobQueueTests):
    name = "slurm"
    values = {"walltime": "00:10:00", "interface": "lo"}

    @pytest.fixture(autouse=True)
    def _slurm(self, slurm_is_up, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", WORKERS_PATH)  # jobs inherit it
        monkeypatch.setattr(job_keeper, "ASK_SECONDS", 0.3)
        monkeypatch.setattr(job, "_LATE_SECONDS", 1.0)


def test_every_installed_queue_is_tested_here():
    tested = {kind.name for kind in globals().values() if isinstance(kind, type) and issubclass(kind, QueueTests) and hasattr(kind, "name")}
    assert tested == set(installed(QUEUES))
