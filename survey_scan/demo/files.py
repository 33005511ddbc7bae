"""The embedded survey's FITS files: tiles compressed as DES compresses them, and a catalogue."""

from pathlib import Path

import fitsio
import numpy as np
import pandas as pd

from survey_scan.demo.photometry import BANDS, ZERO_POINT
from survey_scan.demo.profiles import Float

CENTRE = (31.2, -44.6)
"""RA and Dec in degrees of the middle of the survey: a field inside the DES footprint."""
PIXEL_DEGREES = 7.305555e-05
"""CD of the DES coadds, in degrees: 0.263 arcsec."""
QUANTISATION = 16.0
"""Steps per standard deviation of the noise: FZQVALUE of the DES data management's fpack settings."""
MASKED, SATURATED = 1, 2
"""Bits of MSK: no data here; a star has saturated the pixel."""
UNDETECTED, UNMEASURED = 99.0, -9.999e9
"""What stands in a magnitude column in place of a magnitude."""
CLASS_NULL = -9
"""TNULL of EXTENDED_CLASS_COADD."""


def grid_header(side: int, origin: tuple[int, int]) -> dict[str, str | float]:
    """TAN header of a tile.

    All tiles share CRVAL and CD and differ in CRPIX only, so their pixels coincide where they overlap.

    Parameters
    ----------
    side : int
        Width of the whole sky in pixels, whose middle is :data:`CENTRE`.
    origin : tuple of int
        Sky-frame pixel (0-based) at which the tile begins.
    """
    return {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CRVAL1": CENTRE[0],
        "CRVAL2": CENTRE[1],
        "CRPIX1": 0.5 * (side + 1) - origin[0],
        "CRPIX2": 0.5 * (side + 1) - origin[1],
        "CD1_1": -PIXEL_DEGREES,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": PIXEL_DEGREES,
    }


def sky_coordinates(side: int, x: Float, y: Float) -> tuple[np.ndarray, np.ndarray]:
    """RA and Dec in degrees of 0-based sky-frame pixels."""
    from astropy.wcs import WCS

    ra, dec = WCS(grid_header(side, (0, 0))).pixel_to_world_values(x, y)
    return np.asarray(ra), np.asarray(dec)


def write_tile(
    path: Path, tile: str, band: str, image: Float, mask: np.ndarray, sky_noise: float, grid: dict[str, str | float]
) -> None:
    """Write one tile and band: an empty primary HDU, then SCI, MSK and WGT.

    Parameters
    ----------
    path : Path
    tile, band : str
    image : float32 array (height, width)
        NaN where ``mask`` has :data:`MASKED`.
    mask : int32 array (height, width)
    sky_noise : float
        Standard deviation of the sky in counts; WGT is its inverse variance, and 0 in masked pixels.
    grid : dict
        World coordinate system, from :func:`grid_header`.
    """
    header = {**grid, "MAGZERO": ZERO_POINT, "BAND": band, "TILENAME": tile, "BUNIT": "counts"}
    weight = np.where(mask & MASKED, 0.0, 1.0 / sky_noise**2).astype(np.float32)
    rows = {"tile_dims": (1, image.shape[1])}
    floats = {"compress": "RICE", "qlevel": QUANTISATION, "qmethod": "SUBTRACTIVE_DITHER_2", "dither_seed": "checksum"}
    with fitsio.FITS(path, "rw", clobber=True) as file:
        file.write(None)
        file.write(image, extname="SCI", header=header, **rows, **floats)
        file.write(mask, extname="MSK", header=header, compress="PLIO", **rows)
        file.write(weight, extname="WGT", header=header, **rows, **floats)
        for hdu in file[1:]:
            hdu.write_checksum()


def write_catalogue(path: Path, objects: pd.DataFrame) -> None:
    """Write the object catalogue, a big-endian FITS binary table with the column names of DES DR2.

    Parameters
    ----------
    path : Path
    objects : DataFrame
        Columns object_id, ra, dec, extended_class and, for every band, mag_<band> and flux_<band>.
    """
    table = np.empty(
        len(objects),
        [
            ("COADD_OBJECT_ID", "i8"),
            ("RA", "f8"),
            ("DEC", "f8"),
            *[(f"MAG_AUTO_{band.upper()}", "f4") for band in BANDS],
            ("FLUX_AUTO", "f4", (len(BANDS),)),
            ("EXTENDED_CLASS_COADD", "i2"),
        ],
    )
    table["COADD_OBJECT_ID"] = objects["object_id"]
    table["RA"], table["DEC"] = objects["ra"], objects["dec"]
    for k, band in enumerate(BANDS):
        table[f"MAG_AUTO_{band.upper()}"] = objects[f"mag_{band}"]
        table["FLUX_AUTO"][:, k] = objects[f"flux_{band}"]
    table["EXTENDED_CLASS_COADD"] = objects["extended_class"]
    units = ["", "deg", "deg", *["mag"] * len(BANDS), "count", ""]
    with fitsio.FITS(path, "rw", clobber=True) as file:
        file.write(table, extname="OBJECTS", units=units)
        file["OBJECTS"].write_key(f"TNULL{len(table.dtype.names or ())}", CLASS_NULL, comment="no class measured")


def write_tile_list(path: Path, tiles: dict[str, tuple[int, int]], side: int, size: int) -> None:
    """Write tiles.csv: each tile's four corners in degrees, in order round the tile, at the pixels' outer edges."""
    corners = np.array([(0, 0), (size, 0), (size, size), (0, size)]) - 0.5
    rows = []
    for tile, origin in tiles.items():
        ra, dec = sky_coordinates(side, *(corners + origin).T)
        row: dict[str, str | float] = {"tile": tile}
        for k in range(4):
            row |= {f"ra{k + 1}": ra[k], f"dec{k + 1}": dec[k]}
        rows.append(row)
    pd.DataFrame(rows).to_csv(path, index=False, float_format="%.8f")


def tile_name(side: int, origin: tuple[int, int], size: int) -> str:
    """Name a tile after its middle, DEMOhhmmss-ddmm, in the manner of DES."""
    from astropy.coordinates import SkyCoord

    middle = np.add(origin, 0.5 * (size - 1))
    ra, dec = sky_coordinates(side, *middle)
    place = SkyCoord(ra, dec, unit="deg")
    hms = place.ra.to_string("hour", sep="", pad=True, precision=0)
    dms = place.dec.to_string("deg", sep="", pad=True, alwayssign=True, fields=2)
    return f"DEMO{hms}{dms}"
