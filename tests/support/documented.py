"""The code blocks of the pages: which there are, what is said of each, and a folder in which those that run are run.

A comment in the line above a block says what becomes of it:

- `<!-- run -->`: it is run (`sh`: by bash; `python`: by Python), after the page's earlier blocks, in one folder; `<!-- run: exit 2 -->` where it is to fail.
- `<!-- output -->`: each line is in what the block before printed; `...` stands for anything.
- `<!-- configuration -->`: keys of a configuration, which are checked.
- `<!-- file: NAME -->`, `<!-- line: NAME -->`: a file is written; the recipes of extending.md have a test of their own.
- `<!-- not run: REASON -->`.
- `<!-- setup` begins a comment of commands, run where it stands and not shown; `<!-- needs: data -->` a page that takes the real tomograms.

Drawings (`mermaid`) are no code.
"""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mrcfile
import yaml
from repository import REPOSITORY
from small_project import RADIUS_VOX, SPACING, make_volume

PAGES = [*sorted((REPOSITORY / "docs").rglob("*.md")), *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "bench/README.md"))]
DRAWINGS = ("mermaid",)
_PART = re.compile(
    r"^<!-- setup\n(?P<setup>.*?)^-->|^(?:<!-- (?P<mark>[^\n]*?) -->\n)?```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A block of a page; `language` is `setup` for commands that are not shown."""

    line: int
    language: str
    mark: str
    text: str


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


@cache
def blocks_of(page: Path) -> tuple[Block, ...]:
    text = page.read_text()
    found = []
    for match in _PART.finditer(text):
        line = text[: match.start()].count("\n") + 1
        if match["setup"] is not None:
            found.append(Block(line, "setup", "run", match["setup"]))
        else:
            found.append(Block(line, match["language"], match["mark"] or "", match["text"]))
    return tuple(found)


def needs_data(page: Path) -> bool:
    return "<!-- needs: data -->" in page.read_text()


def is_run(page: Path) -> bool:
    return any(block.mark.split(":")[0] == "run" and block.language != "setup" for block in blocks_of(page))


def make_world(folder: Path) -> None:
    """Write what the pages speak of: `data/TS_01.mrc`, `TS_02.mrc`, clicks, truth, `my.yaml`, and the finished project `my-project`."""
    (folder / "data").mkdir(parents=True)
    head, rows = "tomogram,species,x_voxel,y_voxel,z_voxel", []
    for seed, name in enumerate(("TS_01", "TS_02")):
        volume, [centres] = make_volume(seed)
        with mrcfile.new(folder / "data" / f"{name}.mrc") as file:
            file.set_data(volume)
            file.voxel_size = SPACING
        rows.append([f"{name},ribosome,{x:.2f},{y:.2f},{z:.2f}" for z, y, x in centres])
    for table, lines in (("truth", rows[0] + rows[1]), ("clicks", rows[0][:8]), ("more_clicks", rows[1][:8])):
        (folder / f"{table}.csv").write_text("\n".join([head, *lines]) + "\n")
    configuration = {
        "project": "my-project",
        "tomograms": ["data/*.mrc"],
        "species": [{"name": "ribosome", "radius": f"{RADIUS_VOX * SPACING:g}A", "expected": 24}],
        "labels": {"train": ["clicks.csv"], "validate": ["more_clicks.csv"]},
        "truth": "truth.csv",
        "tolerance": "4vox",
        "objective": {"name": "average"},
        "cluster": {"threads": 1},
    }
    (folder / "my.yaml").write_text(yaml.safe_dump(configuration, sort_keys=False))
    done = shell("tomostream run my.yaml\n", folder)
    assert done.returncode == 0, done.stdout


def shell(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run commands by bash; `tomostream` and `python` are this checkout's and this interpreter."""
    programs = folder / ".programs"
    if not programs.exists():
        programs.mkdir()
        (programs / "tomostream").write_text(f"#!{sys.executable}\nfrom tomostream.cli.main import main\nmain()\n")
        (programs / "tomostream").chmod(0o755)
        (programs / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        (programs / "python").chmod(0o755)
    return _run(["bash", "-euo", "pipefail", "-c", text], folder, {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"})


def python(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return _run([sys.executable, "-c", text], folder, {})


def _run(command: list[str], folder: Path, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    where = os.pathsep.join((str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])))
    settings |= {"PYTHONPATH": where, "COLUMNS": "200", "TERM": "dumb", "MPLBACKEND": "Agg"}
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )


def run_page(page: Path, folder: Path) -> None:
    """Run a page's blocks in their order; an assertion that fails names page and line."""
    printed = ""
    for block in blocks_of(page):
        where = f"{name_of(page)}, line {block.line}"
        kind, _, rest = block.mark.partition(": ")
        if kind == "run":
            done = (python if block.language == "python" else shell)(block.text, folder)
            printed = done.stdout
            wanted = int(rest.removeprefix("exit ")) if rest else 0
            assert done.returncode == wanted, f"{where}: exit {done.returncode}\n{printed[-3000:]}"
        elif kind == "file":
            (folder / rest).parent.mkdir(parents=True, exist_ok=True)
            (folder / rest).write_text(block.text)
        elif kind == "output":
            check_output(block.text, printed, where)


def check_output(wanted: str, printed: str, where: str) -> None:
    flat = " ".join(printed.split())
    for line in filter(None, map(str.strip, wanted.splitlines())):
        pattern = ".*?".join(re.escape(" ".join(part.split())) for part in line.split("..."))
        assert re.search(pattern, flat), f"{where}: {line!r} is not in what was printed:\n{printed[-3000:]}"
