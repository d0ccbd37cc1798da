"""Did the scores choose fewer picks than there are clicks?  Each click is a particle, so the number is wrong there, and likely elsewhere too."""

from tomostream.formats.registry import Conversion
from tomostream.progress import Progress
from tomostream.stages.picks.wanted_number import WantedNumber
from tomostream.stages.shared.particle_tables import read_scored
from tomostream.stages.shared.resolved_run import ResolvedRun


def tell_fewer_than_clicked(run: ResolvedRun, progress: Progress) -> None:
    """Warn of tomograms with fewer picks of a species than clicks; only where the scores chose, of the whole volume."""
    number = WantedNumber(run.pick.count, run.pick.threshold)
    if run.clicks is None or number.is_by_truth or not number.is_by_scores or run.pick.threshold is not None:
        return
    if not run.region.is_everywhere or run.pick.border is not None:
        return
    clicked = {name: run.clicks.train.of(tomogram=name) for name in run.clicks.train.tomograms() if name in run.tomograms}
    if not clicked:
        return
    picks, _ = read_scored(run.project.picks, Conversion())  # only counted
    for name, clicks in clicked.items():
        for species in run.species_names:
            least, found = len(clicks.of(species=species)), len(picks.of(tomogram=name, species=species))
            if found < least:
                progress.warn(
                    f"{name}: {found} picks of {species}, fewer than the {least} particles that were clicked there; the scores tell too few, likely in "
                    f"the other tomograms too: give `expected`, as well as you know it, or `count`"
                )
