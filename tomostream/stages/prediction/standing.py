"""How do score maps stand before a run?  For the dry run: nothing is computed or written."""

from __future__ import annotations

from collections.abc import Mapping

from tomostream.cluster import Resources, task_threads
from tomostream.errors import ExistsError
from tomostream.progress import Progress
from tomostream.remote.places import Place
from tomostream.stages.prediction.score_fingerprints import as_good, as_on_its_machine
from tomostream.stages.prediction.score_maps import PredictTask, plan_scores, works_of
from tomostream.stages.prediction.shard_task import PredictSettings, ScorerLoad
from tomostream.store.existing_output import refuse_other_settings


def standing_scores(
    tomograms: Mapping[str, str], *, model: Place, out: Place, settings: PredictSettings, resources: Resources
) -> dict[str, bool | ExistsError]:
    """Return for each tomogram whether its scores are finished, or the error by which the run will refuse to replace them.

    Raises
    ------
    TomostreamError
        If the model is damaged, or does not fit a tomogram.
    """
    from tomostream.strategies.loading import load_model
    from tomostream.strategies.model_folder import local_model
    from tomostream.strategies.several_models import files_in, parts_of

    folder = local_model(model)
    parts = list(zip(parts_of(load_model(folder)), files_in(folder), strict=True))
    found: dict[str, bool | ExistsError] = dict.fromkeys(tomograms, True)
    for number, (part, files) in enumerate(parts):
        into = out if len(parts) == 1 else out / part.settings.species[0]
        load = ScorerLoad(str(model), "cpu", settings.precision, task_threads(resources), None, number)
        for name in (one for one, state in found.items() if state is True):
            task = PredictTask(name, tomograms[name], into, settings, resources.memory, overwrite=False)
            planned = plan_scores(task, part, files.identity, load, (), Progress())
            if as_good(planned.paths, planned.fingerprint, settings) is not None:
                continue
            found[name] = False
            try:
                for path in (*planned.paths, *works_of(planned.paths, settings)):
                    refuse_other_settings(path, as_on_its_machine(path, planned.fingerprint))
            except ExistsError as error:
                found[name] = error
    return found
