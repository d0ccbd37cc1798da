"""Tomograms and score maps as MRC and OME-Zarr 0.4: voxels, spacing, origin, and what independent readers say of them."""

import io
import json

import mrcfile
import numpy as np
import pytest
import zarr
from cli_runner import tomostream
from ome_zarr_models.v04 import Image
from store_files import write_store

import tomostream as ts
from tomostream.errors import BudgetError
from tomostream.progress import Progress
from tomostream.stages.conversion import volume_export
from tomostream.stages.conversion.volume_export import export_volume

pytestmark = pytest.mark.slow

SHAPE = (70, 40, 50)
ORIGIN_XYZ = (-120.0, 30.5, 7.0)


@pytest.fixture(params=["int8", "int16", "float16", "float32"])
def store(request, tmp_path):
    """A converted tomogram of one type, and its voxels."""
    voxels = np.random.default_rng(1).normal(0, 30, SHAPE).astype(request.param)
    with mrcfile.new(tmp_path / "t1.mrc") as file:
        file.set_data(voxels)
        file.voxel_size = 13.48
        file.header.origin = ORIGIN_XYZ
    done = tomostream("convert", tmp_path / "t1.mrc", "-o", tmp_path / "made", "--chunk", 16, "--shard", 32, "--levels", 2)
    assert done.code == 0, done.err
    return tmp_path / "made" / "t1.ome.zarr", voxels


def test_an_mrc_file_has_the_voxels_spacing_origin_and_statistics(store, tmp_path):
    done = tomostream("export", store[0], "-o", tmp_path / "out.mrc")
    assert done.code == 0, done.err
    said = io.StringIO()
    if store[1].dtype != np.float16:  # mrcfile sums in half precision, which overflows
        assert mrcfile.validate(tmp_path / "out.mrc", print_file=said), said.getvalue()
    with mrcfile.open(tmp_path / "out.mrc") as file:
        np.testing.assert_array_equal(file.data, store[1])
        assert file.data.dtype == store[1].dtype
        assert float(file.voxel_size.x) == pytest.approx(13.48, rel=1e-6)
        assert tuple(float(file.header.origin[axis]) for axis in "xyz") == ORIGIN_XYZ
        assert float(file.header.rms) == pytest.approx(store[1].std(dtype=np.float64), rel=1e-5)


def test_an_ome_zarr_0_4_store_is_one_for_its_own_readers_and_ours(store, tmp_path):
    out = tmp_path / "out.zarr"
    assert tomostream("export", store[0], "-o", out, "--format", "ome-zarr-0.4").code == 0
    group = zarr.open_group(out, mode="r", zarr_format=2)
    [image] = Image.from_zarr(group).attributes.multiscales
    assert [axis.unit for axis in image.axes] == ["angstrom"] * 3
    scale, translation = image.datasets[1].coordinateTransformations
    assert scale.scale == [26.96] * 3
    assert translation.translation == pytest.approx([value + 6.74 for value in reversed(ORIGIN_XYZ)])
    np.testing.assert_array_equal(group["0"][:], store[1])
    np.testing.assert_array_equal(group["1"][:], np.asarray(ts.open(store[0], level=1)))
    again = ts.open(out)
    assert (again.shape, again.spacing, again.dtype) == (SHAPE, 13.48, store[1].dtype)


def test_int8_scores_are_written_as_scores_with_the_origin_of_the_tomogram_that_is_named(store, tmp_path):
    stored = np.random.default_rng(2).integers(-127, 128, SHAPE).astype(np.int8)
    facts = {"kind": "scores", "score_scale": 1 / 254, "score_offset": 0.5, "score_missing": -128}
    scores = write_store(tmp_path / "s1.ome.zarr", stored, chunk=(16, 16, 16), shard=(32, 32, 32), levels=1, **facts)
    done = tomostream("export", scores, "-o", tmp_path / "s.mrc", "--tomograms", store[0])
    assert done.code == 0, done.err
    with mrcfile.open(tmp_path / "s.mrc") as file:
        np.testing.assert_allclose(file.data, stored / 254 + 0.5, atol=1e-6)
        assert file.data.dtype == np.float32
        assert tuple(float(file.header.origin[axis]) for axis in "xyz") == ORIGIN_XYZ


def test_what_export_did_not_write_is_never_replaced_and_its_own_is(store, tmp_path):
    for name in ("out.mrc", "out.zarr"):
        assert tomostream("export", store[0], "-o", tmp_path / name).code == 0
        assert tomostream("export", store[0], "-o", tmp_path / name, "--json").json["path"].endswith(name)
    refused = tomostream("export", store[0], "-o", tmp_path / "t1.mrc")
    assert refused.code == 2
    assert "did not write it" in refused.message
    assert tomostream("export", store[0], "-o", store[0], "--format", "ome-zarr-0.4").code == 2


def test_wrong_formats_and_small_budgets_are_refused_before_any_work(store, tmp_path):
    assert "written as mrc or ome-zarr-0.4" in tomostream("export", store[0], "-o", tmp_path / "a.tif").message
    with pytest.raises(BudgetError, match=r"needs 0.15 GB for 1 of its slices, the budget is 0.10 GB"):
        export_volume(str(store[0]), tmp_path / "a.mrc", "mrc", memory=10**8, origin_of=None, progress=Progress())
    assert not (tmp_path / "a.mrc").exists()


def test_bands_do_not_show(store, tmp_path, monkeypatch):
    monkeypatch.setattr(volume_export, "LIBRARIES_BYTES", 0)
    for number, memory in enumerate((16 * 40 * 50 * 24, 10**9)):
        export_volume(str(store[0]), tmp_path / f"{number}.mrc", "mrc", memory=memory, origin_of=None, progress=Progress())
    assert (tmp_path / "0.mrc").read_bytes() == (tmp_path / "1.mrc").read_bytes()
    assert json.loads(tomostream("inspect", tmp_path / "0.mrc", "--json").out)[0]["spacing"] == pytest.approx(13.48)
