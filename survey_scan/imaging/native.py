"""Windows of float32 images, not compressed or compressed by RICE as DES and the Legacy Surveys do, by a part in C.

It gives astropy's pixels, bit by bit, and decodes at more than twice its speed (``_native.c``). It is optional: where it was
not built, :func:`decoder` gives None, and astropy, fitsio and numpy do all of it.
"""

import ctypes
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey_scan import c_library
from survey_scan.imaging.compressed import Column, columns
from survey_scan.imaging.cost import OWN_RICE, Indices, Layout
from survey_scan.imaging.fits_header import ImageHdu

_METHODS = {"NO_DITHER": 0, "SUBTRACTIVE_DITHER_1": 1, "SUBTRACTIVE_DITHER_2": 2}
#: Length of the sequence of random numbers, and of that of seeds (FITS standard 4.0, appendix I).
_RANDOM = 10_000
#: Most pixels of a compression tile that is decoded here.
_MOST_PIXELS = 2**20
#: Stands for "no blank value": no number of 32 bits.
_NO_BLANK = 2**40

_TILE = np.dtype([("offset", "i8"), ("length", "i8"), ("scale", "f8"), ("zero", "f8")])


class _Image(ctypes.Structure):
    _fields_ = [
        ("heap", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("heap_bytes", "height", "width", "rows", "columns", "block", "method")),
        *((name, ctypes.c_int64) for name in ("seed", "blank")),
        ("random", ctypes.c_void_p),
        ("tiles", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("first", "last")),
    ]


class _Windows(ctypes.Structure):
    _fields_ = [
        ("n", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("y0", "x0")),
        *((name, ctypes.c_int64) for name in ("height", "width")),
        *((name, ctypes.c_void_p) for name in ("out", "at")),
        *((name, ctypes.c_int64) for name in ("row", "pixel")),
        ("nodata", ctypes.c_double),
        ("bad", ctypes.c_void_p),
    ]


@cache
def decoder() -> Any:
    """The functions in C; None where they were not built, or built from another version of them."""
    library = c_library.find("survey_scan.imaging._native", "rice_cut_2", "plain_cut_2")
    if library is None:
        return None
    library.rice_cut_2.argtypes = [ctypes.POINTER(_Image), ctypes.POINTER(_Windows), ctypes.c_void_p]
    library.plain_cut_2.argtypes = [ctypes.POINTER(_Image), ctypes.POINTER(_Windows)]
    library.rice_cut_2.restype = library.plain_cut_2.restype = ctypes.c_int64
    return library


@cache
def _random() -> NDArray[np.float32]:
    """The random numbers that are subtracted (FITS standard 4.0, appendix I)."""
    numbers, value = np.empty(_RANDOM, np.float32), 1
    for i in range(_RANDOM):
        value = value * 16807 % 2147483647
        numbers[i] = value / 2147483647
    return numbers


