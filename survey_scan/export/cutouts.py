"""Cutouts as FITS files with a world coordinate system, one file a candidate, an image a band."""

import io
import re
from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from survey_scan.config import Images
from survey_scan.errors import ImageError, TileError, Unreachable
from survey_scan.imaging import wcs
from survey_scan.imaging.tiles import read_tile_info

if TYPE_CHECKING:
    from astropy.io import fits

#: What WCSFROM says, and means.
SOURCES = {
    "tile": "of the tile, moved",
    "linear": "linear approximation of the tile's",
    "assumed": "no tile: north up, east left, no rotation",
}


def name(row: Mapping[str, Any]) -> str:
    """The file of a candidate."""
    return f"{row['rank']:06d}-{re.sub(r'[^A-Za-z0-9._-]', '_', str(row['object_id']))}.fits"


def write(row: Mapping[str, Any], pixels: NDArray[np.float32], facts: Mapping[str, Any], cards: str | None) -> bytes:
    """One candidate's file: an empty primary HDU with what is known of it, then an image a band, named after it.

    Parameters
    ----------
    row : mapping
        Of the candidate table.
    pixels : ndarray of float32, shape (size, size, bands)
        From the store: y up, NaN where there is none.
    facts : mapping
        Attributes of the store: bands, pixel_scale, zero_point, unit.
    cards : str or None
        The tile's WCS (:func:`tile_cards`).
    """
    from astropy.io import fits

    grid = grid_header(row, pixels.shape[0], float(facts["pixel_scale"]), cards)
    primary = fits.PrimaryHDU()
    for key, column, comment in (
        ("OBJECT", "object_id", "identifier in the parent catalogue"),
        ("RANK", "rank", "place in the candidate table"),
        ("SCORE", "score", "sigmoid of the logit"),
        ("LOGIT", "logit", "output of the network"),
        ("RA_TARG", "ra", "[deg] of the catalogue"),
        ("DEC_TARG", "dec", "[deg] of the catalogue"),
        ("TILE", "tile", "tile the pixels are of"),
        ("X_TILE", "x", "[pix] 0-based column on the tile"),
        ("Y_TILE", "y", "[pix] 0-based row on the tile"),
        ("KNOWN", "known_name", "known lens"),
    ):
        value = row.get(column)
        if value is None or value == "" or (isinstance(value, float) and not np.isfinite(value)):
            continue
        plain = value.item() if isinstance(value, np.generic) else value
        primary.header[key] = (_ascii(plain) if isinstance(plain, str) else plain, comment)
    images = []
    for i, band in enumerate(facts["bands"]):
        image = fits.ImageHDU(np.ascontiguousarray(pixels[..., i], ">f4"), grid, name=str(band))
        image.header["BAND"] = str(band)
        if facts.get("unit"):
            image.header["BUNIT"] = str(facts["unit"])
        zero = facts.get("zero_point")
        zero = zero.get(band) if isinstance(zero, Mapping) else zero
        if zero is not None:
            image.header["MAGZERO"] = (float(zero), "magnitude = MAGZERO - 2.5 log10(pixel)")
        images.append(image)
    buffer = io.BytesIO()
    fits.HDUList([primary, *images]).writeto(buffer)
    return buffer.getvalue()


def grid_header(row: Mapping[str, Any], size: int, scale: float, cards: str | None) -> "fits.Header":
    """The world coordinate system of a cutout, and where it is from (``WCSFROM``).

    Parameters
    ----------
    row : mapping
        ``ra``, ``dec`` (degrees), ``x``, ``y`` (0-based on the tile; NaN if there is none).
    size : int
        Pixels on a side. The first is ``ceil(x - size/2)`` of the tile.
    scale : float
        Arcseconds a pixel.
    cards : str or None
        The tile's WCS.

    Returns
    -------
    Header
        ``tile``: the tile's own, its reference pixel moved, with all its distortions. ``linear``: a plane tangent at the target,
        where the tile's needs lookup tables that a cutout cannot hold. ``assumed``, where the tile cannot be opened: tangent
        at the target, north up and east left, which survey tiles mostly are; the target is at its pixel on the tile, or,
        where there is no tile (a cutout service), in the middle of the cutout.
    """
    from astropy.io import fits

    x, y = float(row["x"]), float(row["y"])
    placed = bool(np.isfinite(x) and np.isfinite(y))
    first = (ceil(x - size / 2), ceil(y - size / 2)) if placed else (0, 0)
    if cards is not None and placed and not wcs.needs_tables(cards):
        header = fits.Header.fromstring(cards)
        header["CRPIX1"] = header.get("CRPIX1", 0.0) - first[0]
        header["CRPIX2"] = header.get("CRPIX2", 0.0) - first[1]
        return _said(header, "tile")
    if cards is not None and placed:
        ra, dec = wcs.pixel_to_world(cards, [x, x + 0.5, x - 0.5, x, x], [y, y, y, y + 0.5, y - 0.5])
        east = ((ra - ra[0] + 180) % 360 - 180) * np.cos(np.deg2rad(dec[0]))
        cd = [[east[1] - east[2], east[3] - east[4]], [dec[1] - dec[2], dec[3] - dec[4]]]
        return _tangent((ra[0], dec[0]), (x - first[0], y - first[1]), cd, "linear")
    middle = (x - first[0], y - first[1]) if placed else ((size - 1) / 2, (size - 1) / 2)
    step = scale / 3600
    return _tangent((float(row["ra"]), float(row["dec"])), middle, [[-step, 0.0], [0.0, step]], "assumed")


class Tiles:
    """The WCS of tiles, each read once.

    Parameters
    ----------
    images : Images
        The survey's.
    """

    def __init__(self, images: Images):
        self._images = images
        self._cards: dict[str, str | None] = {}
        #: Tiles that could not be opened → why.
        self.problems: dict[str, str] = {}

    def cards(self, tile: str) -> str | None:
        """The WCS of a tile; None if there is none, or it cannot be opened."""
        if not tile or not self._images.files:
            return None
        if tile not in self._cards:
            try:
                self._cards[tile] = read_tile_info(self._images, tile).cards
            except (TileError, ImageError, Unreachable) as error:
                self._cards[tile], self.problems[tile] = None, str(error)
        return self._cards[tile]


def _tangent(sky: tuple[float, float], pixel: tuple[float, float], cd: Any, source: str) -> "fits.Header":
    from astropy.io import fits

    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CUNIT1"] = header["CUNIT2"] = "deg"
    header["CRVAL1"], header["CRVAL2"] = map(float, sky)
    header["CRPIX1"], header["CRPIX2"] = pixel[0] + 1, pixel[1] + 1
    for i in (0, 1):
        for j in (0, 1):
            header[f"CD{i + 1}_{j + 1}"] = float(cd[i][j])
    return _said(header, source)


def _said(header: "fits.Header", source: str) -> "fits.Header":
    header["WCSFROM"] = (source, SOURCES[source])
    return header


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()[:60]
