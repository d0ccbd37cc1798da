import http.server
import json
import multiprocessing
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import zarr
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from store_files import noise, spec_of, write_foreign, write_store

from tomostream.errors import InputError
from tomostream.geometry import Box, triple
from tomostream.normalisation import Normalisation
from tomostream.score_map import open_score_map
from tomostream.store.omezarr import StoreWriter, store_state
from tomostream.store.pyramid import mean_pooled
from tomostream.tomogram import open_tomogram, store_normalisation

STATISTICS = Normalisation(mean=0.1, std=30.0, clipped_mean=0.01, clipped_std=0.98, finite=990, total=1000)


def whole(tomogram):
    return tomogram.read(Box.whole(tomogram.shape))


def pooled(volume, steps):
    for _ in range(steps):
        volume = mean_pooled(volume)
    return volume


def test_a_store_of_ours_is_read_as_it_was_written(tmp_path):
    volume = noise(40, 30, 20)
    path = write_store(tmp_path / "TS_01.ome.zarr", volume, levels=2, spacing=13.48, chunk=(4, 8, 8))
    tomogram = open_tomogram(path)
    assert (tomogram.name, tomogram.spacing, tomogram.level, tomogram.level_count) == ("TS_01", 13.48, 0, 2)
    assert (tomogram.shape, tomogram.dtype, tomogram.chunk, tomogram.shard) == ((40, 30, 20), np.float32, (4, 8, 8), (16, 16, 16))
    assert tomogram.is_ours
    assert tomogram.warnings == ()
    assert tomogram.attributes["fingerprint"] == {"made": "for a test"}
    np.testing.assert_array_equal(whole(tomogram), volume)
    np.testing.assert_array_equal(tomogram.zarr[...], volume)


