"""`tomostream view` as a command: its first line, its exit codes, its refusals, its memory."""

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from running_view import Running, environment

from tomostream.project import RUN_LOCK
from tomostream.store.locks import exclusive

pytestmark = pytest.mark.slow

Serve = Callable[..., Running]


def ask(server: Running, path: str, value: Any = None) -> Any:
    data = None if value is None else json.dumps(value).encode()
    headers = {"Cookie": f"tomostream_{server.port}={server.token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        body = answer.read()
        return json.loads(body) if answer.headers["content-type"] == "application/json" else body


def refused(server: Running, path: str, value: Any = None) -> str:
    with pytest.raises(urllib.error.HTTPError) as error:
        ask(server, path, value)
    return str(json.loads(error.value.read())["error"])


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tomostream", "view", "--no-browser", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment(), timeout=60, check=False)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_line_is_the_address_and_a_signal_ends_it(serve, stores, number, code):
    server = serve(stores)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[A-Za-z0-9_-]{40,}", server.address)
    assert [one["name"] for one in ask(server, "/api/state")["tomograms"]] == ["ball_1", "ball_2"]
    assert server.end(number) == code
    assert "Traceback" not in server.stderr.read_text()


def test_a_signal_right_after_the_first_line_is_not_lost(serve, stores):
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGTERM, 143)):
        assert serve(stores).end(number) == code


def test_a_port_in_use_is_exit_2_and_says_what_to_do(stores, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run(stores, "--port", str(port), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"port {port} of 127.0.0.1 is in use; choose another with --port" in done.stderr


def test_the_port_that_is_asked_for_is_taken(serve, stores):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert serve(stores, "--port", str(port)).port == port


def test_on_a_remote_machine_the_tunnel_is_told_and_no_browser_is_opened_there(serve, stores, tmp_path):
    there = tmp_path / "opened"
    server = serve(
        stores, with_browser=True, BROWSER=f"{touching(there)} %s &", SSH_CONNECTION="1.2.3.4 1 5.6.7.8 22", DISPLAY="", WAYLAND_DISPLAY=""
    )
    ask(server, "/api/state")
    told = server.stderr.read_text()
    assert f"this machine is remote; on your own type\n  ssh -L {server.port}:127.0.0.1:{server.port}" in told
    assert "open the address above in a browser there" in told
    assert not there.exists()


def touching(file: Path) -> Path:
    """A browser that leaves a file with the address that it was asked for."""
    script = file.with_name("browser.sh")
    script.write_text(f"#!/bin/sh\necho \"$1\" > '{file}.part' && mv '{file}.part' '{file}'\n")
    script.chmod(0o755)
    return script


def test_the_browser_is_opened_on_the_address(serve, stores, tmp_path):
    server = serve(stores, with_browser=True, BROWSER=f"{touching(tmp_path / 'opened')} %s &", SSH_CONNECTION="")
    until = time.monotonic() + 20
    while not (tmp_path / "opened").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    assert (tmp_path / "opened").read_text().strip() == server.address
    ask(server, "/api/state")
    assert "ssh -L" not in server.stderr.read_text()


def test_without_a_browser_the_address_is_to_be_opened_by_hand(serve, stores, tmp_path):
    (tmp_path / "nothing").mkdir()
    server = serve(
        stores,
        with_browser=True,
        PATH=str(tmp_path / "nothing"),
        BROWSER="",
        DISPLAY="",
        WAYLAND_DISPLAY="",
        SSH_CONNECTION="",
    )
    assert [one["name"] for one in ask(server, "/api/state")["tomograms"]] == ["ball_1", "ball_2"]
    told = server.stderr.read_text()
    assert "no browser could be opened: open the address above in a browser on this machine" in told
    assert f"to look from another machine, there type\n  ssh -L {server.port}:127.0.0.1:{server.port}" in told


def test_where_nothing_can_be_written_stores_can_be_looked_at_and_mrc_files_are_refused(serve, read_only, tmp_path):
    server = serve(read_only / "stores", "-o", read_only / "project")
    why = f"{read_only} can't be written: you can look, but not click, train or export"
    assert why in server.stderr.read_text()
    assert ask(server, "/api/state")["only_looking"].startswith(why)
    assert len(ask(server, "/api/tile?name=ball_1&axis=z&level=0&z0=20&z1=21&r0=0&r1=64&c0=0&c1=64")) == 64 * 64
    done = run(read_only / "mrc", "-o", "project", cwd=read_only)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        f"{read_only} can't be written, and MRC files are converted before they are viewed; give a folder for that with -o DIR"
        in done.stderr
    )
    elsewhere = serve(read_only / "mrc", "-o", tmp_path / "mine")
    assert ask(elsewhere, "/api/state")["only_looking"] is None


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nothing-there"], "nothing-there does not exist"),
        (["note.txt"], "neither a tomogram"),
        (["--memory", "100MB"], "view needs"),
        (["--memory", "lots"], "not a size"),
        (["--port", "99999"], "port"),
        (["a.yaml"], "missing key"),
        (["a.yaml", "b.yaml"], "several configurations"),
    ],
)
def test_bad_input_is_exit_2_with_one_message(tmp_path, arguments, part):
    (tmp_path / "note.txt").write_text("x")
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("project: p\n")
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_without_the_extra_the_message_names_it(tmp_path):
    (tmp_path / "starlette.py").write_text("raise ImportError('no', name='starlette')\n")
    env = environment()
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    done = subprocess.run([sys.executable, "-m", "tomostream", "view"], capture_output=True, text=True, cwd=tmp_path, env=env, check=False)
    assert done.returncode == 2
    assert "install tomostream again" in done.stderr


