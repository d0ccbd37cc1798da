"""Batches come in order from one thread, which always ends."""

import threading
import time
from collections.abc import Iterator

import pytest

from tomostream.learn.prefetch import prefetched


def no_thread_is_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name == "tomostream-prefetch"]


def test_items_come_in_order_up_to_the_limit():
    with prefetched(range(100), limit=7, depth=2) as items:
        assert list(items) == list(range(7))
    assert no_thread_is_left()


def test_short_source_ends_early():
    with prefetched([1, 2], limit=7, depth=2) as items:
        assert list(items) == [1, 2]


def test_at_most_depth_items_are_made_ahead():
    made = 0

    def source() -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    with prefetched(source(), limit=99, depth=3) as items:
        next(items)
        time.sleep(0.2)
        assert made <= 1 + 3 + 1  # taken, waiting, in the maker's hand
    assert no_thread_is_left()


def test_exception_comes_where_the_item_would_have():
    def source() -> Iterator[int]:
        yield 1
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"), prefetched(source(), limit=9, depth=2) as items:  # noqa: PT012 - where it comes is the fact
        assert next(items) == 1
        next(items)
    assert no_thread_is_left()


def test_generator_is_closed_when_the_consumer_leaves():
    closed_in: list[str] = []

    def source() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed_in.append(threading.current_thread().name)

    with pytest.raises(RuntimeError, match="consumer"), prefetched(source(), limit=10**9, depth=1) as items:  # noqa: PT012 - as above
        next(items)
        raise RuntimeError("consumer")
    assert closed_in == ["tomostream-prefetch"]
    assert no_thread_is_left()


def test_source_that_can_not_be_iterated_raises():
    class Broken:
        def __iter__(self) -> Iterator[int]:
            raise OSError("no store")

    with pytest.raises(OSError, match="no store"), prefetched(Broken(), limit=1, depth=1) as items:
        next(items)
    assert no_thread_is_left()
