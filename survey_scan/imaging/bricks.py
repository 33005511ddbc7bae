"""The bricks of the Legacy Surveys by arithmetic: names, numbers and bounds without a table.

Bricks are rows of 0.25 degrees in declination, the first and the last centred on the poles and one brick each. The others have
an even number of bricks, as few as make none wider than 0.25 degrees. So the survey's ``survey-bricks.fits.gz`` has them,
which was made with what is now ``desiutil.brick`` (BSD-3), the reference here.

An object's brick is the one whose part of the sky holds it: where Tractor says ``brick_primary``. Images reach beyond that part;
which image holds an object most centrally (:mod:`survey_scan.plan.locate`) is another brick for some of those near an edge.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from survey_scan.imaging.tile_index import BRICK, CORNERS, square

#: ``images.index`` that means these bricks.
WORD = "bricks"

_SIDE = 0.25  # degrees
_ROWS = 721

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Bounds(NamedTuple):
    """A brick's part of the sky, and its centre (degrees). Those at the poles end beyond them, at ±90.125."""

    ra: Floats
    dec: Floats
    ra1: Floats
    ra2: Floats
    dec1: Floats
    dec2: Floats


def brick_id(ra: ArrayLike, dec: ArrayLike) -> Integers:
    """BRICKID of the brick whose part of the sky holds each position; from 1, by rows from the south pole.

    Parameters
    ----------
    ra, dec : array_like, shape (n,)
        Degrees, finite; right ascensions of any turn.
    """
    counts, firsts = _rows()
    row = np.clip(((np.asarray(dec, np.float64) + 90.0 + _SIDE / 2) / _SIDE).astype(np.int64), 0, _ROWS - 1)
    column = (np.mod(np.asarray(ra, np.float64), 360.0) / 360.0 * counts[row]).astype(np.int64)
    # the remainder of a tiny negative number rounds to 360
    return np.asarray(firsts[row] + np.minimum(column, counts[row] - 1), np.int64)


def names() -> NDArray[np.str_]:
    """Names of all 662,174 bricks: BRICKID ``i`` at ``i - 1``, such as 0959p805 for right ascension 95.9, declination +80.5."""
    return _names().astype(str)


def brick_name(ra: ArrayLike, dec: ArrayLike) -> NDArray[np.str_]:
    """Name of the brick whose part of the sky holds each position (degrees)."""
    return _names()[brick_id(ra, dec) - 1].astype(str)


def bounds(ids: ArrayLike) -> Bounds:
    """Where bricks are, by BRICKID."""
    counts, firsts = _rows()
    numbers = np.asarray(ids, np.int64)
    row = np.searchsorted(firsts, numbers, "right") - 1
    column = numbers - firsts[row]
    step, dec = np.asarray(360.0 / counts[row], np.float64), np.asarray(row * _SIDE - 90.0, np.float64)
    return Bounds((column + 0.5) * step, dec, column * step, (column + 1) * step, dec - _SIDE / 2, dec + _SIDE / 2)


def table(wanted: ArrayLike | None = None) -> pd.DataFrame:
    """A table of tiles, as :func:`survey_scan.imaging.tile_index.read_index` reads one.

    Parameters
    ----------
    wanted : array_like of str, optional
        Names of bricks; those that are none are left out. Default: all there are, on the whole sky.
    """
    every = _names()
    ids = np.arange(1, len(every) + 1)
    if wanted is not None:
        ids = ids[np.isin(every, np.asarray(wanted, str).astype("S"))]
    where = bounds(ids)
    found = pd.DataFrame(square(np.stack([where.ra, where.dec], axis=1), *BRICK), columns=CORNERS)
    found.insert(0, "tile", every[ids - 1].astype(str))
    return found.assign(problem="")


@cache
def _rows() -> tuple[Integers, Integers]:
    """Bricks in each row, and the BRICKID of each row's first."""
    dec = np.arange(_ROWS) * _SIDE - 90.0
    widest = np.abs(dec) - _SIDE / 2
    counts = (np.ceil(360.0 / _SIDE * np.cos(np.deg2rad(widest)) / 2) * 2).astype(np.int64)
    counts[[0, -1]] = 1
    return counts, 1 + np.cumsum(counts) - counts


@cache
def _names() -> NDArray[np.bytes_]:
    counts, firsts = _rows()
    where = bounds(np.arange(1, firsts[-1] + counts[-1]))
    # rounded to 1e-4 degrees, then cut off after tenths: 39.599999999999994 is 0396
    ra, dec = (np.rint(np.abs(values) * 10_000).astype(np.int64) // 1000 for values in (where.ra, where.dec))
    digits = [ra // 1000, ra // 100 % 10, ra // 10 % 10, ra % 10, None, dec // 100, dec // 10 % 10, dec % 10]
    letters = np.empty((len(ra), 8), np.uint8)
    for i, digit in enumerate(digits):
        letters[:, i] = np.where(where.dec >= 0, ord("p"), ord("m")) if digit is None else digit + ord("0")
    return np.asarray(letters.view("S8")[:, 0])
