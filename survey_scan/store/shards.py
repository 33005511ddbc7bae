"""Files of a Zarr v3 store, written without copies and flushed to disk.

zarr-python copies each cutout several times between an array and its shard, and never flushes. A shard is simple: its
chunks one after the other, each with its CRC-32C, then an index of where each begins, with its own CRC-32C (Zarr v3
``sharding_indexed``, index at the end). What is written here, zarr-python reads.
"""

import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np
from numpy.typing import NDArray

#: A chunk that is not there, in the index of a shard: it reads as fill value.
ABSENT = 2**64 - 1

#: What files are written from: ``bytes``, or an array of them.
Data = bytes | NDArray[np.uint8]


def shard(chunks: Iterable[Data | None], count: int) -> Iterator[Data]:
    """The parts of a shard, in order.

    Parameters
    ----------
    chunks : iterable of bytes-like
        Encoded chunks, without checksum, None for one that is not there; taken one at a time.
    count : int
        How many chunks a whole shard has; those that are not given read as fill value.
    """
    index = np.full((count, 2), ABSENT, dtype="<u8")
    position = 0
    for i, chunk in enumerate(chunks):
        if chunk is None:
            continue
        yield from checked(chunk)
        index[i] = position, len(chunk) + 4
        position += len(chunk) + 4
    yield from checked(index.tobytes())


def index(stream: BinaryIO, count: int) -> NDArray[np.uint64]:
    """Where the chunks of a shard begin, and how long they are with their checksums.

    Parameters
    ----------
    stream : file object
        Of a shard that :func:`shard` made.
    count : int
        How many chunks a whole shard has.

    Returns
    -------
    ndarray of uint64, shape (count, 2)

    Raises
    ------
    ValueError
        If it is too short, or its checksum differs.
    """
    length = count * 16 + 4
    if stream.seek(0, os.SEEK_END) < length:
        raise ValueError(f"{stream.tell()} bytes")
    stream.seek(-length, os.SEEK_END)
    data = stream.read(length)
    if not whole(data):
        raise ValueError("the checksum of its index differs")
    return np.frombuffer(data[:-4], dtype="<u8").reshape(count, 2)


def checked(data: Data) -> tuple[Data, bytes]:
    """Data and their CRC-32C, as Zarr's ``crc32c`` codec writes them."""
    return data, google_crc32c.value(data).to_bytes(4, "little")


def whole(data: bytes) -> bool:
    """Whether data that end in their CRC-32C are what they were."""
    checksum: bytes = google_crc32c.value(data[:-4]).to_bytes(4, "little")
    return checksum == data[-4:]


def publish(parts: Iterable[Data], file: Path, scratch: Path, name: str) -> None:
    """Write a file so that it is under its name either whole, and on disk, or not at all.

    Parameters
    ----------
    parts : iterable of bytes-like
        Its content.
    file : Path
        Where it belongs.
    scratch : Path
        Folder on the same file system, for unfinished files.
    name : str
        What the unfinished file's name begins with; see :func:`sweep`.

    Raises
    ------
    OSError
        If the disk is full or fails; with the path of the file.
    """
    partial = scratch / f"{name}.{uuid.uuid4().hex}.partial"
    try:
        scratch.mkdir(exist_ok=True)
        with partial.open("xb") as stream:
            for part in parts:
                stream.write(part.data if isinstance(part, np.ndarray) else part)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        partial.unlink(missing_ok=True)


def sweep(scratch: Path, name: str) -> None:
    """Remove unfinished files that a killed writer of the same name left."""
    for partial in scratch.glob(f"{name}.*.partial"):
        partial.unlink(missing_ok=True)


def file(path: Path, name: str, partition: int, ndim: int) -> Path:
    """The file of a partition of an array, by Zarr's default chunk keys with the separator ``.``."""
    return path / name / ("c." + ".".join([str(partition), *["0"] * (ndim - 1)]))
