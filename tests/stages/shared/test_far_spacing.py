"""A `voxel_size` that a header contradicts grossly is refused before any work; where the header does not know, it stands."""

import pytest
import yaml
from cli_runner import tomostream
from mrc_files import random_volume, write_mrc
from small_project import make_project

from tomostream.errors import InputError
from tomostream.stages.shared.resolved_run import refuse_far_spacing
from tomostream.store.mrc import read_header


@pytest.mark.parametrize(("spacing", "voxel_size"), [(10.0, 15.1), (10.0, 6.6), (13.48, 1.348), (13.48, 134.8)])
def test_a_factor_over_one_and_a_half_is_refused(tmp_path, spacing, voxel_size):
    header = read_header(write_mrc(tmp_path / "t.mrc", random_volume((4, 5, 6), "f4"), spacing=spacing))
    with pytest.raises(
        InputError, match=rf"voxel_size is {voxel_size:g} angstrom.* header says z {spacing:g}.*tomostream convert .*t\.mrc --voxel-size"
    ):
        refuse_far_spacing(header, voxel_size)


@pytest.mark.parametrize(("spacing", "voxel_size"), [(10.0, None), (10.0, 14.9), (10.0, 6.7), (None, 13.48), (1.0, 13.48)])
def test_a_calibration_or_a_header_that_does_not_know_is_none(tmp_path, spacing, voxel_size):
    refuse_far_spacing(read_header(write_mrc(tmp_path / "t.mrc", random_volume((4, 5, 6), "f4"), spacing=spacing)), voxel_size)


def test_a_run_is_refused_and_goes_with_a_store_that_was_converted_on_purpose(tmp_path):
    path = make_project(tmp_path, voxel_size=100.0)
    done = tomostream("run", path, "--dry-run")
    assert done.code == 2
    assert "a factor of 10" in done.message
    for name in ("t1", "t2"):
        assert tomostream("convert", tmp_path / f"{name}.mrc", "--voxel-size", 100, "-o", tmp_path / "mine").code == 0
    values = yaml.safe_load(path.read_text()) | {"tomograms": [str(tmp_path / "mine" / "*.zarr")]}
    path.write_text(yaml.safe_dump(values))
    done = tomostream("run", path, "--dry-run")
    assert done.code == 0, done.err
