"""Real servers on loopback: an S3 endpoint (moto), a proxy before it that fails on purpose, and a plain web server."""

import functools
import http.client
import io
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "tested-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
LATE_SECONDS = 0.2
FAULTS = {
    "slow": (503, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"),
    "many": (429, b"<Error><Code>TooManyRequests</Code><Message>too many</Message></Error>"),
    "key": (403, b"<Error><Code>InvalidAccessKeyId</Code><Message>The AWS Access Key Id does not exist</Message></Error>"),
}


class Quiet(ThreadingHTTPServer):
    """Says nothing of connections that a test cuts."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


class Proxy:
    """Stands between a client and the endpoint, and does what `fault(method, path)` says.

    None: pass on.  A key of FAULTS: answer so.  `cut`: close the connection, nothing reaches the server.  `lost`: the server does it, and its answer is
    lost.  `half`: its answer ends in the middle.  `late`: its answer takes `LATE_SECONDS`.
    """

    def __init__(self, endpoint: str) -> None:
        self.fault: Callable[[str, str], str | None] = lambda method, path: None
        self.seen: list[tuple[str, str]] = []
        self.lock = threading.Lock()
        host = endpoint.removeprefix("http://")
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self):
                body = self.body()
                with proxy.lock:
                    proxy.seen.append((self.command, self.path))
                    fault = proxy.fault(self.command, self.path)
                if fault == "cut":
                    self.close_connection = True
                    self.connection.close()
                elif fault in FAULTS:
                    self.reply(FAULTS[fault][0], {"Content-Type": "application/xml"}, FAULTS[fault][1])
                else:
                    there = http.client.HTTPConnection(host, timeout=30)
                    headers = {key: value for key, value in self.headers.items() if key.lower() != "transfer-encoding"}
                    there.request(self.command, self.path, body, headers)
                    answer = there.getresponse()
                    headers, content = dict(answer.getheaders()), answer.read()
                    there.close()
                    if fault == "late":
                        time.sleep(LATE_SECONDS)
                    if fault == "lost":
                        self.close_connection = True
                        self.connection.close()
                    else:
                        self.reply(answer.status, headers, content, is_cut=fault == "half")

            def body(self):
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def reply(self, status, headers, body, *, is_cut=False):
                self.send_response(status)
                for key, value in headers.items():
                    if key.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                        self.send_header(key, value)
                length = headers.get("Content-Length", str(len(body))) if self.command == "HEAD" else str(len(body))
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body[: len(body) // 2] if is_cut else body)
                if is_cut:
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.close()

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward  # noqa: N815 (names of the base class)

            def log_message(self, *_):
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        with self.lock:
            self.fault = lambda method, path: None
            self.seen.clear()

    def count(self, method: str, part: str) -> int:
        with self.lock:
            return sum(m == method and part in path for m, path in self.seen)


@functools.cache
def s3_proxy() -> Proxy:
    """A running S3 endpoint behind a proxy: one for all tests of a process, because fsspec looks at the environment once."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return Proxy(f"http://{host}:{port}")


def make_bucket(name: str) -> None:
    connection = http.client.HTTPConnection(s3_proxy().url.removeprefix("http://"), timeout=10)
    connection.request(
        "PUT", f"/{name}", headers={"Authorization": "AWS4-HMAC-SHA256 Credential=testing/20200101/us-east-1/s3/aws4_request"}
    )
    assert connection.getresponse().status == 200
    connection.close()


class RangeHandler(SimpleHTTPRequestHandler):
    """Answers range requests, as object stores do."""

    def send_head(self):
        wanted, path = self.headers.get("Range"), self.translate_path(self.path)
        if wanted is None or not os.path.isfile(path):
            return super().send_head()
        size = os.path.getsize(path)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start = int(first) if first else size - int(last)
        stop = min(int(last), size - 1) if first and last else size - 1
        content = Path(path).read_bytes()[start : stop + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop}/{size}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)


@contextmanager
def web_server(folder: Path, handler=SimpleHTTPRequestHandler):
    """A plain web server of a folder: no listings worth the name, no range requests; yields its URL and the paths that were asked for."""
    seen = []

    class Handler(handler):
        def log_message(self, *_):
            pass

        def send_head(self):
            seen.append(self.path)
            return super().send_head()

    server = Quiet(("127.0.0.1", 0), partial(Handler, directory=os.fspath(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
