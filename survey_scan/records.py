"""Records: the only proof that a partition of a stage is finished.

The order inside a task is: forget the record, write the data, write the record. A record is written to a temporary
name, flushed to disk and renamed, so it is either absent or whole.
"""

import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from survey_scan.identity import Key

#: Of what zlib looks back on, and of its tables: small ones are soon made. No header, no checksum.
_WINDOW, _EFFORT = -12, 5


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a kill, sees the old one or the new one.

    Raises
    ------
    OSError
        If the disk is full or the folder is not writable; the old file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_quickly(path: Path, data: bytes) -> None:
    """Write a file that the next one replaces in a moment: whole for every reader, but not flushed to disk.

    Raises
    ------
    OSError
        As :func:`write_atomically`.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(data)
    partial.replace(path)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


def write(path: Path, key: Key, facts: dict[str, Any]) -> None:
    """Write a record: its key and what is worth knowing about how it came to be."""
    write_json(path, {"key": key, **facts})


def read(path: Path) -> dict[str, Any] | None:
    """Read a record.

    Returns
    -------
    dict or None
        None if there is none, or if what is there is not a record (it then counts as not finished).
    """
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return None


def contents(folder: Path) -> Iterator[tuple[int, bytes]]:
    """What the files of a stage's records hold; its folder is listed once, and no file asked for that is not there.

    Yields
    ------
    int, bytes
        Partition, as the file's name says it, and content, in no order.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except FileNotFoundError:
        return
    for name in names:
        if not name.endswith(".json") or not name[:-5].isdecimal():  # such as one that is being written
            continue
        try:
            with io.FileIO(f"{folder}/{name}") as stream:  # a path and a buffer each would take twice the time
                content = stream.readall()
        except FileNotFoundError:  # forgotten since
            continue
        yield int(name[:-5]), content


def parse(data: bytes) -> dict[str, Any] | None:
    """A record of what its file holds; None if that is not a record."""
    try:
        record = json.loads(data)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("key"), dict) else None


class Records(Mapping[int, dict[str, Any]]):
    """Partition → its record, parsed whenever it is asked for: parsed records take six times the memory of their files.

    What is kept of a file is how it differs from the first one added (zlib with that one as its dictionary): a quarter of it.
    """

    def __init__(self) -> None:
        self._contents: dict[int, bytes] = {}
        self._first = b""

    def __getitem__(self, partition: int) -> dict[str, Any]:
        content = zlib.decompressobj(_WINDOW, self._first).decompress(self._contents[partition])
        record: dict[str, Any] = json.loads(content)
        return record

    def __iter__(self) -> Iterator[int]:
        return iter(self._contents)

    def __len__(self) -> int:
        return len(self._contents)

    def __contains__(self, partition: object) -> bool:
        return partition in self._contents

    def add(self, partition: int, content: bytes) -> None:
        """Add a record by what its file holds."""
        self._first = self._first or content
        packing = zlib.compressobj(1, wbits=_WINDOW, memLevel=_EFFORT, zdict=self._first)
        self._contents[partition] = packing.compress(content) + packing.flush()

    def sort(self) -> None:
        """Put them in the order of their partitions."""
        self._contents = dict(sorted(self._contents.items()))

    def remove(self, partition: int) -> bool:
        """Take a record out; whether there was one."""
        return self._contents.pop(partition, None) is not None


def forget(path: Path) -> None:
    """Remove a record before its data are written again."""
    path.unlink(missing_ok=True)
