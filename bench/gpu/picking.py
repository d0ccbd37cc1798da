"""How long does picking take, which runs on the processor, beside scoring on the GPU?  Exact picks of a made-up score map of the same size."""

from __future__ import annotations

import time

from bench.gpu.log import Log
from bench.picking_speed import RADIUS, THRESHOLD, particles_in_noise, stored
from bench.timing import Size
from tomostream.geometry import Triple
from tomostream.picking.blocks import pick_volume


def run(log: Log) -> None:
    shape: Triple = (48, 96, 96) if log.is_small else (500, 1000, 1000)
    particles = 10 if log.is_small else 3600
    start = time.perf_counter()
    source = stored(particles_in_noise(shape, particles), Size(False, log.scratch, 1))
    log("making a score map", time.perf_counter() - start, "s")
    for name, chosen in (("by threshold", {"threshold": THRESHOLD, "count": None}), ("by count", {"threshold": None, "count": particles})):
        for memory in (2, 16):

            def pick(name: str = name, chosen: dict[str, object] = chosen, memory: int = memory) -> None:
                begun = time.perf_counter()
                picks = pick_volume(source.read, shape, radius=RADIUS, memory=memory * 10**9, **chosen)  # type: ignore[arg-type]
                log(
                    f"pick {name}, {memory} GB, {' x '.join(map(str, shape))}, float32",
                    time.perf_counter() - begun,
                    "s",
                    f"{len(picks)} picks",
                )

            log.attempt(name, pick, seconds=10)
