"""How are clients kept from holding the server up by saying nothing?

uvicorn waits for ever for the head of a request, and answers 503 once `MOST` connections are open.  So

1. a connection whose request's head is not there after `HEAD_SECONDS` is closed;
2. where nearly `MOST` are open, a new one takes the place of the one that has been silent longest.

A body that comes slowly is cut off by `Guard`.
"""

import asyncio
import time

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 200  # at once: a browser opens six
HEAD_SECONDS = 10.0
_SPARE = 20  # places kept for those who speak


class Connection(H11Protocol):
    """A connection that may be silent for a while only."""

    _deadline: asyncio.TimerHandle | None = None  # set while it waits for a head
    _silent_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > MOST - _SPARE:
            silent = [one for one in self.connections if isinstance(one, Connection) and one is not self and one._deadline is not None]
            if silent:
                min(silent, key=lambda one: one._silent_since).hang_up()

    def data_received(self, data: bytes) -> None:
        """Take what came, and see whether it is a whole head."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._deadline is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_waiting()
        super().connection_lost(exc)

    def hang_up(self) -> None:
        """Close it: it has said nothing whole."""
        self._stop_waiting()
        self.transport.abort()
        self.connections.discard(self)  # its place is free at once

    def _wait(self) -> None:
        self._silent_since = time.monotonic()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.hang_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
