"""How is a Zarr store opened for reading, by path or URL, and what is said when it is none?

Zarr v3 is tried before v2, each by itself: a server that answers "forbidden" for what is missing must not hide a v2 store.  A store
made by us is never missing a shard, so a shard that is gone is damage there and not zeros.

Limits: nothing is retried; credentials of an object store are fsspec's matter (for public S3 buckets: `FSSPEC_S3_ANON=true`).
"""

from __future__ import annotations

import os
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Literal

import zarr
from zarr.abc.store import Store
from zarr.errors import ContainsArrayError
from zarr.storage import FsspecStore, LocalStore

from tomostream.errors import InputError
from tomostream.store.ledger import LEDGER_NAME

PARTIAL_SUFFIX = ".partial"  # of a store's folder while it is half-written
_FORMATS: tuple[Literal[3, 2], ...] = (3, 2)
_ROOTS = ("zarr.json", ".zgroup", ".zarray")


def normal_path(path_or_url: str | os.PathLike[str]) -> str:
    """A local path (also of a `file://` URL), or a URL without the final slash."""
    text = os.fspath(path_or_url)
    if text.startswith("file://"):
        return urllib.request.url2pathname(urllib.parse.urlsplit(text).path).rstrip("/") or "/"
    return text.rstrip("/") or "/"


def is_url(path: str) -> bool:
    """Whether a path is fsspec's to open."""
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
    problem: Exception | None = None
    for zarr_format in _FORMATS:
        try:
            return zarr.open_group(_store(path), mode="r", zarr_format=zarr_format, use_consolidated=False)
        except FileNotFoundError as error:
            problem = problem or error
        except ContainsArrayError:
            raise _bare_array(path) from None
        except ImportError as error:
            raise InputError(
                f"{path} can't be opened without a package that is not installed ({error}); pip install 'tomostream[remote]'"
            ) from None
        except Exception as error:  # libraries of file systems raise what they like
            problem = error
    if isinstance(problem, FileNotFoundError):
        raise InputError(f"{path} does not exist or is no Zarr group; give the URL of the OME-Zarr image's folder")
    raise InputError(f"{path} can't be read ({_words(problem)}); check the path, the network and your permissions")


def open_array(path: str, name: str, zarr_format: int) -> zarr.Array[Any]:
    """Open the array `name` of the group at `path`.

    Raises
    ------
    InputError
        If it is missing or broken.
    """
    try:
        return zarr.open_array(_store(path), path=name, mode="r", zarr_format=2 if zarr_format == 2 else 3)
    except FileNotFoundError:
        raise InputError(f"{path} names a level '{name}' that is not there; the store is incomplete: copy or convert it again") from None
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
    except Exception as error:  # as above, and codecs too
        raise InputError(
            f"{where} can't be read ({_words(error)}); a chunk is damaged or can't be fetched: copy or convert it again"
        ) from None


def _bare_array(path: str) -> InputError:
    return InputError(f"{path} is a bare Zarr array without voxel spacing; give the OME-Zarr image's folder above it")


def _words(error: Exception | None) -> str:
    """The first line of an error, and its type, because many have no text."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}"


def _store(path: str) -> Store:
    return FsspecStore.from_url(path, read_only=True) if is_url(path) else LocalStore(path, read_only=True)


def _refuse_half_written(path: str) -> None:
    if path.endswith(PARTIAL_SUFFIX):
        raise InputError(f"{path} is a half-written store; run the command that makes it again, it goes on where it stopped")


def _refuse_non_groups(path: Path) -> None:
    """Say what a local path is that is no Zarr group."""
    unfinished = path.with_name(path.name + PARTIAL_SUFFIX)
    if not path.exists():
        if unfinished.is_dir():
            raise InputError(
                f"{path} is not finished ({unfinished.name} is there); run the command that makes it again, it goes on where it stopped"
            )
        raise InputError(f"{path} does not exist; give the folder of an OME-Zarr image")
    if not path.is_dir():
        raise InputError(
            f"{path} is a file, and an OME-Zarr store is a folder; convert an MRC file first: `tomostream convert {path} -o DIR`"
        )
    present = [name for name in _ROOTS if (path / name).exists()]
    if present == [".zarray"]:
        raise _bare_array(str(path))
    if not present:
        if (path / LEDGER_NAME).exists():
            raise InputError(f"{path} is a half-written store; run the command that makes it again, it goes on where it stopped")
        raise InputError(
            f"{path} is a folder without Zarr metadata (no zarr.json, no .zgroup); give the folder of one OME-Zarr image, NAME.ome.zarr"
        )
