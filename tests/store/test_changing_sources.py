"""A source that changes while it is converted, and is as before later: its shards of the meantime are never taken."""

import numpy as np
import pytest
from mrc_files import random_volume, write_mrc
from store_files import tree

from tomostream.errors import InputError
from tomostream.geometry import Box
from tomostream.store.conversion import ConvertSettings, convert_file
from tomostream.store.mrc_voxels import MrcReader
from tomostream.tomogram import open_tomogram

FACTS = {"memory": 10**9, "report": lambda _: None}


@pytest.mark.parametrize("fails_after", [None, 2])
def test_shards_of_a_changed_source_are_made_again(tmp_path, monkeypatch, fails_after):
    volume = random_volume((32, 16, 16), "f4")
    source = write_mrc(tmp_path / "t.mrc", volume)
    original, changed = source.read_bytes(), write_mrc(tmp_path / "other.mrc", -volume).read_bytes()
    settings = ConvertSettings(chunk=(8, 8, 8), shard=(8, 8, 8))
    reads = []
    read = MrcReader.read

    def changing(self, box):
        reads.append(box)
        if len(reads) == fails_after:
            raise InputError("the disk fails")
        found = read(self, box)
        source.write_bytes(changed)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(MrcReader, "read", changing)
        patched.setattr("tomostream.store.conversion.band_voxels_within", lambda *_, **__: 8 * 16 * 16)
        with pytest.raises(InputError, match=r"changed while it was being converted|the disk fails"):
            convert_file(source, tmp_path / "out", settings, **FACTS, overwrite=False)
    assert len(reads) > 1
    assert not (tmp_path / "out" / "t.ome.zarr").exists()
    source.write_bytes(original)
    convert_file(source, tmp_path / "out", settings, **FACTS, overwrite=True)
    np.testing.assert_array_equal(open_tomogram(tmp_path / "out" / "t.ome.zarr").read(Box.whole(volume.shape)), volume)
    convert_file(source, tmp_path / "calm", settings, **FACTS, overwrite=False)
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")
