"""Which way to read the pixels of some targets from one image costs least.

Where an image is not compressed, or a decoder of our own reads it (``native``), and nothing is read beside it, targets are cut
out of the file one by one, which is the fastest whatever their number. Else there are three ways: ``whole`` reads the image
once, ``rows`` reads the bands of rows that hold targets, ``sections`` reads one box a target. What each costs follows from
how the image is compressed: a compression tile is decoded entirely or not at all, so one pixel of a row-tiled image costs
a row of 10,000, and in a Legacy Surveys brick a box of 100 x 100.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Mode = Literal["rows", "whole", "sections"]
Indices = NDArray[np.int64]

#: Codecs of a file that is compressed as a whole, which can only be read from its beginning.
FILE_CODECS = ("gzip", "bzip2")

#: RICE_1 by the decoder of :mod:`survey_scan.imaging.native`.
OWN_RICE = "RICE_1 by _native.c"

#: Most bytes of float32 pixels held at once, unless one target's rows, or an image in a gzipped file, are more than that.
STRIP_BYTES = 96 * 2**20


@dataclass(frozen=True)
class Layout:
    """How an image lies in its file.

    Attributes
    ----------
    codec : str
        ``none``, one of :data:`FILE_CODECS`, or the value of ZCMPTYPE; :data:`OWN_RICE` if that is what decodes it.
    shape : tuple of int
        Rows and columns of the image.
    tile : tuple of int
        Rows and columns of a compression tile; one row if there is no tile compression.
    """

    codec: str
    shape: tuple[int, int]
    tile: tuple[int, int]

    @property
    def image_bytes(self) -> int:
        """Bytes of the image as float32."""
        return 4 * self.shape[0] * self.shape[1]


class Box(NamedTuple):
    """One call to read pixels ``[y0:y1, x0:x1]``, which hold the windows of targets ``first`` to ``last - 1``."""

    y0: int
    y1: int
    x0: int
    x1: int
    first: int
    last: int


class Price(NamedTuple):
    """Seconds of CPU for one call, for one compression tile and for one pixel decoded."""

    call: float
    tile: float
    pixel: float


#: Prices of reading whole images and bands of rows, and of reading sections, by codec; an unknown codec is priced as
#: GZIP_2. Printed by ``python benchmarks/cost_model.py`` (astropy 8.0.2, fitsio 1.4.2, one core of an AMD EPYC, Zen 5):
#: only their ratios matter, and these change far less from machine to machine than the seconds do.
BULK = {
    "none": Price(3.9e-05, 0.0, 2.3e-10),
    "RICE_1": Price(0.0041, 1.5e-05, 7.9e-09),
    OWN_RICE: Price(8.0e-05, 1.7e-06, 3.4e-09),
    "GZIP_1": Price(0.0042, 2.1e-05, 1.0e-08),
    "GZIP_2": Price(0.0041, 2.6e-05, 2.7e-08),
    "HCOMPRESS_1": Price(0.0037, 1.2e-05, 2.5e-08),
    "PLIO_1": Price(0.0024, 1.0e-05, 8.8e-10),
}
SECTION = {
    "none": Price(1.3e-05, 0.0, 9.5e-10),
    "RICE_1": Price(4.4e-05, 0.0, 1.5e-08),
    OWN_RICE: Price(5.5e-05, 0.0, 2.9e-09),
    "GZIP_1": Price(3.2e-05, 1.3e-05, 2.2e-08),
    "GZIP_2": Price(2.5e-05, 6.0e-06, 2.5e-08),
    "HCOMPRESS_1": Price(3.7e-05, 7.7e-06, 4.9e-08),
    "PLIO_1": Price(2.1e-05, 2.6e-07, 2.6e-09),
}


def choose(
    layout: Layout, y0: Indices, y1: Indices, x0: Indices, x1: Indices, *beside: Layout
) -> tuple[Mode, list[Box]]:
    """The cheapest way to read some windows, and the calls it consists of.

    Parameters
    ----------
    layout : Layout
        Of the image.
    y0, y1, x0, x1 : ndarray of int64, shape (n,)
        The windows ``[y0:y1, x0:x1]``, inside the image, not empty, sorted by ``y0``, and by ``y1`` where equal.
    beside : Layout
        Of images that are read by the same calls: mask, weight.

    Returns
    -------
    mode : str
        ``whole`` for a file compressed as a whole; else the cheapest, where ``whole`` must fit into ``STRIP_BYTES``.
    boxes : list of Box
        Every window lies in the box that names it.
    """
    ways = {mode: boxes(mode, layout, y0, y1, x0, x1) for mode in allowed(layout)}
    mode = min(ways, key=lambda mode: sum(seconds(mode, each, ways[mode]) for each in (layout, *beside)))
    return mode, [Box(*box) for box in ways[mode].tolist()]


def allowed(layout: Layout) -> tuple[Mode, ...]:
    """The ways an image may be read; on a tie the first is taken."""
    if layout.codec in FILE_CODECS:
        return ("whole",)
    return ("whole", "rows", "sections") if layout.image_bytes <= STRIP_BYTES else ("rows", "sections")


def boxes(mode: Mode, layout: Layout, y0: Indices, y1: Indices, x0: Indices, x1: Indices) -> Indices:
    """The calls one way of reading consists of: the fields of a :class:`Box` a row; parameters as :func:`choose`."""
    (height, width), n = layout.shape, len(y0)
    if mode == "whole":
        return np.array([[0, height, 0, width, 0, n]])
    if mode == "sections":
        return np.stack([y0, y1, x0, x1, np.arange(n), np.arange(1, n + 1)], axis=1)
    depth, most = layout.tile[0], STRIP_BYTES // (4 * width)
    reach = np.maximum.accumulate(y1)
    # rows between two windows are read only if their compression tiles are decoded anyhow
    apart = y0[1:] // depth > (reach[:-1] - 1) // depth + 1
    bands = []
    for first, end in zip([0, *np.flatnonzero(apart) + 1], [*np.flatnonzero(apart) + 1, n], strict=True):
        while first < end:
            last = max(first + 1, int(np.searchsorted(reach[:end], y0[first] + most, side="right")))
            bands.append([y0[first], reach[last - 1], 0, width, first, last])
            first = last
    return np.array(bands, dtype=np.int64)


def seconds(mode: Mode, layout: Layout, calls: Indices) -> float:
    """CPU seconds that calls (from :func:`boxes`) took on the machine the prices were measured on."""
    prices = SECTION if mode == "sections" else BULK
    price = prices.get(layout.codec, prices["GZIP_2"])
    return sum(each * n for each, n in zip(price, work(layout, calls), strict=True))


def work(layout: Layout, calls: Indices) -> tuple[int, int, int]:
    """How many calls these are, and how many compression tiles and pixels they have decoded."""
    y0, y1, x0, x1 = calls[:, :4].T
    if layout.codec == "none":
        return len(calls), 0, int(((y1 - y0) * (x1 - x0)).sum())
    rows, columns = layout.tile
    tiles = int((((y1 - 1) // rows - y0 // rows + 1) * ((x1 - 1) // columns - x0 // columns + 1)).sum())
    return len(calls), tiles, tiles * rows * columns


def strip_bytes(layout: Layout, size: int) -> int:
    """Most bytes of float32 pixels :func:`choose` ever has read by one call, for cutouts of ``size``."""
    if layout.codec in FILE_CODECS:
        return layout.image_bytes
    return min(layout.image_bytes, max(STRIP_BYTES, 4 * size * layout.shape[1]))
