"""Tables of a survey's tiles, as surveys publish them: which tiles there are and where their images lie."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan.errors import ImageError
from survey_scan.imaging.remote import File, local

CORNERS = [f"{axis}{i}" for i in (1, 2, 3, 4) for axis in ("ra", "dec")]
#: Pixels along a side and arcseconds a pixel. Legacy Surveys: the defaults of legacypipe's runbrick and the headers of
#: its coadds (CRPIX 1800.5, CD 7.27777777777778e-05 deg); DES: the headers of its coadds (10,000, CD 7.305555e-05 deg).
BRICK = (3600, 0.262)
_DES = (10_000, 0.263)
#: What the names of columns with the width of the point spread function begin with, before the band.
_PSFSIZE = "psfsize_"

#: A line of HSC's tracts_patches_*.txt; Corner4 is Corner0 again.
_CORNER = re.compile(
    r"Tract:\s*(\d+)\s+Patch:\s*(\d+,\d+)\s+Corner([0-3]) \(RA, Dec\):\s*\(\s*([-+.\deE]+)\s*,\s*([-+.\deE]+)\s*\)"
)

Floats = NDArray[np.float64]


class _Kind(NamedTuple):
    """A kind of table: whose it is, the columns by which it is known, the corners, and how many of the first name the tile."""

    source: str
    columns: tuple[str, ...]
    corners: Callable[[Floats], Floats]
    named: int = 1


def read_index(file: File) -> pd.DataFrame:
    """Read a table of tiles of any kind.

    Parameters
    ----------
    file : Path or RemoteFile
        FITS (HDU 1), Parquet, or CSV with commas or semicolons. Column names count without regard to case. The kinds:
        a tile and its four corners; Legacy Surveys' bricks by the centres of their images (not by ``RA1`` to ``DEC2``,
        a brick's own part of the sky, which is smaller); DES' tiles by their centres, or by the least and greatest
        right ascension and declination of their part of the sky, in whose middle the centre is; tracts and patches by
        their four corners or their least and greatest right ascension and declination, named ``TRACT-PATCH``; HSC's
        ``tracts_patches_*.txt`` (named ``9812-0,0``).

    Returns
    -------
    DataFrame
        Columns ``tile``, ``ra1``, ``dec1`` … ``ra4``, ``dec4`` (degrees, in order around the tile's image) and
        ``problem``: empty, or why the corners are NaN; before it ``psf_<band>`` (FWHM, arcseconds; NaN where there is
        none) if the table has ``psfsize_<band>``, as Legacy Surveys' table of a release's bricks.

    Raises
    ------
    ImageError
        If there is no such file, it cannot be read, is of none of these kinds, or names a tile twice.
    Unreachable
        If its server fails.
    """
    try:
        with local(file) as path:
            names = _names(path)
            plain = {name.strip().lstrip("#").strip().lower(): name for name in names}
            kind = next((kind for kind in _KINDS if set(kind.columns) <= set(plain)), None)
            if kind is None:
                raise ImageError(_unknown(file, names))
            widths = [name for name in plain if name.startswith(_PSFSIZE)]
            frame = _values(path, [plain[name] for name in (*kind.columns, *widths)])
    except FileNotFoundError as error:
        raise ImageError(f"images.index {file} does not exist.") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"images.index {file} cannot be read as CSV, FITS or parquet ({error}).") from error
    numbers = [pd.to_numeric(frame[plain[name]], errors="coerce") for name in kind.columns[kind.named :]]
    corners = kind.corners(np.stack([column.to_numpy(np.float64, na_value=np.nan) for column in numbers], axis=1))
    table = pd.DataFrame(corners, columns=CORNERS)
    parts = [frame[plain[name]].astype(str).str.strip() for name in kind.columns[: kind.named]]
    table.insert(0, "tile", ["-".join(words) for words in zip(*parts, strict=True)])
    for name in widths:
        width = pd.to_numeric(frame[plain[name]], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        table[f"psf_{name.removeprefix(_PSFSIZE)}"] = np.where(width > 0, width, np.nan)
    table["problem"] = np.where(np.isnan(corners).any(axis=1), "its position in images.index is not a number", "")
    twice = table["tile"][table["tile"].duplicated()]
    if len(twice):
        raise ImageError(f"images.index {file} has tile {twice.iloc[0]!r} more than once.")
    return table


def square(centres: Floats, pixels: int, scale: float) -> Floats:
    """Corners of square images with north up in a gnomonic projection about their centres.

    Parameters
    ----------
    centres : ndarray of float64, shape (n, 2)
        Right ascension and declination, degrees.
    pixels : int
        Along a side.
    scale : float
        Arcseconds a pixel at the centre.

    Returns
    -------
    ndarray of float64, shape (n, 8)
        Degrees, in the order of :data:`CORNERS`: the outer corners of the corner pixels, first the one at the lowest
        pixel, then the lowest row's other end.
    """
    a, d = np.deg2rad(centres).T
    centre = np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)
    east = np.stack([-np.sin(a), np.cos(a), np.zeros_like(a)], axis=-1)
    half = np.deg2rad(pixels / 2 * scale / 3600)
    found = []
    for x, y in ((1, -1), (-1, -1), (-1, 1), (1, 1)):
        corner = centre + half * (x * east + y * np.cross(centre, east))
        found.append(np.rad2deg(np.arctan2(corner[:, 1], corner[:, 0])) % 360)
        found.append(np.rad2deg(np.arctan2(corner[:, 2], np.hypot(corner[:, 0], corner[:, 1]))))
    return np.stack(found, axis=1)


def _box(values: Floats) -> Floats:
    """Corners of DES tiles from ``rall, decll, raur, decur``, whichever side of 0 h the right ascensions stand.

    As services that cut images out of DES DR2 read ``dr2_tiles.csv``: ``rall < ra < raur``, at times beyond 360.
    """
    ra, dec, to_ra, to_dec = values.T
    centres = np.stack([ra + ((to_ra - ra + 180) % 360 - 180) / 2, (dec + to_dec) / 2], axis=1)
    return square(centres, *_DES)


_KINDS = (
    _Kind("a tile's corners", ("tile", *CORNERS), lambda values: values),
    _Kind("Legacy Surveys", ("brickname", "ra", "dec"), lambda values: square(values, *BRICK)),
    _Kind("DES", ("tilename", "ra_cent", "dec_cent"), lambda values: square(values, *_DES)),
    _Kind("DES", ("tilename", "rall", "decll", "raur", "decur"), _box),
    _Kind("tracts and patches", ("tract", "patch", *CORNERS), lambda values: values, 2),
    _Kind(
        "tracts and patches",
        ("tract", "patch", "ra_min", "dec_min", "ra_max", "dec_max"),
        lambda values: values[:, [0, 1, 2, 1, 2, 3, 0, 3]],
        2,
    ),
)


def _unknown(file: File, names: list[str]) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    kinds = "; ".join(f"{', '.join(kind.columns)} ({kind.source})" for kind in _KINDS)
    return (
        f"images.index {file} is no table of tiles that is known: it has {', '.join(names[:20])}{more}. It needs, in "
        f"degrees, the columns of one of these kinds: {kinds}."
    )


def _names(path: Path) -> list[str]:
    """Names of the columns, as in the file."""
    match _format(path):
        case "hsc":
            return ["tract", "patch", *CORNERS]
        case "parquet":
            import pyarrow.parquet as pq

            return list(pq.read_schema(path).names)
        case "fits":
            from astropy.io import fits

            with fits.open(path) as file:
                columns = getattr(file[1], "columns", None) if len(file) > 1 else None
                if columns is None:
                    raise ValueError("HDU 1 is no table")
                return list(columns.names)
    return list(pd.read_csv(path, sep=_separator(path), nrows=0).columns)


def _values(path: Path, names: list[str]) -> pd.DataFrame:
    """Some columns."""
    match _format(path):
        case "hsc":
            return _patches(path)[names]
        case "parquet":
            return pd.read_parquet(path, columns=names)
        case "fits":
            from astropy.io import fits

            with fits.open(path) as file:
                data = file[1].data
                columns = {name: np.asarray(data[name]) for name in names}
                return pd.DataFrame({n: v.astype(v.dtype.newbyteorder("=")) for n, v in columns.items()})
    return pd.read_csv(path, sep=_separator(path), dtype=str, usecols=names)


def _patches(path: Path) -> pd.DataFrame:
    """HSC's lists of patches, of which each has its centre and corners in lines of their own."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    with path.open() as stream:
        for line in stream:
            if match := _CORNER.match(line):
                tract, patch, corner, ra, dec = match.groups()
                number = int(corner) + 1
                found.setdefault((tract, patch), {}).update({f"ra{number}": float(ra), f"dec{number}": float(dec)})
    if not found:
        raise ValueError("it has no line such as 'Tract: 9812  Patch: 0,0  Corner0 (RA, Dec): (149.6 , 1.39)'")
    table = pd.DataFrame(list(found.values()), columns=CORNERS)
    table.insert(0, "tract", [tract for tract, _ in found])
    table.insert(1, "patch", [patch for _, patch in found])
    return table


def _format(path: Path) -> str:
    name = path.name.lower()
    if name.endswith((".parquet", ".pq")):
        return "parquet"
    if name.endswith(".txt"):
        return "hsc"
    return "fits" if name.endswith((".fits", ".fits.gz", ".fit")) else "csv"


def _separator(path: Path) -> str:
    with path.open() as stream:
        return ";" if ";" in stream.readline() else ","
