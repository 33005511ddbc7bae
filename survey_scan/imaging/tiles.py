"""The tiles of a survey: names of their files, their footprints, positions on them."""

import glob
import re
import string
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from survey_scan.config import Hdu, Images
from survey_scan.errors import ImageError, TileError
from survey_scan.imaging import bricks, remote, wcs
from survey_scan.imaging.cost import Layout
from survey_scan.imaging.fits_header import ImageHdu, find_image, unreadable
from survey_scan.imaging.remote import File
from survey_scan.imaging.tile_index import CORNERS, read_index
from survey_scan.schema import Status


@dataclass(frozen=True)
class TileInfo:
    """Facts about a tile from the header of one of its bands.

    Attributes
    ----------
    tile, band : str
        Which tile, and the band whose header was read.
    cards : str
        The header's WCS, for :func:`world_to_pixel`.
    layout : Layout
        Shape and compression.
    pixel_scale : float
        Arcseconds.
    corners : ndarray of float64, shape (4, 2)
        RA and Dec, in degrees, of the outer corners of the corner pixels, in order around the tile.
    """

    tile: str
    band: str
    cards: str
    layout: Layout
    pixel_scale: float
    corners: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.layout.shape


def tile_file(images: Images, tile: str, band: str, template: str | None = None) -> File:
    """The file of a tile and band.

    Parameters
    ----------
    images : Images
        The survey's images.
    tile, band : str
        Which.
    template : str, optional
        Another template than ``images.files``: that of the masks or weights.

    Returns
    -------
    Path or RemoteFile
        If the template holds ``*`` or, unless it is a URL, ``?``, the only file that matches; if there is not exactly one,
        the pattern.

    Raises
    ------
    ImageError
        If that takes a list of the server's files, and it gives none.
    Unreachable
        If it fails.
    """
    path = _fill(images.files if template is None else template, tile, band)
    if "*" in path or ("?" in path and not remote.is_remote(path)):
        found = list(_glob(path.replace("[", "[[]")))
        if len(found) == 1:
            return remote.file_at(found[0])
    return remote.file_at(path)


def hdu_of(hdu: Hdu | dict[str, Hdu], band: str) -> Hdu:
    """The number or name of a band's HDU.

    Raises
    ------
    ImageError
        If there is one HDU a band, but none for this.
    """
    if isinstance(hdu, dict):
        if band not in hdu:
            raise ImageError(
                f"no HDU is given for band {band!r}, only for {', '.join(hdu)}. Add it under 'hdu' in images."
            )
        hdu = hdu[band]
    return hdu.replace("{band}", band) if isinstance(hdu, str) else hdu


def list_tiles(images: Images) -> list[str]:
    """Names of all tiles of which at least one band has a file, sorted.

    Raises
    ------
    ImageError
        If the template has no ``{tile}`` from which the whole name could be read.
    """
    return sorted(set(find_tiles(images)))


def find_tiles(images: Images) -> Iterator[str]:
    """Names of tiles, one a file, as they are found: for whoever needs only some of them.

    Raises
    ------
    ImageError
        As :func:`list_tiles`.
    """
    for band in images.bands if "{band" in images.files else images.bands[:1]:
        pattern, expression = _patterns(images.files, band)
        for path in _glob(pattern):
            match = expression.fullmatch(path)
            if match and _matches(_fill(images.files, match["tile"], band), path):
                yield match["tile"]


def read_tile_info(images: Images, tile: str) -> TileInfo:
    """Facts about a tile from the header of its first usable band.

    Raises
    ------
    TileError
        MISSING if no band has a file; UNREADABLE if there are files, but none with a usable header.
    """
    errors: list[TileError] = []
    for band in images.bands:
        try:
            return _info(tile, band, find_image(tile_file(images, tile, band), hdu_of(images.hdu, band)))
        except TileError as error:
            errors.append(error)
    raise max(errors, key=lambda error: error.status != Status.MISSING)


