"""The outcomes of prediction by tomogram, where several models score one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tomostream.errors import TomostreamError
from tomostream.progress import Progress
from tomostream.remote.places import Place
from tomostream.stages.shared.batch import Results


class Outcomes:
    """The score maps of each tomogram, model after model; a tomogram that fails with one model is left out of the next.

    Parameters
    ----------
    names
        Of the tomograms.
    models
        Number of models.
    progress
        Notified of failures.
    when_done
        Called with the name of each tomogram whose scores by all models are complete, unless they were made before.
    """

    def __init__(self, names: Sequence[str], models: int, progress: Progress, when_done: Callable[[str], None]) -> None:
        self._results: Results[list[Place]] = Results(names, progress)
        self._models, self._when_done = models, when_done
        self._made: dict[str, list[Place]] = {name: [] for name in names}
        self._new: set[str] = set()
        self._is_last = True

    def begin(self, number: int) -> None:
        """Go on to model `number`, counted from 0."""
        self._is_last = number == self._models - 1

    @property
    def left(self) -> list[str]:
        """The tomograms of which no model has failed."""
        return list(self._made)

    @property
    def told(self) -> str:
        """How many failed so far, for a line of progress; empty if none."""
        return self._results.told

    def note(self, name: str, outcome: list[Place] | TomostreamError, *, is_new: bool = False) -> None:
        """Keep the outcome of the present model for a tomogram.

        Parameters
        ----------
        is_new
            Whether the scores were made just now.

        Raises
        ------
        TomostreamError
            See `Results.note`.
        """
        if isinstance(outcome, TomostreamError):
            del self._made[name]
            self._results.note(name, outcome)
            return
        self._made[name] += outcome
        if is_new:
            self._new.add(name)
        if self._is_last:
            self._results.note(name, self._made[name])
            if name in self._new:
                self._when_done(name)

    def all(self) -> list[list[Place]]:
        """The score maps of each tomogram, in the order of the tomograms.

        Raises
        ------
        TomostreamError
            See `Results.all`.
        """
        return self._results.all()