def test_a_tomogram_that_vanishes_is_told_and_the_others_go_on(serve, stores, tmp_path):
    import shutil

    mine = tmp_path / "mine"
    shutil.copytree(stores, mine)
    server = serve(mine)
    ask(server, "/api/tomogram?name=ball_1")
    shutil.rmtree(mine / "ball_1.ome.zarr")
    assert "vanished" in refused(server, "/api/tomogram?name=ball_1")
    assert [one["state"] for one in ask(server, "/api/state")["tomograms"]] == ["missing", "ready"]
    assert ask(server, "/api/tomogram?name=ball_2")["spacing"] == pytest.approx(10)


def test_clicks_of_a_killed_server_are_there_again(serve, stores, tmp_path):
    row = {"tomogram": "ball_1", "species": "particle", "x": 100.5, "y": 20.0, "z": 30.25, "label": 1}
    server = serve(stores, "--clicks", tmp_path / "mine.csv")
    ask(server, "/api/clicks", {"add": [row, row | {"label": 0, "x": 7.0}], "remove": []})
    server.end(signal.SIGKILL)
    again = serve(stores, "--clicks", tmp_path / "mine.csv")
    assert ask(again, "/api/clicks")["clicks"] == [row, row | {"label": 0, "x": 7.0}]


def test_a_run_that_outlives_its_killed_server_is_told_and_not_disturbed(serve, stores, tmp_path):
    project = tmp_path / "project"
    server = serve(stores, "-o", project)
    row = {"tomogram": "ball_1", "species": "particle", "x": 100.0, "y": 200.0, "z": 300.0, "label": 1}
    ask(server, "/api/clicks", {"add": [row]})
    ask(server, "/api/setup", {"species": [{"name": "ball", "radius": "60A"}]})
    with exclusive(project / RUN_LOCK, "project"):  # as a run holds it whose server was killed
        server.end(signal.SIGKILL)
        again = serve(stores, "-o", project)
        [job] = ask(again, "/api/start", {"kind": "run"})
        until = time.monotonic() + 200  # a busy machine starts a run slowly
        while job["state"] == "running":
            assert time.monotonic() < until
            time.sleep(0.1)
            [job] = ask(again, "/api/state")["jobs"]
    assert job["state"] == "failed"
    assert f"pid {os.getpid()} on" in job["lines"][-1]
    assert "wait until it finishes, or stop it" in job["lines"][-1]


