"""The table of clicks: nothing is ever lost, whoever writes it."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
from click_rows import rows_of
from example_counts import examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tomostream.errors import BusyError, InputError
from tomostream.formats.registry import read_table
from tomostream.view.clicks import Click, ClickTable

SPACING = 13.48


def spacing_of(name: str) -> float | None:
    return None if name == "unknown" else SPACING


def table(path: Path, **names: str) -> ClickTable:
    return ClickTable(path, spacing_of=spacing_of, **names)


def click(n: float, label: int = 1, tomogram: str = "one", species: str = "ribosome") -> Click:
    return Click(tomogram, species, n, 2 * n, 3.25, label)


def test_first_click_makes_the_table_in_contract_form(tmp_path):
    path = tmp_path / "new" / "clicks.csv"
    table(path).patch(remove=[], add=[click(1.5), click(2, label=0)])
    assert path.read_text() == (
        "tomogram,species,x_angstrom,y_angstrom,z_angstrom,label\none,ribosome,1.5,3.0,3.25,1\none,ribosome,2.0,4.0,3.25,0\n"
    )


def test_training_reads_the_labels_that_the_workbench_writes(tmp_path):
    path = tmp_path / "clicks.csv"
    table(path).patch(remove=[], add=[click(1.5), click(2, label=0)])
    found = read_table(path)
    assert found.label.tolist() == [1, 0]
    assert found.position_zyx.tolist() == [[3.25, 3.0, 1.5], [3.25, 4.0, 2.0]]


def test_a_table_in_voxels_stays_in_voxels_and_keeps_what_it_does_not_know(tmp_path):
    path = tmp_path / "clicks.csv"
    path.write_text("# mine\ntomogram,species,x_voxel,y_voxel,z_voxel,who\none,ribosome,1.0,2.50,3,me\nunknown,ribosome,7,7,7,you\n")
    clicks = table(path)
    seen = clicks.look()
    assert seen.clicks == [Click("one", "ribosome", 1 * SPACING, 2.5 * SPACING, 3 * SPACING, 1)]
    assert seen.unreadable == 1
    clicks.patch(remove=[], add=[Click("one", "ribosome", 10 * SPACING, 0.0, 0.0, 0)])
    lines = path.read_text().splitlines()
    assert lines[:4] == [
        "# mine",
        "tomogram,species,x_voxel,y_voxel,z_voxel,who,label",
        "one,ribosome,1.0,2.50,3,me,1",
        "unknown,ribosome,7,7,7,you",
    ]
    assert lines[4].startswith("one,ribosome,10.0,0.0,0.0,,0")


def test_what_is_served_is_found_again_when_it_is_removed(tmp_path):
    path = tmp_path / "clicks.csv"
    path.write_text("x_voxel,y_voxel,z_voxel\n" + "".join(f"{n / 7!r},{n},{n / 3!r}\n" for n in range(50)))
    clicks = table(path, tomogram="one")
    served = clicks.look().clicks
    outcome = clicks.patch(remove=served[:49], add=[])
    assert outcome.missing == []
    assert outcome.clicks == served[49:]


def test_a_row_that_another_program_removed_is_told_and_nothing_else_is_lost(tmp_path):
    path = tmp_path / "clicks.csv"
    clicks = table(path)
    clicks.patch(remove=[], add=[click(1), click(2), click(3)])
    kept = [line for line in path.read_text().splitlines() if not line.startswith("one,ribosome,2")]
    path.write_text("\n".join([*kept, "two,ribosome,9,9,9,1"]) + "\n")
    outcome = clicks.patch(remove=[click(2)], add=[click(4)])
    assert outcome.missing == [click(2)]
    assert (outcome.added_by_others, outcome.removed_by_others) == (1, 1)
    assert outcome.clicks == [click(1), click(3), Click("two", "ribosome", 9, 9, 9, 1), click(4)]


def test_what_another_program_writes_while_a_click_is_being_saved_is_merged(tmp_path, monkeypatch):
    path = tmp_path / "clicks.csv"
    clicks = table(path)
    clicks.patch(remove=[], add=[click(1), click(2)])
    synchronise = os.fsync
    left = [3, 4]

    def slow_disk(descriptor: int) -> None:
        """Another program adds a row, and replaces the table, between our look and our renaming."""
        synchronise(descriptor)
        if left:
            kept = [line for line in path.read_text().splitlines() if not line.startswith("one,ribosome,1")]
            (tmp_path / "other").write_text("\n".join([*kept, f"other,ribosome,{left.pop()},1,1,1"]) + "\n")
            (tmp_path / "other").replace(path)

    monkeypatch.setattr(os, "fsync", slow_disk)
    outcome = clicks.patch(remove=[click(2)], add=[click(9)])
    there = {Click("other", "ribosome", 3, 1, 1, 1), Click("other", "ribosome", 4, 1, 1, 1), click(9)}
    assert set(outcome.clicks) == set(table(path).look().clicks) == there
    assert (outcome.added_by_others, outcome.removed_by_others, outcome.missing) == (2, 1, [])
    left[:] = range(1000)
    with pytest.raises(BusyError, match=r"another program writes it all the time; nothing was changed"):
        clicks.patch(remove=[], add=[click(10)])
    assert click(10) not in table(path).look().clicks


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("tomogram,x,y\n1,2,3\n", "needs a CSV table with a header"),
        ("x_angstrom,y_angstrom,z_angstrom\n1,2,a\n", "line 2"),
        ("x_angstrom,y_angstrom,z_angstrom,label\n1,2,3,7\n", "label 0 or 1"),
        ("x_angstrom,y_angstrom,z_angstrom\n1,2,nan\n", "finite"),
        ("x_angstrom,y_angstrom,z_angstrom\n1,2\n", "line 2"),
    ],
)
def test_a_broken_table_is_refused_and_left_as_it_is(tmp_path, text, part):
    path = tmp_path / "clicks.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=part):
        table(path).patch(remove=[], add=[click(1)])
    assert path.read_text() == text


@pytest.mark.parametrize(
    "bad", [Click("", "a", 1, 1, 1, 1), Click("a\nb", "a", 1, 1, 1, 1), Click("a", "b", float("nan"), 1, 1, 1), Click("a", "b", 1, 1, 1, 2)]
)
def test_what_is_no_click_is_refused(tmp_path, bad):
    with pytest.raises(InputError):
        table(tmp_path / "clicks.csv").patch(remove=[], add=[bad])
    assert not (tmp_path / "clicks.csv").exists()


numbers = st.integers(0, 6)


class TwoPages(RuleBasedStateMachine):
    """Two servers and another program on one table, against a set of rows."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "clicks.csv"
        self.pages = [table(self.path), table(self.path)]
        self.model: set[Click] = set()
        self.seen: list[set[Click] | None] = [None, None]

    def told(self, page: int, outcome: object) -> None:
        seen = self.seen[page]
        if seen is not None:
            assert outcome.added_by_others == len(self.before - seen)
            assert outcome.removed_by_others == len(seen - self.before)

    @rule(page=st.integers(0, 1), gone=st.lists(numbers, max_size=2), come=st.lists(numbers, max_size=2), label=st.integers(0, 1))
    def patch(self, page: int, gone: list[int], come: list[int], label: int) -> None:
        remove, add = [click(n) for n in gone], [click(n, label) for n in come]
        self.before = set(self.model)
        outcome = self.pages[page].patch(remove=remove, add=add)
        assert set(outcome.missing) == set(remove) - self.model
        self.model = (self.model - set(remove)) | set(add)
        assert set(outcome.clicks) == self.model
        assert len(outcome.clicks) == len(self.model)
        self.told(page, outcome)
        self.seen[page] = set(self.model)

    @rule(page=st.integers(0, 1))
    def look(self, page: int) -> None:
        self.before = set(self.model)
        outcome = self.pages[page].look()
        assert set(outcome.clicks) == self.model
        self.told(page, outcome)
        self.seen[page] = set(self.model)

    @precondition(lambda self: self.path.exists())
    @rule(n=st.integers(10, 12))
    def another_program_appends(self, n: int) -> None:
        time.sleep(0.002)  # a file system's clock ticks
        fresh = click(n)
        if fresh not in self.model:
            with self.path.open("a") as file:
                file.write(f"{fresh.tomogram},{fresh.species},{fresh.x},{fresh.y},{fresh.z},1\n")
            self.model.add(fresh)

    @invariant()
    def table_is_whole(self) -> None:
        if self.path.exists():
            assert set(table(self.path).look().clicks) == self.model

    def teardown(self) -> None:
        self.folder.cleanup()


