"""What does the header of an MRC file say, and can it be trusted?

1. The 1024 bytes of the header are parsed in the byte order of the machine stamp; where the stamp is bad or contradicts the sizes,
   in the order that gives a known mode and plausible edges, with a warning.
2. Everything that would give a wrong volume is refused, with the value found; anything else unusual becomes a warning.

Limits: modes 0, 1, 2, 6 and 12; axis order x y z; volumes only (no tilt series, no stacks of volumes).

References
----------
Cheng et al. (2015), MRC2014: Extensions to the MRC format header for electron cryo-microscopy and tomography, J Struct Biol 192:146.
IMOD's use of bytes 152-159: https://bio3d.colorado.edu/imod/doc/mrc_format.txt
"""

from __future__ import annotations

import math
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from tomostream.errors import InputError
from tomostream.geometry import Triple
from tomostream.remote.path_kinds import Wanted, instead
from tomostream.remote.places import Place
from tomostream.store.naming import is_text, tomogram_name
from tomostream.store.spacing import spacing_doubt

HEADER_BYTES = 1024
MODES: dict[int, np.dtype[Any]] = {
    0: np.dtype(np.int8),
    1: np.dtype(np.int16),
    2: np.dtype(np.float32),
    6: np.dtype(np.uint16),
    12: np.dtype(np.float16),
}
_OTHER_MODES = {3: "complex 16-bit integers", 4: "complex 32-bit floats", 16: "RGB colours", 101: "4-bit integers"}
_ALLOWED = "0 (8-bit), 1 (int16), 2 (float32), 6 (uint16) and 12 (float16)"
ByteOrder = Literal["<", ">"]
_ORDERS: tuple[ByteOrder, ...] = ("<", ">")
_STAMPS: dict[bytes, ByteOrder] = {b"\x44\x44": "<", b"\x44\x41": "<", b"\x11\x11": ">"}
_IMOD_STAMP, _IMOD_STAMP_AT, _IMOD_FLAGS_AT = 1146047817, 152, 156
_NO_STAMP = "is not an MRC file: bytes 208-211 are {!r}, they must be b'MAP '"
_UNSET = (b"\0\0\0\0", b"    ")  # in place of the stamp, as written by programs that predate it
_PLAUSIBLE_EDGE = 2**16  # an edge below this, read in the wrong byte order, gives a value at or above it
_STACK_SUFFIXES = {".st": "a tilt series", ".ali": "an aligned tilt series", ".mrcs": "a stack of images"}
_ANISOTROPY = 0.01  # relative difference of the axes' spacings above which voxels aren't cubes


