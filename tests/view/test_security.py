"""Who is let in, and what a request can't do: attacks on a server as it runs."""

import contextlib
import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from running_view import Running, started

Serve = Callable[..., Running]


@pytest.fixture(scope="module")
def server(stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all attacks: none may change what the next finds."""
    folder = tmp_path_factory.mktemp("attacked")
    with started(stores, "-o", folder / "project", cwd=folder) as running:
        yield running


def ask(
    server: Running, path: str, *, method: str = "GET", token: bool = True, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Send a request as anybody could; the token comes in the cookie."""
    given = {
        "Host": f"127.0.0.1:{server.port}",
        **({"Cookie": f"tomostream_{server.port}={server.token}"} if token else {}),
        **(headers or {}),
    }
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    for name, value in given.items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return found


def post(server: Running, path: str, value: object, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return ask(server, path, method="POST", body=json.dumps(value).encode(), headers={"Content-Type": "application/json", **headers})


@pytest.mark.slow
def test_the_address_with_its_token_opens_the_page_and_leaves_a_cookie(server):
    status, headers, body = ask(server, f"/?token={server.token}", token=False)
    assert status == 200
    assert b'<div id="app">' in body
    assert f"tomostream_{server.port}={server.token}" in headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict"} <= {part.strip() for part in headers["set-cookie"].split(";")}
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert ask(server, "/")[0] == 200  # a reload, with the cookie


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", ["/", "/app.js", "/api/state", "/api/clicks", "/nothing", "/?token=", "/?token=wrong", "/?token=%00", "/?token={t}&token={t}"]
)
def test_without_the_token_everything_is_403(server, path):
    status, headers, _ = ask(server, path.replace("{t}", server.token), token=False)
    assert status == 403
    assert "set-cookie" not in headers
    assert ask(server, path, token=False, headers={"Cookie": f"tomostream_{server.port}=wrong"})[0] == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1",
        "127.0.0.1:1",
        "localhost.evil.example:{port}",
        "127.0.0.1:{port}.evil.example",
        "0.0.0.0:{port}",
        "[::1]:{port}",
        "",
    ],
)
def test_a_foreign_host_is_403_even_with_the_token(server, host):
    assert ask(server, f"/?token={server.token}", headers={"Host": host.format(port=server.port)})[0] == 403


def test_two_hosts_are_403(server):
    text = (
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nHost: evil.example\r\nCookie: tomostream_{server.port}={server.token}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(text.encode())
        assert b" 400 " in (answer := connection.recv(4096)) or b" 403 " in answer


def test_localhost_is_the_same_server(server):
    assert ask(server, "/api/state", headers={"Host": f"localhost:{server.port}"})[0] == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "http://127.0.0.1", "http://localhost:{port}", ""],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_foreign_origin_is_403(server, origin, method):
    headers = {"Origin": origin.format(port=server.port), "Content-Type": "application/json"}
    assert ask(server, "/api/clicks", method=method, headers=headers, body=b"{}")[0] == 403


