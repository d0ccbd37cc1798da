"""Tests that every way of building a store must pass: the properties that `StoreWriter`, and so each stage that writes a store, relies on."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tomostream.errors import BusyError, ExistsError, InputError, TomostreamError
from tomostream.fingerprint import Fingerprint
from tomostream.geometry import Triple
from tomostream.remote.places import Place
from tomostream.store.build_records import BuildHead
from tomostream.store.existing_output import half_written_head
from tomostream.store.specification import StoreLayout, StoreSpec, group_metadata
from tomostream.store.store_build import Build, put_shard, read_layout, start_build
from tomostream.tomogram import open_tomogram

_MADE: Fingerprint = {"made": "for a test"}
_OTHERWISE: Fingerprint = {"made": "otherwise"}
_SPEC = StoreSpec(
    name="t", shape=(8, 8, 12), dtype=np.dtype("int16"), spacing=10.0, chunk=(4, 4, 4), shard=(4, 8, 4), codec="zstd", levels=1
)
_LAYOUT = StoreLayout.plan(_SPEC)
_VOLUME = np.random.default_rng(0).integers(-99, 99, _SPEC.shape).astype(np.int16)


class StoreBuildTests:
    """Tests of a way of building stores.  Subclass it as `TestMine`, and override the fixture `folder`."""

    @pytest.fixture
    def folder(self) -> Place:
        """A new folder, on the kind of storage that is tested."""
        raise NotImplementedError("override the fixture `folder`")

    @pytest.fixture
    def path(self, folder: Place) -> Place:
        """Where the store will be."""
        return folder / "t.ome.zarr"

    # a build that has begun

    def test_it_speaks_the_protocol_and_nothing_is_done(self, path: Place) -> None:
        build = _start(path)
        assert isinstance(build, Build)
        assert build.fingerprint == _MADE
        assert (build.done, build.notes) == (set(), [])
        build.close()

    def test_any_process_reads_the_layout_of_a_half_written_store(self, path: Place) -> None:
        build = _start(path)
        found = read_layout(build.partial)
        assert found is not None
        assert found.to_json() == _LAYOUT.to_json()
        build.close()

    def test_it_is_no_store_until_it_is_published(self, path: Place) -> None:
        build = _start(path)
        _write(build, *_indices())
        with pytest.raises(TomostreamError):
            open_tomogram(str(path))
        assert _head(path)["fingerprint"] == _MADE
        _publish(build)
        np.testing.assert_array_equal(np.asarray(open_tomogram(str(path)).array), _VOLUME)
        assert half_written_head(path) is None
        assert read_layout(build.partial) is None

    def test_its_bytes_are_those_of_a_store_on_a_disk_and_nothing_stays_beside_it(self, folder: Place, path: Place, tmp_path: Path) -> None:
        trees = []
        for place in (path, tmp_path / "on_a_disk" / "t.ome.zarr"):
            build = _start(place)
            build.add_note({"a": 1})
            _write(build, *_indices())
            _publish(build)
            trees.append(_files(place))
        assert trees[0] == trees[1]
        assert [one.name for one in folder.iterdir() if one.name != "on_a_disk"] == ["t.ome.zarr"]

    # one writer at a time

    def test_a_second_writer_is_refused_until_the_first_has_closed(self, path: Place) -> None:
        first = _start(path)
        with pytest.raises(BusyError, match="another process"):
            _start(path)
        first.close()
        _start(path).close()

    # resumed

    @pytest.mark.parametrize("cuts", [(1, 1), (2, 5), (3, 4)])
    def test_what_is_marked_is_done_for_the_next_writer_and_the_bytes_are_the_same(
        self, path: Place, tmp_path: Path, cuts: tuple[int, int]
    ) -> None:
        order = [_indices()[i] for i in np.random.default_rng(cuts[0]).permutation(len(_indices()))]
        for start, stop in itertools.pairwise((0, *cuts, len(order))):
            build = _start(path)
            assert build.done == set(order[:start])
            _write(build, *order[start:stop])
            assert build.done == set(order[:stop])
            if stop < len(order):
                build.close()
        _publish(build)
        whole = _start(tmp_path / "at_once" / "t.ome.zarr")
        _write(whole, *_indices())
        _publish(whole)
        assert _files(path) == _files(tmp_path / "at_once" / "t.ome.zarr")

    def test_notes_outlive_their_writer_once_each(self, path: Place) -> None:
        for known, added in (([], [{"a": 1}, {"a": 1}]), ([{"a": 1}], [{"b": 2}]), ([{"a": 1}, {"b": 2}], [])):
            build = _start(path)
            assert build.notes == known
            for note in added:
                build.add_note(note)
            build.close()

    def test_what_is_forgotten_is_not_done_for_the_next_writer(self, path: Place) -> None:
        build = _start(path)
        _write(build, *_indices()[:2])
        build.forget()
        build.close()
        again = _start(path)
        assert again.done == set()
        again.close()

    # other settings

    def test_a_store_half_written_with_other_settings_is_refused_or_begun_anew(self, path: Place) -> None:
        build = _start(path)
        _write(build, *_indices()[:2])
        build.close()
        with pytest.raises(ExistsError, match=r"half-written with other settings \(made for a test, now otherwise\).*--overwrite"):
            _start(path, _OTHERWISE)
        kept = _start(path)
        assert kept.done == set(_indices()[:2]), "a refusal changes nothing"
        kept.close()
        anew = _start(path, _OTHERWISE, overwrite=True)
        assert (anew.fingerprint, anew.done) == (_OTHERWISE, set())
        anew.close()

    def test_another_layout_begins_anew(self, path: Place) -> None:
        build = _start(path)
        _write(build, *_indices()[:2])
        build.close()
        other = start_build(path, _MADE, StoreLayout.plan(replace(_SPEC, codec="none")), overwrite=False)
        assert other.done == set()
        other.close()

    def test_a_finished_store_is_replaced_only_where_that_is_asked_for(self, path: Place) -> None:
        build = _start(path)
        _write(build, *_indices())
        _publish(build)
        before = _files(path)
        with pytest.raises(ExistsError, match="--overwrite"):
            _start(path, _OTHERWISE)
        assert _files(path) == before
        other = _start(path, _OTHERWISE, overwrite=True)
        assert other.done == set()
        _write(other, *_indices())
        _publish(other)
        assert open_tomogram(str(path)).attributes["fingerprint"] == _OTHERWISE

    def test_what_is_not_ours_is_never_replaced(self, path: Place) -> None:
        (path / "notes.txt").parent.mkdir(parents=True, exist_ok=True)
        (path / "notes.txt").write_text("mine")
        with pytest.raises(ExistsError, match="never replaced"):
            _start(path, overwrite=True)
        assert (path / "notes.txt").read_bytes() == b"mine"

    def test_the_head_says_its_format_and_one_of_a_later_format_is_refused(self, path: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        build = _start(path)
        _write(build, *_indices()[:1])
        build.close()
        assert _head(path)["format"] >= 1
        monkeypatch.setattr("tomostream.store.build_records.FORMAT", 0)  # an earlier version looks at it
        with pytest.raises(InputError, match=r"has format 1, .* a later version wrote it"):
            _start(path, overwrite=True)


def _start(path: Place, fingerprint: Fingerprint = _MADE, *, overwrite: bool = False) -> Build:
    return start_build(path, fingerprint, _LAYOUT, overwrite=overwrite)


def _indices() -> list[Triple]:
    return list(_LAYOUT.levels[0].shards.indices())


def _write(build: Build, *indices: Triple) -> None:
    """Write shards at their one level, and mark them."""
    for index in indices:
        put_shard(build.partial, 0, index, _LAYOUT, _VOLUME[_LAYOUT.levels[0].shards.core(index).slices])
        build.mark_done(index)


def _publish(build: Build) -> None:
    build.publish(group_metadata(_SPEC, _LAYOUT, {"fingerprint": build.fingerprint, "complete": True}))


def _head(path: Place) -> BuildHead:
    found = half_written_head(path)
    assert found is not None
    return found


def _files(path: Place) -> dict[str, bytes]:
    """The content of all files below a store, by name."""
    if isinstance(path, Path):
        return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    return {name: (path / name).read_bytes() for name in path.below()}
