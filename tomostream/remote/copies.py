"""Local copies of remote files, for code that needs a real file or folder, and uploads of local ones.

1. `downloaded` streams one object into a temporary file, with one request and without ranges.
2. `local_file` copies a table or another small file, under its own name, to a temporary folder; `local_result` is the same for writing: the file
   is uploaded when the block succeeds.
3. `local_folder` mirrors a folder of small files (a model) once per process.
4. `work_folder` keeps work on a remote folder between runs: below the user's cache folder, one folder for each URL.
"""

from __future__ import annotations

import atexit
import errno
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from tomostream.errors import BudgetError, InputError
from tomostream.remote.faults import ShortReadError, retried
from tomostream.remote.filesystems import file_system, stream_options
from tomostream.remote.home import cache_folder
from tomostream.remote.places import ByteSink, Place, RemotePath

_PIECE_BYTES = 2**20


def download(remote: RemotePath, target: Path) -> int:
    """Stream an object into a local file; return its length.

    Raises
    ------
    FileNotFoundError
        If it does not exist.
    TomostreamError
        If it can't be fetched, or does not fit the disk.
    """

    def fetch() -> int:
        fs, path = file_system(remote.url)
        done = 0
        with fs.open(path, "rb", **stream_options(remote.url)) as stream, target.open("wb") as file:
            while piece := stream.read(_PIECE_BYTES):
                try:
                    file.write(piece)
                except OSError as error:
                    raise _no_room(error, target) from None
                done += len(piece)
            size = getattr(stream, "size", None)
        if size is not None and done != size:
            raise ShortReadError(f"{done} of {size} bytes came")
        return done

    return retried(fetch, remote.url)


def head_of(remote: RemotePath, count: int) -> bytes:
    """Return the first `count` bytes of an object; fewer, if it is shorter.

    Raises
    ------
    InputError
        If it does not exist.
    """

    def fetch() -> bytes:
        fs, path = file_system(remote.url)
        head = b""
        with fs.open(path, "rb", **{**stream_options(remote.url), "cache_type": "readahead"}) as stream:
            while len(head) < count and (piece := stream.read(count - len(head))):
                head += piece
        return head

    try:
        return retried(fetch, remote.url)
    except FileNotFoundError:
        raise InputError(f"{remote} does not exist; check the URL") from None


def _no_room(error: OSError, target: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BudgetError(f"{target.parent}: the disk filled up during a download; free space, or set TMPDIR to a larger disk")
    return InputError(f"{target} can't be written: {error.strerror or error}; set TMPDIR to a writable folder")


@contextmanager
def local_file(path: Place) -> Iterator[Path]:
    """Yield a local copy of a file.

    Raises
    ------
    FileNotFoundError
        If it is remote and does not exist.
    """
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tomostream-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / path.name
        download(path, copy)
        try:
            yield copy
        except InputError as error:  # the error names the copy
            raise type(error)(str(error).replace(str(copy), str(path))) from None


@contextmanager
def local_table(path: Place) -> Iterator[Path]:
    """Yield a local copy of a table, or of a folder of tables.

    Raises
    ------
    InputError
        If it is remote and does not exist.
    """
    if isinstance(path, Path) or not path.is_dir():
        try:
            with local_file(path) as copy:
                yield copy
        except FileNotFoundError:
            raise InputError(f"table {path} does not exist") from None
        return
    with tempfile.TemporaryDirectory(prefix="tomostream-", ignore_cleanup_errors=True) as folder:
        for name in path.below():
            copy = Path(folder) / path.name / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            download(path / name, copy)
        yield Path(folder) / path.name


@contextmanager
def local_result(path: Place) -> Iterator[Path]:
    """Yield a local path for writing a file (or a project's folder); upload it when the block succeeds."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tomostream-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / path.name
        yield copy
        for file in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
            upload(file, path.parent / file.relative_to(folder).as_posix())


def upload(file: Path, remote: RemotePath) -> None:
    """Upload a local file; the object appears complete."""
    with file.open("rb") as source:

        def write(stream: ByteSink) -> None:
            source.seek(0)
            shutil.copyfileobj(source, stream, _PIECE_BYTES)

        remote.upload(write)


@functools.lru_cache(maxsize=4)
def _mirror(remote: RemotePath, names: tuple[str, ...], state: str) -> Path:
    del state  # a changed folder is mirrored again
    folder = Path(tempfile.mkdtemp(prefix="tomostream-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in names:
        try:
            download(remote / name, folder / name)
        except FileNotFoundError:
            continue  # the reader of the folder reports missing files
    return folder


def local_folder(path: Place, names: Sequence[str]) -> Path:
    """Return local copies of the files `names` of a folder; fetched once per process, and again when one has changed.

    Raises
    ------
    InputError
        If the folder is remote and has none of them.
    """
    if isinstance(path, Path):
        return path
    state = identity_of(path / names[-1]) if (path / names[-1]).is_file() else None
    if state is None:
        raise InputError(f"{path} has no {names[-1]}; give the URL of a finished folder of `tomostream train` or `run`")
    return _mirror(path, tuple(names), str(state))


class ObjectIdentity(TypedDict):
    """What identifies an object's content: its size, and the tag or date that the server gives it."""

    size: int | None
    tag: str | None


def identity_of(remote: RemotePath) -> ObjectIdentity:
    """Return what identifies an object's content: its size, and the tag or date that the server gives it.

    Raises
    ------
    InputError
        If it does not exist.
    """
    try:
        info = remote.info()
    except FileNotFoundError:
        raise InputError(f"{remote} does not exist; check the URL") from None
    tag = next(
        (str(info[key]) for key in ("ETag", "etag", "Content-MD5", "md5Hash", "LastModified", "Last-Modified", "mtime") if info.get(key)),
        None,
    )
    return {"size": info.get("size"), "tag": tag}


def work_folder(path: RemotePath, purpose: str) -> Path:
    """Return the local folder, below the user's cache folder, that keeps work on a remote one between runs."""
    return cache_folder() / purpose / f"{path.name}-{hashlib.sha256(path.url.encode()).hexdigest()[:12]}"
