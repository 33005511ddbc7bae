"""Records: the only proof that a partition of a stage is finished.

The order inside a task is: forget the record, write the data, write the record. A record is written to a temporary
name, flushed to disk and renamed, so it is either absent or whole.
"""

import json
import os
from pathlib import Path
from typing import Any

from survey_scan.identity import Key


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
        record = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("key"), dict) else None


def forget(path: Path) -> None:
    """Remove a record before its data are written again."""
    path.unlink(missing_ok=True)
