"""Tables of millions of rows are read in batches: the same rows and messages, and memory for the numbers only."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomostream.errors import InputError
from tomostream.formats import csv_table
from tomostream.formats.conversion import Conversion

LINES = st.lists(
    st.sampled_from([
        "a,1,2,3,0.5,1", "b,4,5,6,,0", '"#1",7,8,9,1,', "# a comment", "#c,1,2,3,4,1", "", "   ", '"two\nlines",1,2,3,4,1', "a,1,2,3,0.5,1,,", "x,1,2,3,4,7", "x,1,2", "x,1,nan,3,4,1",
        "x,1,y,3,4,1", "é,1,2,3,x,1",
    ]),
    max_size=14,
)  # fmt: skip
HEADER = "tomogram,x_voxel,y_voxel,z_voxel,score,label"


def outcome(path):
    try:
        read = csv_table.read(path, Conversion())
    except InputError as error:
        return str(error)
    return [column.tolist() for column in (read.tomogram, read.position_zyx, np.nan_to_num(read.score, nan=-1), read.label)]


@given(lines=LINES, end=st.sampled_from(["\n", "\r\n", "\r"]), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_batches_are_never_seen(tmp_path_factory, lines, end, encoding):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    text = "\n".join(["# first", HEADER, *lines]) + "\n"
    path.write_bytes(text.replace("\n", end).encode(encoding))
    whole = outcome(path)
    with pytest.MonkeyPatch.context() as patched:
        for rows in (1, 2, 5):
            patched.setattr(csv_table, "_BATCH_ROWS", rows)
            found = outcome(path)
            assert found == whole or (isinstance(found, str) and isinstance(whole, str))  # of two mistakes either may be named


SCRIPT = """
import resource, sys
from pathlib import Path
from tomostream.formats.registry import read_table
small = len(read_table(Path(sys.argv[1])))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = read_table(Path(sys.argv[2]))
print(len(found), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 // len(found), found.score[-1], found.tomogram[-1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1_000_000])
def test_a_row_takes_no_more_memory_than_its_numbers(tmp_path, rows):
    for name, count in (("small.csv", 100), ("large.csv", rows)):
        with (tmp_path / name).open("w") as file:
            file.write("tomogram,species,x_angstrom,y_angstrom,z_angstrom,score\n")
            for start in range(0, count, 1000):
                file.writelines(
                    f"tomo_{i % 40:03d},ribosome,{i * 0.25},{i * 0.5},{i % 977},{1 / (i + 1)!r}\n"
                    for i in range(start, min(start + 1000, count))
                )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "small.csv", tmp_path / "large.csv"],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    count, bytes_a_row, score, tomogram = done.stdout.split()
    assert (int(count), float(score), tomogram) == (rows, 1 / rows, f"tomo_{(rows - 1) % 40:03d}")
    assert int(bytes_a_row) < 250, f"{bytes_a_row} bytes a row"
