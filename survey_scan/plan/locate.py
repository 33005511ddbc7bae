"""Which tile holds a position most centrally.

A tile is the convex polygon of its four corners on the sphere: the intersection of the half spaces ``p . n > 0`` of
its edges, which are great circles (as the edges of a gnomonic image are). Right ascension does not occur, so that
neither its wrap nor the poles need care. Of all tiles that hold a position, the one wins whose nearest edge is
farthest away.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from survey_scan.errors import ImageError
from survey_scan.imaging.tile_index import CORNERS

Floats = NDArray[np.float64]

#: Tiles are looked up by cells of this fraction of a typical tile's radius: small enough that few tiles are tried in
#: vain, large enough that a tile is in few cells.
_CELL = 0.7
#: Cells a tile may be in, on average, and all tiles together whatever their number; larger cells are made if need be.
_MOST = 50, 1_000_000
#: Neighbouring tiles of one projection share the line of an edge: margins (radians) that differ by less than this are
#: equal, and candidates come in the order of their names.
_TIE = 1e-11
#: Positions, and tiles, handled at once, which bounds memory.
_CHUNK, _TILES = 200_000, 20_000


@dataclass(frozen=True)
class Tiles:
    """The polygons of some tiles.

    Parameters
    ----------
    names : ndarray of str, shape (n,)
        Sorted.
    centres : ndarray, shape (n, 3)
        Unit vectors.
    normals : ndarray, shape (n, 4, 3)
        Unit vectors, at right angles to the edges, pointing inwards.
    cells : Cells
        Which tiles may hold a position.
    """

    names: NDArray[np.str_]
    centres: Floats
    normals: Floats
    cells: "Cells"


@dataclass(frozen=True)
class Cells:
    """The sky in rows of equal height, each in cells about as wide, and the tiles that may reach into each cell.

    Parameters
    ----------
    height : float
        Of a row, degrees.
    numbers : ndarray of int64, shape (m,)
        Cells that some tile may reach into, ascending.
    starts : ndarray of int64, shape (m + 1,)
        Where the tiles of each cell begin.
    tiles : ndarray of int32
        The tiles of one cell after the other, ascending within it.
    """

    height: float
    numbers: NDArray[np.int64]
    starts: NDArray[np.int64]
    tiles: NDArray[np.int32]


def unit(ra: ArrayLike, dec: ArrayLike) -> Floats:
    """Unit vectors, shape (..., 3), of positions in degrees."""
    a, d = np.deg2rad(np.asarray(ra, np.float64)), np.deg2rad(np.asarray(dec, np.float64))
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)


def polygons(table: pd.DataFrame) -> Tiles:
    """Polygons of a table of tiles.

    Parameters
    ----------
    table : DataFrame
        Columns tile and ra1, dec1 to ra4, dec4 (deg), the corners of a tile in any order. Tiles with a NaN corner
        hold nothing.
    """
    known = np.isfinite(table[CORNERS].to_numpy(np.float64)).all(axis=1)
    table = table[known].sort_values("tile", kind="stable")
    values = table[CORNERS].to_numpy(np.float64).reshape(-1, 4, 2)
    centres, normals, radii = np.empty((len(table), 3)), np.empty((len(table), 4, 3)), np.empty(len(table))
    for start in range(0, len(table), _TILES):
        part = slice(start, start + _TILES)
        centres[part], normals[part], radii[part] = _polygons(values[part])
    return Tiles(table["tile"].to_numpy(str), centres, normals, _cells(centres, radii))


def _polygons(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Centres, normals and radii (degrees) of tiles with such corners, shape (n, 4, 2)."""
    corners = unit(values[..., 0], values[..., 1])
    centres = corners.mean(axis=1)
    centres /= np.linalg.norm(centres, axis=-1, keepdims=True)
    corners = np.take_along_axis(corners, _around(centres, corners)[..., None], axis=1)
    normals = np.cross(corners, np.roll(corners, -1, axis=1))
    with np.errstate(invalid="ignore"):  # two corners in one place make no edge, and a tile that holds nothing
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    chords = np.linalg.norm(corners - centres[:, None], axis=-1).max(axis=1, initial=0.0)
    return centres, normals, np.rad2deg(2 * np.arcsin(np.minimum(chords / 2, 1.0)))


