import pytest

from tomostream.store.naming import MRC_ENDINGS, tomogram_name


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
    ],
)
def test_name_is_the_file_less_exactly_the_known_suffixes(path, name):
    assert tomogram_name(path) == name


def test_every_ending_to_be_converted_vanishes_from_the_name():
    assert {tomogram_name("a" + ending) for ending in MRC_ENDINGS} == {"a"}