@examples(30)
@given(st.data())
def test_any_box_of_any_level_is_that_part_of_the_volume(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "boxes.ome.zarr"
    volume = noise(37, 21, 18)
    if not path.exists():
        write_store(path, volume, levels=2)
    level = data.draw(st.integers(0, 4))
    tomogram = open_tomogram(path).at_level(level)
    start = triple([data.draw(st.integers(0, n)) for n in tomogram.shape])
    stop = triple([data.draw(st.integers(a, n)) for a, n in zip(start, tomogram.shape, strict=True)])
    box = Box(start, stop)
    np.testing.assert_array_equal(tomogram.read(box), pooled(volume, level)[box.slices])


@pytest.mark.slow
def test_a_derived_level_is_the_stored_pyramid_of_a_float_volume(tmp_path):
    volume = noise(90, 70, 33)
    stored = open_tomogram(write_store(tmp_path / "a.ome.zarr", volume, levels=3))
    derived = open_tomogram(write_store(tmp_path / "b.ome.zarr", volume, levels=1, shard=(12, 12, 12)))
    for level in (1, 2):
        assert stored.at_level(level).is_stored
        assert not derived.at_level(level).is_stored
        np.testing.assert_array_equal(whole(derived.at_level(level)), whole(stored.at_level(level)))


def test_a_derived_level_of_integers_is_not_rounded(tmp_path):
    volume = noise(9, 8, 8, dtype=np.int8)
    tomogram = open_tomogram(write_store(tmp_path / "a.ome.zarr", volume, levels=1)).at_level(1)
    assert tomogram.dtype == np.float32
    np.testing.assert_array_equal(whole(tomogram), mean_pooled(volume))


def test_levels_have_their_spacing_and_shape(tmp_path):
    tomogram = open_tomogram(write_store(tmp_path / "a.ome.zarr", noise(40, 30, 21), spacing=10.0), level=2)
    assert (tomogram.shape, tomogram.level_spacing, tomogram.spacing) == ((10, 8, 6), 40.0, 10.0)
    assert tomogram.at_level(0).shape == (40, 30, 21)
    with pytest.raises(InputError, match=r"level 7 .* has the levels 0 to 6"):
        tomogram.at_level(7)
    with pytest.raises(InputError, match="level -1"):
        tomogram.at_level(-1)


def test_positions_go_to_the_centres_of_coarse_voxels_and_back(tmp_path):
    tomogram = open_tomogram(write_store(tmp_path / "a.ome.zarr", noise(40, 30, 21)), level=1)
    positions = np.array([[0.5, 2.5, 10.5], [0.0, 1.0, 39.0]])
    np.testing.assert_array_equal(tomogram.to_level_positions(positions), [[0, 1, 5], [-0.25, 0.25, 19.25]])
    np.testing.assert_array_equal(tomogram.from_level_positions(tomogram.to_level_positions(positions)), positions)


def test_the_dask_array_has_one_block_a_shard_and_slices_as_numpy(tmp_path):
    volume = noise(40, 30, 20)
    tomogram = open_tomogram(write_store(tmp_path / "a.ome.zarr", volume, levels=1))
    assert tomogram.array.chunks == ((16, 16, 8), (16, 14), (16, 4))
    np.testing.assert_array_equal(tomogram.array.compute(scheduler="threads"), volume)
    for index in [np.s_[3:20:2, 5, ::-3], np.s_[-1], np.s_[5:5], np.s_[[1, 30, 2], 3:4]]:
        np.testing.assert_array_equal(tomogram.array[index].compute(scheduler="sync"), volume[index])
    np.testing.assert_array_equal(tomogram.at_level(2).array.compute(scheduler="sync"), pooled(volume, 2))


def test_a_box_beyond_the_volume_is_refused(tmp_path):
    tomogram = open_tomogram(write_store(tmp_path / "a.ome.zarr", noise(8, 9, 10)))
    with pytest.raises(InputError, match=r"the box 0:8, 0:9, 0:11 leaves level 0 of .*\(8, 9, 10\) voxels"):
        tomogram.read(Box((0, 0, 0), (8, 9, 11)))


def test_a_level_that_is_not_stored_has_no_zarr_array(tmp_path):
    tomogram = open_tomogram(write_store(tmp_path / "a.ome.zarr", noise(8, 9, 10)), level=1)
    with pytest.raises(InputError, match=r"level 1 is averaged on reading, use `\.array`"):
        _ = tomogram.zarr


def test_a_lost_shard_is_an_error_and_not_zeros(tmp_path):
    path = write_store(tmp_path / "a.ome.zarr", noise(40, 8, 8))
    (path / "0" / "c" / "1" / "0" / "0").unlink()
    tomogram = open_tomogram(path)
    tomogram.read(Box((0, 0, 0), (16, 8, 8)))
    with pytest.raises(InputError, match=r"c/1/0/0 is missing, although the store was complete"):
        tomogram.read(Box((0, 0, 0), (17, 8, 8)))


# statistics


def test_statistics_are_kept_for_each_level(tmp_path):
    path = write_store(tmp_path / "a.ome.zarr", noise(40, 8, 8), levels=1)
    assert open_tomogram(path).normalisation is None
    store_normalisation(path, 0, STATISTICS)
    coarse = Normalisation(mean=0.2, std=3.0, clipped_mean=0.0, clipped_std=1.0, finite=9, total=9)
    store_normalisation(path, 1, coarse)
    tomogram = open_tomogram(path)
    assert tomogram.normalisation == STATISTICS
    assert tomogram.at_level(1).normalisation == coarse
    assert tomogram.at_level(2).normalisation is None
    assert store_state(path, {"made": "for a test"}) == "done"


def test_attached_statistics_come_first_and_belong_to_their_level(tmp_path):
    tomogram = open_tomogram(write_store(tmp_path / "a.ome.zarr", noise(40, 8, 8))).with_normalisation(STATISTICS)
    assert tomogram.normalisation == STATISTICS
    assert tomogram.at_level(0).normalisation == STATISTICS
    assert tomogram.at_level(1).normalisation is None


def test_standardised_voxels_are_the_normalised_raw_ones(tmp_path):
    volume = noise(20, 8, 8, dtype=np.int16)
    tomogram = open_tomogram(write_store(tmp_path / "a.ome.zarr", volume))
    with pytest.raises(InputError, match=r"no statistics of level 0; make them with `tomostream stats .*a.ome.zarr`"):
        tomogram.read_standardised(Box.whole(tomogram.shape))
    found = tomogram.with_normalisation(STATISTICS).read_standardised(Box((3, 0, 0), (9, 8, 8)))
    np.testing.assert_array_equal(found, STATISTICS.apply(volume[3:9]))


@pytest.mark.parametrize("level", [0, 1, 2])  # stored, and averaged on reading
def test_standardised_voxels_go_into_any_array(tmp_path, level):
    volume = noise(21, 13, 17)
    path = write_store(tmp_path / "a.ome.zarr", volume)
    tomogram = open_tomogram(path, level=level).with_normalisation(STATISTICS)
    box = Box((1, 0, 1), tomogram.shape)
    wide = np.full(tuple(n + 3 for n in box.shape), 7, dtype=np.float32)
    part = wide[1:-2, 2:-1, 3:]
    assert tomogram.read_standardised(box, out=part) is part
    np.testing.assert_array_equal(part, STATISTICS.apply(tomogram.read(box)))
    part[...] = 7
    assert (wide == 7).all()
    with pytest.raises(InputError, match="leaves level"):
        tomogram.read_standardised(Box((0, 0, 0), tuple(n + 1 for n in tomogram.shape)), out=wide)


def test_other_softwares_stores_keep_their_attributes(tmp_path):
    path = write_foreign(tmp_path / "a.zarr", [noise(8, 8, 8)], version="0.5")
    before = (path / "zarr.json").read_bytes()
    with pytest.raises(InputError, match="was not made by tomostream"):
        store_normalisation(path, 0, STATISTICS)
    with pytest.raises(InputError, match="was not made by tomostream"):
        store_normalisation(tmp_path / "none", 0, STATISTICS)
    assert (path / "zarr.json").read_bytes() == before


def store_one(path, level):
    store_normalisation(path, level, STATISTICS)


def test_statistics_stored_at_the_same_time_are_all_kept(tmp_path):
    path = write_store(tmp_path / "a.ome.zarr", noise(8, 8, 8))
    threads = [threading.Thread(target=store_one, args=(path, level)) for level in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, open_tomogram(path).attributes["normalisation"])) == list(range(12))
    assert sorted(p.name for p in path.iterdir()) == ["0", "zarr.json"]