@dataclass(frozen=True, slots=True)
class MrcHeader:
    """What the header of an MRC file says.

    Parameters
    ----------
    path, name
        The file, and the tomogram's name.
    shape
        Voxels along z, y, x.
    mode, dtype
        The MRC mode, and the type of the voxels in their byte order on disk.
    spacing_zyx
        Angstrom; None where the header has none (zero, negative or not finite).
    sampling_zyx
        `mz`, `my`, `mx`: how many voxels the header counts to the cell's edges.
    origin_xyz, start_xyz
        `origin` (angstrom) and `nxstart`... (voxels) as found; tomostream measures from the volume's corner and ignores them.
    dmin, dmax, dmean, rms
        The header's statistics as found; many programs leave them unset.
    extended_bytes
        Size of the extended header, which lies between the header and the voxels.
    is_imod
        Whether the file has IMOD's stamp; bytes of IMOD are unsigned unless a flag says otherwise.
    warnings
        Anything unusual that doesn't make the volume wrong (for the voxel spacing see `spacing_doubt`).
    """

    path: Place
    name: str
    shape: Triple
    mode: int
    dtype: np.dtype[Any]
    spacing_zyx: tuple[float, float, float] | None
    sampling_zyx: Triple
    origin_xyz: tuple[float, float, float]
    start_xyz: tuple[int, int, int]
    dmin: float
    dmax: float
    dmean: float
    rms: float
    extended_bytes: int
    is_imod: bool
    warnings: tuple[str, ...]

    @property
    def spacing(self) -> float | None:
        """The voxel spacing in angstrom; None if the header has none.

        Raises
        ------
        InputError
            If the spacings of the axes differ by more than 1 %.
        """
        if self.spacing_zyx is None:
            return None
        z, y, x = self.spacing_zyx
        if max(z, y, x) > (1 + _ANISOTROPY) * min(z, y, x):
            counts_one = self.sampling_zyx[0] == 1 and self.shape[0] > 1
            why = (
                f" (it counts one slice to the cell, mz is 1, though there are {self.shape[0]}: written as a stack of images)"
                if counts_one
                else ""
            )
            raise InputError(
                f"{self.path}: the voxels are not cubes: the header's spacing is z {z:.6g}, y {y:.6g}, x {x:.6g} angstrom{why}, at most 1 % of "
                "difference is allowed; if the header is wrong, give the true spacing with --voxel-size, else resample the volume"
            )
        # 32-bit floats hold between 6 and 7 digits; more would print as 13.479999
        return float(f"{(z + y + x) / 3:.6g}")

    @property
    def spacing_doubt(self) -> str | None:
        """Why the voxel spacing should be checked, if it should."""
        if self.spacing_zyx is None:
            return "the header has no voxel spacing; give it with --voxel-size ANGSTROM"
        if self.spacing_zyx == (1.0, 1.0, 1.0):
            return "the header's voxel spacing is exactly 1 angstrom, which programs write when they don't know it; if so, give --voxel-size ANGSTROM"
        if self.sampling_zyx == (1, 1, 1) and max(self.shape) > 1:
            edges = [spacing / n for spacing, n in zip(self.spacing_zyx, self.shape, strict=True)]
            return (
                f"the header counts one voxel to the cell (mx, my, mz are 1), so the voxel spacing comes out as {self.spacing_zyx[2]:g} angstrom; if that is "
                f"the edge of the whole volume, it is {edges[2]:.4g}: give --voxel-size ANGSTROM"
            )
        return next((doubt for one in self.spacing_zyx if (doubt := spacing_doubt(one)) is not None), None)

    def statistics(self) -> dict[str, float | None]:
        """The header's statistics; None where the value is not finite."""
        found = {"min": self.dmin, "max": self.dmax, "mean": self.dmean, "rms": self.rms}
        return {key: value if math.isfinite(value) else None for key, value in found.items()}

    @property
    def data_offset(self) -> int:
        """Position of the first voxel, in bytes."""
        return HEADER_BYTES + self.extended_bytes

    @property
    def data_bytes(self) -> int:
        """Size of all voxels."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def file_bytes(self) -> int:
        """Size that the whole file must have."""
        return self.data_offset + self.data_bytes

    @property
    def native_dtype(self) -> np.dtype[Any]:
        """The voxels' type in this machine's byte order."""
        return self.dtype.newbyteorder("=")


def require_regular_file(path: Path) -> int:
    """Return a file's size in bytes; refuse a missing path, a folder, or a pipe that would block.

    Raises
    ------
    InputError
        If it is not a readable regular file.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}; check the path") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(instead(path, Wanted.MRC) or f"{path}: is not a file; give an MRC file (.mrc .rec .map, also .gz or .bz2)")
    return status.st_size


def has_stamp(head: bytes) -> bool:
    """Whether the first bytes of a file have the stamp `MAP ` of MRC files; some old programs left it out."""
    return head[208:211] == b"MAP"


def read_header(path: Path, *, assume_mrc: bool = False) -> MrcHeader:
    """Read and check the header of a plain (not compressed) MRC file.

    A file without a stamp (old programs left it out) is read, with a warning, if its mode, its edges and its length agree; with `assume_mrc`,
    any file without it is read if its mode and edges are those of a volume.

    Raises
    ------
    InputError
        If it is not an MRC volume of a supported kind, or shorter than its header says.
    """
    size = require_regular_file(path)
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from error
    is_unset = head[208:212] in _UNSET
    header = parse_header(head, path, assume_mrc=assume_mrc or is_unset)
    if is_unset and not assume_mrc and size != header.file_bytes:
        raise InputError(
            f"{path}: {_NO_STAMP.format(head[208:212])}, and its length of {size} bytes does not match that header "
            f"({_describe(header)}: {header.file_bytes}); if it is an MRC file, read it with --assume-mrc"
        )
    if size < header.file_bytes:
        if header.extended_bytes and size == header.file_bytes - header.extended_bytes:
            raise InputError(
                f"{path}: looks truncated, but has {size} bytes, exactly what its voxels ({_describe(header)}) take without the extended header of {header.extended_bytes} bytes "
                "that its header gives: that number (nsymbt, bytes 92-95) is wrong, not the copy; set it to 0, or write the file again"
            )
        raise InputError(
            f"{path}: is truncated: it has {size} bytes, its header ({_describe(header)}) says {header.file_bytes}; copy it again"
        )
    if size > header.file_bytes:
        text = f"{size - header.file_bytes} bytes follow the voxels that the header describes ({_describe(header)}); they are ignored"
        header = replace(header, warnings=(*header.warnings, text))
    return header


