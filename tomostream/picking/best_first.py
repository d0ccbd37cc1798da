"""The picker `greedy`: the best peaks first, no two within the radius; if the scores choose the number, that many of them.

Where they choose, as many peaks are looked at as heights are measured by, whatever number is expected (`peak_heights`, `counting`).
"""

from dataclasses import dataclass, replace

import numpy as np

from tomostream.picking.blocks import pick_volume
from tomostream.picking.how_many import AsManyAs, Best
from tomostream.picking.protocol import Execution, PickRequest, Picks, Source
from tomostream.picking.windows import domain_of
from tomostream.progress import Progress

_NO_PROGRESS = Progress()


@dataclass(frozen=True, slots=True)
class GreedyPicker:
    """Picks of the sequential greedy loop over the whole volume."""

    name: str = "greedy"
    needs_count: bool = True
    takes_candidates: bool = True

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
        from tomostream.picking.peak_heights import peaks_measured  # noqa: PLC0415  (scipy takes long to import, and few need it)

        voxels = domain_of(source.shape, box=request.box, border=request.border).size
        most = peaks_measured(voxels, request.radius)
        candidates = Best(max(most, wanted.most))
        picks = pick_volume(source, replace(request, how_many=candidates), execution, progress=progress)
        return _chosen(picks, source, wanted, most, progress)


def _chosen(picks: Picks, source: Source, wanted: AsManyAs, most: int, progress: Progress) -> Picks:
    """The best of the candidates: as many as their scores say, of those above the threshold."""
    from tomostream.picking.counting import choose_count  # noqa: PLC0415  (as above)
    from tomostream.picking.peak_heights import unbounded  # noqa: PLC0415  (as above)

    scores = unbounded(picks.score, are_probabilities=source.values == "probability")
    choice = choose_count(
        scores, expected=wanted.expected, most=most, clicks=wanted.clicks, is_estimate=wanted.is_estimate, least=wanted.least
    )
    guess = "estimated" if wanted.is_estimate else "expected"
    line = f"{source.name}: {choice.picks} picks chosen, about {choice.particles:.0f} particles by the scores ({wanted.expected} {guess})"
    progress.say(line if choice.promise.is_lack else f"{line}; {choice.promise}")
    if choice.promise.is_lack:
        progress.say_once(str(choice.promise))
    if choice.promise.advice is not None:
        progress.warn(f"{source.name}: {choice.promise.doubt}; {choice.promise.advice}")
    is_taken = np.arange(len(picks)) < choice.picks
    if wanted.above is not None:
        is_taken &= picks.score > wanted.above
    progress.record("chosen", map=source.name, picks=int(np.count_nonzero(is_taken)), **choice.promise.to_json())
    return replace(picks, index_zyx=picks.index_zyx[is_taken], score=picks.score[is_taken])


PICKER = GreedyPicker()