def test_our_own_origin_is_let_in(server):
    assert post(server, "/api/clicks", {}, Origin=f"http://127.0.0.1:{server.port}")[0] == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pictures_in_other_pages_are_403_and_a_link_with_the_token_opens(server, site):
    assert ask(server, "/api/state", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"})[0] == 403
    assert ask(server, "/", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"})[0] == 403
    assert ask(server, f"/?token={server.token}", token=False, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"})[0] == 200


TRAVERSALS = [
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "ball_1/../ball_1",
    "ball_1\0",
    "%2e%2e/x",
    "~root",
    "file:///etc/passwd",
    "http://evil.example/a.zarr",
    "ball_1/",
    "x" * 300,
]


@pytest.mark.parametrize("evil", TRAVERSALS)
def test_no_parameter_is_a_path(server, evil):
    name = quote(evil, safe="")
    tile = "axis=z&level=0&z0=0&z1=1&r0=0&r1=8&c0=0&c1=8"
    for path in (
        f"/api/tomogram?name={name}", f"/api/tile?name={name}&{tile}", f"/api/tile?name=ball_1&scores={name}&{tile}",
        f"/api/picks?name={name}&species=a", f"/api/download?name={name}",
    ):  # fmt: skip
        status, _, body = ask(server, path)
        assert status == 400, path
        assert b"root:" not in body
    status, _, body = ask(server, f"/api/picks?name=ball_1&species={name}")
    assert (status, body) in ((200, b"null"),) or status == 400
    for path, value in (
        ("/api/thumbnails", {"name": evil, "positions": [[1, 1, 1]], "radius": 60}),
        ("/api/clicks", {"add": [{"tomogram": evil, "species": "a", "x": 1, "y": 1, "z": 1, "label": 1}]}),
        ("/api/setup", {"species": [{"name": evil, "radius": "60A"}]}),
        ("/api/start", {"kind": "candidates", "name": evil, "species": "a"}),
        ("/api/start", {"kind": evil}),
        ("/api/export", {"format": evil, "species": "a"}),
        ("/api/export", {"format": "csv", "species": evil}),
        ("/api/export", {"format": "csv", "species": "a", "tomograms": [evil]}),
        ("/api/export", {"format": "csv", "species": "a", "output": "/tmp/x"}),
    ):
        status, _, body = post(server, path, value)
        assert status == 400, (path, body)
        assert b"Traceback" not in body
    assert sorted(path.name for path in (server.folder).iterdir() if not path.name.startswith("view-")) in ([], ["project"])


@pytest.mark.slow
def test_links_out_of_the_project_are_not_followed(serve, stores, tmp_path):
    server = serve(stores, "-o", tmp_path / "project")
    project = tmp_path / "project"
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "ball_1.csv").write_text("tomogram,species,x_angstrom,y_angstrom,z_angstrom,score\nball_1,secret,1,1,1,1\n")
    project.mkdir(exist_ok=True)
    os.symlink(secret, project / "picks")
    os.symlink(secret, project / "export")
    status, _, body = ask(server, "/api/picks?name=ball_1&species=secret")
    assert (status, b"outside the project folder" in body) == (400, True)
    assert ask(server, "/api/state")[0] in (200, 400)
    post(server, "/api/clicks", {"add": [{"tomogram": "ball_1", "species": "a", "x": 1, "y": 1, "z": 1, "label": 1}]})
    status, _, body = post(server, "/api/export", {"format": "csv", "species": "a", "source": "clicks"})
    assert (status, b"outside the project folder" in body) == (400, True)
    assert [path.name for path in secret.iterdir()] == ["ball_1.csv"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "query",
    [
        "level=99",
        "level=-1",
        "z0=5&z1=2",
        "z0=0&z1=999999999",
        "z0=0&z1=99999999999999999999",
        "r1=100000",
        "sigma=1e9",
        "sigma=nan",
        "axis=w",
        "z0=1e3",
        "z0=٣",
        "c1=",
    ],
)
def test_tiles_that_can_not_be_are_refused_before_anything_is_read(server, query):
    values = {"axis": "z", "level": "0", "z0": "0", "z1": "1", "r0": "0", "r1": "8", "c0": "0", "c1": "8", "sigma": "0"}
    values |= dict(part.split("=") for part in query.split("&"))
    status, _, body = ask(server, "/api/tile?name=ball_1&" + "&".join(f"{name}={quote(value)}" for name, value in values.items()))
    assert status == 400
    assert json.loads(body)["error"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"null", b"\xff\xfe", b"[" * 100_000, b'{"add": 1}', b'{"add": [1]}', b'{"add": [{"x": "1e999"}]}', b'{"unknown": 1}', b'{"add": [{"tomogram": "ball_1", "species": "a", "x": NaN, "y": 1, "z": 1}]}']
)  # fmt: skip
def test_bodies_that_are_none_are_refused(server, body):
    status, _, text = ask(server, "/api/clicks", method="POST", body=body, headers={"Content-Type": "application/json"})
    assert status == 400
    assert b"Traceback" not in text
    assert not (server.folder / "project" / "clicks.csv").exists()


def test_other_content_types_are_refused_so_that_a_form_can_not_post(server):
    assert ask(server, "/api/clicks", method="POST", body=b"{}", headers={"Content-Type": "text/plain"})[0] == 400


def sent_until_cut_off(connection: socket.socket, chunk: bytes, most: int) -> int:
    for n in range(most):
        try:
            connection.sendall(chunk)
        except OSError:  # how it hangs up, the system says
            return n
    return most


def test_huge_bodies_are_refused(server):
    assert ask(server, "/api/clicks", method="POST", headers={"Content-Length": str(10**12), "Content-Type": "application/json"})[0] == 413
    text = (
        f"POST /api/clicks HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: tomostream_{server.port}={server.token}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(text.encode())
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        assert sent_until_cut_off(connection, chunk, 2000) < 2000  # of 130 MB
    assert ask(server, "/api/state")[0] == 200
    assert ask(server, "/" + "a" * 100_000)[0] == 414


@pytest.mark.parametrize("header", ["Cookie: " + "a" * 2**20, "\r\n".join(f"X-{n}: {n}" for n in range(50_000)), "Host: evil.example\x00"])
def test_huge_and_broken_headers_are_refused(server, header):
    text = f"GET /api/state HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n{header}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        try:
            connection.sendall(text.encode())
            answer = connection.recv(4096)
        except ConnectionError:  # it hung up before it had read all
            answer = b""
    assert not answer or answer.split(b" ")[1] in (b"400", b"403", b"413", b"414", b"431")
    assert ask(server, "/api/state")[0] == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT"])
def test_other_methods_do_nothing(server, method):
    assert ask(server, "/api/clicks", method=method, body=b"{}", headers={"Content-Type": "application/json"})[0] in (400, 404, 405)
    assert not (server.folder / "project" / "clicks.csv").exists()


def test_hundreds_of_silent_connections_hold_up_nobody(server):
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(300)]
    for connection in silent[::2]:
        with contextlib.suppress(OSError):  # cut off already
            connection.sendall(b"GET /api/state HT")
    assert ask(server, "/api/state")[0] == 200
    for connection in silent:
        connection.close()


def test_connections_that_say_nothing_whole_are_closed_in_seconds(server):
    begun = []
    for beginning in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x"):
        begun.append(socket.create_connection(("127.0.0.1", server.port), timeout=60))
        begun[-1].sendall(beginning)
    for connection in begun:
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) == b""
        connection.close()


def test_slow_clients_hold_up_nobody(server):
    slow = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(40)]
    for n, connection in enumerate(slow):
        head = f"POST /api/clicks HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: tomostream_{server.port}={server.token}\r\n"
        connection.sendall((head + ("Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{" if n % 2 else "")).encode())
    start = time.monotonic()
    assert ask(server, "/api/state")[0] == 200
    assert time.monotonic() - start < 5
    for connection in slow:
        connection.close()


def test_it_listens_on_the_loopback_interface_only(server):
    import psutil

    addresses = {one.laddr.ip for one in psutil.Process(server.process.pid).net_connections() if one.status == "LISTEN"}
    assert addresses == {"127.0.0.1"}
