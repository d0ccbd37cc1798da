"""Every installed table format keeps the promises of `tomostream.testing.FormatTests`."""

from tomostream.formats.catalogued import FORMATS
from tomostream.testing import FormatTests


class TestCbox(FormatTests):
    name = "cbox"
    repeats_itself = False  # of a box a corner is told: a sum


class TestCmm(FormatTests):
    name = "cmm"
    holds_species = True


class TestCoords(FormatTests):
    name = "coords"  # numbers its classes
    holds_score = False


class TestCopick(FormatTests):
    name = "copick"
    holds_species = True
    species = ("ribosome", "fas.2-b")  # letters, digits, points and dashes
    holds_empty = False  # a file without run and object names no table
    repeats_itself = False  # nothing is written of no species

    def _fits(self, particles):
        return len(particles.tomograms()) == len(particles.species_names()) == 1


class TestCsv(FormatTests):
    name = "csv"
    holds_species = True
    precision_ang = 0.0


class TestDynamo(FormatTests):
    name = "dynamo"


class TestEm(FormatTests):
    name = "em"
    precision_ang = 0.01  # float32
    score_precision = 1e-6
    repeats_itself = False


class TestImod(FormatTests):
    name = "imod"
    holds_species = True
    holds_score = False
    precision_ang = 0.01  # float32
    repeats_itself = False


class TestNapari(FormatTests):
    name = "napari"


class TestParquet(FormatTests):
    name = "parquet"
    holds_species = True
    precision_ang = 0.0
    repeats_itself = False  # no text


class TestPortalNdjson(FormatTests):
    name = "portal-ndjson"
    holds_score = False


class TestStarRelion4(FormatTests):
    name = "star-relion4"


class TestStarRelion5(FormatTests):
    name = "star-relion5"


class TestStarTomogramPixels(FormatTests):
    name = "star-tomogram-pixels"


def test_every_installed_format_is_tested_here():
    tested = {
        kind.name for kind in globals().values() if isinstance(kind, type) and issubclass(kind, FormatTests) and kind is not FormatTests
    }
    assert tested == set(FORMATS)