def test_two_servers_on_one_table_lose_no_click(serve, stores, tmp_path):
    servers = [serve(stores, "--clicks", tmp_path / "both.csv") for _ in range(2)]

    def click(n: int) -> None:
        row = {"tomogram": "ball_1", "species": "particle", "x": float(n), "y": 20.0, "z": 30.0, "label": 1}
        ask(servers[n % 2], "/api/clicks", {"add": [row]})

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(click, range(60)))
    for server in servers:
        assert sorted(one["x"] for one in ask(server, "/api/clicks")["clicks"]) == [float(n) for n in range(60)]


def test_the_form_writes_a_configuration_that_the_command_line_runs(serve, stores, tmp_path):
    server = serve(stores, "-o", tmp_path / "project")
    row = {"tomogram": "ball_1", "species": "particle", "x": 100.0, "y": 200.0, "z": 300.0, "label": 1}
    ask(server, "/api/clicks", {"add": [row]})
    assert "radius" in refused(server, "/api/setup", {"species": [{"name": "ball", "radius": "60"}]})
    state = ask(server, "/api/setup", {"species": [{"name": "ball", "radius": "60A", "expected": 14}]})
    assert state["config"] == str(tmp_path / "project" / "tomostream.yaml")
    assert ask(server, "/api/clicks")["clicks"] == [row | {"species": "ball"}]  # clicks follow the name
    done = subprocess.run(
        [sys.executable, "-m", "tomostream", "run", state["config"], "--dry-run"],
        capture_output=True,
        text=True,
        cwd="/",
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ball_2" in done.stdout
    server.end()
    again = serve(stores, "-o", tmp_path / "project")
    assert ask(again, "/api/state")["species"] == [{"name": "ball", "radius": "60A", "expected": 14}]


@pytest.mark.memory
def test_the_server_stays_within_its_memory(serve, tmp_path):
    """A volume larger than the budget, scrolled through along all three axes."""
    import numpy as np
    from ball_tomograms import write_mrc

    rng = np.random.default_rng(0)
    write_mrc(tmp_path / "large.mrc", rng.normal(size=(256, 1024, 1024)).astype(np.float32))  # 1.07 GB
    command = [sys.executable, "-m", "tomostream", "convert", str(tmp_path / "large.mrc"), "-o", str(tmp_path / "stores")]
    subprocess.run(command, check=True, capture_output=True, env=environment())
    budget = 700_000_000
    server = serve(tmp_path / "stores", "--memory", "700MB")
    process, peak = psutil.Process(server.process.pid), 0
    shape = {"z": (256, 1024, 1024), "y": (1024, 256, 1024), "x": (1024, 1024, 256)}

    def tile(axis: str, at: int, row: int, column: int, sigma: int) -> None:
        planes, rows, columns = shape[axis]
        span = f"z0={at}&z1={min(planes, at + 30)}&r0={row}&r1={min(rows, row + 512)}&c0={column}&c1={min(columns, column + 512)}"
        ask(server, f"/api/tile?name=large&axis={axis}&level=0&{span}&sigma={sigma}")

    jobs = [
        (axis, at, row, column, sigma)
        for axis in "zyx"
        for at in range(0, shape[axis][0] - 30, 60)
        for row in range(0, shape[axis][1], 512)
        for column in range(0, shape[axis][2], 512)
        for sigma in (0, 2)
    ]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for _ in pool.map(lambda job: tile(*job), jobs):
            peak = max(peak, process.memory_info().rss)
    assert peak <= budget, f"{peak / 1e6:.0f} MB"
