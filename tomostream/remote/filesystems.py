"""Choose and set up the file system for a URL.

fsspec chooses it by the URL's scheme, and takes credentials, endpoint and other settings from the standard places only: the environment
(AWS_*, FSSPEC_*), ~/.aws, fsspec's configuration files.  On top of them:

1. listings are not cached: other processes write to the same folders;
2. the libraries' own retries are off (`faults` has ours);
3. credentials in the URL of an object store are refused.

Limits: a file system must be opened again after a fork; fsspec does so when asked again, so none is kept here.
"""

from __future__ import annotations

import re
from typing import Any

from tomostream.errors import InputError

OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss")
_NO_RETRIES = {"max_attempts": 0}
_WEB = ("http", "https")


def scheme_of(url: str) -> str:
    """Return the part of a URL before `://`."""
    return url.partition("://")[0].lower()


def file_system(url: str, *, is_asynchronous: bool = False) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the URL's path in it.

    Raises
    ------
    InputError
        If no installed package knows the scheme, or the URL holds credentials.
    """
    import fsspec.config  # noqa: PLC0415  (the command line must start without it)
    import fsspec.core  # noqa: PLC0415  (as above)

    scheme = scheme_of(url)
    if scheme in OBJECT_STORES and re.match(r"[^/]*@", url.partition("://")[2]) and scheme not in ("az", "abfs", "abfss"):
        raise InputError(
            f"{url}: the URL of an object store must not hold credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use ~/.aws"
        )
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme in ("s3", "s3a"):
        given = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        options["config_kwargs"] = {"retries": _NO_RETRIES, **given}
    if is_asynchronous:
        options["asynchronous"] = True
    try:
        found, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise InputError(
            f"{url} needs a package that is not installed ({error}); install it with: pip install 'tomostream[remote]'"
        ) from None
    except ValueError as error:
        raise InputError(f"{url}: no file system for '{scheme}://' is known ({error}); use s3://, https:// or a local path") from None
    if scheme in ("s3", "s3a"):
        found.retries = 1
    return found, path


def stream_options(url: str) -> dict[str, Any]:
    """Options to open a file for reading from its beginning to its end: without range requests, which some web servers lack."""
    return {"block_size": 0} if scheme_of(url) in _WEB else {"block_size": 8 * 2**20, "cache_type": "readahead"}
