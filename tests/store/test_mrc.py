import contextlib
import math

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from mrc_files import BROKEN, MODE_TYPES, as_imod, patch, random_volume, read_with_mrcfile, write_mrc

from tomostream.errors import InputError
from tomostream.geometry import Box
from tomostream.store import mrc_voxels
from tomostream.store.mrc import read_header
from tomostream.store.mrc_voxels import MrcReader

SHAPE = (5, 6, 7)


def read_all(path):
    header = read_header(path)
    with MrcReader(header) as reader:
        return reader.read(Box.whole(header.shape))


@pytest.fixture
def whole(tmp_path):
    return write_mrc(tmp_path / "tomo.mrc", random_volume(SHAPE, np.float32))


@pytest.mark.parametrize("extended", [0, 1024])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("mode", MODE_TYPES)
def test_every_mode_and_byte_order_reads_as_mrcfile_wrote_it(tmp_path, mode, order, extended):
    volume = random_volume(SHAPE, MODE_TYPES[mode])
    path = write_mrc(tmp_path / "tomo.mrc", volume, order=order, extended=extended)
    header = read_header(path)
    assert (header.mode, header.shape, header.extended_bytes, header.warnings) == (mode, SHAPE, extended, ())
    assert header.spacing == 10.0
    assert header.spacing_doubt is None
    found = read_all(path)
    assert found.dtype == volume.dtype
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, volume)
    np.testing.assert_array_equal(found, read_with_mrcfile(path))


