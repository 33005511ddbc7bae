"""One partition's cutouts to logits, and the table they are kept in."""

import io
import itertools
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan import records
from survey_scan.config import CHUNK_ROWS
from survey_scan.schema import SCORE_COLUMNS, Status
from survey_scan.store import Reader

if TYPE_CHECKING:
    from survey_scan.models import Network

#: Raised by hand when the same pixels and network would get other scores.
SCORES_VERSION = 1

#: Batches that wait for the device, one of them on it already.
AHEAD = 2

T = TypeVar("T")

#: Held by the one thread of this process whose batch the device works on, so that its time is counted once.
_device = threading.Lock()


class Scored(NamedTuple):
    """One partition's scores and where the time went.

    Parameters
    ----------
    table : DataFrame
        ``object_id``, ``logit`` (float32, NaN without a score) and ``status`` (uint8), one row a target in the store's
        order. A row the network gives no finite logit for has ``Status.NOT_FINITE``.
    device_seconds : float
        In which this partition held the device; those of partitions scored side by side do not overlap.
    waited_seconds : float
        In which it waited for pixels. The rest is waiting for the device while others hold it, and the table.
    """

    table: pd.DataFrame
    device_seconds: float
    waited_seconds: float


def score_partition(reader: Reader, start: int, stop: int, network: "Network") -> Scored:
    """Score rows ``start`` to ``stop`` of a store.

    Only rows with status ok are sent to the network, in full batches; while one is on the device the next is read by a
    thread. Several threads may score partitions with the same network, each with a reader of its own or the same: one
    reads while another holds the device.

    Parameters
    ----------
    reader : store.Reader
        The cutouts.
    start, stop : int
        Rows of the partition; ``start`` is the first row of a chunk.
    network : Network
        What scores them.

    Returns
    -------
    Scored
        Table and seconds.

    Raises
    ------
    DeviceLost
        If the GPU failed.
    """
    status = np.array(reader.column("status", start, stop), np.uint8)
    logits = np.full(stop - start, np.nan, np.float32)
    batches = _batches(reader, start, status == Status.OK, network.batch_size)
    staged = ((rows, network.stage(image, step)) for rows, image, step in batches)
    device_seconds = waited_seconds = 0.0
    asked = time.perf_counter()
    for rows, batch in _ahead(staged, AHEAD):
        waited_seconds += time.perf_counter() - asked
        with _device:
            began = time.perf_counter()
            logits[rows] = network.score(batch)
            device_seconds += time.perf_counter() - began
        asked = time.perf_counter()
    waited_seconds += time.perf_counter() - asked  # for the news that there is no more
    bad = (status == Status.OK) & ~np.isfinite(logits)
    status[bad] = Status.NOT_FINITE
    logits[bad] = np.nan
    ids = reader.column("object_id", start, stop)
    ids = ids if ids.dtype.kind in "iu" else ids.astype(object)  # pandas makes its text type of these, as of a target's
    table = pd.DataFrame({"object_id": ids, "logit": logits, "status": status})
    return Scored(table, device_seconds, waited_seconds)


def write(path: Path, table: pd.DataFrame) -> None:
    """Write a score table as Parquet, atomically; the same table gives the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [column.name for column in SCORE_COLUMNS]
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table[names], preserve_index=False), stream, compression="zstd")
    records.write_atomically(path, stream.getvalue())


def read(path: Path) -> pd.DataFrame:
    """Read a score table.

    Raises
    ------
    OSError
        If it is missing or damaged.
    """
    return pd.read_parquet(path, columns=[column.name for column in SCORE_COLUMNS])


def _batches(
    reader: Reader, start: int, wanted: NDArray[np.bool_], batch_size: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[Any], NDArray[np.float32] | None]]:
    """Full batches of the wanted rows, the last one apart: row numbers from ``start``, image, step.

    Whole chunks are read, each once, and none without a wanted row. A batch that is just what was read is not copied.
    """
    block = -(-batch_size // CHUNK_ROWS) * CHUNK_ROWS
    parts: list[tuple[NDArray[np.intp], NDArray[Any], NDArray[np.float32] | None]] = []
    held = 0
    for first in range(0, len(wanted), block):
        inside = np.flatnonzero(wanted[first : first + block])
        if not len(inside):
            continue
        stored = reader.read(start + first, start + min(first + block, len(wanted)))
        for at in _cuts(len(inside), batch_size - held, batch_size):
            take = inside[at]
            gap = take[-1] - take[0] >= len(take)
            rows = take if gap else slice(take[0], take[-1] + 1)  # a slice copies nothing
            parts.append((first + take, stored.image[rows], None if stored.step is None else stored.step[rows]))
            held += len(take)
            if held == batch_size:
                yield _join(parts)
                parts, held = [], 0
    if parts:
        yield _join(parts)


def _cuts(n: int, first: int, step: int) -> Iterator[slice]:
    """Cut ``range(n)`` into a piece of ``first`` and further ones of ``step``."""
    edges = [0, *range(first, n, step), n]  # n > 0: no piece is empty
    return (slice(a, b) for a, b in itertools.pairwise(edges))


def _join(parts: list[tuple[NDArray[np.intp], NDArray[Any], NDArray[np.float32] | None]]) -> Any:
    if len(parts) == 1:
        return parts[0]
    rows, images, steps = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(images), None if steps[0] is None else np.concatenate(steps)


def _ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    """The same items, made by a thread up to ``depth`` ahead of their use."""
    end = object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    try:
        waiting = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(cancel_futures=True)
