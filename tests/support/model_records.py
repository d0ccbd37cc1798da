"""Change a model's record as its writer would have written it: with a seal that fits."""

import json
from pathlib import Path

from tomostream.store.seals import sealed


def rewrite_record(folder: Path, change) -> None:
    """Let `change` alter the values of `model.json`, and seal them anew."""
    path = folder / "model.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(sealed({key: value for key, value in values.items() if key != "seal"})))
