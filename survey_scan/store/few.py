"""Shards of which only some cutouts are there: a chunk is one target, those that are not kept are no bytes at all.

A partition of which nothing is kept has no shard.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey_scan.store import shards


def chunks(image: NDArray[Any], kept: NDArray[np.bool_]) -> Iterator[shards.Data | None]:
    """The chunks of a shard: one a row, None where it is not kept.

    Parameters
    ----------
    image : ndarray, shape (n, size, size, bands)
        As stored.
    kept : ndarray of bool, shape (n,)
        Which rows.
    """
    for row in range(int(np.flatnonzero(kept)[-1]) + 1 if kept.any() else 0):
        yield encoded(image[row]) if kept[row] else None


def encoded(chunk: NDArray[Any]) -> shards.Data:
    """The bytes of cutouts as stored, without checksum: int16 packed, others as they are."""
    if chunk.dtype != np.int16:
        return np.ascontiguousarray(chunk).reshape(-1).view(np.uint8)
    from numcodecs.blosc import Blosc  # type: ignore[import-untyped]

    packed: bytes = Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE).encode(np.ascontiguousarray(chunk))
    return packed


def read(file: Path, rows: Sequence[int], count: int, out: NDArray[Any]) -> None:
    """Rows of a shard, their checksums checked.

    Parameters
    ----------
    file : Path
        Of the shard.
    rows : sequence of int
        Which of its rows; all of them kept.
    count : int
        Rows of a whole shard.
    out : ndarray, shape (len(rows), size, size, bands)
        Takes the pixels, as stored.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a row is not there, or damaged.
    """
    from numcodecs.blosc import Blosc

    with file.open("rb") as stream:
        index = shards.index(stream, count)
        for i, row in enumerate(rows):
            begin, size = index[row].tolist()
            if begin == shards.ABSENT:
                raise ValueError(f"cutout {row} is not there")
            stream.seek(begin)
            data = stream.read(size)
            if len(data) < max(size, 5) or not shards.whole(data):
                raise ValueError(f"the checksum of cutout {row} differs")
            plain = Blosc().decode(data[:-4]) if out.dtype == np.int16 else data[:-4]
            if len(plain) != out[i].nbytes:
                raise ValueError(f"cutout {row} has {len(plain)} bytes, not {out[i].nbytes}")
            out[i] = np.frombuffer(plain, out.dtype.newbyteorder("<")).reshape(out[i].shape)
