"""What the server and the report declare in Python is what the pages declare in TypeScript."""

import re
import typing

import pytest
from repository import REPOSITORY

from tomostream.report import contents
from tomostream.view import messages

SOURCES = REPOSITORY / "tomostream" / "view" / "web" / "src"
# the interfaces of the page, and the types of the server with the same keys
ANSWERS = {
    "Click": messages.ClickRow,
    "ClickAnswer": messages.ClickTablesAnswer,
    "TomogramState": messages.TomogramState,
    "Job": messages.JobAnswer,
    "Species": messages.SpeciesAnswer,
    "State": messages.State,
    "Facts": messages.Facts,
    "PickList": messages.PickListAnswer,
    "Place": messages.PlaceAnswer,
}
REPORT = {
    "PackedCurve": contents.PackedCurve,
    "ReportTomogram": contents.ReportTomogram,
    "Report": contents.Report,
    "Slab": contents.Slab,
    "GallerySheet": contents.GallerySheet,
    "SpeciesBlock": contents.SpeciesBlock,
    "Block": contents.Block,
}


def keys_of(file, interface):
    body = re.search(rf"^export interface {interface} {{\n(.*?)^}}", (SOURCES / file).read_text(), re.DOTALL | re.MULTILINE)
    return set(re.findall(r"^  (\w+)\??:", body[1], re.MULTILINE))


@pytest.mark.parametrize(
    ("file", "interface", "declared"),
    [("lib/scores.ts", "Expected", contents.Expected)]
    + [("lib/api.ts", *pair) for pair in ANSWERS.items()]
    + [("report/data.ts", *pair) for pair in REPORT.items()],
)
def test_the_page_and_the_server_declare_the_same_keys(file, interface, declared):
    assert keys_of(file, interface) == typing.get_type_hints(declared).keys()
