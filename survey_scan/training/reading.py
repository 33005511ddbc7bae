"""Pixels of labelled rows in a shuffled order that is cheap to read: whole chunks at random, their rows mixed.

Rows at random from a Zarr store cost a chunk each. So chunks are shuffled, and the rows of some of them at a time: which row
comes when is known from seed and pass alone, so that a training goes on from anywhere as if it had never stopped.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from survey_scan.config import CHUNK_ROWS
from survey_scan.models.package import View
from survey_scan.store import Reader
from survey_scan.training.labels import Rows

Pixels = NDArray[np.float32]

#: Bytes of a gigabyte.
GB = 1e9


class Source(Protocol):
    """Where pixels come from."""

    def fetch(self, index: NDArray[np.int64]) -> Pixels:
        """Pixels of rows by their number among all rows, float32 with NaN, shape (n, size, size, bands)."""
        ...


class Stored:
    """Reads chunks when their rows are asked for.

    Parameters
    ----------
    readers : sequence of Reader
        The stores.
    views : sequence of View
        Which bands and pixels of each.
    rows : Rows
        All rows.
    """

    def __init__(self, readers: Sequence[Reader], views: Sequence[View], rows: Rows):
        self.readers, self.views, self.rows = readers, views, rows

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels of all rows."""
        view = self.views[0]
        return len(self.rows) * view.size**2 * len(view.bands) * 4

    def fetch(self, index: NDArray[np.int64]) -> Pixels:
        """See :class:`Source`; every chunk is read once."""
        view = self.views[0]
        out = np.empty((len(index), view.size, view.size, len(view.bands)), np.float32)
        block = blocks(self.rows)[index]
        order = np.argsort(block, kind="stable")
        edges = np.flatnonzero(np.diff(block[order], prepend=-1, append=-1))
        for low, high in pairwise(edges):
            places = order[low:high]
            store, rows = int(self.rows.store[index[places[0]]]), self.rows.row[index[places]]
            out[places] = self._chunk(store, rows)
        return out

    def _chunk(self, store: int, rows: NDArray[np.int64]) -> Pixels:
        """Rows of one chunk."""
        reader, view = self.readers[store], self.views[store]
        first = int(rows[0]) // CHUNK_ROWS * CHUNK_ROWS
        pixels = reader.pixels(first, min(first + CHUNK_ROWS, reader.n_targets))
        inside = slice(view.margin, view.margin + view.size)
        pixels = pixels[:, inside, inside]
        if list(view.numbers) != list(range(pixels.shape[-1])):
            pixels = pixels[..., list(view.numbers)]
        return pixels[rows - first]


class Held:
    """Pixels of all rows, in memory."""

    def __init__(self, stored: Stored):
        self.pixels = stored.fetch(np.arange(len(stored.rows)))

    def fetch(self, index: NDArray[np.int64]) -> Pixels:
        """See :class:`Source`."""
        return self.pixels[index]


