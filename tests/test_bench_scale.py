"""The model of a large cluster obeys what can be reckoned by hand."""

from dataclasses import replace

import pytest

from bench.scale.model import Costs, Site, bounds, simulate

COSTS = Costs(
    score_second=10.0, shard_read=1e8, shard_written=5e8, prepare=2.0, examine=0.1, note=0.01, finish=0.05, pick=3.0, pass_on=0.005, start=5.0
)  # fmt: skip
SITE = Site(workers=4, storage=2e9, link=1e9)


def test_one_worker_takes_the_sum_of_its_tasks():
    alone = replace(COSTS, shard_read=0.0, shard_written=0.0, examine=0.0, note=0.0, finish=0.0, pass_on=0.0, pick=0.0)
    found = simulate(alone, replace(SITE, workers=1), tomograms=3, shards=4)
    assert found.seconds == pytest.approx(5.0 + 3 * 2.0 + 12 * 10.0)
    assert found.share("workers") == pytest.approx(126.0 / 131.0)


@pytest.mark.parametrize("workers", [1, 4, 50])
@pytest.mark.parametrize("change", [{}, {"is_overlapped": True}, {"picks_on_workers": False}])
def test_no_part_is_faster_than_its_own_work(workers, change):
    site = replace(SITE, workers=workers)
    found = simulate(COSTS, site, tomograms=12, shards=5, **change)
    for part, seconds in bounds(replace(COSTS, pick=0.0), site, tomograms=12, shards=5):
        assert found.seconds >= seconds * (1 - 1e-9), part


def test_kills_cost_time_and_no_shard_is_lost():
    calm = simulate(COSTS, SITE, tomograms=10, shards=5)
    stormy = simulate(COSTS, replace(SITE, mean_to_kill=60.0, queue_wait=1.0), tomograms=10, shards=5)
    assert stormy.again > 0 == calm.again
    assert stormy.seconds > calm.seconds


def test_a_walltime_shorter_than_the_work_only_delays_it():
    short = replace(SITE, walltime=60.0, queue_wait=30.0)
    assert simulate(COSTS, short, tomograms=10, shards=5).seconds > simulate(COSTS, SITE, tomograms=10, shards=5).seconds


def test_picking_by_the_client_alone_is_what_breaks_first():
    slow = replace(COSTS, pick=100.0)
    many = replace(SITE, workers=50)
    assert simulate(slow, many, tomograms=20, shards=2, picks_on_workers=False).seconds >= 2000.0
    assert simulate(slow, many, tomograms=20, shards=2).seconds < 300.0
