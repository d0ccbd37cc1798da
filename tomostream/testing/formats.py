"""Tests that every table format must pass: it reads back what it wrote, and refuses broken files and missing facts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomostream.catalogue import FORMATS as GROUP
from tomostream.catalogue import installed
from tomostream.errors import InputError
from tomostream.formats.catalogued import FORMATS, recognised, working_formats
from tomostream.formats.conversion import Conversion
from tomostream.formats.registry import format_of, read_table, write_table
from tomostream.formats.table_format import TableFormat
from tomostream.particles import Particles
from tomostream.progress import Progress
from tomostream.units import Length

_SPACINGS = {"TS_1": 13.48, "TS_é": 7.0}
_FACTS: dict[str, Any] = {
    "spacings": _SPACINGS,
    "shapes": {"TS_1": (112, 320, 318), "TS_é": (50, 60, 70)},
    "options": {"unbinned_pixel_size": 3.37, "box_size": Length(21.0, True)},
}
_LENGTH = st.floats(100, 1e5)  # angstrom; positions all within the first voxel would be refused as fractions of a volume
_ZYX = st.lists(st.tuples(_LENGTH, _LENGTH, _LENGTH), min_size=1, max_size=12)
_HUGE = (b"[" * 2**20, b"x 1 " * 2**19, b"\0" * 2**20, b"\n" * 2**20, b"9" * 2**20 + b"\n", b'{"a":' * 2**18, b'"' * 2**20, b"<a>" * 2**18)
_LONGEST_MESSAGE = 1000  # characters, the path included
_quick = settings(
    max_examples=min(25, settings().max_examples),
    deadline=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class FormatTests:
    """Tests of a table format.  Subclass it as `TestMine`, set `name`, and set what a file of the format can't hold.

    What the format must do besides reading back what it wrote: refuse foreign and damaged files by an `InputError`, whose message has the
    file's name and at most 1000 characters, even if the file is one line of a megabyte; ask for a missing fact by its option; write a file
    completely or not at all; and claim no ending of another format.

    Attributes
    ----------
    name
        The format's name, as for `--format`.
    holds_species, holds_score, holds_empty
        Whether species and scores read back, and whether a table without particles can be read.
    species
        Two names that a file can hold.
    precision_ang
        Largest error of a position that is written and read back, angstrom.
    score_precision
        Largest relative error of a score.
    repeats_itself
        Whether a table that is read and written again has the same bytes.  False if the file stores positions as sums, or is not text.
    """

    name: ClassVar[str]
    holds_species: ClassVar[bool] = False
    holds_score: ClassVar[bool] = True
    holds_empty: ClassVar[bool] = True
    species: ClassVar[tuple[str, str]] = ("ribosome", 'α, "β" ξ')
    precision_ang: ClassVar[float] = 1e-5  # converted positions are written to a millionth of a voxel
    score_precision: ClassVar[float] = 0.0
    repeats_itself: ClassVar[bool] = True

    @property
    def _format(self) -> TableFormat:
        return FORMATS[self.name]

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """Path of a file of the format that does not exist yet, in a folder of its own."""
        return self._path(tmp_path)

    def _path(self, folder: Path) -> Path:
        (folder / "out").mkdir(exist_ok=True)
        return folder / "out" / f"TS_1{self._format.ending}"

    def _write(self, path: Path | str, particles: Particles, **changed: Any) -> None:
        write_table(path, particles, format_name=self.name, conversion=Conversion(**(_FACTS | changed)))

    def _read(self, path: Path | str, **changed: Any) -> Particles:
        conversion = Conversion(**(_FACTS | changed))
        return conversion.to_unit(read_table(path, format_name=self.name, conversion=conversion), "angstrom", "the test")

    # its entry point

    def test_it_is_installed_and_its_endings_are_its_own(self) -> None:
        assert self.name in installed(GROUP)
        assert isinstance(self._format, TableFormat)
        assert self._format.ending.startswith(".")
        for ending in self._format.known_by:
            assert ending == ending.lower()
            claiming = [name for name, form in working_formats().items() if ending in form.known_by]
            assert claiming == [self.name], f"{ending} of known_by belongs to {claiming[0]} already; leave it out, so that --format chooses"
            assert format_of(Path(f"table{ending}")) == self.name

    def test_what_it_writes_is_recognised_as_nothing_else(self, tmp_path: Path) -> None:
        for target in (self._path(tmp_path), f"{tmp_path}/folder/"):
            self._write(target, _two(species=self.species[0]))
            assert recognised(Path(target)) in (None, self.name)
        if self._format.whole_folders:
            assert recognised(tmp_path / "folder") == self.name

    # what a file holds

    @given(rows=_ZYX, data=st.data())
    @_quick
    def test_positions_names_and_scores_read_back(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float, float]], data: st.DataObject
    ) -> None:
        tomograms = ["TS_1"] if self._format.one_tomogram else [*_SPACINGS]
        species = self.species if self.holds_species else self.species[:1]
        has_scores = data.draw(st.booleans())
        written = Particles.build(
            np.array(rows),
            unit="angstrom",
            tomogram=[data.draw(st.sampled_from(tomograms)) for _ in rows],
            species=[data.draw(st.sampled_from(species)) for _ in rows],
            score=[data.draw(st.floats(1e-3, 1)) if has_scores else np.nan for _ in rows],
        )
        path = self._path(tmp_path_factory.mktemp("table"))
        if not self._fits(written):
            with pytest.raises(InputError, match=r"one tomogram|one species"):
                self._write(path, written)
            return
        self._write(path, written)
        read = self._read(path)
        assert len(read) == len(written)
        assert sorted(read.tomograms()) == sorted(written.tomograms())
        if self.holds_species:
            assert sorted(read.species_names()) == sorted(written.species_names())
        for tomogram, kind, expected in _groups(written):
            found = read.of(tomogram=tomogram, species=kind if self.holds_species else None)
            assert np.abs(found.position_zyx - expected.position_zyx).max() <= self.precision_ang
            if self.holds_score:
                np.testing.assert_allclose(found.score, expected.score, rtol=self.score_precision, atol=0)

    def _fits(self, particles: Particles) -> bool:
        """Whether one file can hold these particles; override it if that depends on more than the format's attributes."""
        form = self._format
        return not (form.one_tomogram and len(particles.tomograms()) > 1) and not (form.one_species and len(particles.species_names()) > 1)

    @given(rows=_ZYX)
    @_quick
    def test_what_was_read_is_written_as_the_same_bytes(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float, float]]
    ) -> None:
        """Printing numbers loses nothing, if they need not be converted to another unit."""
        if not self.repeats_itself:
            return
        folder = tmp_path_factory.mktemp("table")
        facts = {"spacings": {}, "shapes": {}, "spacing": 1.0, "shape": (0, 0, 0), "options": {"unbinned_pixel_size": 1.0}}
        first, second = folder / f"a{self._format.ending}", folder / "b" / f"a{self._format.ending}"
        self._write(first, Particles.build(np.round(np.array(rows), 3), unit="angstrom", tomogram="a"), **facts)
        write_table(
            second,
            read_table(first, format_name=self.name, conversion=Conversion(**(_FACTS | facts))),
            format_name=self.name,
            conversion=Conversion(**(_FACTS | facts)),
        )
        assert second.read_bytes() == first.read_bytes()

    def test_a_table_without_particles_reads_back_empty(self, path: Path) -> None:
        self._write(path, _two().select(np.zeros(2, dtype=bool)))
        assert path.is_file()
        if self.holds_empty:
            assert len(self._read(path)) == 0

    def test_places_that_are_no_particles_are_held_or_told(self, path: Path) -> None:
        heard = _Heard()
        rows = [[300.0, 200, 100], [600, 500, 400], [900, 800, 700]]
        clicks = Particles.build(np.array(rows), unit="angstrom", tomogram="TS_1", species=self.species[0], label=[1, 0, 1])
        self._write(path, clicks, progress=heard)
        read = self._read(path)
        if self._format.labelled:
            assert read.label.tolist() == [1, 0, 1]
            assert heard.texts == []
        else:
            assert len(read) == 2
            assert "1 rows labelled 0 are left out" in heard.texts[0]

    def test_a_folder_holds_several_tomograms_and_species_and_reads_back(self, tmp_path: Path) -> None:
        parts = [_two(tomogram=tomogram, species=kind) for tomogram in ("TS_1", "TS_2") for kind in ("fas", "ribosome")]
        facts = {"spacings": _SPACINGS | {"TS_2": 5.0}, "shapes": {}, "shape": (90, 90, 90)}
        self._write(f"{tmp_path}/out/", Particles.concatenate(parts), **facts)
        read = self._read(f"{tmp_path}/out", **facts)
        assert sorted(read.tomograms()) == ["TS_1", "TS_2"]
        assert len(read) == 8
        if self.holds_species or self._format.one_species:
            assert sorted(read.species_names()) == ["fas", "ribosome"]
        assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")} == {"out"}

    def test_several_species_that_become_numbers_are_told(self, path: Path) -> None:
        heard = _Heard()
        both = Particles.concatenate([_two(species=self.species[0]), _two(species=self.species[1])])
        if not self._fits(both):
            return
        self._write(path, both, progress=heard)
        told = [text for text in heard.said if self.species[0] in text and self.species[1] in text]
        assert bool(told) == self._format.numbers_species

    # what it refuses

    def test_columns_are_named_only_for_a_format_without_a_header(self, path: Path) -> None:
        path.write_text("1 2 3\n")
        if self._format.headerless:
            assert len(self._read(path, columns=("x", "y", "z"), unit="angstrom")) == 1
        else:
            with pytest.raises(InputError, match=f"--columns and --unit .* but {self.name} names its columns itself"):
                self._read(path, columns=("x", "y", "z"), unit="angstrom")

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_positions_that_are_not_finite_are_never_written(self, path: Path, bad: float) -> None:
        rows = Particles.build(np.array([[1, 2, 3], [1, bad, 3]], float), unit="angstrom", tomogram="TS_1", species="a")
        with pytest.raises(InputError, match="must be finite, particle 2"):
            self._write(path, rows)
        assert list(path.parent.iterdir()) == []

    def test_a_fact_that_is_missing_is_asked_for_by_its_option(self, path: Path) -> None:
        refusal = None
        try:
            write_table(path, _two(), format_name=self.name)
        except InputError as error:
            refusal = str(error)
        if refusal is None:
            assert len(self._read(path)) == 2
        else:
            assert "--" in refusal
            assert list(path.parent.iterdir()) == []

    @pytest.mark.parametrize("content", [bytes(range(256)) * 4, b"\xff\xfe\xff", *_HUGE], ids=lambda content: repr(content[:4]))
    def test_what_is_none_of_its_files_is_refused_or_empty(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        refusal, found = "", Particles.build(np.empty((0, 3)), unit="angstrom")
        try:
            found = self._read(path)
        except InputError as error:
            refusal = str(error)
        assert len(found) == 0
        assert len(refusal) < _LONGEST_MESSAGE, (
            f"a message of {len(refusal)} characters, at most {_LONGEST_MESSAGE} are read: {refusal[:200]}..."
        )

    def test_foreign_bytes_are_refused_with_the_files_name(self, path: Path) -> None:
        junk = path.with_name("junk")
        junk.write_bytes(bytes(range(256)) * 4)
        with pytest.raises(InputError, match="junk"):
            self._read(junk)

    def test_a_file_that_is_missing_or_empty_is_refused_or_no_table(self, path: Path) -> None:
        with pytest.raises(InputError, match="does not exist"):
            self._read(path)
        with pytest.raises(InputError, match="does not exist"):
            self._read(f"{path}:choice")
        path.write_bytes(b"")
        with contextlib.suppress(InputError):
            assert len(self._read(path)) == 0

    @given(data=st.data())
    @_quick
    def test_a_damaged_file_is_read_or_refused_never_a_fault(self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
        path = self._path(tmp_path_factory.mktemp("broken"))
        self._write(path, _two(species=self.species[0]))
        content = bytearray(path.read_bytes())
        del content[data.draw(st.integers(0, len(content))) :]
        for _ in range(data.draw(st.integers(0, 4)) if content else 0):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        with contextlib.suppress(InputError):
            assert np.isfinite(self._read(path).position_zyx).all()

    # how it writes

    def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._write(path, _two())
        before = {file: file.read_bytes() for file in path.parent.iterdir()}

        def failing(temporary: Path, target: Path) -> Path:
            del temporary, target
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", failing)
            with pytest.raises(InputError, match="No space left"):
                self._write(path, _two(score=[0.1, 0.2], species="other"))
        assert {file: file.read_bytes() for file in path.parent.iterdir()} == before

    def test_what_it_writes_lies_beside_the_target_under_its_name(self, path: Path) -> None:
        self._write(path, _two())
        files = [file for file in path.parent.parent.rglob("*") if file.is_file()]
        assert path in files
        assert {(file.parent, file.stem) for file in files} == {(path.parent, path.stem)}

    @pytest.mark.parametrize("name", ["../escaped", "..", "a/../../b", ""])
    def test_no_name_leads_out_of_the_folder(self, tmp_path: Path, name: str) -> None:
        parts = [_two(tomogram=name), _two(tomogram="TS_1")]
        facts = {"spacings": {}, "shapes": {}, "spacing": 5.0, "shape": (90, 90, 90)}
        with pytest.raises(InputError, match="can't be a file's name"):
            self._write(f"{tmp_path}/in/out/", Particles.concatenate(parts), **facts)
        assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


class _Heard(Progress):
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.texts.append(text)


def _two(**others: Any) -> Particles:
    usual: dict[str, Any] = {"unit": "angstrom", "tomogram": "TS_1", "species": "ribosome", "score": [0.75, 0.5]}
    return Particles.build(np.array([[300.0, 200.0, 100.0], [310.0, 205.0, 101.0]]), **(usual | others))


def _groups(particles: Particles) -> Iterator[tuple[str, str, Particles]]:
    """Yield tomogram, species, and their rows in the order of the table."""
    for tomogram, here in particles.by_tomogram():
        for kind, rows in here.by_species():
            yield tomogram, kind, rows
