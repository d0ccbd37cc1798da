"""A *place*: a local path or a URL, as one type.

`place("s3://bucket/run")` gives a `RemotePath`, which has those methods of `pathlib.Path` that the package uses; anything else gives a
`Path`.  So most code need not know which of the two it holds.
"""

from __future__ import annotations

import os
import re
import urllib.parse
import urllib.request
from pathlib import Path

from tomostream.errors import InputError
from tomostream.remote.remote_path import ByteSink, RemotePath

__all__ = ["ByteSink", "Place", "RemotePath", "place"]

# how `Path` changes a URL
_COLLAPSED = re.compile(r"^([a-z][a-z0-9+.\-]+):/(?!/)")

Place = Path | RemotePath
_LONGEST_NAME = 255  # bytes


def place(path_or_url: str | os.PathLike[str] | RemotePath) -> Place:
    """Return the place that a text names; a `Path` made from a URL becomes that URL again.

    >>> place("s3://bucket/run/"), place("file:///data/t.mrc"), place(Path("s3://bucket/run"))
    (RemotePath('s3://bucket/run'), PosixPath('/data/t.mrc'), RemotePath('s3://bucket/run'))

    Raises
    ------
    InputError
        If it holds a zero byte, or a name too long for any disk.
    """
    if isinstance(path_or_url, RemotePath):
        return path_or_url
    text = os.fspath(path_or_url)
    if "\0" in text:
        raise InputError(f"{text!r} can't be a path: it holds a zero byte")
    if "://" not in text and any(len(os.fsencode(part)) > _LONGEST_NAME for part in text.split("/")):
        raise InputError(f"'{text[:60]}...' can't be a path: a name in it has more than {_LONGEST_NAME} bytes")
    if "://" not in text and (match := _COLLAPSED.match(text)) is not None and _is_scheme(match[1]):
        text = f"{match[1]}://{text[match.end() :].lstrip('/')}"
    if text.startswith("file://"):
        return Path(urllib.request.url2pathname(urllib.parse.urlsplit(text).path))
    return RemotePath(text) if "://" in text else Path(text)


def _is_scheme(name: str) -> bool:
    import fsspec  # noqa: PLC0415  (only for a path that looks like a URL)

    return name in fsspec.available_protocols()
