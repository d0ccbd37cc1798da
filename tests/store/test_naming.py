import pytest

from tomostream.store.naming import MRC_ENDINGS, counterpart, listed_tomogram, tomogram_name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/TS_01.mrc", "TS_01"),
        ("TS_01.rec.gz", "TS_01"),
        ("TS_01.mrc.bz2", "TS_01"),
        ("out/TS_01.ome.zarr", "TS_01"),
        ("out/TS_01.ome.zarr/", "TS_01"),
        ("https://host/a/TS_01.zarr?x=1.mrc", "TS_01"),
        ("TS_01_10.00Apx.map.rec.mrc", "TS_01_10.00Apx"),
        ("tilts.st", "tilts.st"),
        ("TS.MRC", "TS.MRC"),
        (".mrc", ".mrc"),
        ("a.mrc.mrc.gz.gz", "a"),
        ("p/ExperimentRuns/TS_001/VoxelSpacing10.000/denoised.zarr", "TS_001"),
        ("s3://bucket/ExperimentRuns/TS_001/VoxelSpacing13/wbp.zarr/", "TS_001"),
        ("TS_001/VoxelSpacing10.000/wbp.ome.zarr", "TS_001"),
        ("p/VoxelSpacing10.000/a.mrc", "a"),
        ("p/VoxelSpacings/a.zarr", "a"),
    ],
)
def test_name_is_the_file_less_exactly_the_known_suffixes(path, name):
    assert tomogram_name(path) == name


def test_every_ending_to_be_converted_vanishes_from_the_name():
    assert {tomogram_name("a" + ending) for ending in MRC_ENDINGS} == {"a"}


def test_a_relative_path_in_copicks_layout_is_named_by_the_folder_above(tmp_path, monkeypatch):
    inner = tmp_path / "TS_7" / "VoxelSpacing10.000"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert tomogram_name("denoised.zarr") == "TS_7"
    monkeypatch.chdir(inner.parent)
    assert tomogram_name("VoxelSpacing10.000/denoised.zarr") == "TS_7"


@pytest.mark.parametrize(
    ("value", "is_file", "name"),
    [
        (" TS_01 ", False, "TS_01"),
        ("TS_01.mrc.tomostar", False, "TS_01"),
        ("Tomograms/job006/tomograms/rec_TS_01.mrc", False, "TS_01"),
        ("rec_TS_01.mrc", False, "rec_TS_01"),
        ("X:\\warp\\TS_01.tomostar", True, "TS_01"),
        ("data/TS_01", True, "TS_01"),
        ("data/TS_01", False, "data/TS_01"),
        ("../../x", False, "../../x"),
        (None, False, ""),
        (float("nan"), False, ""),
        ("None", False, ""),
    ],
)
def test_what_a_table_says_is_a_name_or_a_file(value, is_file, name):
    assert listed_tomogram(value, is_file=is_file) == name


def test_relions_prefix_is_looked_through_only_where_the_other_name_is_known():
    assert counterpart("TS", ["rec_TS", "TS"]) == "TS"
    assert counterpart("TS", ["rec_TS"]) == "rec_TS"
    assert counterpart("rec_TS", ["TS"]) == "TS"
    assert counterpart("rec_TS", []) == "rec_TS"
