"""Classify a failed request: try it again, or report it, and how.

1. Transient: throttling (429, 503 SlowDown), server errors (500, 502, 504), connections that were refused, cut or timed out.
   The request is sent again after a random pause, below 0.25 s at first, and doubling up to 20 s: many workers that were throttled
   together must not return together.  After `ATTEMPTS` tries the run stops; finished work is kept.  A server that can't be reached
   at all (refused, no such host) is probably a wrong URL, and gets `CONNECT_ATTEMPTS`.
2. Permanent: no permission (403), no such bucket, a wrong endpoint.  One message, with the URL and what to check; no second try.
3. "Not found" (404) is an answer, not a fault: `FileNotFoundError`, as for a local file.

The libraries' own retries are switched off (`filesystems`): retries must not multiply.

References
----------
Exponential back-off with full jitter: Brooker (2015), https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from tomostream.errors import InputError, TomostreamError

T = TypeVar("T")
ATTEMPTS = 9
CONNECT_ATTEMPTS = 4
FIRST_PAUSE = 0.25  # seconds, at most
LONGEST_PAUSE = 20.0

_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}
_TRANSIENT_CODES = {
    "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "RequestTimeout", "InternalError",
    "ServiceUnavailable", "OperationAborted",
}  # fmt: skip
# by name: the libraries of file systems are optional, and take long to import
_TRANSIENT_TYPES = {
    "ClientConnectionError", "ClientConnectorError", "ClientOSError", "ServerDisconnectedError", "ServerTimeoutError", "ClientPayloadError",
    "ConnectionClosedError", "ReadTimeoutError", "ConnectTimeoutError", "EndpointConnectionError", "HTTPClientError", "IncompleteReadError",
    "ResponseStreamingError", "FSTimeoutError", "IncompleteRead", "ContentLengthError",
}  # fmt: skip
_UNREACHABLE_TYPES = {"ClientConnectorError", "EndpointConnectionError", "ConnectionRefusedError"}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"}
_BUGS = (TypeError, AttributeError, NameError, AssertionError, MemoryError)  # never the server's fault
_CREDENTIALS = (
    "check that the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, ~/.aws, fsspec's configuration) are there, valid and "
    "allowed to do this, and the endpoint (AWS_ENDPOINT_URL); for a public bucket set FSSPEC_S3_ANON=true"
)


class DeniedError(InputError):
    """The server denies access; some servers also answer this for missing objects."""


class ShortReadError(ConnectionError):
    """A server sent fewer bytes than it announced."""


def retried(work: Callable[[], T], url: str) -> T:
    """Do a request; repeat it after a pause while its faults are transient.

    Parameters
    ----------
    work
        The request; doing it twice must be harmless.
    url
        For the message.

    Raises
    ------
    FileNotFoundError
        If the object does not exist.
    TomostreamError
        If the fault is permanent, or persists.
    """
    for attempt in itertools.count(1):
        try:
            return work()
        except (TomostreamError, *_BUGS):
            raise
        except Exception as error:  # libraries of file systems raise errors of any kind
            if attempt >= _allowed(error):
                raise explained(error, url) from None
            time.sleep(_pause(attempt))
    raise AssertionError("unreachable: it counts for ever")


async def retried_async(work: Callable[[], Awaitable[T]], url: str) -> T:
    """As `retried`, in an event loop."""
    for attempt in itertools.count(1):
        try:
            return await work()
        except (TomostreamError, *_BUGS):
            raise
        except Exception as error:  # as above
            if attempt >= _allowed(error):
                raise explained(error, url) from None
            await asyncio.sleep(_pause(attempt))
    raise AssertionError("unreachable: it counts for ever")


def _allowed(error: BaseException) -> int:
    """Return how many tries a request gets after this fault."""
    if not is_transient(error):
        return 1
    return CONNECT_ATTEMPTS if _is_unreachable(error) else ATTEMPTS


def _is_unreachable(error: BaseException) -> bool:
    return any(base.__name__ in _UNREACHABLE_TYPES for one in _chain(error) for base in type(one).__mro__)


def _pause(attempt: int) -> float:
    """Return the seconds before the next try: random, up to twice as long as before."""
    return random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempt - 1)))


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may succeed a little later."""
    for one in _chain(error):
        status, code = _status(one)
        if code in _TRANSIENT_CODES or status in _TRANSIENT_STATUS:
            return True
        if status is not None:
            return False
    if any(isinstance(one, FileNotFoundError | PermissionError) for one in _chain(error)):
        return False
    return any(
        isinstance(one, TimeoutError | ConnectionError) or any(base.__name__ in _TRANSIENT_TYPES for base in type(one).__mro__)
        for one in _chain(error)
    )


def is_conflict(error: BaseException) -> bool:
    """Return whether a conditional write was refused because the object exists (or another is just being written)."""
    if isinstance(error, FileExistsError):
        return True
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            code = response.get("Error", {}).get("Code")
            return code in ("PreconditionFailed", "ConditionalRequestConflict") and not is_transient(error)
        cause = cause.__cause__
    return False


def explained(error: BaseException, url: str) -> Exception:
    """Return the error for a fault that further tries can't fix."""
    chain = list(_chain(error))
    statuses, codes = zip(*(_status(one) for one in chain), strict=True)
    if _is_unreachable(error):
        text = f"{url} can't be reached ({_words(error)}); check the URL, the network and the endpoint (AWS_ENDPOINT_URL)"
    elif is_transient(error):
        return TomostreamError(
            f"{url}: the server kept failing after {ATTEMPTS} tries ({_words(error)}); finished work is kept: check the network, the endpoint "
            "(AWS_ENDPOINT_URL) and the server's load, and run the same command again"
        )
    elif "NoSuchBucket" in codes:
        text = f"{url}: there is no such bucket; check its name, the region and the endpoint (AWS_ENDPOINT_URL), or create it"
    elif {401, 403} & set(statuses) or any(isinstance(one, PermissionError) or type(one).__name__ in _NO_CREDENTIALS for one in chain):
        return DeniedError(f"{url}: access is denied ({_words(error)}); {_CREDENTIALS}")
    elif 404 in statuses or any(isinstance(one, FileNotFoundError) for one in chain):
        return FileNotFoundError(errno.ENOENT, "no such object", url)
    elif any(isinstance(one, NotImplementedError) for one in chain):
        text = f"{url}: this kind of server can't be written to; choose a local folder or an object store (s3://...)"
    else:
        text = f"{url} can't be read or written ({_words(error)}); check the URL, the network and your permissions"
    return InputError(text)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes: the libraries wrap the server's answer."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _status(error: BaseException) -> tuple[int | None, str | None]:
    """Return the HTTP status and the service's own code, if an error holds the server's answer."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status, response.get("Error", {}).get("Code")
    status = getattr(error, "status", None)
    return (status if isinstance(status, int) else None), None


def _words(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no details'}"
