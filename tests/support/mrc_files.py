"""MRC files for the tests: whole ones by mrcfile, broken ones by changing bytes of a whole one."""

import struct
import warnings
from pathlib import Path

import mrcfile
import numpy as np

MODE_TYPES = {0: np.int8, 1: np.int16, 2: np.float32, 6: np.uint16, 12: np.float16}


def random_volume(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(3, 20, shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape, dtype=dtype)


def write_mrc(path: Path, volume: np.ndarray, *, spacing: float | None = 10.0, order: str = "<", extended: int = 0) -> Path:
    """Write a volume with mrcfile, in the given byte order, with an extended header of so many bytes."""
    with warnings.catch_warnings(), mrcfile.new(path, overwrite=True) as file:
        warnings.simplefilter("ignore")  # mrcfile warns of NaN
        if extended:
            file.set_extended_header(np.zeros(extended, dtype="V1"))
        file.set_data(volume)
        file.set_volume()
        file.voxel_size = 0.0 if spacing is None else spacing
    if order == ">":
        _swap(path, volume.dtype, extended)
    return path


def _swap(path: Path, dtype: np.dtype, extended: int) -> None:
    """Turn the file around: mrcfile writes big-endian only from big-endian arrays, which it does by these same steps."""
    from mrcfile.dtypes import HEADER_DTYPE

    content = path.read_bytes()
    header = np.frombuffer(content[:1024], HEADER_DTYPE).astype(HEADER_DTYPE.newbyteorder(">"))
    header["machst"] = (0x11, 0x11, 0, 0)
    voxels = np.frombuffer(content[1024 + extended :], dtype).byteswap()
    path.write_bytes(header.tobytes() + content[1024 : 1024 + extended] + voxels.tobytes())


def patch(path: Path, offset: int, form: str, *values) -> Path:
    """Overwrite bytes of the header: `form` is struct's."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, offset, *values)
    path.write_bytes(bytes(content))
    return path


def as_imod(path: Path, *, signed: bool, order: str = "<") -> Path:
    return patch(path, 152, order + "ii", 1146047817, int(signed))


def read_with_mrcfile(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mrcfile.open(path, permissive=True) as file:
            return np.array(file.data).astype(file.data.dtype.newbyteorder("="))


# name -> (change to a whole little-endian float32 file of 5 x 6 x 7, words the message must hold)
BROKEN = {
    "empty": (lambda p: p.write_bytes(b""), ("0 bytes", "1024")),
    "short_header": (lambda p: p.write_bytes(p.read_bytes()[:700]), ("700 bytes",)),
    "foreign": (lambda p: p.write_bytes(b"\x89PNG" * 1000), ("not an MRC file", "PNG")),
    "no_map": (lambda p: patch(p, 208, "4s", b"abcd"), ("not an MRC file", "abcd")),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-1]), ("truncated", "1863 bytes", "1864")),
    "header_only": (lambda p: p.write_bytes(p.read_bytes()[:1024]), ("truncated", "1024 bytes", "1864")),
    "mode_3": (lambda p: patch(p, 12, "<i", 3), ("mode 3", "complex")),
    "mode_4": (lambda p: patch(p, 12, "<i", 4), ("mode 4", "complex", "float32")),
    "mode_101": (lambda p: patch(p, 12, "<i", 101), ("mode 101", "4-bit")),
    "mode_77": (lambda p: patch(p, 12, "<i", 77), ("mode 77", "0 (8-bit)")),
    "zero_edge": (lambda p: patch(p, 4, "<i", 0), ("z 5, y 0, x 7", "at least 1")),
    "negative_edge": (lambda p: patch(p, 8, "<i", -5), ("z -5",)),
    "huge_edges": (lambda p: patch(p, 0, "<3i", 2**31 - 1, 2**31 - 1, 2**31 - 1), ("truncated", "1864 bytes")),
    "axes": (lambda p: patch(p, 64, "<3i", 3, 2, 1), ("(3, 2, 1)", "(1, 2, 3)")),
    "volume_stack": (lambda p: patch(p, 88, "<i", 401), ("stack of volumes", "401")),
    "negative_extended": (lambda p: patch(p, 92, "<i", -80), ("-80",)),
    "extended_beyond_end": (lambda p: patch(p, 92, "<i", 10**6), ("truncated", "extended header 1000000")),
}
