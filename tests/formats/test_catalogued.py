"""Formats are found by their names; none is imported before it is needed, and what is no format is named."""

import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import pytest

from tomostream import catalogue
from tomostream.errors import InputError
from tomostream.formats.catalogued import FORMATS, working_formats
from tomostream.formats.registry import format_of


def test_names_are_known_without_importing_a_format():
    code = (
        "import sys; from pathlib import Path; import tomostream.formats.registry as r; assert 'csv' in r.FORMATS and len(r.FORMATS) >= 14\n"
        "print({'pandas', 'tomostream.formats.csv_table', 'tomostream.formats.star_file'} & set(sys.modules))\n"
        "r.format_of(Path('a.csv')); print('tomostream.formats.csv_table' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["set()", "True False"]


def test_the_commands_know_the_formats_options_without_pandas():
    code = "import sys; import tomostream.cli.tables as t; assert 'star-relion5' in t.FORMAT_HELP; print('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["False"]


@pytest.fixture
def _others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two more formats: one that claims an ending of ours, and one that is none."""
    ours = catalogue.installed(catalogue.FORMATS)
    entries = {"a-claimant": "their_copy:FORMAT", "a-module": "their_copy:sys"}
    their = type(sys)("their_copy")
    their.FORMAT, their.sys = FORMATS["csv"], sys
    monkeypatch.setitem(sys.modules, "their_copy", their)
    monkeypatch.setattr("tomostream.formats.catalogued.installed", lambda group: MappingProxyType(entries | dict(ours)))
    monkeypatch.setattr(catalogue, "_installed", lambda group: {name: (address,) for name, address in (entries | dict(ours)).items()})


@pytest.mark.usefixtures("_others")
def test_what_is_no_format_is_named_and_ours_keep_their_endings():
    with pytest.raises(InputError, match=r"table format 'a-module' \(their_copy:sys\) must be a .*TableFormat, found module"):
        FORMATS["a-module"]
    assert "a-module" in FORMATS
    assert "a-module" not in working_formats()
    assert "a-claimant" in working_formats()
    assert format_of(Path("picks.csv")) == "csv"
