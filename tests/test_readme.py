"""The README's Python example runs as it stands there, and its commands are those that exist."""

import re

from PIL import Image
from repository import REPOSITORY

from tomostream.version import VERSION

README = (REPOSITORY / "README.md").read_text()


def block_after(marker: str) -> str:
    match = re.search(rf"<!-- {marker} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert match is not None, f"README.md has no block after <!-- {marker} -->"
    return match[1]


def test_the_example_runs_and_finds_the_label(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = block_after("example")
    assert len([line for line in code.splitlines() if line.strip()]) == 8
    exec(compile(code, "README.md", "exec"), {})
    z, y, x, clipped_std = capsys.readouterr().out.split()
    assert sum((int(a) - b) ** 2 for a, b in zip((z, y, x), (24, 40.5, 60), strict=True)) <= 25
    assert 0.98 < float(clipped_std) < 1
    assert len((tmp_path / "picks.csv").read_text().splitlines()) == 4


def test_the_test_command_is_one_line_that_runs_pytest():
    assert re.fullmatch(r"python3\.11 .*pytest[^\n]*\n", block_after("tests"))


def test_links_point_to_files():
    for target in re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (REPOSITORY / target).exists(), target


def test_the_picture_is_of_this_release():
    made_by = Image.open(REPOSITORY / "docs" / "demo.png").text.get("tomostream", "none")
    assert made_by.split(".")[:2] == VERSION.split(".")[:2], "make it anew: python -m bench.readme_picture FOLDER"
