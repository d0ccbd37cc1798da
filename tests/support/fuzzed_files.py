"""Hostile volumes, tables and configurations: MRC files (plain, gzip, bzip2), every table format, YAML with the sections of strategies."""

import bz2
import gzip
import random
import shutil
import struct

import numpy as np
import yaml
from fuzzing import Reader, mutated_text
from mrc_files import as_imod, random_volume, write_mrc
from repository import TESTS

WORDS = (
    0,
    1,
    2,
    3,
    4,
    6,
    7,
    12,
    16,
    101,
    401,
    1024,
    2**16,
    2**24,
    2**31 - 1,
    -(2**31),
    -1,
    0x7FC00000,
    0x7F800000,
    -0x800000,
    0x1000000,
    0x2000000,
    0x3F800000,
)
NUMBERS = (
    b"nan",
    b"inf",
    b"-inf",
    b"1e400",
    b"-1",
    b"0",
    b"1e308",
    b"9" * 40,
    b"0x10",
    b"1_0",
    b"1,5",
    b"",
    b"x",
    b"''",
    b"\xd9\xa3",
    b"\xef\xbc\x91",
    b"\0",
    b"../../x",
    b"a/b",
    b"\x1b[31m",
    b'"',
    b"NULL",
    b"<NA>",
    b"\xff",
)
FACTS = {
    "spacings": {"TS_1": 13.48, "TS_2": 7.0},
    "shapes": {"TS_1": (112, 320, 318), "TS_2": (50, 60, 70)},
    "options": {"unbinned_pixel_size": 3.37},
}


def mutated_header(content: bytes, draw: random.Random) -> bytes:
    """An MRC file with one to three words of its header changed, or bytes, or its length."""
    data = bytearray(content)
    if draw.random() < 0.7:
        for _ in range(draw.choice((1, 1, 2, 3))):
            at = 4 * draw.choice((*range(24), *range(24, 56), *range(256)))
            struct.pack_into(draw.choice("<>") + "i", data, at, draw.choice(WORDS))
        return bytes(data)
    return mutated_text(content, draw)


def mutated_table(content: bytes, draw: random.Random) -> bytes:
    """A table with a field changed, a line doubled or gone; or bytes changed, as anywhere."""
    action = draw.random()
    lines = content.split(b"\n")
    if action < 0.15 and len(lines) > 1:
        number = draw.randrange(len(lines))
        lines[number:number] = [draw.choice(lines)] * draw.choice((1, 1, 50))
        return b"\n".join(lines)
    if action < 0.25 and len(lines) > 1:
        del lines[draw.randrange(len(lines))]
        return b"\n".join(lines)
    if action < 0.65:
        starts = [i for i in range(len(content)) if content[i : i + 1] in b' ,\t;\n":' and i + 1 < len(content)]
        if starts:
            start = draw.choice(starts) + 1
            end = next((i for i in range(start, len(content)) if content[i : i + 1] in b' ,\t;\n"}]'), len(content))
            return content[:start] + draw.choice(NUMBERS) + content[end:]
    return mutated_text(content, draw) if content else content


def volume_readers(folder):
    """MRC files of several kinds."""
    folder.mkdir()
    plain = write_mrc(folder / "plain.mrc", random_volume((6, 7, 8), "f4"))
    swapped = write_mrc(folder / "swapped.mrc", random_volume((6, 7, 8), "i2"), order=">")
    imod = as_imod(write_mrc(folder / "imod.rec", random_volume((6, 7, 8), "i1"), extended=64), signed=False)
    found = [
        Reader(f"MRC, {file.name}", file, lambda file=file: use_volume(file), mutate=mutated_header) for file in (plain, swapped, imod)
    ]
    for ending, pack in ((".gz", gzip.compress), (".bz2", bz2.compress)):
        packed = folder / f"packed.mrc{ending}"
        packed.write_bytes(pack(plain.read_bytes()))
        found.append(Reader(f"MRC, packed{ending}", packed, lambda file=packed: use_volume(file)))
        inner = folder / f"inner.mrc{ending}"
        inner.write_bytes(plain.read_bytes())

        def mutate(content, draw, pack=pack):
            return pack(mutated_header(content, draw))

        one = Reader(f"MRC, in{ending}", inner, lambda file=inner: use_volume(file), mutate=mutate)
        found.append(one)
    return found


