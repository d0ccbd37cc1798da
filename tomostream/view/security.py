"""Who may use the server?  Only a page that the server itself has sent and that knows the token.

1. *Host* must be this server's own: a name that an attacker's DNS points at 127.0.0.1 is refused (DNS rebinding).
2. *Origin* and *Sec-Fetch-Site*, where a browser sends them, must be this server's own page: other pages in the same browser can't
   ask, not even those of other servers on this machine, which share its cookies.
3. The *token* comes once in the address (`/?token=...`), then in a cookie that scripts can't read; compared in constant time.
4. A request's body has at most `MOST_BODY_BYTES`, and must arrive within `BODY_SECONDS`.

Limits: anyone who can read this user's processes and files has the token anyway.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY_BYTES = 4_000_000
MOST_ADDRESS_BYTES = 8_000
BODY_SECONDS = 20.0

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_NO_TOKEN = (
    "This page belongs to a running `tomostream view`, and its address carries a token. Open the whole address that the command printed "
    "(http://127.0.0.1:PORT/?token=...). If the command was started again, close the old page and open the new address."
)


def new_token() -> str:
    """Make a token that can't be guessed."""
    return secrets.token_urlsafe(32)


class Guard:
    """Lets only the user's own page through to an application.

    Parameters
    ----------
    app
        What is guarded.
    token
        The secret.
    port
        On which the server listens.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._cookie = f"tomostream_{port}"  # cookies don't know ports: two servers must not overwrite each other's

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 or 413, or pass the request on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        hosts = [value for name, value in scope["headers"] if name.lower() == b"host"]
        in_query = self._token_in_query(scope)
        refusal = self._refusal(scope, headers, len(hosts), in_query)
        if refusal is not None:
            await _answer(send, 403, refusal)
            return
        if len(scope["path"]) + len(scope["query_string"]) > MOST_ADDRESS_BYTES:
            await _answer(send, 414, f"an address has at most {MOST_ADDRESS_BYTES} bytes")
            return
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MOST_BODY_BYTES:
            await _answer(send, 413, f"a request has at most {MOST_BODY_BYTES} bytes, found {length[:20]}")
            return
        cookie = None
        if in_query and scope["path"] == "/":
            cookie = f"{self._cookie}={self._token.decode()}; Path=/; HttpOnly; SameSite=Strict"
        await self._app(scope, _Bounded(receive), _with_headers(send, cookie))

    def _refusal(self, scope: Scope, headers: Mapping[str, str], hosts: int, in_query: bool) -> str | None:
        """Why this request is refused; None if it is not."""
        host = headers.get("host", "")
        if hosts != 1 or host not in self._hosts:
            return f"Host '{host[:80]}' is not this server's; open the address that `tomostream view` printed"
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return f"a page of '{origin[:80]}' may not ask this server"
        # a link in another page may open ours if it knows the token; nothing else may be asked from there
        is_opened = in_query and scope["path"] == "/" and scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not is_opened:
            return "another page may not ask this server"
        if not (in_query or self._is_token(self._token_in_cookie(headers))):
            return _NO_TOKEN
        return None

    def _is_token(self, given: str | None) -> bool:
        return given is not None and secrets.compare_digest(given.encode(), self._token)

    def _token_in_query(self, scope: Scope) -> bool:
        try:
            values = parse_qs(scope["query_string"].decode("ascii"), max_num_fields=50).get("token", [])
        except ValueError:
            return False
        return len(values) == 1 and self._is_token(values[0])

    def _token_in_cookie(self, headers: Mapping[str, str]) -> str | None:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return None
        return None if morsel is None else morsel.value


class _Bounded:
    """Receives a body of bounded size in bounded time."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = MOST_BODY_BYTES
        self._is_complete = False

    async def __call__(self) -> Message:
        if self._is_complete:  # what comes now is the disconnection, whenever
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), BODY_SECONDS)
        except TimeoutError:
            return {"type": "http.disconnect"}
        self._left -= len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        return message if self._left >= 0 else {"type": "http.disconnect"}


def _with_headers(send: Send, cookie: str | None) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            extra = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            if cookie is not None:
                extra.append((b"set-cookie", cookie.encode()))
            message["headers"] = [*message["headers"], *extra]
        await send(message)

    return sending


async def _answer(send: Send, status: int, text: str) -> None:
    body = f"{text}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await _with_headers(send, None)({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
