"""A discrete-event model of `predict` on a cluster: client, scheduler, workers, storage.

    client     examines the tomograms one by one; has all of them prepared; then sends their shards.  It notes each finished shard,
               finishes each tomogram, and picks it in a second thread.  It is one Python process, so its work is one queue.  When the last
               shard is done, the workers pick the rest.
    scheduler  passes tasks on, one by one.
    worker     starts (libraries, model), prepares tomograms (statistics, batch-norm: a task each), and scores shards; leaves before its walltime
               and is submitted again; is killed at random moments, and its task goes to another worker.
    storage    a total bandwidth that all who read or write share, and a bandwidth that one worker reaches.

As many tasks are in flight as the pool allows (`IN_FLIGHT` for each worker), so workers wait for a slow client.

Limits: all nodes are alike; the network between client and workers costs nothing; a shard is read before and written after its computation,
not during it.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import simpy

IN_FLIGHT = 2  # tasks handed out for each worker: `cluster.dask_pool.IN_FLIGHT_PER_WORKER`
Event = Generator[Any, Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Costs in seconds and bytes, measured (docs/performance.md; `check` measures two of them)."""

    score_second: float  # of a worker's computation, a shard
    shard_read: float  # bytes a shard reads
    shard_written: float  # bytes it writes
    prepare: float  # of a worker, a tomogram
    examine: float  # of the client, a tomogram: opening, fingerprint, plan
    note: float  # of the client, a shard: ledger, journal
    finish: float  # of the client, a tomogram: metadata and rename
    pick: float  # of the client's thread beside, a tomogram
    pass_on: float  # of the scheduler, a task
    start: float  # of a worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The cluster."""

    workers: int
    storage: float  # bytes a second, all together
    link: float  # bytes a second that one worker reaches
    walltime: float = 4 * 3600.0
    queue_wait: float = 300.0  # of a job that is submitted again
    mean_to_kill: float = float("inf")  # seconds between kills of one worker


@dataclass(slots=True)
class Outcome:
    """The result of a simulation."""

    seconds: float = 0.0
    first_shard: float = 0.0  # when the first shard was sent
    busy: dict[str, float] = field(
        default_factory=lambda: {"client": 0.0, "scheduler": 0.0, "storage": 0.0, "workers": 0.0, "picking": 0.0}
    )
    again: int = 0  # shards computed again
    picked_after: float = 0.0  # seconds of picking after the last shard

    def share(self, part: str, servers: int = 1) -> float:
        """Return the share of the time that a part was at work."""
        return self.busy[part] / max(self.seconds, 1e-9) / servers