def test_score_maps_are_decoded_by_their_attributes(tmp_path):
    volume = np.arange(-4, 4, dtype=np.int8).reshape(2, 2, 2)
    encoded = open_score_map(write_store(tmp_path / "a.ome.zarr", volume, score_scale=0.1, score_offset=0.5))
    found = encoded.read(Box.whole(encoded.shape))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, volume * 0.1 + 0.5)
    plain = open_score_map(write_store(tmp_path / "b.ome.zarr", volume.astype(np.float16)))
    assert plain.read(Box.whole(plain.shape)).dtype == np.float32


# processes


def read_first(tomogram):
    return os.getpid(), tomogram.read(Box((0, 0, 0), (1, 4, 4)))


@pytest.mark.slow
def test_a_tomogram_is_sent_open_to_another_process(tmp_path):
    volume = noise(20, 8, 8)
    for path in (write_store(tmp_path / "a.ome.zarr", volume), write_foreign(tmp_path / "b.zarr", [volume])):
        tomogram = open_tomogram(path).with_normalisation(STATISTICS)
        here = read_first(tomogram)[1]  # open now
        again = pickle.loads(pickle.dumps(tomogram))
        assert again == tomogram
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            process, there = pool.submit(read_first, tomogram).result(timeout=60)
        assert process != os.getpid()
        np.testing.assert_array_equal(there, here)


def test_importing_the_module_imports_neither_dask_nor_torch_nor_pandas():
    code = "import sys, tomostream.tomogram; print({'dask', 'torch', 'pandas', 'yaozarrs', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


# other software's stores


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">i2", "<u1"])
def test_other_softwares_stores_are_read_in_native_byte_order(tmp_path, version, dtype):
    volume = noise(20, 9, 8).astype(dtype)
    path = write_foreign(tmp_path / "run.zarr", [volume, pooled(volume, 1).astype(dtype)], version=version)
    tomogram = open_tomogram(path)
    assert (tomogram.name, tomogram.spacing, tomogram.level_count, tomogram.is_ours) == ("run", 10.0, 2, False)
    assert tomogram.attributes == {}
    assert tomogram.shard == tomogram.chunk == (8, 8, 8)
    found = tomogram.read(Box((1, 2, 3), (19, 9, 8)))
    assert found.dtype.isnative
    assert found.dtype == tomogram.dtype
    np.testing.assert_array_equal(found, volume[1:19, 2:9, 3:8])
    np.testing.assert_array_equal(tomogram.array.compute(scheduler="sync"), volume)


