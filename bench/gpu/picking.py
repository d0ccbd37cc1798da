"""How long does picking take, which runs on the processor?  Exact picks of a made-up score map of the same size as in scoring."""

from __future__ import annotations

import time

from bench.gpu.log import Log
from bench.picking_speed import RADIUS, THRESHOLD, particles_in_noise, stored
from bench.timing import Size
from tomostream.geometry import Triple
from tomostream.picking.blocks import pick_volume
from tomostream.picking.how_many import Above, Best
from tomostream.picking.protocol import Execution, PickRequest, Source


def run(log: Log) -> None:
    shape: Triple = (48, 96, 96) if log.is_small else (500, 1000, 1000)
    particles = 10 if log.is_small else 3600
    start = time.perf_counter()
    source = stored(particles_in_noise(shape, particles), Size(False, log.scratch, 1))
    log("making a score map", time.perf_counter() - start, "s")
    for name, how_many in (("by threshold", Above(THRESHOLD)), ("by count", Best(particles))):
        for memory in (2, 16):

            def pick(name: str = name, how_many: Above | Best = how_many, memory: int = memory) -> None:
                begun = time.perf_counter()
                request = PickRequest(radius=RADIUS, how_many=how_many)
                picks = pick_volume(Source(source.read, shape), request, Execution(memory=memory * 10**9))
                log(
                    f"pick {name}, {memory} GB, {' x '.join(map(str, shape))}, float32",
                    time.perf_counter() - begun,
                    "s",
                    f"{len(picks)} picks",
                )

            log.attempt(name, pick, seconds=10)
