"""The picker `greedy`: the best peaks first, no two within the radius; the scores may decide how many.

To choose the number, probabilities are converted to logits, which are unbounded (`counting`).
"""

from dataclasses import dataclass, replace

import numpy as np

from tomostream.picking.blocks import pick_volume
from tomostream.picking.how_many import AsManyAs, Best
from tomostream.picking.protocol import Execution, PickRequest, Picks, Source
from tomostream.progress import Progress

SURPRISING = 2.0  # times the expected number of picks: the scores hardly separate particles from noise
_LEAST_PROBABILITY = 6e-8  # float32 has no probability between 1 - 6e-8 and 1
_NO_PROGRESS = Progress()


@dataclass(frozen=True, slots=True)
class GreedyPicker:
    """Picks of the sequential greedy loop over the whole volume."""

    name: str = "greedy"
    needs_count: bool = True

    def pick(self, source: Source, request: PickRequest, execution: Execution, progress: Progress = _NO_PROGRESS) -> Picks:
        """Pick the peaks, best first; see `blocks.pick_volume`.

        Raises
        ------
        InputError, BudgetError
            As `pick_volume`.
        """
        wanted = request.how_many
        if not isinstance(wanted, AsManyAs):
            return pick_volume(source, request, execution, progress=progress)
        from tomostream.picking.counting import CANDIDATES  # noqa: PLC0415  (scipy.optimize takes long to import, and few need it)

        candidates = Best(CANDIDATES * wanted.expected, wanted.above)
        picks = pick_volume(source, replace(request, how_many=candidates), execution, progress=progress)
        return _chosen(picks, source, wanted.expected, progress)


def _chosen(picks: Picks, source: Source, expected: int, progress: Progress) -> Picks:
    """Return the best candidates: as many as their scores suggest."""
    from scipy.special import logit  # noqa: PLC0415  (as above)

    from tomostream.picking.counting import choose_count  # noqa: PLC0415  (as above)

    is_bounded = source.values == "probability"
    values = logit(np.clip(picks.score, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)) if is_bounded else picks.score
    choice = choose_count(values, expected=expected)
    hope = "" if np.isnan(choice.f1) else f"; expected F1 {choice.f1:.2f}"
    progress.say(
        f"{source.name}: {choice.picks} picks chosen, about {choice.particles:.0f} particles by the scores ({expected} expected){hope}"
    )
    if choice.picks > SURPRISING * expected:
        progress.warn(f"{source.name}: {choice.picks} picks are far more than the {expected} expected; check them, or set a count")
    return replace(picks, index_zyx=picks.index_zyx[: choice.picks], score=picks.score[: choice.picks])


PICKER = GreedyPicker()