class _Cluster:
    def __init__(
        self, costs: Costs, site: Site, tomograms: int, shards: int, seed: int, is_overlapped: bool, picks_on_workers: bool
    ) -> None:
        self.environment = simpy.Environment()
        self.costs, self.site, self.shards = costs, site, shards
        self.random = random.Random(seed)
        self.client = simpy.Resource(self.environment)
        self.scheduler = simpy.Resource(self.environment)
        self.picker = simpy.Resource(self.environment)
        self.picks_on_workers = picks_on_workers
        # storage: the number of streams at full speed
        self.storage = simpy.Resource(self.environment, max(1, round(site.storage / site.link)))
        self.speed = min(site.link, site.storage)
        self.ready: simpy.Store = simpy.Store(self.environment)
        self.room = simpy.Container(self.environment, init=IN_FLIGHT * site.workers, capacity=10**9)
        self.left = tomograms * shards
        self.unpicked = self.unfinished = tomograms
        self.missing = dict.fromkeys(range(tomograms), shards)
        self.done = self.environment.event()
        self.outcome = Outcome()
        self.is_overlapped = is_overlapped
        self.unprepared = tomograms
        self.prepared = self.environment.event()

    def _used(self, resource: simpy.Resource, part: str, seconds: float) -> Event:
        if seconds <= 0:
            return
        with resource.request() as turn:
            yield turn
            yield self.environment.timeout(seconds)
            self.outcome.busy[part] += seconds

    def _moved(self, size: float) -> Event:
        yield from self._used(self.storage, "storage", size / self.speed)

    def hand_out(self) -> Event:
        """The client: examine all, prepare all, score all; or one tomogram after the other."""
        for tomogram in self.missing:
            yield from self._used(self.client, "client", self.costs.examine)
            if self.is_overlapped:
                yield from self._send(tomogram, range(-1, self.shards))
        if self.is_overlapped:
            return
        for tomogram in self.missing:
            yield from self._send(tomogram, [-1])
        yield self.prepared
        self.outcome.first_shard = self.environment.now
        for tomogram in self.missing:
            yield from self._send(tomogram, range(self.shards))

    def _send(self, tomogram: int, tasks: Iterable[int]) -> Event:
        for task in tasks:  # -1: the preparation of the tomogram
            yield self.room.get(1)
            yield from self._used(self.scheduler, "scheduler", self.costs.pass_on)
            yield self.ready.put((tomogram, task))

    def work(self) -> Event:
        """Run one worker slot: one job after the other."""
        costs, site, now = self.costs, self.site, lambda: self.environment.now
        while True:
            yield self.environment.timeout(costs.start)
            leaves = now() + site.walltime * (0.9 - 0.1 * self.random.random())
            killed = now() + (self.random.expovariate(1 / site.mean_to_kill) if site.mean_to_kill < float("inf") else float("inf"))
            while now() < min(leaves, killed):
                tomogram, task = yield self.ready.get()
                seconds = costs.prepare if task < 0 else costs.score_second
                began = now()
                yield from self._moved(costs.shard_read)
                if now() + seconds > killed:
                    yield self.environment.timeout(max(0.0, killed - now()))
                    self.outcome.again += 1
                    yield self.ready.put((tomogram, task))
                    break
                yield self.environment.timeout(seconds)
                if task >= 0:
                    yield from self._moved(costs.shard_written)
                self.outcome.busy["workers"] += now() - began
                self.environment.process(self._note(tomogram, task))
            yield self.environment.timeout(site.queue_wait)

    def _note(self, tomogram: int, task: int) -> Event:
        yield from self._used(self.scheduler, "scheduler", self.costs.pass_on)
        yield from self._used(self.client, "client", self.costs.note)
        yield self.room.put(1)
        if task < 0:
            self.unprepared -= 1
            if not self.unprepared:
                self.prepared.succeed()
            return
        self.missing[tomogram] -= 1
        if not self.missing[tomogram]:
            yield from self._used(self.client, "client", self.costs.finish)
            self.unfinished -= 1
            if not self.unfinished and self.picks_on_workers:
                rest = self.unpicked / self.site.workers * self.costs.pick
                yield self.environment.timeout(rest)
                self.outcome.picked_after = rest
                self.done.succeed()
                return
            yield from self._used(self.picker, "picking", self.costs.pick)
            self.unpicked -= 1
            if not self.unpicked and not self.done.triggered:
                self.done.succeed()


def simulate(
    costs: Costs, site: Site, *, tomograms: int, shards: int, seed: int = 0, is_overlapped: bool = False, picks_on_workers: bool = True
) -> Outcome:
    """Run the model until the last tomogram is picked.

    Parameters
    ----------
    costs, site
        Costs, and the cluster.
    tomograms, shards
        Tomograms, and shards of each.
    seed
        Seed of kills and leaving times.
    is_overlapped
        Whether shards are sent while further tomograms are examined and prepared; today they are not.
    picks_on_workers
        Whether the workers pick what the client's thread has not picked when the last shard is done; until 0.2 they did not.
    """
    cluster = _Cluster(costs, site, tomograms, shards, seed, is_overlapped, picks_on_workers)
    cluster.environment.process(cluster.hand_out())
    for _ in range(site.workers):
        cluster.environment.process(cluster.work())
    cluster.environment.run(until=cluster.done)
    cluster.outcome.seconds = cluster.environment.now
    return cluster.outcome


def bounds(costs: Costs, site: Site, *, tomograms: int, shards: int) -> Iterator[tuple[str, float]]:
    """Yield the seconds that each part alone would take; the model's result is never below the largest."""
    tasks = tomograms * (shards + 1)
    yield "client", tomograms * (costs.examine + costs.finish) + tasks * costs.note
    yield "scheduler", 2 * tasks * costs.pass_on
    yield "storage", tomograms * ((shards + 1) * costs.shard_read + shards * costs.shard_written) / site.storage
    yield "workers", tomograms * (shards * costs.score_second + costs.prepare + costs.pick) / site.workers