TestTwoPages = TwoPages.TestCase
TestTwoPages.settings = examples(40, stateful_step_count=15)


def keep_clicking(path: Path, first: int, done: Path) -> None:
    clicks = table(path)
    for n in range(first, first + 100_000):
        clicks.patch(remove=[], add=[click(n)])
        with done.open("a") as file:
            file.write(f"{n}\n")


@pytest.mark.slow
def test_killed_at_any_moment_the_table_is_whole_and_has_every_click_that_was_confirmed(tmp_path):
    path = tmp_path / "clicks.csv"
    fork = multiprocessing.get_context("spawn")
    confirmed: set[int] = set()
    for attempt in range(4):
        writers = [
            fork.Process(target=keep_clicking, args=(path, 10**6 * (2 * attempt + page), tmp_path / f"{attempt}-{page}")) for page in (0, 1)
        ]
        for writer in writers:
            writer.start()
        files = [tmp_path / f"{attempt}-{page}" for page in (0, 1)]
        until = time.monotonic() + 60
        while not all(file.exists() for file in files) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(random.Random(attempt).uniform(0.0, 0.1))
        for writer in writers:
            os.kill(writer.pid or 0, signal.SIGKILL)
            writer.join()
        for file in files:
            confirmed |= {int(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")}
        found = {int(one.x) for one in table(path).look().clicks}
        assert confirmed <= found
        assert len(found - confirmed) <= 2 * (attempt + 1)  # at most one of each killed writer was written and not confirmed
        assert all(len(row) == 6 and None not in row for row in rows_of(path))
    assert len(confirmed) > 8