def parse_header(head: bytes, path: Place, *, assume_mrc: bool = False) -> MrcHeader:
    """Parse and check the first 1024 bytes of an MRC file.

    Parameters
    ----------
    head
        The (decompressed) file's first bytes.
    path
        Names the file in errors, and gives the tomogram's name.
    assume_mrc
        Whether a file without the stamp `MAP ` may be one.

    Raises
    ------
    InputError
        If it is not an MRC volume of a supported kind.
    """
    suffix = Path(path.name.removesuffix(".gz").removesuffix(".bz2")).suffix.lower()
    if suffix in _STACK_SUFFIXES:
        kind = _STACK_SUFFIXES[suffix]
        raise InputError(f"{path}: {suffix} is the suffix of {kind}, not of a tomogram; give the reconstructed volume")
    if not has_stamp(head) and not assume_mrc and (other := instead(path, Wanted.MRC)) is not None:
        raise InputError(other)
    if len(head) < HEADER_BYTES:
        raise InputError(f"{path}: is not an MRC file: it has {len(head)} bytes, the header alone takes {HEADER_BYTES}; copy it again")
    if not is_text(path.name):
        raise InputError(f"{path}: the file's name is not UTF-8 text, so no store can have this name; rename the file")
    if not has_stamp(head) and not assume_mrc:
        raise InputError(f"{path}: {_NO_STAMP.format(head[208:212])}; if it is an MRC file, read it with --assume-mrc")
    order, warnings = _byte_order(head)
    record = np.frombuffer(head, HEADER_DTYPE.newbyteorder(order))[0]
    if not has_stamp(head):
        if not any(_is_plausible(np.frombuffer(head, HEADER_DTYPE.newbyteorder(one))[0]) for one in _ORDERS):
            raise InputError(
                f"{path}: {_NO_STAMP.format(head[208:212])}, and its mode and edges are not those of a volume; give an MRC file"
            )
        warnings.append(f"{_NO_STAMP.format(head[208:212])}; read as MRC all the same, because its mode and edges are those of a volume")
    mode, shape = int(record["mode"]), (int(record["nz"]), int(record["ny"]), int(record["nx"]))
    _check(record, mode, shape, path)
    is_imod, dtype, byte_warnings = _voxel_type(head, record, mode, order)
    warnings += byte_warnings
    if not any(int(record[k]) for k in ("mapc", "mapr", "maps")):
        warnings.append("the axis order (mapc, mapr, maps) is not set; x, y, z is assumed")
    if head[104:108] == b"SERI":
        warnings.append("the extended header is SerialEM's: this may be a tilt series, not a tomogram")
    if int(record["mz"]) == 1 and shape[0] > 1 and int(record["mx"]) != 1:
        warnings.append(
            f"the header counts one slice to the cell (mz is 1) though there are {shape[0]}: it was written as a stack of images; check that it is a volume"
        )
    return MrcHeader(
        path=path,
        name=tomogram_name(str(path)),
        shape=shape,
        mode=mode,
        dtype=dtype,
        spacing_zyx=_spacing(record),
        sampling_zyx=(int(record["mz"]), int(record["my"]), int(record["mx"])),
        origin_xyz=(float(record["origin"]["x"]), float(record["origin"]["y"]), float(record["origin"]["z"])),
        start_xyz=(int(record["nxstart"]), int(record["nystart"]), int(record["nzstart"])),
        dmin=float(record["dmin"]),
        dmax=float(record["dmax"]),
        dmean=float(record["dmean"]),
        rms=float(record["rms"]),
        extended_bytes=int(record["nsymbt"]),
        is_imod=is_imod,
        warnings=tuple(warnings),
    )


