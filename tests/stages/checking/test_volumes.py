"""`check` of an MRC file reads all of it, says what it looked at, and finds what can be found without checksums."""

import bz2
import gzip

import numpy as np
import pytest
from cli_runner import tomostream
from mrc_files import random_volume, write_mrc

PACKERS = {"": lambda data: data, ".gz": gzip.compress, ".bz2": bz2.compress}


def written(folder, volume, ending, change=lambda data: data):
    plain = write_mrc(folder / "t.mrc", volume)
    path = folder / f"t.mrc{ending}"
    data = change(plain.read_bytes())
    path.write_bytes(PACKERS[ending](data))
    return path


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("dtype", ["f4", "i1", "i2", "u2", "f2"])
def test_a_whole_file_is_whole_and_what_was_read_is_told(tmp_path, ending, dtype):
    volume = random_volume((5, 6, 7), dtype)
    path = written(tmp_path, volume, ending)
    done = tomostream("check", path)
    assert (done.code, done.out) == (0, "whole\n")
    assert f"its length ({1024 + volume.nbytes} bytes)" in done.err
    assert f"210 of 210 are finite, from {float(volume.min()):g} to {float(volume.max()):g}" in done.err
    assert "no checksums" in done.err


def test_voxels_that_are_not_finite_are_counted(tmp_path):
    volume = random_volume((5, 6, 7), "f4")
    volume[0, 0, :3] = np.nan, np.inf, -np.inf
    done = tomostream("check", written(tmp_path, volume, ""))
    assert done.code == 0
    assert "207 of 210 are finite" in done.err


@pytest.mark.parametrize("ending", PACKERS)
def test_a_voxel_of_absurd_size_is_damage_and_its_place_is_told(tmp_path, ending):
    volume = random_volume((5, 6, 7), "f4")
    volume[3, 2, 1] = volume[4, 0, 0] = -1.37e30
    done = tomostream("check", written(tmp_path, volume, ending), "--json")
    [damage] = done.json
    assert done.code == 2
    assert damage["part"] == "voxel z 3, y 2, x 1"
    assert "2 voxels are beyond 1e+15" in damage["problem"]


@pytest.mark.parametrize("ending", PACKERS)
def test_a_file_that_ends_early_is_damage(tmp_path, ending):
    path = written(tmp_path, random_volume((5, 6, 7), "f4"), ending, lambda data: data[:-9])
    done = tomostream("check", path)
    assert done.code == 2
    assert "truncated" in done.out


@pytest.mark.parametrize("ending", [".gz", ".bz2"])
def test_a_flipped_bit_in_packed_data_is_found_by_their_own_checksum(tmp_path, ending):
    path = written(tmp_path, np.zeros((5, 6, 7), np.float32), ending)
    data = bytearray(path.read_bytes())
    data[-6] ^= 16  # of the checksum, or the last block
    path.write_bytes(data)
    done = tomostream("check", path)
    assert done.code == 2
    assert "damaged or cut off" in done.out
