"""The SHA-256 of a file or object."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tomostream.remote.copies import local_file
from tomostream.remote.places import Place

if TYPE_CHECKING:
    pass


def file_sha256(path: Place) -> str:
    """Hash a file's content."""
    with local_file(path) as local, local.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
