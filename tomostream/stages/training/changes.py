"""What is now other than what a model folder records?  For the refusal to replace it."""

from __future__ import annotations

from tomostream.fingerprint import Fingerprint, differences
from tomostream.remote.places import Place
from tomostream.stages.shared.click_tables import ClickTables
from tomostream.store.identity import is_same_identity
from tomostream.strategies.model_folder import RECORD_NAME
from tomostream.strategies.training_record import read_training_record


def changed_settings(folder: Place, fingerprint: Fingerprint, clicks: ClickTables) -> str:
    """What is now other than what a model folder records, in words."""
    try:
        recorded = read_training_record(folder)
    except FileNotFoundError:
        return f"it has no {RECORD_NAME}, so tomostream did not make what is in it"
    if recorded is None:
        return f"its {RECORD_NAME} is damaged"
    if "models" in recorded or "models" in fingerprint:
        return _changed_of_several(recorded, fingerprint)
    return changed_of_one(recorded, fingerprint, clicks)


def _changed_of_several(recorded: Fingerprint, fingerprint: Fingerprint) -> str:
    """The same for a folder with a model per species, or where it would become or cease to be one."""
    if "models" not in recorded:
        return "it holds one model, now there would be a model per species; train.together: true keeps the one"
    if "models" not in fingerprint:
        return "it holds a model per species, now there would be one"
    old, new = recorded["models"], dict(fingerprint)["models"]
    texts = [f"{name} was not among its species" for name in new if name not in old]
    texts += [f"it has {name}, which is not among the species now" for name in old if name not in new]
    texts += [
        f"{name}: {changed_of_one(old[name], new[name], None)}"
        for name in new
        if name in old and not is_same_identity(old[name], new[name])
    ]
    return "; ".join(texts)


def changed_of_one(recorded: Fingerprint, fingerprint: Fingerprint, clicks: ClickTables | None) -> str:
    """Return in words in what the fingerprint of one model differs from a recorded one; without `clicks` it is one of several, whose clicks are known by their rows."""
    # tables are known by their content
    old, new = dict(recorded), dict(fingerprint)
    before, after = old.pop("labels", None), new.pop("labels", None)
    if isinstance(before, dict):  # version 0.1 names the tables
        before = list(before.values())
    texts = [differences(old, new)]
    if before != after and clicks is None:
        texts.insert(0, "labels: clicks of it are new, changed or gone")
    elif before != after and clicks is not None:
        files = [*clicks.train_tables, *clicks.validate_tables]
        changed = [file for file, content in zip(files, after or [], strict=True) if content not in (before or [])]
        texts.insert(
            0,
            f"labels: {', '.join(changed)} changed since, or was not given then"
            if changed
            else "labels: fewer tables, or in another order",
        )
    return "; ".join(filter(None, texts))
