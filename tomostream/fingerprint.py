"""What decides the bytes of a result: plain JSON values, compared as a whole, and told key by key where two differ.

Each stage and strategy adds keys of its own, and no other code reads them, so the mapping is open.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

Fingerprint = dict[str, Any]

_HASH = re.compile(r"[0-9a-f]{40,}")
_LENGTH = re.compile(r"Length\(value=([0-9.e+-]+), is_voxels=(True|False)\)")
_MOST, _SHOWN = 6, 60  # most differences in a message, and most letters of a value


def plain(values: Mapping[str, Any]) -> Fingerprint:
    """Return values as JSON gives them back: tuples as lists."""
    found: Fingerprint = json.loads(json.dumps(dict(values)))
    return found


def differences(old: Fingerprint, new: Fingerprint, prefix: str = "") -> str:
    """Say in words which entries of two fingerprints differ: `dtype int8, now float32`."""
    texts = _differences(old, new, prefix)
    more = f"; and {len(texts) - _MOST} more" if len(texts) > _MOST else ""
    return "; ".join(texts[:_MOST]) + more


def _differences(old: Any, new: Any, key: str) -> list[str]:
    if old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        inner = f"{key}." if key and not key.endswith(".") else key
        return [text for name in dict.fromkeys([*old, *new]) for text in _differences(old.get(name), new.get(name), f"{inner}{name}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [text for i, pair in enumerate(zip(old, new, strict=True)) for text in _differences(*pair, f"{key}[{i}]")]
    return [f"{key} {_in_words(old)}, now {_in_words(new)}"]


def _in_words(value: Any) -> str:
    """A value of a fingerprint as a person can compare it: hashes and long texts are cut, records are named."""
    if value is None:
        return "not given"
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        name: str = value["name"]
        return name
    if isinstance(value, list):
        return f"[{', '.join(map(_in_words, value[:_MOST]))}{', ...' if len(value) > _MOST else ''}]"
    text = str(value)
    if (length := _LENGTH.fullmatch(text)) is not None:  # how `pick` records a length
        return f"{float(length[1]):g}{'vox' if length[2] == 'True' else 'A'}"
    if _HASH.fullmatch(text):
        return f"content {text[:8]}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
