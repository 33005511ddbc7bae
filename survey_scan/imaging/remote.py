"""Files that lie elsewhere (``https://``, ``s3://``, whatever fsspec knows): their headers, and copies for their pixels.

Headers are read by requests for ranges of bytes. For pixels a file is fetched once, whole, and read as any other: the
readers need a file on a disk, and most of a tile is wanted anyhow. A process keeps its last few copies in a folder of its
own under the system's folder for temporary files (``TMPDIR`` says which).
"""

import atexit
import contextlib
import errno
import fcntl
import io
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from survey_scan.errors import ImageError
from survey_scan.imaging.attempts import ask

#: Bytes of the first request for a header: the headers of a brick, with its WCS, are 15 kB long.
FIRST_BYTES = 2**16
#: Most bytes of a request for a range; each is twice the one before where a file is read on and on.
MOST_BYTES = 2**23
#: Copies a process keeps beside those in use.
KEPT = 6

_PREFIX = "survey_scan-tiles-"


@dataclass(frozen=True)
class RemoteFile:
    """A file that lies elsewhere.

    Attributes
    ----------
    url : str
        Where.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """Its own name, without folders and query."""
        return self.url.partition("?")[0].rstrip("/").rpartition("/")[2]

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Open it for reading some of it.

        Raises
        ------
        OSError
            If there is no such file, or it may not be read.
        Unreachable
            If the server fails.
        """
        size, mark = self.stamp()
        if size is None:
            with _copied(self, size, mark) as path:
                return path.open("rb")
        return io.BufferedReader(_Ranges(self.url, size))

    def stamp(self) -> tuple[int | None, str]:
        """Its size, if the server says it, and what changes with its bytes.

        Raises
        ------
        OSError, Unreachable
            As :meth:`open`.
        """
        found = ask(self.url, lambda system: system.info(self.url))
        marks = [
            str(found[key]) for key in ("ETag", "Last-Modified", "LastModified", "mtime", "created") if key in found
        ]
        return found["size"], " ".join(marks)


File = Path | RemoteFile


def is_remote(text: str) -> bool:
    """Whether a path, or a template of one, is a URL."""
    return "://" in text


def file_at(text: str) -> File:
    """The file a path or URL names."""
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return RemoteFile(text) if is_remote(text) else Path(text)


def size(file: File) -> int | None:
    """Bytes of a file; None if there is none, or it may not be read.

    Raises
    ------
    Unreachable
        If its server fails.
    """
    try:
        if isinstance(file, Path):
            return file.stat().st_size
        found, mark = file.stamp()
        if found is not None:
            return found
        with _copied(file, found, mark) as path:
            return path.stat().st_size
    except OSError:
        return None


def listed(pattern: str) -> list[str]:
    """URLs of the files that match a pattern, by the lists of its folders that the server gives, sorted.

    Raises
    ------
    ImageError
        If the server gives none.
    Unreachable
        If it fails.
    """
    protocol, _, rest = pattern.partition("://")
    root = f"{protocol}://{'/' * rest.startswith('/')}"
    try:
        found = ask(pattern, lambda system: [system.unstrip_protocol(name) for name in system.glob(pattern)])
    except OSError as error:
        raise ImageError(f"{pattern}: the server does not list its folders ({error.strerror}). {NO_LIST}") from error
    return sorted(root + name.partition("://")[2].lstrip("/") for name in found)


NO_LIST = (
    "Servers for https:// often do not: give images.index, a table of the tiles, or catalogue.tile_column; and no '*' in "
    "images.files."
)


@contextmanager
def local(file: File) -> Iterator[Path]:
    """A file on a disk here with the same bytes, for as long as the context lasts: the file itself, or a copy of it.

    Threads that want one file wait for one copy. A copy appears under its name when it is whole.

    Raises
    ------
    OSError
        If there is no such file, it may not be read, or the disk under the copies is full.
    Unreachable
        If the server fails.
    """
    if isinstance(file, Path):
        yield file
    else:
        with _copied(file, *file.stamp()) as path:
            yield path


@contextmanager
def _copied(file: RemoteFile, size: int | None, mark: str) -> Iterator[Path]:
    """A copy of a file as it is now, by its stamp."""
    copy = _take(file, size, mark)
    try:
        with copy.fetching:
            if not copy.path.exists():
                _fetch(file, copy)
        yield copy.path
    finally:
        _give_back(copy)


@dataclass
class _Copy:
    """A copy of a file as it was at a time, and how many use it."""

    path: Path
    size: int | None
    fetching: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


_copies: dict[tuple[str, int | None, str], _Copy] = {}  # the one used last stands last
_guard = threading.Lock()


def _take(file: RemoteFile, size: int | None, mark: str) -> _Copy:
    key = (file.url, size, mark)
    with _guard:
        copy = _copies.pop(key, None)
        if copy is None:
            copy = _Copy(Path(tempfile.mkdtemp(dir=_folder())) / (file.name or "file"), size)
        _copies[key] = copy
        copy.users += 1
    return copy


def _give_back(copy: _Copy) -> None:
    with _guard:
        copy.users -= 1
        unused = [key for key, other in _copies.items() if not other.users]
        for key in unused[: max(len(unused) - KEPT, 0)]:
            shutil.rmtree(_copies.pop(key).path.parent, ignore_errors=True)


def _fetch(file: RemoteFile, copy: _Copy) -> None:
    part = copy.path.with_name(f"{copy.path.name}.part")

    def get(system: Any) -> None:
        system.get_file(file.url, str(part))
        if copy.size not in (None, part.stat().st_size):
            raise OSError(errno.EIO, f"{part.stat().st_size} bytes came of {copy.size}")

    try:
        ask(file.url, get)
        part.replace(copy.path)
    finally:
        part.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _folder() -> Path:
    """The folder for this process's copies. Those of processes that were killed go; a lock tells which live."""
    base = Path(tempfile.gettempdir())
    for lock in base.glob(f"{_PREFIX}*/lock"):
        with contextlib.suppress(OSError), lock.open() as file:  # another user's, in use, or just removed
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    held = (folder / "locking").open("w")
    fcntl.flock(held, fcntl.LOCK_EX)
    (folder / "locking").rename(folder / "lock")  # locked from the moment it has its name
    atexit.register(_clear, folder, held)
    return folder


def _clear(folder: Path, held: IO[str]) -> None:
    held.close()
    shutil.rmtree(folder, ignore_errors=True)


class _Ranges(io.RawIOBase):
    """A file read by requests for ranges of its bytes, with the last of them kept."""

    def __init__(self, url: str, size: int):
        self._url, self._size = url, size
        self._at = self._start = 0
        self._held = b""
        self._next = FIRST_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._size:
            return 0
        end = self._start + len(self._held)
        if not self._start <= self._at < end:
            self._next = min(2 * self._next, MOST_BYTES) if self._held and self._at == end else FIRST_BYTES
            self._start, self._held = ask(self._url, self._request)
        found = self._held[self._at - self._start :][: len(buffer)]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def _request(self, system: Any) -> tuple[int, bytes]:
        """Some bytes from here on, and where they begin."""
        stop = min(self._at + self._next, self._size)
        data: bytes = system.cat_file(self._url, start=self._at, end=stop)
        if len(data) == stop - self._at:
            return self._at, data
        if len(data) == self._size:  # a server that knows no ranges sends everything
            return 0, data
        raise OSError(errno.EIO, f"{len(data)} bytes came of {stop - self._at}")
