import builtins
import dataclasses
import gzip
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import zarr
from mrc_files import random_volume, write_mrc
from picking_oracle import greedy_loop
from store_files import noise, write_foreign, write_store

import tomostream as ts
from tomostream.errors import InputError
from tomostream.geometry import Box
from tomostream.masks import mask_of_box

CONTRACT = {
    "open",
    "convert",
    "statistics",
    "label_mask",
    "SubtomogramDataset",
    "train",
    "load_model",
    "predict",
    "pick",
    "evaluate",
    "read_particles",
    "write_particles",
}
VOLUME = noise(20, 24, 28)


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "t.ome.zarr", VOLUME, spacing=10.0, levels=2)


def test_the_contracts_names_are_there_and_star_import_shadows_only_open():
    assert set(ts.__all__) >= CONTRACT
    assert set(dir(ts)) >= CONTRACT
    namespace = {}
    exec("from tomostream import *", namespace)
    assert namespace.keys() >= CONTRACT
    assert {name for name in ts.__all__ if hasattr(builtins, name)} == {"open"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ts.nothing


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_every_public_function_says_what_it_does(name):
    assert len(inspect.getdoc(getattr(ts, name)).splitlines()) > 2


@pytest.mark.slow
def test_what_needs_no_network_imports_no_torch(tmp_path):
    write_mrc(tmp_path / "a.mrc", random_volume((8, 9, 10), np.float32))
    code = """
import sys
import tomostream as ts
from tomostream.errors import InputError
assert not {"numpy", "zarr", "dask", "torch"} & set(sys.modules), "import tomostream costs something"
import numpy as np
path = ts.convert("a.mrc", "out")
tomogram = ts.open(path)
ts.statistics(tomogram)
ts.label_mask([[1, 2, 3]], (8, 9, 10), radius=2.0).compute()
picks = ts.pick(tomogram, radius="3vox", count=2)
ts.pick(np.zeros((3, 3, 3)), radius=2.0, threshold=0.5)
ts.write_particles("p.csv", picks)
ts.evaluate("p.csv", ts.read_particles("p.csv"), tolerance="10A")
assert not {"torch", "pandas"} & set(sys.modules), sorted({"torch", "pandas"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_an_open_tomogram_has_lazy_raw_voxels(store):
    tomogram = ts.open(store)
    assert isinstance(tomogram, ts.Tomogram)
    assert isinstance(tomogram.array, da.Array)
    assert np.array_equal(tomogram.array.compute(), VOLUME)
    assert tomogram.array.dtype == VOLUME.dtype
    assert np.array_equal(tomogram.zarr[3], VOLUME[3])
    assert (tomogram.spacing, tomogram.normalisation) == (10.0, None)
    assert ts.open(str(store), level=1).array.shape == (10, 12, 14)
    with pytest.raises(ts.TomostreamError, match="does not exist"):
        ts.open(store.with_name("nothing.zarr"))


def test_convert_takes_the_command_lines_settings(tmp_path):
    volume = random_volume((20, 24, 28), np.int16)
    source = write_mrc(tmp_path / "a.mrc", volume, spacing=None)
    with pytest.raises(ts.TomostreamError, match="voxel"):
        ts.convert(source, tmp_path)
    path = ts.convert(source, tmp_path, voxel_size=5.0, dtype="float32", chunk=8, shard=(16, 16, 16), codec="zstd:3", levels=1)
    assert path == tmp_path / "a.ome.zarr"
    tomogram = ts.open(path)
    assert np.array_equal(tomogram.array.compute(), volume)
    assert (tomogram.chunk, tomogram.shard, tomogram.level_count, tomogram.spacing) == ((8, 8, 8), (16, 16, 16), 1, 5.0)
    assert ts.convert(source, tmp_path, voxel_size=5.0, dtype="float32", chunk=8, shard=16, codec="zstd:3", levels=1) == path
    with pytest.raises(ts.TomostreamError, match="overwrite"):
        ts.convert(source, tmp_path, voxel_size=5.0)


def as_kind(kind, volume, folder):
    if kind == "zarr":
        array = zarr.create_array(folder / "array.zarr", shape=volume.shape, chunks=(8, 8, 8), dtype=volume.dtype)
        array[...] = volume
        return array
    return da.from_array(volume, chunks=(7, 24, 5)) if kind == "dask" else volume


@pytest.mark.parametrize("kind", ["numpy", "zarr", "dask"])
def test_statistics_of_any_array_are_those_of_numpy(kind, tmp_path):
    found = ts.statistics(as_kind(kind, VOLUME, tmp_path))
    truth = VOLUME.astype(np.float64)
    clipped = np.clip((truth - truth.mean()) / truth.std(), -3, 3)
    assert found.mean == pytest.approx(truth.mean(), abs=1e-6 * truth.std())
    assert found.std == pytest.approx(truth.std(), rel=1e-6)
    assert found.clipped_mean == pytest.approx(clipped.mean(), abs=1e-6)
    assert found.clipped_std == pytest.approx(clipped.std(), rel=1e-6)


def test_statistics_of_a_store_are_measured_and_the_store_is_left_alone(store):
    before = (store / "zarr.json").read_bytes()
    assert ts.statistics(store) == ts.statistics(str(store)) == ts.statistics(ts.open(store))
    assert ts.statistics(ts.open(store, level=1)).std < ts.statistics(store).std
    assert (store / "zarr.json").read_bytes() == before
    with pytest.raises(ts.TomostreamError, match="expected a tomogram, or a numpy, zarr or dask array"):
        ts.statistics([1, 2, 3])


@pytest.mark.parametrize("points", [[5.0, 6.0], [5.0, 6.0, 7.0], [[5.0, 6.0]] * 3, [[[5.0, 6.0, 7.0]]]])
def test_points_of_another_shape_are_refused_and_never_rearranged(points):
    with pytest.raises(ts.InputError, match=r"points_zyx must have the shape \(n, 3\)"):
        ts.label_mask(np.array(points), (20, 24, 28), radius=3.0)


def test_a_label_mask_is_lazy_and_that_of_the_whole_volume():
    points = [[3.2, 4.0, 5.5], [15.0, 20.0, 26.9]]
    shape = (20, 24, 28)
    mask = ts.label_mask(points, shape, radius=3.5, chunks=8)
    assert isinstance(mask, da.Array)
    assert (mask.shape, mask.dtype) == (shape, np.uint8)
    whole = mask_of_box(Box.whole(shape), np.array(points), radius=3.5, shape="sphere", volume=shape)
    assert np.array_equal(mask.compute(scheduler="sync"), whole)
    assert not ts.label_mask([], shape, radius=3.5).compute(scheduler="sync").any()
    with pytest.raises(ts.TomostreamError, match="ball"):
        ts.label_mask(points, shape, radius=3.5, kind="ball")


@pytest.mark.parametrize("kind", ["numpy", "zarr", "dask"])
def test_picks_of_an_array_are_records_of_integer_voxels(kind, tmp_path):
    array = as_kind(kind, VOLUME, tmp_path)
    picks = ts.pick(array, radius=4.0, count=12, block_size=9)
    index, score = greedy_loop(VOLUME, 4.0, count=12)
    assert len(picks) == 12
    assert [(z, y, x) for z, y, x, _ in picks] == [tuple(row) for row in index.tolist()]
    assert [record.score for record in picks] == score.tolist()
    z, y, x, best = picks[0]
    assert all(type(value) is int for value in (z, y, x))
    assert best == VOLUME.max() == VOLUME[z, y, x]
    assert picks[-1] == list(picks)[-1]
    assert [tuple(record) for record in picks[:2]] == [tuple(record) for record in list(picks)[:2]]
    above = ts.pick(array, radius=4.0, threshold=50.0)
    assert {record.score > 50.0 for record in above} == {True}
    assert list(ts.pick(array, radius=4.0, threshold=1e9)) == []


def test_picks_of_a_store_are_a_table_in_angstrom(store):
    picks = ts.pick(store, radius="40A", count=7)
    records = ts.pick(VOLUME, radius=4.0, count=7)
    assert isinstance(picks, ts.Particles)
    assert picks.unit == "angstrom"
    assert np.array_equal(picks.position_zyx, records.index_zyx * 10.0)
    assert np.array_equal(picks.score, records.score)
    assert picks.tomograms() == ["t"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"radius": 4.0}, "count=N"),
        ({"radius": 4.0, "count": 0}, "at least 1"),
        ({"radius": 4.0, "threshold": float("nan")}, "nan"),
        ({"radius": 0.0, "count": 3}, "radius"),
        ({"radius": "40A", "count": 3}, "no voxel spacing"),
        ({"radius": 4.0, "count": 3, "block_size": 0}, "block_size"),
        ({"radius": 4.0, "count": 3, "memory": "1MB"}, "1 MB"),
        ({"radius": 4.0, "count": 3, "memory": "much"}, "'much'"),
    ],
)
def test_impossible_settings_of_pick_are_refused(settings, words):
    with pytest.raises(ts.TomostreamError, match=words):
        ts.pick(VOLUME, **settings)


@pytest.mark.parametrize("array", [np.zeros((4, 4)), np.zeros((4, 4, 4), complex), np.zeros((4, 4, 4), "U3")])
def test_what_is_no_score_volume_is_refused(array):
    with pytest.raises(ts.TomostreamError):
        ts.pick(array, radius=2.0, count=1)


def test_a_store_wants_lengths_with_a_unit(store):
    with pytest.raises(ts.TomostreamError, match="135A"):
        ts.pick(store, radius=4.0, count=1)


def test_picks_of_an_array_are_evaluated_against_a_table_of_one_tomogram():
    scores = np.zeros((30, 30, 30), np.float32)
    scores[10, 10, 10], scores[20, 20, 20] = 1, 0.9
    picks = ts.pick(scores, radius=5.0, threshold=0.5)
    truth = ts.Particles.build(np.array([[10.0, 11.0, 10.0], [5.0, 5.0, 5.0]]), unit="voxel", tomogram="a", species="ribosome")
    counts = ts.evaluate(picks, truth, tolerance="3vox").pooled
    assert (counts.tp, counts.fp, counts.fn) == (1, 1, 1)
    nothing = ts.evaluate(ts.pick(scores, radius=5.0, threshold=2.0), truth, tolerance="3vox").pooled
    assert (nothing.tp, nothing.fp, nothing.fn) == (0, 0, 2)
    assert ts.evaluate(picks, truth.to_dataframe(), tolerance="3vox").pooled.tp == 1
    two = ts.Particles.build(truth.position_zyx, unit="voxel", tomogram=["a", "b"])
    with pytest.raises(InputError, match=r"one tomogram, but the truth is of a, b"):
        ts.evaluate(picks, two, tolerance="3vox")
    with pytest.raises(InputError, match="truth of an array"):
        ts.evaluate(picks, "truth.csv", tolerance="3vox")


def test_particles_are_written_read_and_evaluated(store, tmp_path):
    picks = ts.pick(store, radius="40A", count=7)
    ts.write_particles(tmp_path / "p.csv", picks)
    back = ts.read_particles(tmp_path / "p.csv")
    assert np.array_equal(back.position_zyx, picks.position_zyx)
    assert np.array_equal(back.score, picks.score)
    ts.write_particles(tmp_path / "p.coords", picks, spacing=10.0)
    voxels = ts.read_particles(tmp_path / "p.coords", tomogram="t")
    assert np.allclose(voxels.position_zyx * 10.0, picks.position_zyx)
    for truth in (picks, voxels, tmp_path / "p.csv"):
        found = ts.evaluate(picks, truth, tolerance="1vox", tomograms=[store])
        assert (found.pooled.tp, found.pooled.fp, found.pooled.fn) == (7, 0, 0)
    one = ts.evaluate(picks.select(np.arange(3)), picks, tolerance="10A", matching="one-to-one")
    assert (one.pooled.precision, one.pooled.recall) == (1.0, 3 / 7)
    assert ts.evaluate(picks, picks).pooled.tp == 7  # `pick` knew the voxels' size
    unknown = ts.read_particles(tmp_path / "p.csv")
    with pytest.raises(ts.TomostreamError, match=r"voxel spacing of tomogram 't'; give voxel_size=\.\.\. or tomograms=\.\.\.") as caught:
        ts.evaluate(unknown, unknown, tolerance="1vox")
    assert "--" not in str(caught.value)
    assert ts.evaluate(unknown, picks, tolerance="1vox").pooled.tp == 7
    assert ts.evaluate(unknown, unknown, tolerance="1vox", voxel_size=10.0).pooled.tp == 7
    with pytest.raises(ts.TomostreamError, match="shape"):
        ts.write_particles(tmp_path / "p.star", picks, format="star-relion5", spacing=10.0)


def test_stores_of_other_software_are_opened(tmp_path):
    for version in ("0.4", "0.5"):
        path = write_foreign(tmp_path / f"{version}.zarr", [VOLUME], version=version)
        assert np.array_equal(ts.open(path).array.compute(), VOLUME)
        assert len(ts.pick(path, radius="4vox", count=3)) == 3


def test_a_volume_is_indexed_as_numpy_does(store, tmp_path):
    mrc = ts.open(write_mrc(tmp_path / "t.mrc", VOLUME))
    for volume in (ts.open(store), mrc):
        assert (len(volume), volume.ndim, volume.shape, volume.spacing) == (20, 3, VOLUME.shape, 10.0)
        for index in (
            np.s_[3], np.s_[-1], np.s_[2:5], np.s_[..., 4], np.s_[1, 2, 3], np.s_[::-2, 3:1], np.s_[5:, ..., ::3], np.s_[:], np.s_[...], np.s_[np.int64(4), 1:9:4],
        ):  # fmt: skip
            assert np.array_equal(volume[index], VOLUME[index]), index
        assert np.array_equal(np.asarray(volume), VOLUME)
        assert np.asarray(volume, dtype=np.float64).dtype == np.float64
        assert np.array_equal(volume.array[4:6].compute(), VOLUME[4:6])
        for bad in (20, -21, (0, 0, 99), (0, 0, 0, 0), (..., ...), [1, 2], "z"):
            with pytest.raises(IndexError):
                _ = volume[bad]


def test_a_volume_shows_its_facts_and_middle_slice(store, tmp_path):
    for volume in (ts.open(store), ts.open(write_mrc(tmp_path / "t.mrc", VOLUME))):
        page = volume._repr_html_()
        assert 'src="data:image/png;base64,iVBORw0KGgo' in page
        assert all(word in page for word in ("20, 24, 28", "float32", "10 A"))
        assert repr(volume).count("\n") == 0
        assert "voxels (z, y, x) 20, 24, 28" in repr(volume)
    empty = write_store(tmp_path / "nan.ome.zarr", np.full((4, 5, 6), np.nan, np.float32), spacing=10.0)
    assert "<img" not in ts.open(empty)._repr_html_()


def test_an_mrc_file_is_opened_in_place_and_measured(tmp_path):
    path = write_mrc(tmp_path / "TS_1.mrc", VOLUME)
    opened = ts.open(path)
    assert (opened.name, opened.normalisation, opened.warnings) == ("TS_1", None, ())
    assert ts.statistics(opened).mean == pytest.approx(float(VOLUME.mean(dtype=np.float64)), abs=1e-5)
    assert ts.open(path, voxel_size=5.0).spacing == 5.0
    unknown = ts.open(write_mrc(tmp_path / "b.mrc", VOLUME, spacing=None))
    with pytest.raises(ts.InputError, match="voxel_size="):
        _ = unknown.spacing
    with pytest.raises(ts.InputError, match="level 0 only"):
        ts.open(path, level=1)
    (tmp_path / "c.mrc.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ts.InputError, match="convert it first"):
        ts.open(tmp_path / "c.mrc.gz")


def test_expected_lets_the_scores_say_how_many():
    rng = np.random.default_rng(0)
    volume = rng.normal(0, 0.3, (24, 60, 60)).astype(np.float32)
    for z, y, x in rng.uniform(4, (20, 56, 56), (30, 3)).astype(int):
        volume[z, y, x] += 8
    found = ts.pick(volume, radius=3.0, expected=30)
    assert 27 <= len(found) <= 31  # 29 stand apart: two lie within a radius
    assert [tuple(record) for record in found] == [tuple(record) for record in ts.pick(volume, radius=3.0, count=len(found))]
    with pytest.raises(ts.InputError, match="exclude each other"):
        ts.pick(volume, radius=3.0, expected=30, count=30)
    with pytest.raises(ts.InputError, match="at least 1"):
        ts.pick(volume, radius=3.0, expected=0)


def test_particles_are_data_frames_and_back():
    import pandas

    particles = ts.Particles.build(
        np.array([[3.0, 2, 1], [6, 5, 4]]), unit="voxel", tomogram="t", species="a", score=[0.5, np.nan], label=[1, 0]
    )
    table = particles.to_dataframe()
    assert list(table) == ["tomogram", "species", "x_voxel", "y_voxel", "z_voxel", "score", "label"]
    assert table["x_voxel"].tolist() == [1.0, 4.0]
    back = ts.Particles.from_dataframe(table)
    assert np.array_equal(back.position_zyx, particles.position_zyx)
    assert (back.unit, back.label.tolist(), back.tomograms()) == ("voxel", [1, 0], ["t"])
    assert ts.Particles.from_dataframe(table.set_index("tomogram")).tomograms() == ["t"]
    with pytest.raises(ts.InputError, match="must be named"):
        ts.Particles.from_dataframe(pandas.DataFrame({"x": [1]}))
    assert repr(particles) == "<2 particles, 1 of them labelled 0 of a in t, positions in voxels; scores 0.5 to 0.5>"


def test_a_picks_table_knows_its_voxels(store):
    picks = ts.pick(store, radius="40A", count=7)
    assert picks.spacings == {"t": 10.0}
    assert np.array_equal(picks.in_unit("voxel").position_zyx * 10.0, picks.position_zyx)
    assert ts.Particles.concatenate([picks, picks]).select(np.arange(3)).in_unit("voxel").unit == "voxel"
    with pytest.raises(ts.InputError):
        ts.Particles.build(np.ones((1, 3)), unit="voxel").in_unit("angstrom")


def test_points_that_are_no_voxels_of_the_volume_are_told():
    points = np.array([[100.0, 110.0, 120.0], [90.0, 100.0, 110.0]])
    with pytest.raises(ts.InputError, match=r"2 of 2 points lie outside.*\(20, 24, 28\).*angstrom"):
        ts.label_mask(points, (20, 24, 28), radius=3.0)
    with pytest.warns(ts.TomostreamWarning, match="2 of 3 points lie outside"):
        ts.label_mask(np.vstack([points, [[5.0, 5.0, 5.0]]]), (20, 24, 28), radius=3.0)


def test_a_table_that_was_read_with_its_voxel_size_needs_it_no_more(tmp_path, store):
    picks = ts.pick(store, radius="40A", count=5)
    ts.write_particles(tmp_path / "picks.csv", picks)
    ts.write_particles(tmp_path / "truth.csv", picks.in_unit("voxel"))
    read = ts.read_particles(tmp_path / "picks.csv", voxel_size=10.0)
    truth = ts.read_particles(tmp_path / "truth.csv", tomograms=[store])
    assert read.spacings == truth.spacings == {"t": 10.0}
    plain = ts.read_particles(tmp_path / "picks.csv")
    assert ts.evaluate(plain, truth, tolerance="2vox").pooled.f1 == 1
    assert ts.evaluate(plain, truth, tolerance="2vox", species=read.species_names()[0]).pooled.f1 == 1  # not the letters of the name
    shape = ts.open(store).shape
    mask = ts.label_mask(read, shape, radius=3.0)
    assert np.array_equal(mask.compute(), ts.label_mask(picks.in_unit("voxel").position_zyx, shape, radius=3.0).compute())
    with pytest.raises(ts.InputError, match="in angstroms and are needed in voxels"):
        ts.label_mask(plain, shape, radius=3.0)
    with pytest.raises(ts.InputError, match="of 2 tomograms"):
        ts.label_mask(ts.Particles.build(np.ones((2, 3)), unit="voxel", tomogram=["a", "b"]), shape, radius=3.0)


def test_facts_are_called_as_the_options_are(tmp_path, store):
    picks = ts.pick(store, radius="40A", count=3)
    for facts in ({"voxel_size": 10.0, "shape": (20, 24, 28)}, {"tomograms": [store]}, {"spacing": 10.0, "shape": (20, 24, 28)}):
        ts.write_particles(tmp_path / "p.star", picks, format="star-relion5", **facts)
        assert np.allclose(ts.read_particles(tmp_path / "p.star", **facts).position_zyx, picks.position_zyx)
    ts.write_particles(tmp_path / "p.cbox", picks, voxel_size=10.0, box_size="4vox")
    with pytest.raises(ts.InputError, match="box_size=") as caught:
        ts.write_particles(tmp_path / "p.cbox", picks, voxel_size=10.0)
    assert "--" not in str(caught.value)
    ts.write_particles(tmp_path / "p.star", picks, format="star-relion4", unbinned_pixel=2.0)  # its name in version 0.1
    with pytest.raises(ts.InputError, match="'pixel' is not a known keyword; known are voxel_size"):
        ts.read_particles(tmp_path / "p.cbox", pixel=3)


def test_warnings_are_pythons(tmp_path, store):
    clicks = ts.Particles.build(np.ones((2, 3)) * 50, unit="angstrom", tomogram="t", label=[1, 0])
    with pytest.warns(ts.TomostreamWarning, match="1 rows labelled 0 are left out"):
        ts.write_particles(tmp_path / "p.coords", clicks, voxel_size=10.0)


# whose parts are not exported, and why
NOT_EXPORTED = {
    "Tomogram.levels": "how it is stored; a tomogram is made by `ts.open`",
    "Tomogram.coarse": "likewise",
    "Tomogram.arrays": "likewise",
    "Model.": "what other packages implement (docs/extending.md), in `tomostream.strategies.protocol`",
}


def named_types(hint: object) -> Iterator[type]:
    """The classes that a type hint is made of."""
    if isinstance(hint, list | tuple):
        for part in hint:
            yield from named_types(part)
    else:
        yield from named_types(typing.get_args(hint))
        found = typing.get_origin(hint) or hint
        if isinstance(found, type):
            yield found


def public_hints() -> Iterator[tuple[str, object]]:
    """The hints of all exported functions, and of the public fields, methods and properties of all exported classes, by their names."""
    names = {"dask": dask, "da": dask.array, "pd": pd} | {name: getattr(ts, name) for name in ts.__all__}
    for name in ts.__all__:
        found = getattr(ts, name)
        for variant in [found, *(typing.get_overloads(found) if inspect.isfunction(found) else [])]:
            for part, hint in typing.get_type_hints(variant, localns=names).items():
                yield f"{name}.{part}", hint
        if not inspect.isclass(found):
            continue
        for part, member in inspect.getmembers_static(
            found, lambda value: isinstance(value, property | classmethod | staticmethod | FunctionType)
        ):
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if f"{name}.{part}".startswith(tuple(NOT_EXPORTED)):
                continue
            is_generated = part == "__init__" and dataclasses.is_dataclass(found)  # of the fields, which are looked at
            if (not part.startswith("_") or part == "__init__") and not is_generated and function.__module__.startswith("tomostream"):
                for hint in typing.get_type_hints(function, localns=names).values():
                    yield f"{name}.{part}", hint


def test_every_type_of_a_public_signature_is_public():
    exported = {getattr(ts, name) for name in ts.__all__}
    missing = {
        f"{where}: {kind.__module__}.{kind.__name__}"
        for where, hint in public_hints()
        if not where.startswith(tuple(NOT_EXPORTED)) and "._" not in where
        for kind in named_types(hint)
        if kind.__module__.startswith("tomostream") and kind not in exported
    }
    assert not missing
    assert (Path(ts.__file__).parent / "py.typed").exists()


def test_run_takes_a_configuration(tmp_path):
    with pytest.raises(ts.TomostreamError, match="does not exist"):
        ts.run(tmp_path / "none.yaml")
    with pytest.raises(ts.TomostreamError, match="stage"):
        ts.run(
            {
                "project": str(tmp_path),
                "tomograms": [str(tmp_path / "a.mrc")],
                "species": [{"name": "a", "radius": "100A"}],
                "labels": {"train": ["c.csv"]},
            },
            stages=["paint"],
        )


def test_angstrom_without_a_voxel_size_say_where_it_is_given():
    points = ts.Particles.build([[40.0, 50.0, 60.0]], unit="angstrom", tomogram="a")
    with pytest.raises(
        ts.InputError, match=r"in angstroms and are needed in voxels.*where the table is read, or particles\.in_unit\('voxel', VOXEL_SIZE\)"
    ):
        ts.label_mask(points, (9, 9, 9), radius=2.0)
    assert ts.label_mask(points.in_unit("voxel", 10.0), (9, 9, 9), radius=2.0).sum().compute() > 0
