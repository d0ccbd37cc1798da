"""Batches, and faults of machines, on a scheduler with a good and a broken worker."""

import cluster_tasks
import pytest
from cluster_support import Heard, start, started_scheduler, stop

from tomostream.cluster import Resources, dask_pool, open_pool
from tomostream.cluster.dask_pool import ATTEMPTS, FAULTS, IN_FLIGHT_PER_WORKER
from tomostream.errors import InputError, MachineError
from tomostream.progress import Progress

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    process, found = started_scheduler(folder)
    workers = [
        start(
            *(folder, "worker", found.address, "--name", name, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"),
            name=name,
        )
        for name in ("good", "broken")
    ]
    with open_pool(Resources(scheduler=found.address), Progress()) as pool:
        pool._client.wait_for_workers(2)
    yield found.address
    stop(*workers, process)


def test_a_full_disk_of_one_machine_moves_its_tasks_to_another(address, tmp_path):
    heard = Heard()
    most = FAULTS + 2 * IN_FLIGHT_PER_WORKER  # and what was on its way there when it was avoided
    with open_pool(Resources(scheduler=address), heard) as pool:
        outcomes = [outcome for _, outcome in pool.outcomes(cluster_tasks.fail_on_broken, [(n, str(tmp_path)) for n in range(30)])]
    assert outcomes == ["good"] * 30
    assert len((tmp_path / "broken").read_text()) <= most  # it failed fast, and did not take them all
    retried = [facts for event, facts in heard.events if event == "retried"]
    assert FAULTS <= len(retried) <= most
    assert all("No space left on device" in facts["why"] for facts in retried)
    [told] = heard.texts
    assert f"failed {FAULTS} times in a row" in told
    assert "No space left on device" in told


def test_where_every_machine_fails_the_task_fails_after_its_attempts(address, tmp_path):
    with open_pool(Resources(scheduler=address), Heard()) as pool:
        [(_, outcome)] = pool.outcomes(cluster_tasks.touch_and_need_gpu, [str(tmp_path / "tried")])
    assert isinstance(outcome, MachineError)
    assert len((tmp_path / "tried").read_text()) == ATTEMPTS


def test_small_tasks_travel_in_batches_and_have_each_their_result(address):
    sent = []
    with open_pool(Resources(scheduler=address), Progress()) as pool:
        submit = pool._submit
        pool._submit = lambda function, batch: sent.append(len(batch.tasks)) or submit(function, batch)
        results = dict(pool.run(cluster_tasks.square, range(1000), is_grouped=True))
        assert results == {n: n * n for n in range(1000)}
        assert sent[0] == 1  # nobody knows yet how long they take
        assert max(sent) == dask_pool.MOST_IN_FLIGHT // 4
        assert len(sent) < 60
        sent.clear()
        assert len(list(pool.run(cluster_tasks.short, range(400), is_grouped=True))) == 400
        assert max(sent) <= dask_pool.MOST_IN_FLIGHT // 4
        sent.clear()
        assert len(list(pool.run(cluster_tasks.square, range(50)))) == 50
        assert set(sent) == {1}


def test_a_gpu_is_asked_of_workers_that_offer_none_in_vain(address):
    with (
        open_pool(Resources(scheduler=address), Progress(), needs_gpu=True) as pool,
        pytest.raises(InputError, match=r"none of the scheduler's 2 workers offers a GPU; .*--resources GPU=1"),
    ):
        list(pool.run(cluster_tasks.square, range(3)))


def test_without_a_word_workers_without_gpu_are_used_as_they_are(address):
    with open_pool(Resources(scheduler=address), Progress(), needs_gpu=None) as pool:
        assert pool.needs_gpu is False
        assert dict(pool.run(cluster_tasks.square, [4])) == {4: 16}


def test_a_worker_of_another_version_is_refused(address, monkeypatch):
    monkeypatch.setattr(dask_pool, "VERSION", "0.0.0-other")
    with open_pool(Resources(scheduler=address), Heard()) as pool, pytest.raises(MachineError, match=r"the client 0\.0\.0-other"):
        list(pool.run(cluster_tasks.square, [1]))


def test_threads_are_the_cores_of_the_smallest_worker_unless_said(address):
    with open_pool(Resources(scheduler=address), Progress()) as pool:
        assert pool.threads == 1
    with open_pool(Resources(scheduler=address, threads=3), Progress()) as pool:
        assert pool.threads == 3
