"""Prefetch batches in a thread while the network computes.

The queue is bounded, and so is memory.  An exception of the source is raised in place of its item.  The thread always ends before the
context does.
"""

import itertools
import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _End:
    """The end of the source; `error` is the exception that stopped it, if any."""

    error: BaseException | None


@contextmanager
def prefetched(source: Iterable[T], *, limit: int, depth: int) -> Iterator[Iterator[T]]:
    """Iterate over the first `limit` items of `source`, made in a background thread at most `depth` items ahead.

    Only that thread uses the source, and closes it if it is a generator.  Leaving the context waits for the item that is being made.
    """
    items: queue.Queue[T | _End] = queue.Queue(depth)
    is_left = threading.Event()

    def produce() -> None:
        error: BaseException | None = None
        iterator = None
        try:
            iterator = iter(source)
            for item in itertools.islice(iterator, limit):
                if not _put(items, item, is_left):
                    break
        except BaseException as caught:  # raised again in the consumer's thread
            error = caught
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
            _put(items, _End(error), is_left)

    thread = threading.Thread(target=produce, name="tomostream-prefetch", daemon=True)
    thread.start()
    try:
        yield _consume(items)
    finally:
        is_left.set()
        thread.join()


def _put(items: "queue.Queue[T | _End]", item: T | _End, is_left: threading.Event) -> bool:
    """Wait for room in the queue; False if the consumer has stopped."""
    while not is_left.is_set():
        try:
            items.put(item, timeout=0.05)
        except queue.Full:
            continue
        return True
    return False


def _consume(items: "queue.Queue[T | _End]") -> Iterator[T]:
    while True:
        item = items.get()
        if isinstance(item, _End):
            if item.error is not None:
                raise item.error
            return
        yield item
