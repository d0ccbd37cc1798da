"""How is a compressed MRC file read at random positions?  From a decompressed temporary copy beside the output.

1. The content, not the suffix, says whether a file is compressed (gzip, bzip2).
2. The first 1024 bytes are decompressed in memory: they give the size that the whole file must have.
3. That size is compared with the free space; then the file is streamed, 1 MB at a time, to a temporary file in the output folder.
4. A remote file is first downloaded, with one request, to the temporary folder (TMPDIR); its header was read before, from its first bytes.
5. Temporary files are removed on success and on failure.  A killed process leaves its file behind; the next run on the same source replaces it.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import fcntl
import gzip
import io
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tomostream.errors import BudgetError, BusyError, InputError, TomostreamError
from tomostream.remote.atomic_files import remove_quietly
from tomostream.remote.copies import head_of
from tomostream.remote.links import refuse_links
from tomostream.remote.lock_holders import holder_of
from tomostream.remote.places import Place, RemotePath
from tomostream.store.mrc import HEADER_BYTES, MrcHeader, parse_header, read_header, require_regular_file
from tomostream.store.mrc_voxels import MrcReader
from tomostream.units import format_bytes

_PIECE_BYTES = 2**20
_HEAD_BYTES = 2**20  # of a remote file that are read to identify it: enough for a whole bzip2 block
_MAGIC = {"gzip": b"\x1f\x8b\x08", "bzip2": b"BZh"}
# what the two decompressors raise on damaged or cut-off data
_DAMAGED = (EOFError, zlib.error, OSError)


def compression_of(path: Place) -> str | None:
    """Return `gzip`, `bzip2` or None, from the file's first bytes.

    Raises
    ------
    InputError
        If it is not a readable file.
    """
    if isinstance(path, RemotePath):
        return _kind_of(head_of(path, HEADER_BYTES))
    require_regular_file(path)
    try:
        with path.open("rb") as file:
            head = file.read(3)
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from error
    return _kind_of(head)


def _kind_of(head: bytes) -> str | None:
    return next((kind for kind, magic in _MAGIC.items() if head[: len(magic)] == magic), None)


def peek_header(path: Place, *, assume_mrc: bool = False) -> MrcHeader:
    """Read the header of an MRC file, compressed or not; only the head of a compressed file is decompressed.

    `assume_mrc`: accept a file without the stamp `MAP ` too; for plain local files see `read_header`.

    Raises
    ------
    InputError
        If it is damaged, or not an MRC volume of a supported kind; a plain local file also if it is truncated.
    """
    if isinstance(path, RemotePath):
        return parse_header(_remote_head(path), path, assume_mrc=assume_mrc)
    kind = compression_of(path)
    if kind is None:
        return read_header(path, assume_mrc=assume_mrc)
    with _opened(path, kind) as stream:
        head = b"".join(_pieces(stream, path, kind, HEADER_BYTES, HEADER_BYTES))
    return parse_header(head, path, assume_mrc=assume_mrc)


def _remote_head(path: RemotePath) -> bytes:
    """The first bytes of a remote file, decompressed."""
    head = head_of(path, _HEAD_BYTES)
    kind = _kind_of(head)
    if kind is None:
        return head[:HEADER_BYTES]
    try:
        if kind == "gzip":
            return zlib.decompressobj(wbits=31).decompress(head, HEADER_BYTES)
        return bz2.BZ2Decompressor().decompress(head, HEADER_BYTES)
    except _DAMAGED as error:
        raise InputError(f"{path}: its {kind} data are damaged or cut off ({error}); copy it again") from error


@contextlib.contextmanager
def plain_file(header: MrcHeader, folder: Path, report: Callable[[str], None]) -> Iterator[Path]:
    """Yield the path of a plain MRC file: the file itself, or, if it is compressed, a temporary copy in `folder`.

    Parameters
    ----------
    header
        From `peek_header`, of a local file.
    folder
        An existing folder.
    report
        Called with one line of text if the file has more data than its header says.

    Raises
    ------
    InputError
        If the compressed file is damaged or shorter than its header says.
    BudgetError
        If the copy doesn't fit the disk.
    BusyError
        If another process decompresses the same file into the same folder.
    """
    path = _local(header)
    kind = compression_of(path)
    if kind is None:
        yield path
        return
    free = shutil.disk_usage(folder).free
    if header.file_bytes > free:
        raise BudgetError(
            f"{path}: decompressed it takes {format_bytes(header.file_bytes)}, but {folder} has {format_bytes(free)} free; "
            "free space, or choose another output folder"
        )
    temporary = folder / f".{path.name}.decompressed"
    try:
        refuse_links([temporary], "a decompressed file")
        file = temporary.open("ab", buffering=0)
    except OSError as error:
        raise InputError(f"{folder}: can't be written: {error.strerror or error}; choose another output folder") from error
    with file:
        _lock(file, path, folder)
        try:
            if os.fstat(file.fileno()).st_size:
                file.truncate(0)
            _copy(header, kind, file, report)
            yield temporary
        finally:
            remove_quietly(temporary)


def voxel_pieces(header: MrcHeader, voxels: int) -> Iterator[np.ndarray]:
    """Yield all voxels of a local file in file order, `voxels` at a time, decompressed as they come; nothing is written.

    Of a packed file the end is read too, where the checksum of its compression stands.

    Raises
    ------
    InputError
        If the data are damaged or shorter than the header says.
    """
    path = _local(header)
    kind = compression_of(path)
    if kind is None:
        with MrcReader(header) as reader:
            yield from reader.pieces(voxels)
        return
    with _opened(path, kind) as stream:
        _exactly(stream, path, kind, header.data_offset)
        left = math.prod(header.shape)
        while left:
            piece = np.frombuffer(_exactly(stream, path, kind, min(voxels, left) * header.dtype.itemsize), header.dtype)
            left -= piece.size
            yield piece
        for _ in _pieces(stream, path, kind, _PIECE_BYTES, _PIECE_BYTES):
            pass


def _exactly(stream: io.BufferedIOBase, path: Path, kind: str, length: int) -> bytes:
    """Read this many decompressed bytes."""
    found = b"".join(_pieces(stream, path, kind, length, length))
    if len(found) < length:
        raise InputError(f"{path}: is truncated: its {kind} data end {length - len(found)} bytes early; copy it again")
    return found


def _local(header: MrcHeader) -> Path:
    if not isinstance(header.path, Path):
        raise TypeError(f"{header.path} is not local; download it first")
    return header.path


def _lock(file: io.FileIO, path: Path, folder: Path) -> None:
    """Open and lock the temporary file; the lock ends when the file is closed or the process dies."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BusyError(
            f"{path}: {holder_of(file.fileno())} is decompressing it into {folder}; wait for it to finish, or stop it"
        ) from error
    except OSError:
        return  # a file system without locks: the user must not run two processes on one output
    if os.fstat(file.fileno()).st_nlink == 0:  # its last owner removed it between our open and our lock
        raise BusyError(f"{path}: another process has just decompressed it into {folder}; run the command again")