@pytest.mark.parametrize("axes", ["czyx", "tczyx"])
def test_leading_axes_of_length_1_are_squeezed(tmp_path, axes):
    volume = noise(9, 10, 11)
    extra = (1,) * (len(axes) - 3)
    tomogram = open_tomogram(write_foreign(tmp_path / "a.zarr", [volume.reshape(*extra, *volume.shape)], axes=axes))
    assert (tomogram.shape, tomogram.spacing) == (volume.shape, 10.0)
    np.testing.assert_array_equal(tomogram.read(Box((1, 2, 3), (4, 5, 6))), volume[1:4, 2:5, 3:6])
    np.testing.assert_array_equal(tomogram.array[2].compute(scheduler="sync"), volume[2])
    np.testing.assert_array_equal(whole(tomogram.at_level(1)), pooled(volume, 1))


@pytest.mark.parametrize(("unit", "spacing"), [("angstrom", 2.5), ("nanometer", 25.0), ("micrometer", 25000.0)])
def test_units_become_angstrom(tmp_path, unit, spacing):
    tomogram = open_tomogram(write_foreign(tmp_path / "a.zarr", [noise(8, 8, 8)], scale=2.5, unit=unit))
    assert tomogram.spacing == pytest.approx(spacing, rel=1e-15)
    assert len(tomogram.warnings) == (spacing > 100)


def test_a_store_without_unit_has_the_spacing_that_the_caller_says(tmp_path):
    path = write_foreign(tmp_path / "a.zarr", [noise(8, 8, 8)], unit=None)
    tomogram = open_tomogram(path)
    assert tomogram.array.compute().shape == (8, 8, 8)  # voxels are read all the same
    with pytest.raises(InputError, match=r"no unit \(their scale is 10\).*--voxel-size"):
        _ = tomogram.spacing
    assert open_tomogram(path, voxel_size=13.48).spacing == 13.48
    assert open_tomogram(path, voxel_size=13.48).warnings == ()
    assert "0.1 angstrom" in open_tomogram(path, voxel_size=0.1).warnings[0]


def test_a_spacing_that_the_store_contradicts_is_refused_and_an_absurd_one_told(tmp_path):
    path = write_foreign(tmp_path / "a.zarr", [noise(8, 8, 8)], scale=10.0, unit="angstrom")
    assert open_tomogram(path, voxel_size=10.05).spacing == 10.0
    with pytest.raises(InputError, match=r"its voxels are 10 angstrom.*says 12"):
        open_tomogram(path, voxel_size=12.0)
    for scale in (0.4, 101.0):
        found = open_tomogram(write_foreign(tmp_path / f"{scale}.zarr", [noise(8, 8, 8)], scale=scale, unit="angstrom"))
        assert "is implausible for an electron tomogram" in found.warnings[0]


@pytest.mark.parametrize(
    ("second", "factors", "warning"),
    [
        ((4, 4, 4), [1, 4], "level 1 is not 2 times coarser than level 0"),
        ((4, 4, 4), None, r"level 1 has \(4, 4, 4\) voxels, not \(5, 5, 5\)"),
    ],
)
def test_a_level_that_is_no_half_is_averaged_on_reading(tmp_path, second, factors, warning):
    volume = noise(9, 9, 9)
    path = write_foreign(tmp_path / "a.zarr", [volume, noise(*second)], factors=factors)
    tomogram = open_tomogram(path)
    assert tomogram.level_count == 1
    assert len(tomogram.warnings) == 1
    assert re.match(warning, tomogram.warnings[0])
    np.testing.assert_array_equal(whole(tomogram.at_level(1)), pooled(volume, 1))


@pytest.mark.parametrize(
    ("settings_", "shape", "message"),
    [
        ({"scale": (10.0, 10.0, 10.2)}, (8, 8, 8), r"voxels of 10 x 10 x 10.2 angstrom .* may differ by 1 %"),
        ({"scale": 0.0}, (8, 8, 8), r"voxel spacings of \(0.0, 0.0, 0.0\) angstrom"),
        ({"unit": "pixel"}, (8, 8, 8), "measures its axes in 'pixel'; known are angstrom, nanometer"),
        ({"axes": "xyz"}, (8, 8, 8), r"axes \(x, y, z\); a tomogram needs z, y, x"),
        ({"axes": "czyx"}, (2, 8, 8, 8), r"shape \(2, 8, 8, 8\); a tomogram has three axes"),
        ({"dtype": "complex64"}, (8, 8, 8), "voxels of type complex64"),
        ({"dtype": "bool"}, (8, 8, 8), "voxels of type bool"),
    ],
)
def test_an_image_that_is_no_tomogram_is_refused(tmp_path, settings_, shape, message):
    path = write_foreign(tmp_path / "a.zarr", [noise(*shape)], **settings_)
    with pytest.raises(InputError, match=message):
        open_tomogram(path)


