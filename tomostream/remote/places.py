"""A *place*: a local path or a URL, as one kind of value.

`place("s3://bucket/run")` gives a `RemotePath`, which has the part of `pathlib.Path`'s methods that the package uses; anything else gives a
`Path`.  So most code never asks which of the two it holds.
"""

from __future__ import annotations

import os
import re
import urllib.parse
import urllib.request
from pathlib import Path

from tomostream.remote.remote_path import ByteSink, RemotePath

__all__ = ["ByteSink", "Place", "RemotePath", "place"]

# what `Path` makes of a URL
_COLLAPSED = re.compile(r"^([a-z][a-z0-9+.\-]+):/(?!/)")

Place = Path | RemotePath


def place(path_or_url: str | os.PathLike[str] | RemotePath) -> Place:
    """Return the place that a text names; a `Path` that was made from a URL is taken as that URL.

    >>> place("s3://bucket/run/"), place("file:///data/t.mrc"), place(Path("s3://bucket/run"))
    (RemotePath('s3://bucket/run'), PosixPath('/data/t.mrc'), RemotePath('s3://bucket/run'))
    """
    if isinstance(path_or_url, RemotePath):
        return path_or_url
    text = os.fspath(path_or_url)
    if "://" not in text and (match := _COLLAPSED.match(text)) is not None and _is_scheme(match[1]):
        text = f"{match[1]}://{text[match.end() :].lstrip('/')}"
    if text.startswith("file://"):
        return Path(urllib.request.url2pathname(urllib.parse.urlsplit(text).path))
    return RemotePath(text) if "://" in text else Path(text)


def _is_scheme(name: str) -> bool:
    import fsspec  # noqa: PLC0415  (only for a path that looks like a URL)

    return name in fsspec.available_protocols()