def _byte_order(head: bytes) -> tuple[ByteOrder, list[str]]:
    stamped = _STAMPS.get(head[212:214])
    plausible = [order for order in _ORDERS if _is_plausible(np.frombuffer(head, HEADER_DTYPE.newbyteorder(order))[0])]
    if stamped is not None and (stamped in plausible or len(plausible) != 1):
        return stamped, []
    order: ByteOrder = plausible[0] if len(plausible) == 1 else "<"
    kind = "little-endian" if order == "<" else "big-endian"
    return order, [
        f"the machine stamp {head[212:216].hex(' ')} does not match the byte order of this file; {kind} is assumed from its edges"
    ]


def _is_plausible(record: Any) -> bool:
    known = int(record["mode"]) in MODES or int(record["mode"]) in _OTHER_MODES
    return known and all(0 < int(record[k]) < _PLAUSIBLE_EDGE for k in ("nx", "ny", "nz"))


def _check(record: Any, mode: int, shape: Triple, path: Place) -> None:
    if mode not in MODES:
        kind = f" ({_OTHER_MODES[mode]})" if mode in _OTHER_MODES else ""
        raise InputError(f"{path}: has MRC mode {mode}{kind}; allowed are {_ALLOWED}; convert it to one of them")
    if min(shape) < 1:
        raise InputError(f"{path}: its header says z {shape[0]}, y {shape[1]}, x {shape[2]} voxels; each must be at least 1")
    axes = tuple(int(record[k]) for k in ("mapc", "mapr", "maps"))
    if axes not in ((1, 2, 3), (0, 0, 0)):
        raise InputError(
            f"{path}: its axis order (mapc, mapr, maps) is {axes}, only (1, 2, 3) can be read; reorder its axes to x, y, z (IMOD: clip rotx, trimvol)"
        )
    if int(record["ispg"]) >= 401:
        raise InputError(
            f"{path}: is a stack of volumes (space group {int(record['ispg'])}), not one tomogram; write each volume to its own file"
        )
    if int(record["nsymbt"]) < 0:
        raise InputError(f"{path}: its header says {int(record['nsymbt'])} bytes of extended header; it is damaged: write the file again")


def _voxel_type(head: bytes, record: Any, mode: int, order: ByteOrder) -> tuple[bool, np.dtype[Any], list[str]]:
    """Whether IMOD wrote the file, the voxels' type, and warnings where the header's statistics contradict the signedness."""
    stamp, flags = np.frombuffer(head, np.dtype(np.int32).newbyteorder(order), count=2, offset=_IMOD_STAMP_AT)
    is_imod = int(stamp) == _IMOD_STAMP
    if mode != 0:
        return is_imod, MODES[mode].newbyteorder(order), []
    if is_imod and not int(flags) & 1:
        odd = float(record["dmin"]) < 0 <= float(record["dmax"])
        text = f"the bytes are unsigned by IMOD's flag, but the header's minimum is {float(record['dmin']):g}"
        return is_imod, np.dtype(np.uint8), [text] if odd else []
    odd = float(record["dmin"]) >= 0 and 127 < float(record["dmax"]) <= 255
    text = f"the bytes are signed by the MRC standard, but the header's maximum is {float(record['dmax']):g}: they may be unsigned"
    return is_imod, np.dtype(np.int8), [text] if odd else []


def _spacing(record: Any) -> tuple[float, float, float] | None:
    found = []
    for axis in "zyx":
        length, intervals = float(record["cella"][axis]), int(record[f"m{axis}"])
        if intervals <= 0 or not 0 < length < math.inf:
            return None
        found.append(length / intervals)
    return (found[0], found[1], found[2])


def _describe(header: MrcHeader) -> str:
    z, y, x = header.shape
    extended = f", extended header {header.extended_bytes}" if header.extended_bytes else ""
    return f"z {z}, y {y}, x {x}, mode {header.mode}{extended}"