def world_to_pixel(cards: str, ra: ArrayLike, dec: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """0-based pixel positions; see :func:`survey_scan.imaging.wcs.world_to_pixel`."""
    return wcs.world_to_pixel(cards, ra, dec)


def tile_table(images: Images) -> pd.DataFrame:
    """The footprints of all tiles.

    Returns
    -------
    DataFrame
        Columns ``tile``, ``ra1``, ``dec1`` … ``ra4``, ``dec4`` (degrees, in order around the tile) and ``problem``:
        empty, or why the corners are NaN. From ``images.index`` if there is one
        (:func:`survey_scan.imaging.tile_index.read_index`), else from the header of each tile.

    Raises
    ------
    ImageError
        If the index cannot be used, or there is no tile at all.
    """
    if images.index == bricks.WORD:
        return bricks.table()
    if images.index is not None:
        return read_index(remote.file_at(images.index))
    tiles = list_tiles(images)
    if not tiles:
        raise ImageError(no_tiles(images))
    return read_corners(images, tiles)


def no_tiles(images: Images) -> str:
    """What to say where no tile is found."""
    hint = f" {remote.NO_LIST}" if remote.is_remote(images.files) else ""
    return f"no file matches images.files {images.files!r} with a band of {', '.join(images.bands)}.{hint}"


def read_corners(images: Images, tiles: list[str]) -> pd.DataFrame:
    """The footprints of some tiles from their headers: the table of :func:`tile_table`."""
    with ThreadPoolExecutor(16) as pool:  # waits for a parallel file system; computes nothing
        headers = list(pool.map(lambda tile: _first_header(images, tile), tiles))
    rows: list[list[Any]] = []
    for tile, header in zip(tiles, headers, strict=True):
        try:
            info = _info(tile, *header) if header else read_tile_info(images, tile)
            rows.append([tile, *info.corners.ravel().tolist(), ""])
        except TileError as error:
            rows.append([tile, *[np.nan] * 8, str(error)])
    return pd.DataFrame(rows, columns=["tile", *CORNERS, "problem"])


def _first_header(images: Images, tile: str) -> tuple[str, ImageHdu] | None:
    """The first band's header that can be found, without astropy: for threads."""
    for band in images.bands:
        try:
            return band, find_image(tile_file(images, tile, band), hdu_of(images.hdu, band))
        except TileError:
            continue  # read_tile_info says why
    return None


def _info(tile: str, band: str, hdu: ImageHdu) -> TileInfo:
    height, width = hdu.layout.shape
    x = [-0.5, width - 0.5, width - 0.5, -0.5]
    y = [-0.5, -0.5, height - 0.5, height - 0.5]
    try:
        corners = np.stack(wcs.pixel_to_world(hdu.cards, x, y), axis=1)
        scale = wcs.pixel_scale(hdu.cards, hdu.layout.shape)
    except ValueError as error:
        raise unreadable(hdu, str(error)) from error
    return TileInfo(tile, band, hdu.cards, hdu.layout, scale, corners)


def _glob(pattern: str) -> Iterator[str]:
    """Paths, or URLs, that match an absolute or relative pattern."""
    if remote.is_remote(pattern):
        return iter(remote.listed(pattern))
    return glob.iglob(pattern)  # noqa: PTH207 - Path.glob takes no absolute pattern


def _fill(template: str, tile: str, band: str) -> str:
    try:
        return template.format(tile=tile, band=band)
    except (KeyError, IndexError, ValueError) as error:
        raise ImageError(
            f"the file template {template!r} cannot be filled in ({error}). It may hold {{tile}} and {{band}}."
        ) from error


def _patterns(template: str, band: str) -> tuple[str, re.Pattern[str]]:
    """A glob pattern of a band's files, and the expression that finds the tile's name in their paths."""
    pattern, expression, named = "", "", False
    for literal, field, spec, _ in string.Formatter().parse(template):
        pattern += literal.replace("[", "[[]")
        expression += re.escape(literal).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        if field == "tile":
            whole = not spec and not named
            pattern += "*"
            expression += "(?P<tile>[^/]+)" if whole else "[^/]*"
            named = named or whole
        elif field is not None:
            pattern += glob.escape(band)
            expression += re.escape(band)
    if not named:
        raise ImageError(
            f"images.files {template!r} does not hold the whole name of the tile, so tiles cannot be listed. "
            "Write {tile} without a format somewhere in it, or give images.index."
        )
    return pattern, re.compile(expression)


def _matches(filled: str, path: str) -> bool:
    """Whether a filled-in template, which may still hold wildcards, names a path."""
    parts = re.escape(filled).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    return re.fullmatch(parts, path) is not None
