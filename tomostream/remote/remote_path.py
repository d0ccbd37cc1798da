"""Read and write files below a URL, with those methods of `pathlib.Path` that the package uses.

1. An object store has no folders: creating one does nothing, and a folder exists if an object lies below it.
2. Objects appear complete or not at all, and can't be appended to or renamed: writing replaces.
3. Requests may fail for a while: each goes through `faults.retried`.

Limits: a URL with a query (a presigned one) names one file; nothing can be joined to it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any, Protocol, runtime_checkable

from tomostream.errors import InputError
from tomostream.remote.faults import ShortReadError, is_conflict, retried
from tomostream.remote.filesystems import file_system, stream_options

PART_BYTES = 2**24  # a longer object is sent in such parts, and appears after the last one


@runtime_checkable  # the tests check annotations as they run
class ByteSink(Protocol):
    """A target for bytes: an open file, or an upload."""

    def write(self, data: Any, /) -> int:
        """Write the bytes; return their number."""
        ...


class RemotePath:
    """The URL of an object, or of a folder of them.

    Parameters
    ----------
    url
        With its scheme, `s3://bucket/key`.
    """

    __slots__ = ("url",)

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"RemotePath({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __lt__(self, other: RemotePath) -> bool:
        return self.url < other.url

    def __truediv__(self, name: str) -> RemotePath:
        if "?" in self.url:
            raise InputError(f"{self.url} has a query, as presigned URLs have; it names one file, not a folder or a Zarr store")
        return RemotePath(f"{self.url}/{name}")

    def joinpath(self, *names: str) -> RemotePath:
        """Return the place below this one."""
        return self / "/".join(names)

    @property
    def name(self) -> str:
        """The last part, without a query."""
        return PurePosixPath(self.url.partition("?")[0]).name

    @property
    def stem(self) -> str:
        """The name less its last suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The name's last suffix, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        """The folder that holds it."""
        return RemotePath(self.url.partition("?")[0].rpartition("/")[0])

    def with_name(self, name: str) -> RemotePath:
        """Return the place beside this one."""
        return self.parent / name

    def absolute(self) -> RemotePath:
        """Return the URL itself."""
        return self

    def resolve(self) -> RemotePath:
        """Return the URL itself."""
        return self

    # --- what exists

    def info(self) -> dict[str, Any]:
        """Return what the server says about it: `size`, `type`, and its dates or tags.

        Raises
        ------
        FileNotFoundError
            If it does not exist.
        """
        found: dict[str, Any] = self._do(lambda fs, path: fs.info(path))
        return found

    def exists(self) -> bool:
        """Return whether this object exists, or one below it."""
        try:
            self.info()
        except FileNotFoundError:
            return False
        return True

    def is_file(self) -> bool:
        """Return whether an object of exactly this name exists."""
        return self._kind() == "file"

    def is_dir(self) -> bool:
        """Return whether objects exist below it."""
        return self._kind() == "directory"

    def _kind(self) -> str:
        try:
            return str(self.info()["type"])
        except FileNotFoundError:
            return "absent"

    def iterdir(self) -> Iterator[RemotePath]:
        """Yield the places directly below it."""
        names: list[str] = self._do(lambda fs, path: [str(entry).rstrip("/") for entry in fs.ls(path, detail=False)])
        return iter(sorted(self / name.rpartition("/")[2] for name in names))

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Yield the places below it that match a pattern."""
        return iter((self / pattern).matches())

    def matches(self) -> list[RemotePath]:
        """Return the places that match this URL as a pattern."""
        names: list[str] = self._do(lambda fs, path: [fs.unstrip_protocol(found) for found in fs.glob(path)])
        return sorted(RemotePath(name) for name in names)

    def below(self) -> dict[str, int]:
        """Return all objects below it, by relative name, with their sizes; one request per thousand."""

        def find(fs: Any, path: str) -> dict[str, int]:
            root = fs._strip_protocol(path).rstrip("/") + "/"
            return {name.removeprefix(root): int(entry.get("size") or 0) for name, entry in fs.find(path, detail=True).items()}

        try:
            found: dict[str, int] = self._do(find)
        except FileNotFoundError:
            return {}
        return found

    # --- reading

    def read_bytes(self) -> bytes:
        """Return the object's content."""
        content: bytes = self._do(lambda fs, path: fs.cat_file(path))
        return content

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the object's content as text."""
        return self.read_bytes().decode(encoding)

    def read_ranges(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Return parts of the object, each (start, stop), fetched concurrently.

        Raises
        ------
        FileNotFoundError
            If it does not exist.
        TomostreamError
            If the server sends anything but the parts.
        """

        def fetch(fs: Any, path: str) -> list[bytes]:
            starts, stops = [a for a, _ in ranges], [b for _, b in ranges]
            parts: list[bytes | BaseException] = fs.cat_ranges([path] * len(ranges), starts, stops, on_error="raise")
            for part, (start, stop) in zip(parts, ranges, strict=True):
                if isinstance(part, BaseException):  # file systems with an event loop return their faults
                    raise part
                if len(part) > stop - start:
                    raise InputError(
                        f"{self.url} can't be read: the server sends the whole file instead of a part (it has no range requests); use another server, or copy it"
                        " to a local folder"
                    )
                if len(part) < stop - start:
                    raise ShortReadError(f"{len(part)} bytes instead of {stop - start}")
            return [part for part in parts if isinstance(part, bytes)]

        found: list[bytes] = self._do(fetch)
        return found

    def open(self, mode: str = "rb") -> Any:
        """Open the object for reading from start to end."""
        if mode != "rb":
            raise ValueError(f"a remote file is opened to be read only, not as {mode!r}")
        return self._do(lambda fs, path: fs.open(path, "rb", **stream_options(self.url)))

    # --- writing

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: object stores have no folders."""

    def write_bytes(self, content: bytes) -> int:
        """Replace the object, completely or not at all."""
        self._do(lambda fs, path: fs.pipe_file(path, content))
        return len(content)

    def write_text(self, text: str, encoding: str = "utf-8") -> int:
        """Replace the object, completely or not at all."""
        return self.write_bytes(text.encode(encoding))

    def create(self, content: bytes) -> bool:
        """Create the object unless it exists; return whether this call created it.

        Of two callers, one gets True, if the server supports conditional writes (as S3 and most similar servers do).
        """
        fault: list[Exception] = []

        def put(fs: Any, path: str) -> bool:
            try:
                fs.pipe_file(path, content, mode="create")
            except Exception as error:  # as in `faults`
                if is_conflict(error):
                    # our first try may have succeeded although its answer was lost
                    return bool(fault) and bytes(fs.cat_file(path)) == content
                fault.append(error)
                raise
            return True

        was_made: bool = self._do(put)
        return was_made

    def upload(self, write: Callable[[ByteSink], object]) -> None:
        """Replace the object by what `write` writes; it appears when it is complete.  Uses memory for two parts of `PART_BYTES` at most.

        `write` is called again if the connection fails.
        """

        def send(fs: Any, path: str) -> None:
            stream = fs.open(path, "wb", block_size=PART_BYTES)
            try:
                write(stream)
                stream.close()
            except BaseException:
                stream.closed = True  # else its destructor would finish the object
                with contextlib.suppress(Exception):
                    stream.discard()
                raise

        self._do(send)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object."""
        try:
            self._do(lambda fs, path: fs.rm_file(path))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_tree(self, keep: tuple[str, ...] = ()) -> None:
        """Remove all objects below it, except those with these names."""
        names = [name for name in self.below() if name not in keep]
        if names:
            self._do(lambda fs, path: fs.rm([f"{path.rstrip('/')}/{name}" for name in names]))

    def _do(self, work: Callable[[Any, str], Any]) -> Any:
        """Send requests with retries; `work` gets the file system and the path in it."""

        def once() -> Any:
            fs, path = file_system(self.url)
            return work(fs, path)

        return retried(once, self.url)
