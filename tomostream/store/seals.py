"""How is a flipped bit in a small JSON record found?  The record carries the hash of its own values, its *seal*.

The hash is that of the values, not of the text: who writes them with other spaces or in another order breaks no seal.  Records of before there
were seals have none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "seal"


def seal_of(values: Mapping[str, Any]) -> str:
    """The hash of JSON values, less the seal among them."""
    text = json.dumps({key: value for key, value in values.items() if key != SEAL}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with their seal, last."""
    plain: dict[str, Any] = json.loads(json.dumps({key: value for key, value in values.items() if key != SEAL}))
    return plain | {SEAL: seal_of(plain)}


def is_broken(values: Mapping[str, Any]) -> bool:
    """Whether there is a seal, and it is that of other values."""
    return SEAL in values and values[SEAL] != seal_of(values)


def sealed_group(group: Mapping[str, Any]) -> dict[str, Any]:
    """The `zarr.json` of a group of ours; the seal, of all of it, lies in the attribute `tomostream`."""
    attributes = group["attributes"]
    ours = {key: value for key, value in attributes["tomostream"].items() if key != SEAL}
    bare = {**group, "attributes": {**attributes, "tomostream": ours}}
    return {**group, "attributes": {**attributes, "tomostream": ours | {SEAL: seal_of(bare)}}}


def metadata_text(values: Mapping[str, Any]) -> str:
    """A `zarr.json`, as it is written."""
    return json.dumps(values, indent=2) + "\n"
