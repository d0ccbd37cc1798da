"""The pages name files, headings and commands that exist."""

import re
from pathlib import Path

import pytest
from repository import REPOSITORY

PAGES = [*sorted((REPOSITORY / "docs").glob("*.md")), REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors_of(file), f"{page.name}: {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_are_named_exist(page):
    if page.name == "extending.md":  # its files are those of the recipes
        return
    for name in re.findall(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.py)`", page.read_text()):
        assert (REPOSITORY / name).exists() or (REPOSITORY / "tomostream" / name).exists(), f"{page.name}: {name}"


def test_the_design_fits_two_screens():
    lines = (REPOSITORY / "docs" / "design.md").read_text().splitlines()
    assert len(lines) <= 110
    assert max(map(len, lines)) <= 120
    assert any(line.startswith("```mermaid") for line in lines)