# what is no store


def broken_metadata(path, change):
    write_foreign(path, [noise(8, 8, 8)], version="0.5")
    metadata = json.loads((path / "zarr.json").read_text())
    change(metadata["attributes"])
    (path / "zarr.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    "change",
    [
        dict.clear,
        lambda a: a.update(ome=[]),
        lambda a: a.update(ome={"multiscales": []}),
        lambda a: a.update(ome={"multiscales": "x"}),
        lambda a: a["ome"]["multiscales"][0].pop("axes"),
        lambda a: a["ome"]["multiscales"][0].update(datasets=[]),
        lambda a: a["ome"]["multiscales"][0]["datasets"][0].pop("coordinateTransformations"),
        lambda a: a["ome"]["multiscales"][0]["datasets"][0].update(coordinateTransformations=[]),
        lambda a: a["ome"]["multiscales"][0]["datasets"][0].update(coordinateTransformations=[{"type": "scale", "scale": [1, 2]}]),
        lambda a: a["ome"]["multiscales"][0]["datasets"][0].update(coordinateTransformations=[{"type": "scale", "scale": ["a"] * 3}]),
        lambda a: a["ome"]["multiscales"][0]["datasets"][0].update(path="9"),
        lambda a: a["ome"]["multiscales"][0].update(axes=[1, 2, 3]),
        lambda a: a["ome"]["multiscales"][0]["axes"][0].update(unit=["nm"]),
    ],
)
def test_broken_metadata_are_refused_with_the_path(tmp_path, change):
    broken_metadata(tmp_path / "a.zarr", change)
    with pytest.raises(InputError, match=r"a\.zarr"):
        open_tomogram(tmp_path / "a.zarr")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"zarr_format": 3}', '{"zarr_format": 9, "node_type": "group"}', "\x00\x01"])
def test_a_group_file_of_rubbish_is_refused(tmp_path, text):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.zarr"):
        open_tomogram(tmp_path / "a.zarr")


def test_half_written_stores_never_open(tmp_path):
    volume = noise(20, 8, 8)
    path = tmp_path / "a.ome.zarr"
    with StoreWriter.create_or_resume(path, spec_of(volume), fingerprint={}, overwrite=False) as writer:
        writer.write((0, 0, 0), volume[:16])
        shutil.copytree(writer.partial, tmp_path / "renamed.ome.zarr")
        with pytest.raises(
            InputError, match=r"a.ome.zarr is not finished \(a.ome.zarr.partial exists\); run the command that makes it again"
        ):
            open_tomogram(path)
        for half in (writer.partial, tmp_path / "renamed.ome.zarr"):
            with pytest.raises(InputError, match="is a half-written store"):
                open_tomogram(half)
        with pytest.raises(InputError, match="is a bare Zarr array"):
            open_tomogram(writer.partial / "0")


def test_what_is_no_store_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "a.mrc").write_bytes(bytes(1024))
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="does not exist; give the folder of an OME-Zarr image"):
        open_tomogram(tmp_path / "nothing")
    with pytest.raises(
        InputError, match=r"a.mrc is an MRC file, not an OME-Zarr store; convert it first: `tomostream convert .*a.mrc -o DIR`"
    ):
        open_tomogram(tmp_path / "a.mrc")
    with pytest.raises(
        InputError,
        match=r"folder is a folder, not an OME-Zarr store; it is without Zarr metadata .* name the files in a folder of tomograms: .*folder/\*.mrc",
    ):
        open_tomogram(tmp_path / "folder")
    zarr.create_array(tmp_path / "array.zarr", shape=(4, 4, 4), dtype="f4")
    zarr.create_array(tmp_path / "array2.zarr", shape=(4, 4, 4), dtype="f4", zarr_format=2)
    for name in ("array.zarr", "array2.zarr"):
        with pytest.raises(InputError, match=f"{name} is a bare Zarr array without voxel spacing"):
            open_tomogram(tmp_path / name)