def use_volume(path) -> None:
    """Read an MRC file as inspect and convert do."""
    from dataclasses import replace

    from tomostream.geometry import Box
    from tomostream.store.decompress import peek_header, plain_file
    from tomostream.store.mrc_voxels import MrcReader
    from tomostream.store.preflight import inspect_file

    inspection = inspect_file(path)
    inspection.describe()
    inspection.to_json()
    header = peek_header(path)
    with plain_file(header, path.parent, lambda _: None) as plain, MrcReader(replace(header, path=plain)) as reader:
        reader.read(Box.whole(header.shape).clipped(Box((0, 0, 0), (4, 4, 4))))


def table_readers(folder):
    """Every table format: a file as we write it, and those that other software wrote."""
    from tomostream.formats.catalogued import FORMATS
    from tomostream.formats.conversion import Conversion
    from tomostream.formats.registry import format_of, read_table, write_table
    from tomostream.particles import Particles
    from tomostream.units import Length

    folder.mkdir()
    facts = Conversion(**FACTS | {"options": FACTS["options"] | {"box_size": Length(21.0, True)}})
    here = Particles.build(
        np.array([[100.0, 200, 300], [400.5, 500, 600]]), unit="angstrom", tomogram="TS_1", species="ribosome", score=[0.5, 0.25]
    )
    files = []
    for name, form in FORMATS.items():
        if name != "copick":
            (folder / name).mkdir()
            files.append((name, folder / name / f"TS_1{form.ending}"))
            write_table(files[-1][1], here, format_name=name, conversion=facts)
    copick = folder / "copick" / "ExperimentRuns"
    write_table(folder / "copick", here, format_name="copick", conversion=facts)
    files += [("copick", file) for file in copick.rglob("*.json")]
    for file in sorted((TESTS / "data" / "formats").iterdir()):
        if file.is_file() and file.suffix not in (".md", ".doc"):
            copy = folder / f"foreign-{file.name}"
            shutil.copy(file, copy)
            files.append((format_of(copy, "star-relion4" if file.suffix == ".star" else None), copy))
    found = []
    for name, file in files:

        def read(name=name, file=file):
            table = read_table(folder / "copick" if name == "copick" else file, format_name=name, conversion=facts)
            try:
                facts.to_unit(table, "angstrom", "a test")
            except UnicodeEncodeError:
                raise
            table.by_tomogram()

        label = f"table {name}" if "foreign" not in file.name else f"table {name}, {file.name.removeprefix('foreign-')}"
        found.append(Reader(label, file, read, mutate=mutated_table))
    return found


def yaml_readers(folder):
    """A configuration as people write it, with a section of every strategy that has one."""
    from small_project import make_project

    from tomostream.catalogue import STRATEGIES, find, installed
    from tomostream.config import load_configuration
    from tomostream.stages.shared.resolved_run import resolve

    path = make_project(folder)
    found = []
    for name in installed(STRATEGIES):
        strategy = find(STRATEGIES, name, "strategy")
        sections = {key: part().model_dump(mode="json") for key, part in strategy.sections.items()}
        file = folder / f"{name}.yaml"
        text = yaml.safe_load(path.read_text()) | {"objective": {"name": name}} | sections
        file.write_text("# a comment, ${HOME}\n" + yaml.safe_dump(text, sort_keys=False))

        def read(file=file):
            resolve(load_configuration(file), with_clicks=True)

        found.append(Reader(f"YAML, {name}", file, read, mutate=mutated_yaml))
    return found


PIECES = (
    b"&a [*a]",
    b"!!python/name:os.system",
    b"!!binary x",
    b"!!timestamp 9999-99-99",
    b"!!int x",
    b"2001-13-45",
    b"{a: 1}",
    b"[1, 2]",
    b"~",
    b"<<: *x",
    b"? [a]",
    b"${NO_SUCH}",
    b"${",
    b"\t",
    b"- - -",
    b"|",
    b">",
    b"%",
    b"1e999",
    b"-.inf",
    b".nan",
    b"0o8",
    b"1:60:60",
    b"'",
    b"---\n",
    b"...",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"9" * 5000,
    b"0",
    b"-1",
    b"1e308",
    b"true",
    b"../..",
    b"s3://",
    b"http://",
    b"file:///",
    b"*",
    b"[",
    b"a\0b",
)


def mutated_yaml(content: bytes, draw: random.Random) -> bytes:
    """A value replaced by a piece of YAML, or as a table."""
    if draw.random() < 0.6:
        lines = content.split(b"\n")
        number = draw.randrange(len(lines))
        head, colon, _ = lines[number].partition(b":")
        lines[number] = head + colon + b" " + draw.choice(PIECES)
        return b"\n".join(lines)
    return mutated_table(content, draw)