def locate(ra: ArrayLike, dec: ArrayLike, tiles: Tiles) -> NDArray[np.int32]:
    """The tile that holds each position most centrally.

    Parameters
    ----------
    ra, dec : array_like, shape (n,)
        Degrees, finite.
    tiles : Tiles
        From :func:`polygons`.

    Returns
    -------
    ndarray of int32, shape (n,)
        Index into ``tiles.names``; -1 where no tile holds the position. Of two tiles that hold it equally
        centrally, the one whose name sorts first.
    """
    ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    best = np.full(len(ra), -1, np.int32)
    if len(tiles.names):
        for start in range(0, len(ra), _CHUNK):
            part = slice(start, start + _CHUNK)
            best[part] = _locate(ra[part], dec[part], tiles)
    return best


def refuse_nowhere(selected: int, table: pd.DataFrame | None, source: str) -> None:
    """Refuse a catalogue of which nothing lies on a tile.

    Parameters
    ----------
    selected : int
        Number of objects.
    table : DataFrame or None
        The tiles, as for :func:`polygons`; None if the catalogue names the tile of each object.
    source : str
        Where the tiles were read, for the message.

    Raises
    ------
    ImageError
        Always.
    """
    if table is None:
        raise ImageError(f"catalogue.tile_column: empty for all {selected:,} selected objects. Name another column.")
    known = table[CORNERS].dropna()
    if known.empty:
        problem = f" The first: {table['problem'].iloc[0]}." if len(table) else ""
        raise ImageError(f"images: no tile of {source} has known corners.{problem} Check images.files and images.hdu.")
    dec = known[["dec1", "dec2", "dec3", "dec4"]].to_numpy()
    raise ImageError(
        f"images: none of the {selected:,} selected objects lies on one of the {len(known):,} tiles of {source} "
        f"(declination {dec.min():.3f} to {dec.max():.3f}). Check that catalogue and images are of the same sky and "
        "that positions are in degrees."
    )


def _locate(ra: Floats, dec: Floats, tiles: Tiles) -> NDArray[np.int32]:
    cells = tiles.cells
    row = _row(dec, cells.height)
    number = _first(row, cells.height) + _column(ra, row, cells.height)
    index = np.minimum(np.searchsorted(cells.numbers, number), len(cells.numbers) - 1)
    first = cells.starts[index]
    mine = np.where(cells.numbers[index] == number, cells.starts[index + 1] - first, 0)
    positions = unit(ra, dec)
    best = np.full(len(positions), -1, np.int32)
    margin = np.full(len(positions), -_TIE)  # sine of the angle to the nearest edge; 0 is on the edge, which is outside
    for turn in range(int(mine.max(initial=0))):
        rows = np.flatnonzero(mine > turn)
        tile = cells.tiles[first[rows] + turn]
        edge = _nearest_edge(positions[rows], tiles.normals[tile])
        better = edge > margin[rows] + _TIE
        best[rows[better]] = tile[better]
        margin[rows[better]] = edge[better]
    return best


