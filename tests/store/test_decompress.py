import bz2
import gzip
import shutil
from collections import namedtuple

import numpy as np
import pytest
from mrc_files import random_volume, write_mrc

from tomostream.errors import BudgetError, BusyError, InputError
from tomostream.store.decompress import peek_header, plain_file

PACK = {".gz": gzip.compress, ".bz2": bz2.compress}
SHAPE = (20, 30, 40)


@pytest.fixture
def whole(tmp_path):
    return write_mrc(tmp_path / "tomo.mrc", random_volume(SHAPE, np.float32))


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture(params=PACK)
def packed(request, whole):
    path = whole.with_name(whole.name + request.param)
    path.write_bytes(PACK[request.param](whole.read_bytes()))
    return path


def test_plain_file_is_itself(whole, out):
    with plain_file(peek_header(whole), out, print) as path:
        assert path == whole
    assert whole.exists()


def test_compressed_file_becomes_a_temporary_copy(whole, packed, out):
    header = peek_header(packed)
    assert (header.name, header.shape) == ("tomo", SHAPE)
    with plain_file(header, out, print) as path:
        assert path.parent == out
        assert path.read_bytes() == whole.read_bytes()
    assert list(out.iterdir()) == []


def test_compression_is_told_by_content_not_by_suffix(packed, out):
    renamed = packed.rename(packed.with_name("other.mrc"))
    with plain_file(peek_header(renamed), out, print) as path:
        assert path != renamed


def test_temporary_copy_is_removed_on_error(packed, out):
    with pytest.raises(RuntimeError), plain_file(peek_header(packed), out, print):
        raise RuntimeError
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.999])
def test_cut_off_file_is_refused_and_leaves_nothing(packed, out, keep):
    content = packed.read_bytes()
    packed.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match="damaged or cut off"), plain_file(peek_header(packed), out, print):
        pass
    assert list(out.iterdir()) == []


def test_flipped_byte_is_refused(packed, out):
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 0xFF
    packed.write_bytes(bytes(content))
    # bzip2 checks a block after it has given its bytes, so the head may be nonsense before the damage is known
    with pytest.raises(InputError, match=r"damaged or cut off|not an MRC file"), plain_file(peek_header(packed), out, print):
        pass


def test_whole_stream_of_a_truncated_volume_is_refused(whole, packed, out):
    packed.write_bytes(PACK[packed.suffix](whole.read_bytes()[:-100]))
    with pytest.raises(InputError, match=r"truncated: decompressed it has 96924 bytes.*97024"), plain_file(peek_header(packed), out, print):
        pass


def test_bytes_after_the_volume_are_left_out_and_told(whole, packed, out):
    packed.write_bytes(PACK[packed.suffix](whole.read_bytes() + bytes(5_000_000)))
    texts = []
    with plain_file(peek_header(packed), out, texts.append) as path:
        assert path.read_bytes() == whole.read_bytes()
    assert "97024" in texts[0]


def test_compressed_garbage_is_refused(tmp_path):
    for suffix, pack in PACK.items():
        path = tmp_path / f"a.mrc{suffix}"
        for content in (b"", b"hello", bytes(5000)):
            path.write_bytes(pack(content))
            with pytest.raises(InputError, match="not an MRC file"):
                peek_header(path)


def test_full_disk_is_told_before_and_while_decompressing(packed, out, monkeypatch):
    usage = namedtuple("usage", "total used free")
    header = peek_header(packed)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 97023, 97023))
    with pytest.raises(BudgetError, match=r"97 KB, but .* has 97 KB free"), plain_file(header, out, print):
        pass
    monkeypatch.undo()
    monkeypatch.setattr("tomostream.store.decompress.refuse_links", lambda *_: None)  # for the full disk that follows
    (out / ".tomo.mrc.gz.decompressed").symlink_to("/dev/full")
    (out / ".tomo.mrc.bz2.decompressed").symlink_to("/dev/full")
    with pytest.raises(BudgetError, match=r"disk filled up while .*tomo\.mrc"), plain_file(header, out, print):
        pass


def test_second_process_on_the_same_file_is_refused_and_the_first_unharmed(whole, packed, out):
    header = peek_header(packed)
    with plain_file(header, out, print) as path:
        with pytest.raises(BusyError), plain_file(header, out, print):
            pass
        assert path.read_bytes() == whole.read_bytes()


def test_leftover_of_a_killed_process_is_replaced(whole, packed, out):
    (out / f".{packed.name}.decompressed").write_bytes(b"x" * 200_000)
    with plain_file(peek_header(packed), out, print) as path:
        assert path.read_bytes() == whole.read_bytes()
    assert list(out.iterdir()) == []
