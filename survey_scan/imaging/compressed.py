"""Bands of rows of a tile-compressed image, decoded by astropy at the speed of a whole image.

A band of compression tiles is itself a compressed image: some rows of the table, the part of the heap they point to,
and a header that says so. astropy decodes such an image 15 % faster than the same section of the large one, whose heap
it reads tile by tile. The layout is that of the FITS standard 4.0, sections 7.3.5 and 10.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from survey_scan.imaging.fits_header import BLOCK, CARD, ImageHdu

#: Cards that matter to decoding.
_CARD = re.compile(r"(XTENSION|BITPIX|NAXIS|GCOUNT|TFIELDS|TTYPE|TFORM|TSCAL|TZERO|TNULL|Z|BSCALE|BZERO|BLANK)")
_REPLACED = ("NAXIS2", "ZNAXIS2", "ZDITHER0", "ZHECKSUM", "ZDATASUM", "ZSIMPLE", "ZTENSION", "ZEXTEND")
_FORM = re.compile(r"(\d*)([A-Z])([A-Z]?)")
#: Bytes of an element by the letter of TFORMn.
_BYTES = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "E": 4, "K": 8, "D": 8, "P": 8, "Q": 16, "C": 8, "M": 16}
#: Length of the sequence of dither seeds (FITS standard 4.0, appendix I).
_SEEDS = 10_000


class Column(NamedTuple):
    """A column of a binary table: its name, where it stands in a row, how many elements of which type (of TFORMn)."""

    name: str
    bytes: slice
    elements: int
    letters: str


def columns(values: dict[str, Any]) -> Iterator[Column]:
    """The columns of a binary table, by its header's values; ValueError if one is of no known type."""
    at = 0
    for i in range(1, int(values["TFIELDS"]) + 1):
        form = _FORM.match(str(values[f"TFORM{i}"]))
        if form is None or form[2] not in _BYTES:
            raise ValueError(f"TFORM{i} is {values[f'TFORM{i}']!r}")
        count = int(form[1] or 1)
        size = _BYTES[form[2]] * count
        yield Column(str(values.get(f"TTYPE{i}", "")), slice(at, at + size), count, form[2] + form[3])
        at += size


def read_rows(hdu: ImageHdu, path: Path, y0: int, y1: int) -> NDArray[Any]:
    """Rows ``y0`` to ``y1 - 1`` of a compressed image.

    Parameters
    ----------
    hdu : ImageHdu
        A tile-compressed image in a file that is not compressed as a whole.
    path : Path
        That file, or a copy of it.
    y0, y1 : int
        ``0 <= y0 < y1 <= height``.

    Returns
    -------
    ndarray, shape (y1 - y0, width)
        As ``hdu.data[y0:y1]`` of astropy.

    Raises
    ------
    ValueError
        If the table points outside its heap.
    Exception
        Whatever astropy raises for data that cannot be decoded.
    """
    from astropy.io import fits

    (height, width), (rows, columns) = hdu.layout.shape, hdu.layout.tile
    top, across = y0 // rows, -(-width // columns)
    first, last = top * across, -(-y1 // rows) * across
    with path.open("rb") as file:
        table = _Table(hdu, file, first, last)
        header = _header(hdu, table, first, min(last // across * rows, height) - top * rows)
    # mapped, so that the heap is copied once and no more
    heap = np.memmap(path, np.uint8, "r", table.heap_at, (table.heap_bytes,)).data if table.heap_bytes else b""
    padding = bytes(-(len(header) + table.rows.nbytes + table.heap_bytes) % BLOCK)
    with fits.HDUList.fromstring(b"".join([header, table.rows.data, heap, padding])) as hdus:
        pixels: NDArray[Any] = hdus[1].data
    return pixels[y0 - top * rows : y1 - top * rows]


class _Table:
    """Some rows of a compressed image's table, and where in the heap the data are that they point to."""

    def __init__(self, hdu: ImageHdu, file: IO[bytes], first: int, last: int):
        values = hdu.values
        row_bytes, tiles = int(values["NAXIS1"]), int(values["NAXIS2"])
        heap_at = int(values.get("THEAP", row_bytes * tiles))
        heap_bytes = int(values["PCOUNT"]) - (heap_at - row_bytes * tiles)
        file.seek(hdu.offset + first * row_bytes)
        raw = np.frombuffer(file.read((last - first) * row_bytes), np.uint8)
        self.rows = raw.reshape(last - first, row_bytes).copy()
        pointers = list(self._pointers(values))
        begins = np.concatenate([pairs[used, 1] for _, pairs, used, _ in pointers])
        ends = np.concatenate([pairs[used, 1] + pairs[used, 0] * size for _, pairs, used, size in pointers])
        begin, end = int(begins.min(initial=heap_bytes)), int(ends.max(initial=0))
        if begin < 0 or end > heap_bytes:
            raise ValueError(f"a compression tile ends at byte {end} of a heap of {heap_bytes}")
        for where, pairs, used, _ in pointers:
            pairs[:, 1] = np.where(used, pairs[:, 1] - begin, 0)
            kind = ">i4" if where.stop - where.start == 8 else ">i8"
            self.rows[:, where] = pairs.astype(kind).view(np.uint8)
        self.heap_at, self.heap_bytes = hdu.offset + heap_at + begin, max(end - begin, 0)

    def _pointers(self, values: dict[str, Any]) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[np.bool_], int]]:
        """Of each column of variable length: where it stands, its lengths and offsets, which count, element size."""
        for column in columns(values):
            if column.letters[0] in "PQ":
                kind = ">i4" if column.letters[0] == "P" else ">i8"
                pairs = self.rows[:, column.bytes].copy().view(kind).astype(np.int64)
                yield column.bytes, pairs, pairs[:, 0] > 0, _BYTES[column.letters[1]]


def _header(hdu: ImageHdu, table: _Table, first: int, height: int) -> bytes:
    """An empty primary HDU, and the header of the small image."""
    changed = {"NAXIS2": len(table.rows), "PCOUNT": table.heap_bytes, "ZNAXIS2": height}
    if "ZDITHER0" in hdu.values:
        changed["ZDITHER0"] = (int(hdu.values["ZDITHER0"]) + first - 1) % _SEEDS + 1
    cards = [hdu.text[i : i + CARD] for i in range(0, len(hdu.text), CARD)]
    kept = [card for card in cards if _CARD.match(card) and card[:8].rstrip() not in _REPLACED]
    kept[4:4] = [f"{name:8}= {value:>20}" for name, value in changed.items()]  # after XTENSION, BITPIX, NAXIS, NAXIS1
    primary = [f"{'SIMPLE':8}= {'T':>20}", f"{'BITPIX':8}= {8:>20}", f"{'NAXIS':8}= {0:>20}"]
    texts = ("".join(f"{card:{CARD}}" for card in [*cards, "END"]) for cards in (primary, kept))
    return b"".join(f"{text:{-(-len(text) // BLOCK) * BLOCK}}".encode("latin-1") for text in texts)
