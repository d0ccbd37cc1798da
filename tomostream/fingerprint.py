"""What decides the bytes of a result: plain JSON values, compared as a whole, and told key by key where two differ.

Each stage and strategy puts its own keys into one; nobody else reads them, so the mapping is open.
"""

import json
from collections.abc import Mapping
from typing import Any

Fingerprint = dict[str, Any]


def plain(values: Mapping[str, Any]) -> Fingerprint:
    """Return values as JSON gives them back: tuples as lists."""
    found: Fingerprint = json.loads(json.dumps(dict(values)))
    return found


def differences(old: Fingerprint, new: Fingerprint, prefix: str = "") -> str:
    """Say in words which entries of two fingerprints differ: `dtype int8, now float32`."""
    texts: list[str] = []
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            texts.append(differences(before, after, f"{prefix}{key}."))
        else:
            texts.append(f"{prefix}{key} {before}, now {after}")
    return "; ".join(texts)
