"""One partition's cutouts to logits, and the table they are kept in."""

import io
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from survey_scan import records
from survey_scan.combination import Combination, column
from survey_scan.config import CHUNK_ROWS, Cascade
from survey_scan.schema import Status
from survey_scan.store import StoredBatch

if TYPE_CHECKING:
    from survey_scan.models import Network

#: Raised by hand when the same pixels and network would get other scores.
SCORES_VERSION = 1

#: Batches that wait for the device, one of them on it already.
AHEAD = 2

T = TypeVar("T")

#: Held by the one thread of this process whose batch the device works on, so that its time is counted once.
_device = threading.Lock()


class Source(Protocol):
    """Where cutouts are read from, row by row."""

    def read(self, start: int, stop: int) -> StoredBatch:
        """Pixels as stored."""
        ...

    def column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """``status`` or ``object_id``."""
        ...

    def kept(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Which rows have pixels."""
        ...


class Scored(NamedTuple):
    """One partition's scores and where the time went.

    Parameters
    ----------
    table : DataFrame
        ``object_id``, ``logit`` (float32, NaN without a score) and ``status`` (uint8), one row a target in the store's
        order; of several networks a ``logit_NAME`` each instead of ``logit``. A row that a network gives no finite logit
        has ``Status.NOT_FINITE``, one that the second of a cascade does not see ``Status.SET_ASIDE``.
    device_seconds : float
        In which this partition held the device; those of partitions scored side by side do not overlap.
    waited_seconds : float
        In which it waited for pixels. The rest is waiting for the device while others hold it, and the table.
    """

    table: pd.DataFrame
    device_seconds: float
    waited_seconds: float


def score_partition(
    reader: Source, start: int, stop: int, networks: "Mapping[str, Network]", cascade: Cascade | None = None
) -> Scored:
    """Score rows ``start`` to ``stop`` of a store.

    Only rows with status ok, and pixels, are sent to a network, in full batches; while one is on the device the next is read by a
    thread. Pixels are read once for all networks, but for those the second of a cascade sees, which are read again. Several
    threads may score partitions with the same networks, each with a reader of its own or the same: one reads while another
    holds the device.

    Parameters
    ----------
    reader : Source
        The cutouts: a store's :class:`~survey_scan.store.Reader`, or :class:`~survey_scan.store.Held` in memory.
    start, stop : int
        Rows of the partition; ``start`` is the first row of a chunk.
    networks : mapping
        Name → what scores them; the name of a single one is empty.
    cascade : config.Cascade, optional
        What the second of two networks sees.

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
    went = _Went()
    ok = (status == Status.OK) & reader.kept(start, stop)
    if cascade is None:
        logits = _logits(reader, start, ok, networks, went)
    else:
        small, large = networks
        logits = _logits(reader, start, ok, {small: networks[small]}, went)
        seen = _best(logits[small], ok & np.isfinite(logits[small]), cascade)
        status[ok & np.isfinite(logits[small]) & ~seen] = Status.SET_ASIDE
        logits |= _logits(reader, start, seen, {large: networks[large]}, went)
    for values in logits.values():
        status[(status == Status.OK) & ~np.isfinite(values)] = Status.NOT_FINITE
        values[~np.isfinite(values)] = np.nan
    ids = reader.column("object_id", start, stop)
    ids = ids if ids.dtype.kind in "iu" else ids.astype(object)  # pandas makes its text type of these, as of a target's
    columns = {column(name): values for name, values in logits.items()}
    return Scored(
        pd.DataFrame({"object_id": ids, **columns, "status": status}), went.device_seconds, went.waited_seconds
    )


def kept(table: pd.DataFrame, columns: list[str], above: float) -> NDArray[np.bool_]:
    """Whose pixels are kept: targets with a logit of at least ``above`` by any of the networks.

    Parameters
    ----------
    table : DataFrame
        Scores, or candidates.
    columns : list of str
        The networks' own logits.
    above : float
        ``cutouts.above``.
    """
    return np.asarray((table[columns].to_numpy(np.float32) >= np.float32(above)).any(axis=1))


def read(path: Path, combination: Combination) -> pd.DataFrame:
    """Read a score table, with the ``logit`` that its targets are ranked by.

    Raises
    ------
    OSError
        If it is missing or damaged.
    """
    return combination.apply(pd.read_parquet(path))


def write(path: Path, table: pd.DataFrame, footer: Mapping[str, str] | None = None) -> None:
    """Write a score table as Parquet, atomically, with texts for its footer; the same table and texts give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream, made = io.BytesIO(), pa.Table.from_pandas(table, preserve_index=False)
    with pq.ParquetWriter(stream, made.schema, compression="zstd") as writer:
        writer.write_table(made)
        writer.add_key_value_metadata(footer or {})
    records.write_atomically(path, stream.getvalue())


class _Went:
    """Where the time went."""

    device_seconds = waited_seconds = 0.0


def _logits(
    reader: Source, start: int, wanted: NDArray[np.bool_], networks: "Mapping[str, Network]", went: _Went
) -> dict[str, NDArray[np.float32]]:
    """Name → logits of the wanted rows, NaN of the others; what the networks gave, finite or not."""
    logits = {name: np.full(len(wanted), np.nan, np.float32) for name in networks}
    batches = _batches(reader, start, wanted, max(network.batch_size for network in networks.values()))
    asked = time.perf_counter()
    for staged in _ahead((_staged(*batch, networks) for batch in batches), AHEAD):
        went.waited_seconds += time.perf_counter() - asked
        with _device:
            began = time.perf_counter()
            for name, rows, batch in staged:
                logits[name][rows] = networks[name].score(batch)
            went.device_seconds += time.perf_counter() - began
        asked = time.perf_counter()
    went.waited_seconds += time.perf_counter() - asked  # for the news that there is no more
    return logits


def _staged(
    rows: NDArray[np.intp],
    image: NDArray[Any],
    step: NDArray[np.float32] | None,
    networks: "Mapping[str, Network]",
) -> list[tuple[str, NDArray[np.intp], Any]]:
    """A batch brought to the device for each network, in as many as its own size needs."""
    return [
        (name, rows[at], network.stage(image[at], None if step is None else step[at]))
        for name, network in networks.items()
        for at in _cuts(len(rows), network.batch_size, network.batch_size)
    ]


def _best(logit: NDArray[np.float32], known: NDArray[np.bool_], cascade: Cascade) -> NDArray[np.bool_]:
    """Which rows the second network of a cascade sees."""
    if cascade.above is not None:
        return known & (logit > cascade.above)
    rows = np.flatnonzero(known)
    n = math.ceil(len(rows) * (cascade.fraction or 0))
    seen = np.zeros(len(logit), bool)
    seen[rows[np.argsort(-logit[rows], kind="stable")[:n]]] = True
    return seen


def _batches(
    reader: Source, start: int, wanted: NDArray[np.bool_], batch_size: int
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


def footer(path: Path) -> Mapping[bytes, bytes]:
    """The texts in a table's footer."""
    found: dict[bytes, bytes] | None = opened(path).metadata.metadata
    return found or {}


def opened(path: Path) -> pq.ParquetFile:
    """A table of a run, to be read without threads: for one this small pandas' own reader takes four times as long."""
    return pq.ParquetFile(pa.OSFile(str(path)), pre_buffer=False)  # a path would be looked at more closely