def blocks(rows: Rows) -> NDArray[np.int64]:
    """The chunk of each row, numbered over all stores."""
    return (rows.store << 40) | (rows.row // CHUNK_ROWS)


def order(rows: Rows, mine: NDArray[np.int64], at_once: int, key: Sequence[int]) -> tuple[NDArray[np.int64], list[int]]:
    """One pass through some rows: chunks in random order, and the rows of ``at_once`` of them mixed.

    Parameters
    ----------
    rows : Rows
        All rows.
    mine : ndarray of int64
        Numbers of those that are gone through; each as often as its ``repeat`` says.
    at_once : int
        Chunks.
    key : sequence of int
        Of the random numbers.

    Returns
    -------
    ndarray of int64, list of int
        Numbers of rows in the order they are drawn; where each lot of chunks begins, and the end.
    """
    rng = np.random.default_rng(np.random.SeedSequence(list(key)))
    index = np.repeat(mine, rows.repeat[mine])
    found, of_row = np.unique(blocks(rows)[index], return_inverse=True)
    lot = rng.permutation(len(found))[of_row] // at_once
    index = index[np.lexsort((rng.random(len(index)), lot))]
    ends = np.cumsum(np.bincount(lot))
    return index, [0, *map(int, ends)]


class Draws:
    """Rows of a group, without end: pass after pass, each in another order; a thread reads ahead.

    Parameters
    ----------
    source : Source
        Of their pixels.
    rows : Rows
        All rows.
    mine : ndarray of int64
        Numbers of the group's rows.
    at_once : int
        Chunks whose rows are mixed.
    key : tuple of int
        Seed, and the group's number.
    start : int
        How many have been drawn already.
    """

    def __init__(
        self, source: Source, rows: Rows, mine: NDArray[np.int64], at_once: int, key: tuple[int, ...], start: int = 0
    ):
        self._source, self._rows, self._mine, self._at_once, self._key = source, rows, mine, at_once, key
        self._length = int(rows.repeat[mine].sum())
        self._lots = self._from(start)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="training-reader")
        self._ahead: Future[tuple[NDArray[np.int64], Pixels]] = self._submit()
        self._index, self._at = np.empty(0, np.int64), 0
        self._pixels: Pixels | None = None

    def take(self, count: int) -> Iterator[tuple[NDArray[np.int64], Pixels]]:
        """The next rows, in one or more pieces: their numbers, and their pixels."""
        while count:
            if self._at == len(self._index):
                self._index, self._pixels = self._ahead.result()
                self._at, self._ahead = 0, self._submit()
            piece = slice(self._at, min(self._at + count, len(self._index)))
            self._at = piece.stop
            count -= piece.stop - piece.start
            assert self._pixels is not None
            yield self._index[piece], self._pixels[piece]

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(cancel_futures=True)

    def _submit(self) -> "Future[tuple[NDArray[np.int64], Pixels]]":
        return self._pool.submit(self._load)

    def _load(self) -> tuple[NDArray[np.int64], Pixels]:
        index = next(self._lots)
        return index, self._source.fetch(index)

    def _from(self, start: int) -> Iterator[NDArray[np.int64]]:
        """Numbers of rows lot by lot, from a place on."""
        number, skip = divmod(start, self._length)
        while True:
            index, edges = order(self._rows, self._mine, self._at_once, (*self._key, number))
            for low, high in pairwise(edges):
                if high > skip:
                    yield index[max(low, skip) : high]
            number, skip = number + 1, 0


class Batches:
    """Batches to train on, from any step on.

    Parameters
    ----------
    source : Source
        Of the pixels.
    rows : Rows
        All rows.
    groups : sequence of (ndarray, int)
        Numbers of a group's rows, and how many of each batch are from it.
    at_once : int
        Chunks whose rows are mixed.
    seed, start : int
        Of the order; the first step.
    """

    def __init__(
        self,
        source: Source,
        rows: Rows,
        groups: Sequence[tuple[NDArray[np.int64], int]],
        at_once: int,
        seed: int,
        start: int = 0,
    ):
        self._rows, self._seed, self._step = rows, seed, start
        self._counts = [count for _, count in groups]
        self._draws = [
            Draws(source, rows, mine, at_once, (seed, 1, number), start * count)
            for number, (mine, count) in enumerate(groups)
        ]

    def take(self) -> tuple[Pixels, NDArray[np.bool_]]:
        """Pixels and labels of the next batch, the groups mixed."""
        size = sum(self._counts)
        places = np.random.default_rng([self._seed, 2, self._step]).permutation(size)
        pixels: Any = None
        is_lens, at = np.empty(size, bool), 0
        for draws, count in zip(self._draws, self._counts, strict=True):
            for index, some in draws.take(count):
                if pixels is None:
                    pixels = np.empty((size, *some.shape[1:]), np.float32)
                here = places[at : at + len(index)]
                pixels[here], is_lens[here] = some, self._rows.is_lens[index]
                at += len(index)
        self._step += 1
        return pixels, is_lens

    def close(self) -> None:
        """End the threads."""
        for draws in self._draws:
            draws.close()
