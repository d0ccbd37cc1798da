"""How does the server start, print its address, and end?

1. The port is taken first, on 127.0.0.1 only: one in use is an error before anything is printed.
2. The first line of standard output is the address with the token.  A program that reads it can connect at once.
3. It serves until a signal; background jobs are stopped, and resume when they are started again.
"""

from __future__ import annotations

import errno
import functools
import importlib.resources
import os
import signal
import socket
import sys
import webbrowser
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tomostream.errors import InputError
from tomostream.view.answers import Answers, refused
from tomostream.view.connections import MOST, Connection
from tomostream.view.security import Guard, new_token
from tomostream.view.workspace import Workspace

HOST = "127.0.0.1"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_KEEP_ALIVE_SECONDS = 30
_SHUTDOWN_SECONDS = 2


def application(answers: Answers, *, token: str, port: int) -> ASGIApp:
    """The guarded application."""
    questions: tuple[tuple[str, str, Callable[[Request], Awaitable[Response]]], ...] = (
        ("GET", "/api/state", answers.state),
        ("GET", "/api/tomogram", answers.tomogram),
        ("GET", "/api/tile", answers.tile),
        ("POST", "/api/thumbnails", answers.thumbnails),
        ("GET", "/api/clicks", answers.look),
        ("POST", "/api/clicks", answers.patch),
        ("GET", "/api/picks", answers.pick_list),
        ("GET", "/api/suggested", answers.suggested),
        ("POST", "/api/setup", answers.set_up),
        ("POST", "/api/start", answers.start),
        ("POST", "/api/stop", answers.stop),
        ("POST", "/api/export", answers.export),
        ("GET", "/api/download", answers.download),
    )
    routes = [Route(path, _answering(method), methods=[kind]) for kind, path, method in questions]
    files = page_files()
    routes += [Route(f"/{name}" if name != "index.html" else "/", _sending(name, content)) for name, content in files.items()]
    return Guard(Starlette(routes=routes), token=token, port=port)


@functools.cache
def page_files() -> dict[str, bytes]:
    """The built page: each file by its path.

    Raises
    ------
    InputError
        If the package came without it.
    """
    folder = importlib.resources.files("tomostream.view") / "static"
    found = {part.name: part.read_bytes() for part in folder.iterdir() if part.is_file()} if folder.is_dir() else {}
    if "index.html" not in found:
        raise InputError(
            "this installation lacks the built page (tomostream/view/static); in a clone: cd tomostream/view/web && npm ci && npm run build"
        )
    return found


def serve(workspace: Workspace, *, port: int, memory: int, with_browser: bool) -> None:
    """Serve until a signal.

    Raises
    ------
    InputError
        If the port can't be used, or tomograms must be converted and there is no place for them.
    """
    page_files()
    _tell_if_unwritable(workspace)
    answers = Answers(workspace, memory=memory)
    listening = _listen(port)
    port = listening.getsockname()[1]
    token = new_token()
    address = f"http://{HOST}:{port}/?token={token}"
    config = uvicorn.Config(
        application(answers, token=token, port=port),
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        limit_concurrency=MOST,
        http=Connection,
        ws="none",
        lifespan="off",
    )
    server = uvicorn.Server(config)
    signals: list[int] = []

    def end(number: int, frame: object) -> None:
        # no exception: raised in the midst of anything, as a destructor, it could be lost, and the server would stay
        del frame
        signals.append(number)
        server.should_exit = True

    # before the address is printed: its reader may stop the server at once.  uvicorn hands on to these what it has received
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        print(address, flush=True)
        _say_how_to_open(port, address, with_browser)
        server.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        ended = answers.close()
        if ended:
            print(f"stopped: {', '.join(ended)}; finished work is kept; start it again to resume", file=sys.stderr)
    if signals:
        sys.exit(128 + signals[0])


def _answering(method: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            response = await method(request)
        except ClientDisconnect:  # it went, or `Guard` has cut its body off: too long, or too slow
            response = Response("the request's body is too long, or did not arrive", status_code=413, headers={"connection": "close"})
        except Exception as error:  # the last resort: a fault must not end the server, and shows no traceback
            if os.environ.get("TOMOSTREAM_DEBUG"):
                raise
            response = refused(request, error)
        response.headers.setdefault("cache-control", "no-store")
        return response

    return answer


def _sending(name: str, content: bytes) -> Callable[[Request], Awaitable[Response]]:
    kind = _TYPES.get(name[name.rfind(".") :], "application/octet-stream")

    async def send(request: Request) -> Response:
        del request
        return Response(content, headers={"content-type": kind, "cache-control": "no-cache"})

    return send


def _tell_if_unwritable(workspace: Workspace) -> None:
    """What is converted can be looked at anyway."""
    why = workspace.only_looking()
    if why is None:
        return
    if any(not entry.is_converted for entry in workspace.entries.values()):
        raise InputError(f"{why.partition(':')[0]}, and MRC files are converted before they are viewed; give a folder for that with -o DIR")
    print(why, file=sys.stderr)


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        what = "is in use" if error.errno == errno.EADDRINUSE else f"can't be used ({error.strerror})"
        raise InputError(f"port {port} of {HOST} {what}; choose another with --port, or leave it out to use any free port") from None
    listening.set_inheritable(False)
    return listening


def _say_how_to_open(port: int, address: str, with_browser: bool) -> None:
    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    is_remote = bool(os.environ.get("SSH_CONNECTION"))
    has_screen = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) or not is_remote
    is_opened = with_browser and has_screen and _open_browser(address)
    if with_browser and not is_opened and not is_remote:
        say("no browser could be opened: open the address above in a browser on this machine")
    if not is_opened:
        user, host = os.environ.get("USER", "USER"), socket.gethostname()
        say(
            f"{'this machine is remote; on your own' if is_remote else 'to look from another machine, there'} type\n"
            f"  ssh -L {port}:{HOST}:{port} {user}@{host}\nand open the address above in a browser there"
        )
    say("the workbench runs until you press Ctrl-C here")


def _open_browser(address: str) -> bool:
    try:
        browser: Any = webbrowser.get()
    except webbrowser.Error:
        return False
    if isinstance(browser, webbrowser.GenericBrowser) and not isinstance(browser, webbrowser.BackgroundBrowser):
        return False  # one of the terminal: it would take this one's input
    return bool(browser.open(address))
