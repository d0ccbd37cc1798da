"""How is a flipped bit in a small JSON record found?  By its *seal*: the record holds the hash of its own values.

The hash is that of the values, not of the text, so other spaces or another order break no seal.  Records older than
seals have none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "seal"


def seal_of(values: Mapping[str, Any]) -> str:
    """Return the hash of JSON values, without the seal."""
    text = json.dumps({key: value for key, value in values.items() if key != SEAL}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with their seal as the last one."""
    plain: dict[str, Any] = json.loads(json.dumps({key: value for key, value in values.items() if key != SEAL}))
    return plain | {SEAL: seal_of(plain)}


def is_broken(values: Mapping[str, Any]) -> bool:
    """Whether there is a seal that does not match the values."""
    return SEAL in values and values[SEAL] != seal_of(values)


def sealed_group(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `zarr.json` of a group of ours; its seal covers all of it and lies in the attribute `tomostream`."""
    attributes = group["attributes"]
    ours = {key: value for key, value in attributes["tomostream"].items() if key != SEAL}
    bare = {**group, "attributes": {**attributes, "tomostream": ours}}
    return {**group, "attributes": {**attributes, "tomostream": ours | {SEAL: seal_of(bare)}}}


def metadata_text(values: Mapping[str, Any]) -> str:
    """Return the text of a `zarr.json`, as it is written."""
    return json.dumps(values, indent=2) + "\n"
