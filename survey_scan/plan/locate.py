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
from scipy.spatial import cKDTree

from survey_scan.errors import ImageError
from survey_scan.imaging.tile_index import CORNERS

Floats = NDArray[np.float64]

#: Positions are looked up by cells of this fraction of the largest tile's radius: large enough that many positions of
#: a cell share one search, small enough that few tiles are tried in vain.
_CELL = 0.5
#: Neighbouring tiles of one projection share the line of an edge: margins (radians) that differ by less than this are
#: equal, and candidates come in the order of their names.
_TIE = 1e-11
#: Positions handled at once, which bounds memory.
_CHUNK = 200_000


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
    radius : float
        The largest angle (as a chord) between a centre and its corner.
    tree : cKDTree
        Of the centres.
    """

    names: NDArray[np.str_]
    centres: Floats
    normals: Floats
    radius: float
    tree: cKDTree


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
    corners = unit(values[..., 0], values[..., 1])
    centres = corners.mean(axis=1)
    centres /= np.linalg.norm(centres, axis=-1, keepdims=True)
    corners = np.take_along_axis(corners, _around(centres, corners)[..., None], axis=1)
    normals = np.cross(corners, np.roll(corners, -1, axis=1))
    with np.errstate(invalid="ignore"):  # two corners in one place make no edge, and a tile that holds nothing
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    radius = float(np.linalg.norm(corners - centres[:, None], axis=-1).max(initial=0.0))
    return Tiles(table["tile"].to_numpy(str), centres, normals, radius, cKDTree(centres))


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
    positions = unit(ra, dec)
    best = np.full(len(positions), -1, np.int32)
    if len(tiles.names):
        for start in range(0, len(positions), _CHUNK):
            best[start : start + _CHUNK] = _locate(positions[start : start + _CHUNK], tiles)
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


def _locate(positions: Floats, tiles: Tiles) -> NDArray[np.int32]:
    side = max(_CELL * tiles.radius, 1e-6)
    steps = np.floor((positions + 1.0) / side).astype(np.int64)
    width = int(2.0 / side) + 2
    cells, cell = np.unique((steps[:, 0] * width + steps[:, 1]) * width + steps[:, 2], return_inverse=True)
    z, rest = cells % width, cells // width
    middles = (np.stack([rest // width, rest % width, z], axis=-1) + 0.5) * side - 1.0
    found = tiles.tree.query_ball_point(middles, tiles.radius + side * np.sqrt(3.0) / 2, return_sorted=True)
    counts = np.fromiter(map(len, found), np.int64, len(found))
    candidates = np.fromiter((i for some in found for i in some), np.int64, int(counts.sum()))
    starts = np.cumsum(counts) - counts
    best = np.full(len(positions), -1, np.int32)
    margin = np.full(len(positions), -_TIE)  # sine of the angle to the nearest edge; 0 is on the edge, which is outside
    mine, first = counts[cell], starts[cell]
    for turn in range(int(counts.max(initial=0))):
        rows = np.flatnonzero(mine > turn)
        tile = candidates[first[rows] + turn]
        edge = _nearest_edge(positions[rows], tiles.normals[tile])
        better = edge > margin[rows] + _TIE
        best[rows[better]] = tile[better]
        margin[rows[better]] = edge[better]
    return best


def _nearest_edge(positions: Floats, normals: Floats) -> Floats:
    # Products are added term by term, not by BLAS, whose rounding depends on how many rows are given at once.
    x, y, z = (positions[:, None, i] for i in range(3))
    sines: Floats = x * normals[..., 0] + y * normals[..., 1] + z * normals[..., 2]
    nearest: Floats = sines.min(axis=1)
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
