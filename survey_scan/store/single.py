"""One cutout of the store, without the 255 others of its chunk.

Where only some cutouts are kept, each is a chunk of its own. Else chunks of float32 and float16 pixels are stored as they
are, so the bytes of one cutout can be read alone: a hundred kilobytes instead of thirty megabytes. Their chunk's checksum
is then not checked, only that of the shard's index; whoever must know that pixels are whole uses
:class:`~survey_scan.store.reader.Reader`, or ``survey_scan verify``.
"""

import numpy as np
from numpy.typing import NDArray

from survey_scan.config import CHUNK_ROWS
from survey_scan.errors import RunError
from survey_scan.store import shards
from survey_scan.store.reader import NotKept, Reader


def pixels(reader: Reader, row: int) -> NDArray[np.float32]:
    """The pixels of one target.

    Parameters
    ----------
    reader : Reader
        Of the store.
    row : int
        Of the target.

    Returns
    -------
    ndarray of float32, shape (size, size, bands)
        As ``reader.pixels(row, row + 1)[0]``.

    Raises
    ------
    IndexError
        If there is no such target.
    NotKept
        If its pixels were not kept.
    RunError
        If its partition is not written, or too short.
    """
    facts = reader.attributes
    dtype = np.dtype(facts["dtype"])
    if not reader.whole:
        if not reader.kept(row, row + 1)[0]:
            raise NotKept(
                f"row {row} of {reader.path} has no pixels: only cutouts with a logit of at least {facts['above']:g} were kept. "
                "Lower cutouts.above, and cut again: survey_scan run CONFIG --redo cutouts"
            )
        return np.asarray(reader.pixels(row, row + 1)[0])
    if dtype.kind != "f" or not 0 <= row < reader.n_targets:
        return np.asarray(reader.pixels(row, row + 1)[0])
    partition, within = divmod(row, int(facts["partition"]))
    chunk, number = divmod(within, CHUNK_ROWS)
    shape = (int(facts["size"]), int(facts["size"]), len(facts["bands"]))
    length = int(np.prod(shape)) * dtype.itemsize
    file = shards.file(reader.path, "image", partition, 4)
    again = f"Cut it again: survey_scan partition {reader.path.parent} cutouts {partition}"
    count = int(facts["partition"]) // CHUNK_ROWS
    try:
        with file.open("rb") as stream:
            begin, size = shards.index(stream, count)[chunk].tolist()
            stream.seek(begin + number * length)
            data = stream.read(length)
    except FileNotFoundError:
        raise RunError(f"partition {partition} of {reader.path} is not there (no image/{file.name}). {again}") from None
    except ValueError as error:
        raise RunError(f"{file} is damaged, in partition {partition} ({error}). {again}") from None
    if len(data) != length or (number + 1) * length > size - 4:
        raise RunError(f"{file} is damaged, in partition {partition} (cutout {within} is cut short). {again}")
    return np.frombuffer(data, dtype.newbyteorder("<")).reshape(shape).astype(np.float32)
