"""How is a Zarr store opened for reading, by path or URL, and what does the error say if there is none?

Zarr v3 is tried before v2, separately: a server that answers "forbidden" for missing objects must not hide a v2 store.  A store
that we made has all its shards, so a missing shard is damage there, not zeros.

Nothing is listed on a server: plain HTTP has no listings.  `remote.faults` retries requests.

Limits: fsspec handles credentials of an object store (for public S3 buckets: `FSSPEC_S3_ANON=true`).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.errors import ContainsArrayError
from zarr.storage import FsspecStore, LocalStore

from tomostream.errors import InputError, TomostreamError
from tomostream.remote.faults import DeniedError, retried_async
from tomostream.remote.filesystems import file_system
from tomostream.remote.path_kinds import Wanted, instead
from tomostream.remote.places import RemotePath, place
from tomostream.store.ledger import LEDGER_NAME
from tomostream.store.typed_json import refuse_oversized
from tomostream.store.zarr_loop import start_loop

PARTIAL_SUFFIX = ".partial"  # of a store's folder while it is half-written
_FORMATS: tuple[Literal[3, 2], ...] = (3, 2)
_ROOTS = ("zarr.json", ".zgroup", ".zarray")
_METADATA = (*_ROOTS, ".zattrs")


def normal_path(path_or_url: str | os.PathLike[str] | RemotePath) -> str:
    """Return a local path (also for a `file://` URL), or a URL without the final slash."""
    return str(place(path_or_url))


def is_url(path: str) -> bool:
    """Whether fsspec opens this path."""
    return "://" in path


def open_group(path: str) -> zarr.Group:
    """Open the group at a path or URL for reading.

    Raises
    ------
    InputError
        If there is none, or it is half-written, or can't be read.
    """
    _refuse_half_written(path)
    if not is_url(path):
        _refuse_non_groups(Path(path))
    _refuse_oversized(path)
    start_loop()
    problem: Exception | None = None
    for zarr_format in _FORMATS:
        try:
            return zarr.open_group(_store(path), mode="r", zarr_format=zarr_format, use_consolidated=False)
        except FileNotFoundError as error:
            problem = problem or error
        except ContainsArrayError:
            raise _bare_array(path) from None
        except DeniedError as error:
            problem = problem or error  # a server may answer "forbidden" for what it does not have
        except TomostreamError:
            raise
        except Exception as error:  # libraries of file systems raise errors of any type
            problem = error
    if isinstance(problem, TomostreamError):
        raise problem
    if isinstance(problem, FileNotFoundError):
        unfinished = place(path + PARTIAL_SUFFIX)
        if isinstance(unfinished, RemotePath) and _is_begun(unfinished):
            raise InputError(f"{path} is not finished; run the command that makes it again: it resumes where it stopped")
        raise InputError(f"{path} does not exist or is not a Zarr group; check the URL: it must be the OME-Zarr image's folder")
    raise InputError(f"{path} can't be read ({_words(problem)}); check the path, the network and your permissions")


def open_array(path: str, name: str, zarr_format: int) -> zarr.Array[Any]:
    """Open the array `name` of the group at `path`.

    Raises
    ------
    InputError
        If it is missing or broken.
    """
    _refuse_oversized(f"{path}/{name}")
    start_loop()
    try:
        return zarr.open_array(_store(path), path=name, mode="r", zarr_format=2 if zarr_format == 2 else 3)
    except FileNotFoundError:
        raise InputError(f"{path} names a level '{name}' that does not exist; the store is incomplete: copy or convert it again") from None
    except TomostreamError:
        raise
    except Exception as error:  # as above
        raise InputError(
            f"{path}/{name} can't be read ({_words(error)}); the store is damaged, or of a kind that zarr-python does not know"
        ) from None


def read_array(array: zarr.Array[Any], selection: tuple[int | slice, ...], where: str) -> object:
    """Read a part of an array.

    Raises
    ------
    InputError
        If chunks are damaged or can't be fetched.
    """
    try:
        return array[selection]
    except TomostreamError:
        raise
    except Exception as error:  # as above, and codecs too
        raise InputError(
            f"{where} can't be read ({_words(error)}); a chunk is damaged or can't be fetched: copy or convert it again"
        ) from None


def _bare_array(path: str) -> InputError:
    return InputError(f"{path} is a bare Zarr array without voxel spacing; give the OME-Zarr image's folder above it")


def _words(error: Exception | None) -> str:
    """Return the first line of an error and its type, because many have no text."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}"


def _store(path: str) -> Store:
    if not is_url(path):
        return LocalStore(path, read_only=True)
    if "?" in path:
        raise InputError(f"{path} has a query, as presigned URLs have; it names one file, not a Zarr store")
    files, root = file_system(path, is_asynchronous=True)
    return _RetryingStore(_asynchronous(files), read_only=True, path=root)


def _asynchronous(files: Any) -> Any:
    """Wrap a file system for Zarr, which reads through an event loop; one without a loop runs in threads."""
    if files.async_impl:
        return files
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper  # noqa: PLC0415  (only such file systems need it)

    return AsyncFileSystemWrapper(files, asynchronous=True)


class _RetryingStore(FsspecStore):
    """A server as a Zarr store, with our retries and messages."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        get: Callable[[], Awaitable[Buffer | None]] = lambda: super(_RetryingStore, self).get(key, prototype, byte_range)  # noqa: E731  (`super` needs its place named)
        try:
            return await retried_async(get, f"{self.path}/{key}")
        except FileNotFoundError:
            return None


def _is_begun(partial: RemotePath) -> bool:
    try:
        return (partial / "head.json").is_file()
    except TomostreamError:
        return False  # a server may forbid this


def _refuse_half_written(path: str) -> None:
    if path.endswith(PARTIAL_SUFFIX):
        raise InputError(f"{path} is a half-written store; run the command that makes it again: it resumes where it stopped")


def _refuse_oversized(folder: str) -> None:
    if not is_url(folder):
        for name in _METADATA:
            refuse_oversized(Path(folder, name))


def _refuse_non_groups(path: Path) -> None:
    """Raise an error that says what a local path is if it is not a Zarr group."""
    unfinished = Path(f"{path}{PARTIAL_SUFFIX}")
    if not path.exists():
        if unfinished.is_dir():
            raise InputError(
                f"{path} is not finished ({unfinished.name} exists); run the command that makes it again: it resumes where it stopped"
            )
        raise InputError(instead(path, Wanted.STORE) or f"{path} does not exist")
    if not path.is_dir():
        raise InputError(instead(path, Wanted.STORE) or f"{path} is a file, and an OME-Zarr store is a folder")
    present = [name for name in _ROOTS if (path / name).exists()]
    if present == [".zarray"]:
        raise _bare_array(str(path))
    if not present:
        if (path / LEDGER_NAME).exists():
            raise InputError(f"{path} is a half-written store; run the command that makes it again: it resumes where it stopped")
        raise InputError(
            instead(path, Wanted.STORE)
            or f"{path} is a folder without Zarr metadata (no zarr.json, no .zgroup): it is empty or incomplete; copy or convert it again"
        )