def test_a_damaged_chunk_of_a_foreign_store_is_named(tmp_path):
    path = write_foreign(tmp_path / "a.zarr", [noise(8, 8, 8)])
    chunk = path / "0" / "0.0.0"
    assert chunk.exists()
    chunk.write_bytes(b"rubbish")
    with pytest.raises(InputError, match=r"a.zarr, level 0, box 0:8, 0:8, 0:8 can't be read"):
        whole(open_tomogram(path))


# by URL


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Python's own server: it ignores ranges and sends the whole file."""

    def log_message(self, *_):
        pass


class RangeHandler(QuietHandler):
    """A file server that answers range requests, as object stores do, and forbids what is not there, as some do."""

    missing_status = 404

    def send_error(self, code, message=None, explain=None):
        super().send_error(self.missing_status if code == 404 else code, message, explain)

    def send_head(self):
        wanted = self.headers.get("Range")
        path = self.translate_path(self.path)
        if wanted is None or not os.path.isfile(path):
            return super().send_head()
        size = os.path.getsize(path)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start = int(first) if first else size - int(last)
        stop = min(int(last), size - 1) if first and last else size - 1
        handle = open(path, "rb")  # noqa: SIM115 (the server closes it)
        handle.seek(start)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop}/{size}")
        self.send_header("Content-Length", str(stop - start + 1))
        self.end_headers()
        self.range_length = stop - start + 1
        return handle

    def copyfile(self, source, outputfile):
        outputfile.write(source.read(getattr(self, "range_length", -1)))


class ForbiddingHandler(RangeHandler):
    missing_status = 403


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(handler):
        bound = type("Bound", (handler,), {"__init__": lambda self, *a, **k: handler.__init__(self, *a, directory=str(tmp_path), **k)})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), bound)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("handler", [RangeHandler, ForbiddingHandler])
@pytest.mark.parametrize("kind", ["ours", "0.4", "0.5"])
def test_a_store_is_read_over_http(tmp_path, serve, kind, handler):
    volume = noise(20, 9, 8)
    path = tmp_path / "run 1.ome.zarr"
    if kind == "ours":
        write_store(path, volume, spacing=10.0, levels=2)
    else:
        write_foreign(path, [volume, pooled(volume, 1)], version=kind)
    url = f"{serve(handler)}/run%201.ome.zarr/"
    tomogram = open_tomogram(url)
    assert (tomogram.path, tomogram.spacing, tomogram.level_count, tomogram.is_ours) == (url[:-1], 10.0, 2, False)
    np.testing.assert_array_equal(tomogram.read(Box((1, 2, 3), (18, 9, 8))), volume[1:18, 2:9, 3:8])
    np.testing.assert_array_equal(whole(pickle.loads(pickle.dumps(tomogram.at_level(1)))), pooled(volume, 1))


def test_shards_of_a_server_without_ranges_are_refused_and_never_misread(tmp_path, serve):
    write_store(tmp_path / "a.ome.zarr", noise(20, 8, 8))
    url = serve(QuietHandler)
    with pytest.raises(InputError, match=r"a\.ome\.zarr/0/c/0/0/0 can't be read: the server sends the whole file"):
        whole(open_tomogram(f"{url}/a.ome.zarr"))


def test_a_url_without_a_store_is_refused(tmp_path, serve):
    url = serve(RangeHandler)
    with pytest.raises(InputError, match=r"nothing\.zarr does not exist or is not a Zarr group"):
        open_tomogram(f"{url}/nothing.zarr")


def test_a_server_that_is_not_there_is_an_error_of_one_line():
    with pytest.raises(InputError, match=r"http://127.0.0.1:9/a.zarr/.* can't be reached \(.*\); check the URL, the network") as caught:
        open_tomogram("http://127.0.0.1:9/a.zarr")
    assert "\n" not in str(caught.value)


def test_an_unknown_protocol_is_refused():
    with pytest.raises(InputError, match=r"nonsense://a/b\.zarr: no file system for 'nonsense://' is known"):
        open_tomogram("nonsense://a/b.zarr")


def test_a_file_url_is_a_local_path(tmp_path):
    path = write_store(tmp_path / "a b.ome.zarr", noise(8, 8, 8))
    tomogram = open_tomogram(path.as_uri())
    assert (tomogram.path, tomogram.name, tomogram.is_ours) == (str(path), "a b", True)