def _copy(header: MrcHeader, kind: str, target: io.FileIO, report: Callable[[str], None]) -> None:
    path, written = _local(header), 0
    with _opened(path, kind) as stream:
        for piece in _pieces(stream, path, kind, _PIECE_BYTES, None):
            wanted = memoryview(piece)[: header.file_bytes - written]
            written += len(wanted)
            is_longer = len(wanted) < len(piece)
            try:
                while wanted:
                    wanted = wanted[target.write(wanted) :]
            except OSError as error:
                raise _write_error(error, header, Path(str(target.name)).parent) from error
            if is_longer:
                report(f"{path}: more bytes follow the {header.file_bytes} that its header gives; they are ignored")
                return
    if written < header.file_bytes:
        raise InputError(f"{path}: is truncated: decompressed it has {written} bytes, its header says {header.file_bytes}; copy it again")


def _opened(path: Path, kind: str) -> gzip.GzipFile | bz2.BZ2File:
    return gzip.open(path, "rb") if kind == "gzip" else bz2.open(path, "rb")


def _pieces(stream: io.BufferedIOBase, path: Path, kind: str, piece_bytes: int, limit: int | None) -> Iterator[bytes]:
    """Yield decompressed bytes until the end or `limit`; damage becomes an InputError."""
    left = limit
    while left is None or left > 0:
        try:
            piece = stream.read(piece_bytes if left is None else min(piece_bytes, left))
        except _DAMAGED as error:
            raise InputError(f"{path}: its {kind} data are damaged or cut off ({error}); copy it again") from error
        if not piece:
            return
        left = None if left is None else left - len(piece)
        yield piece


def _write_error(error: OSError, header: MrcHeader, folder: Path) -> TomostreamError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BudgetError(
            f"{folder}: the disk filled up while {header.path} was decompressed to {format_bytes(header.file_bytes)}; "
            "free space and run the same command again, or choose another output folder"
        )
    return InputError(f"{folder}: can't be written: {error.strerror or error}; choose another output folder")