@given(data=st.data())
@examples(60)
def test_any_box_equals_the_slice(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "boxes.mrc"
    volume = random_volume(SHAPE, np.int16)
    if not path.exists():
        write_mrc(path, volume, order=">", extended=80)
    start = tuple(data.draw(st.integers(0, n)) for n in SHAPE)
    stop = tuple(data.draw(st.integers(a, n)) for a, n in zip(start, SHAPE, strict=True))
    box = Box(start, stop)
    with MrcReader(read_header(path)) as reader:
        np.testing.assert_array_equal(reader.read(box), volume[box.slices])


@pytest.mark.parametrize("voxels", [1, 13, 10**6])
def test_pieces_are_all_voxels_in_file_order(tmp_path, voxels):
    volume = random_volume(SHAPE, np.uint16)
    with MrcReader(read_header(write_mrc(tmp_path / "tomo.mrc", volume, order=">"))) as reader:
        np.testing.assert_array_equal(np.concatenate(list(reader.pieces(voxels))), volume.ravel())


def test_narrow_boxes_are_read_in_runs_of_rows(tmp_path, monkeypatch):
    volume = random_volume((3, 9, 7), np.int16)
    header = read_header(write_mrc(tmp_path / "tomo.mrc", volume, order=">"))
    for rows in (1, 2, 4, 9):
        monkeypatch.setattr(mrc_voxels, "RUN_BYTES", rows * 7 * 2)
        with MrcReader(header) as reader:
            for box in (Box((0, 0, 1), (3, 9, 5)), Box((2, 3, 6), (3, 9, 7)), Box((1, 8, 0), (3, 9, 6))):
                np.testing.assert_array_equal(reader.read(box), volume[box.slices])


def test_rows_of_a_section_are_one_read(whole):
    class Spy:
        def __init__(self, file):
            self.file, self.reads = file, 0

        def seek(self, *args):
            return self.file.seek(*args)

        def readinto(self, view):
            self.reads += 1
            return self.file.readinto(view)

        def close(self):
            self.file.close()

    with MrcReader(read_header(whole)) as reader:
        reader._file = spy = Spy(reader._file)
        for box, reads in [
            (Box.whole(SHAPE), 1),
            (Box((1, 0, 0), (4, 6, 7)), 1),
            (Box((1, 2, 0), (4, 5, 7)), 3),
            (Box((0, 0, 1), (2, 3, 4)), 2),
        ]:
            spy.reads = 0
            reader.read(box)
            assert spy.reads == reads


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("signed", [False, True])
def test_imod_bytes_are_unsigned_unless_flagged(tmp_path, signed, order):
    volume = random_volume(SHAPE, np.int8)
    path = as_imod(write_mrc(tmp_path / "tomo.rec", volume, order=order), signed=signed, order=order)
    assert read_header(path).is_imod
    np.testing.assert_array_equal(read_all(path), volume if signed else volume.view(np.uint8))


def test_imod_flag_does_not_touch_other_modes(tmp_path):
    volume = random_volume(SHAPE, np.int16)
    np.testing.assert_array_equal(read_all(as_imod(write_mrc(tmp_path / "t.rec", volume), signed=True)), volume)


def test_statistics_that_contradict_signed_bytes_give_a_warning(tmp_path):
    path = patch(write_mrc(tmp_path / "tomo.mrc", random_volume(SHAPE, np.int8)), 76, "<2f", 0.0, 255.0)
    assert any("maximum is 255" in text and "unsigned" in text for text in read_header(path).warnings)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("stamp", [(0, 0), (0x44, 0x44), (0x11, 0x11), (1, 2)])
def test_byte_order_is_found_whatever_the_stamp(tmp_path, order, stamp):
    volume = random_volume(SHAPE, np.float32)
    path = patch(write_mrc(tmp_path / "tomo.mrc", volume, order=order), 212, "2B", *stamp)
    right = stamp == ((0x44, 0x44) if order == "<" else (0x11, 0x11))
    assert any("machine stamp" in text for text in read_header(path).warnings) is not right
    np.testing.assert_array_equal(read_all(path), volume)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_is_refused_with_the_value_found(whole, name):
    change, words = BROKEN[name]
    change(whole)
    with pytest.raises(InputError) as caught:
        read_header(whole)
    for word in (str(whole), *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["tilts.st", "tilts.ST", "tilts.st.gz", "tilts.ali", "images.mrcs"])
def test_stack_suffix_is_refused(whole, name):
    with pytest.raises(InputError, match=r"stack of images|tilt series"):
        read_header(whole.rename(whole.with_name(name)))


def test_missing_file_folder_and_pipe_are_refused(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.mrc")
    for name in ("missing.mrc", ".", "pipe.mrc"):
        with pytest.raises(InputError, match=r"can't be read|is not a file|is a folder, not an MRC file"):
            read_header(tmp_path / name)


def test_longer_file_is_read_with_a_warning(whole):
    volume = read_all(whole)
    with whole.open("ab") as file:
        file.write(b"x" * 33)
    assert any("33 bytes follow" in text for text in read_header(whole).warnings)
    np.testing.assert_array_equal(read_all(whole), volume)


def test_file_that_shrinks_while_read_is_refused(whole):
    header = read_header(whole)
    with MrcReader(header) as reader:
        whole.write_bytes(whole.read_bytes()[:1500])
        with pytest.raises(InputError, match="364 bytes early"):
            reader.read(Box.whole(SHAPE))


@pytest.mark.parametrize("cell", [(0.0, 0.0, 0.0), (70.0, 60.0, 0.0), (math.nan,) * 3, (math.inf,) * 3, (-70.0, 60.0, 50.0)])
def test_missing_spacing_is_none_and_never_guessed(whole, cell):
    header = read_header(patch(whole, 40, "<3f", *cell))
    assert header.spacing is None
    assert "no voxel spacing; give it with --voxel-size" in header.spacing_doubt


def test_unset_intervals_give_no_spacing(whole):
    assert read_header(patch(whole, 28, "<3i", 0, 0, 0)).spacing is None


def test_spacing_of_one_angstrom_is_doubted(whole):
    header = read_header(patch(whole, 40, "<3f", 7.0, 6.0, 5.0))
    assert header.spacing == 1.0
    assert "exactly 1 angstrom" in header.spacing_doubt


def test_anisotropic_spacing_is_refused_over_one_percent(whole):
    assert read_header(patch(whole, 40, "<3f", 70.0, 60.0, 50.4)).spacing == pytest.approx(10.0267, abs=1e-4)
    header = read_header(patch(whole, 40, "<3f", 70.0, 60.0, 50.6))
    with pytest.raises(InputError, match=r"z 10\.12, y 10, x 10"):
        _ = header.spacing


@given(spacing=st.integers(100, 9999999), edge=st.integers(1, 4096))
def test_spacing_survives_the_headers_floats_to_six_digits(spacing, edge):
    wanted = float(f"{spacing / 1e4:.5g}")
    z = float(np.float32(wanted * edge)) / edge
    assert float(f"{z:.6g}") == wanted


def test_unset_axis_order_is_taken_as_xyz_with_a_warning(whole):
    assert any("mapc" in text for text in read_header(patch(whole, 64, "<3i", 0, 0, 0)).warnings)


@given(content=st.binary(min_size=1024, max_size=1100), stamp=st.sampled_from([b"DD\0\0", b"\x11\x11\0\0", b"abcd"]))
@examples(200)
def test_random_headers_are_read_or_refused_never_a_traceback(tmp_path_factory, content, stamp):
    path = tmp_path_factory.getbasetemp() / "random.mrc"
    path.write_bytes(content[:208] + b"MAP " + stamp + content[216:])
    with contextlib.suppress(InputError):
        _ = read_header(path).spacing
