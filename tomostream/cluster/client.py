"""How is a scheduler joined so that a failure leaves nothing behind?

Dask's client starts a thread in its constructor.  If that fails, no variable holds the client, and its finaliser takes the thread down whenever
the garbage collector comes by: also in the middle of the next client's start, which holds the one lock that both need, for ever.  So a
client that can't start is taken down here, at once.
"""

from typing import Any

from distributed import Client


class ClosingClient(Client):
    """Dask's client, which takes down what it had begun when its start fails."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]  # distributed leaves it so

    def start(self, **kwargs: Any) -> None:
        """Start the loop and connect; called by the constructor."""
        try:
            super().start(**kwargs)  # type: ignore[no-untyped-call]  # likewise
        except BaseException:
            try:
                self.close()  # type: ignore[no-untyped-call]  # likewise
            finally:  # Dask's own clean-up of a refused connection leaves the loop running
                self._loop_runner.stop()
            raise
