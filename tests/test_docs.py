"""The pages name files, headings and commands that exist; every block of code is run (test_docs_code.py), or says why not."""

import re
from pathlib import Path

import pytest
import yaml
from documented import DRAWINGS, PAGES, blocks_of, name_of
from repository import REPOSITORY

from tomostream.config import configuration_from

RECIPES = "docs/extending.md"  # test_extending.py installs and runs them
BASE = {"project": "p", "tomograms": ["t.mrc"], "species": [{"name": "ribosome", "radius": "135A"}], "labels": {"train": ["c.csv"]}}
# in the README; test_readme.py
READMES_OWN = ("example", "tests")


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors_of(file), f"{page.name}: {target}#{anchor}"


DOCS = REPOSITORY / "docs"


def test_the_site_has_every_page_in_its_navigation():
    text = (REPOSITORY / "configs" / "mkdocs.yml").read_text()
    listed = re.findall(r"^ +- [^:]+: (\S+\.md)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", [page for page in PAGES if page.is_relative_to(DOCS)], ids=name_of)
def test_links_of_the_site_stay_in_it(page):
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#[^)\s]+)?\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        assert (page.parent / target).resolve().is_relative_to(DOCS), f"{page.name}: {target} is not part of the site; name it as code"


def test_the_strict_build_hears_its_warnings():
    """`mkdocs --quiet` lowers the level of its log, and `--strict` counts what is logged."""
    (build,) = [line for line in (REPOSITORY / ".ci" / "run").read_text().splitlines() if "mkdocs build" in line]
    assert "--strict" in build
    assert "quiet" not in build


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page):
    if name_of(page) == RECIPES:  # its files are those of the recipes
        return
    for name in re.findall(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.py)`", page.read_text()):
        assert any((home / name).exists() for home in (REPOSITORY, REPOSITORY / "tomostream", page.parent)), f"{page.name}: {name}"


def test_the_design_fits_two_screens():
    lines = (REPOSITORY / "docs" / "design.md").read_text().splitlines()
    assert len(lines) <= 110
    assert max(map(len, lines)) <= 120
    assert any(line.startswith("```mermaid") for line in lines)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_run_or_says_why_not(page):
    for block in blocks_of(page):
        if block.language in DRAWINGS:
            continue
        kind, _, rest = block.mark.partition(": ")
        where = f"{name_of(page)}, line {block.line}: <!-- {block.mark} -->"
        assert kind in ("run", "output", "configuration", "file", "line", "not run", *READMES_OWN), where
        assert kind not in ("file", "line", "not run") or rest, where
    fences = re.findall(r"^[ \t>]*```", page.read_text(), re.MULTILINE)
    assert len(fences) == 2 * sum(block.language != "setup" for block in blocks_of(page)), f"{name_of(page)}: a block is indented"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_configurations_are_allowed(page):
    for block in blocks_of(page):
        if block.mark == "configuration":
            configuration_from(BASE | yaml.safe_load(block.text), f"{name_of(page)}, line {block.line}")