def _cells(centres: Floats, radii: Floats) -> Cells:
    """Put each tile into all cells that the circle around it touches."""
    ra = np.rad2deg(np.arctan2(centres[:, 1], centres[:, 0]))
    dec = np.rad2deg(np.arctan2(centres[:, 2], np.hypot(centres[:, 0], centres[:, 1])))
    radii = radii + 1e-6  # degrees, against rounding
    height = float(np.clip(_CELL * np.median(radii), 1e-3, 10.0)) if len(radii) else 10.0
    while ((2 * radii / height + 2) ** 2).sum() > _MOST[0] * len(radii) + _MOST[1]:
        height *= 1.5
    keys = [np.zeros(0, np.int64)]
    for start in range(0, len(radii), _TILES):
        part = slice(start, start + _TILES)
        tile, number = _touched(ra[part], dec[part], radii[part], height)
        keys.append(number * len(radii) + tile + start)
    key = np.concatenate(keys)
    del keys
    key.sort()
    number, tile = np.divmod(key, max(len(radii), 1))
    del key
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    return Cells(height, number[starts], np.append(starts, len(number)), tile.astype(np.int32))


def _touched(ra: Floats, dec: Floats, radii: Floats, height: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tiles, and the number of a cell that the circle around each touches, one pair a line."""
    tile, row = _spread(_row(dec - radii, height), _row(dec + radii, height))
    # A circle around a pole, or one that touches it, reaches all right ascensions; else as the meridians that touch it do.
    polar = np.abs(dec) + radii >= 90.0
    reach = np.sin(np.deg2rad(radii)) / np.cos(np.deg2rad(np.where(polar, 0.0, dec)))
    width = np.where(polar, 180.0, np.rad2deg(np.arcsin(np.minimum(reach, 1.0))))
    count = _count(row, height)
    step = 360.0 / count
    left = np.floor((ra - width)[tile] / step).astype(np.int64)
    right = np.floor((ra + width)[tile] / step).astype(np.int64)
    right = np.minimum(right, left + count - 1)  # each cell of the row once
    pair, column = _spread(left, right)
    return tile[pair], _first(row, height)[pair] + column % count[pair]


def _spread(low: NDArray[np.int64], high: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All whole numbers from each ``low`` to its ``high``, and the index of the pair that each is of."""
    counts = high - low + 1
    which = np.repeat(np.arange(len(low)), counts)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts) + low[which]


def _row(dec: Floats, height: float) -> NDArray[np.int64]:
    return ((np.clip(dec, -90.0, 90.0) + 90.0) / height).astype(np.int64)


def _column(ra: Floats, row: NDArray[np.int64], height: float) -> NDArray[np.int64]:
    count = _count(row, height)
    return np.asarray(np.floor(ra / (360.0 / count)) % count, np.int64)


def _count(row: NDArray[np.int64], height: float) -> NDArray[np.int64]:
    """Cells of a row, so that they are as wide as high in its middle."""
    middle = np.minimum((row + 0.5) * height, 180.0) - 90.0
    return np.asarray(np.maximum(360.0 * np.cos(np.deg2rad(middle)) / height, 1.0), np.int64)


def _first(row: NDArray[np.int64], height: float) -> NDArray[np.int64]:
    """The number of a row's first cell."""
    return row * int(360.0 / height + 1)


def _nearest_edge(positions: Floats, normals: Floats) -> Floats:
    # Products are added term by term, not by BLAS, whose rounding depends on how many rows are given at once.
    x, y, z = (positions[:, None, i] for i in range(3))
    sines: Floats = x * normals[..., 0] + y * normals[..., 1] + z * normals[..., 2]
    # several times faster than min(axis=1)
    nearest: Floats = np.minimum(np.minimum(sines[:, 0], sines[:, 1]), np.minimum(sines[:, 2], sines[:, 3]))
    return nearest


def _around(centres: Floats, corners: Floats) -> NDArray[np.intp]:
    """The order of the corners around their centre, so that the polygon is convex whatever order they come in."""
    north = np.zeros_like(centres)
    flat = np.abs(centres[:, 2]) > 0.9
    north[flat, 0], north[~flat, 2] = 1.0, 1.0
    east = np.cross(north, centres)
    up = np.cross(centres, east)
    angle = np.arctan2(np.einsum("ni,nki->nk", up, corners), np.einsum("ni,nki->nk", east, corners))
    return np.argsort(angle, axis=1)