class _Given:
    """Windows as the functions in C take them, which do not keep the arrays alive that they point to."""

    def __init__(self, y0: Indices, x0: Indices, out: NDArray[np.float32], rows: Indices, nodata: float | None):
        steps = [stride // out.itemsize for stride in out.strides]
        self._arrays = [np.ascontiguousarray(each, np.int64) for each in (y0, x0, rows * steps[0])]
        self.bad: Indices = np.zeros(len(y0), np.int64)
        self.struct = _Windows(
            n=len(y0),
            **{name: array.ctypes.data for name, array in zip(("y0", "x0", "at"), self._arrays, strict=True)},
            height=out.shape[1],
            width=out.shape[2],
            out=out.ctypes.data,
            row=steps[1],
            pixel=steps[2],
            nodata=np.nan if nodata is None else nodata,
            bad=self.bad.ctypes.data,
        )


def cut_plain(
    pixels: NDArray[Any], y0: Indices, x0: Indices, out: NDArray[np.float32], rows: Indices, nodata: float | None
) -> Indices | None:
    """Copy windows of an image that is not compressed; None, and nothing copied, if there is no part in C, or not for its type.

    Parameters
    ----------
    pixels : ndarray, shape (height, width)
        The whole image, contiguous; big-endian float32.
    y0, x0, out, rows, nodata
        As of :meth:`Rice.cut`, in any order.
    """
    if decoder() is None or pixels.dtype != np.dtype(">f4") or not pixels.flags.c_contiguous:
        return None
    windows, (height, width) = _Given(y0, x0, out, rows, nodata), pixels.shape
    image = _Image(heap=pixels.ctypes.data, heap_bytes=pixels.nbytes, height=height, width=width)
    decoder().plain_cut_2(image, windows.struct)
    return windows.bad


class Rice:
    """An image that the decoder can read; made by :func:`opened`."""

    def __init__(self, hdu: ImageHdu, path: Path, table: dict[str, Column], parameters: dict[str, int]):
        (height, width), (rows, across) = hdu.layout.shape, hdu.layout.tile
        self._row_bytes, self._table = int(hdu.values["NAXIS1"]), table
        self._across, self._rows = -(-width // across), rows
        self._data = np.memmap(path, np.uint8, "r", hdu.offset, (hdu.nbytes,))
        heap = self._data[_heap_at(hdu.values) :]
        self._unpacked = np.empty(min(rows, height) * min(across, width), np.int32)
        self._image = _Image(
            heap=heap.ctypes.data,
            heap_bytes=len(heap),
            height=height,
            width=width,
            rows=rows,
            columns=across,
            random=_random().ctypes.data,
            **parameters,
        )

    def cut(
        self, y0: Indices, x0: Indices, out: NDArray[np.float32], rows: Indices, nodata: float | None
    ) -> Indices | None:
        """Copy windows; each compression tile is decoded once, if a window has pixels of it.

        Parameters
        ----------
        y0, x0 : ndarray of int64, shape (k,)
            First row and column of each, sorted by row; they may lie outside the image.
        out : ndarray of float32, shape (n, height, width)
            Where to; may have any strides. What is outside the image is left as it is.
        rows : ndarray of int64, shape (k,)
            Row of ``out`` of each window.
        nodata : float or None
            A value that is no data.

        Returns
        -------
        ndarray of int64, shape (k,)
            How many pixels of the image in each window are not finite or ``nodata``. None if a compression tile there is
            not compressed by RICE: then nothing is copied.

        Raises
        ------
        ValueError
            If the data cannot be decoded.
        """
        image, height = self._image, out.shape[1]
        if not len(y0):
            return np.zeros(0, np.int64)
        image.first = max(int(y0[0]), 0) // self._rows
        image.last = -(-min(int(y0[-1]) + height, image.height) // self._rows)
        tiles = self._tiles(image.first * self._across, image.last * self._across)
        if not tiles["length"].all():
            return None
        image.tiles = tiles.ctypes.data
        windows = _Given(y0, x0, out, rows, nodata)
        corrupt = decoder().rice_cut_2(image, windows.struct, self._unpacked.ctypes.data)
        if corrupt >= 0:
            raise ValueError(f"compression tile {corrupt + 1} is not what RICE makes of its pixels")
        return windows.bad

    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[np.float32] | None:
        """Pixels ``[y0:y1, x0:x1]``, a box inside the image; None and errors as of :meth:`cut`."""
        pixels = np.empty((1, y1 - y0, x1 - x0), np.float32)
        found = self.cut(np.array([y0]), np.array([x0]), pixels, np.array([0]), None)
        return None if found is None else pixels[0]

    def _tiles(self, first: int, last: int) -> NDArray[Any]:
        """Where the data of compression tiles are, and how to scale them."""
        raw = self._data[first * self._row_bytes : last * self._row_bytes].reshape(-1, self._row_bytes)
        tiles = np.empty(last - first, _TILE)
        data = self._table["COMPRESSED_DATA"]
        pair = ">i4" if data.letters == "PB" else ">i8"
        tiles["length"], tiles["offset"] = np.ascontiguousarray(raw[:, data.bytes]).view(pair).T
        for name, field in (("ZSCALE", "scale"), ("ZZERO", "zero")):
            tiles[field] = np.ascontiguousarray(raw[:, self._table[name].bytes]).view(">f8")[:, 0]
        return tiles


def opened(hdu: ImageHdu, path: Path) -> Rice | None:
    """An image for the decoder, None if it is none that it can read, or there is no decoder.

    Parameters
    ----------
    hdu : ImageHdu
        An image in a file that is not compressed as a whole.
    path : Path
        That file, or a copy of it.

    Raises
    ------
    ValueError
        If its table has columns of no known type.
    """
    parameters = _parameters(hdu) if decoder() is not None else None
    return None if parameters is None else Rice(hdu, path, _table(hdu), parameters)


def layout(hdu: ImageHdu) -> Layout:
    """How an image lies in its file, priced as what decodes it (:mod:`survey_scan.imaging.cost`)."""
    try:
        own = decoder() is not None and _parameters(hdu) is not None
    except ValueError:
        own = False
    return replace(hdu.layout, codec=OWN_RICE) if own else hdu.layout


def _table(hdu: ImageHdu) -> dict[str, Column]:
    return {column.name: column for column in columns(hdu.values)}


def _parameters(hdu: ImageHdu) -> dict[str, int] | None:
    """What the header says of the compression, None if it is of a kind that the decoder does not know."""
    if hdu.layout.codec != "RICE_1" or hdu.bitpix != -32 or not hdu.plain:
        return None
    values, (height, width), (rows, across) = hdu.values, hdu.layout.shape, hdu.layout.tile
    table = _table(hdu)
    forms = {name: (column.elements, column.letters) for name, column in table.items()}
    settings: dict[str, Any] = {"BLOCKSIZE": 32, "BYTEPIX": 4}
    for i in range(1, 1000):
        if f"ZNAME{i}" not in values:
            break
        settings[str(values[f"ZNAME{i}"]).upper()] = values.get(f"ZVAL{i}")
    method, blank = _METHODS.get(values.get("ZQUANTIZ", "NO_DITHER")), values.get("ZBLANK", _NO_BLANK)
    seed: Any = values.get("ZDITHER0") if method else 1
    known = (
        all(isinstance(value, int) for value in (seed, blank, settings["BLOCKSIZE"]))
        and 1 <= seed <= _RANDOM
        and settings["BLOCKSIZE"] > 0
        and settings["BYTEPIX"] == 4
        and forms.get("COMPRESSED_DATA") in ((1, "PB"), (1, "QB"))
        and forms.get("ZSCALE") == forms.get("ZZERO") == (1, "D")
        and "ZBLANK" not in table
        and not any(keyword == "BLANK" or keyword.startswith(("TSCAL", "TZERO")) for keyword in values)
        and values["NAXIS1"] == max(column.bytes.stop for column in table.values())
        and values["NAXIS2"] == -(-height // rows) * -(-width // across)
        and values["NAXIS1"] * values["NAXIS2"] <= _heap_at(values) <= hdu.nbytes
        and rows * across <= _MOST_PIXELS
    )
    if method is None or not known:
        return None
    return {"block": settings["BLOCKSIZE"], "method": method, "seed": seed - 1, "blank": blank}


def _heap_at(values: dict[str, Any]) -> int:
    return int(values.get("THEAP", values["NAXIS1"] * values["NAXIS2"]))
