"""From sky to pixel, with the whole world coordinate system of an image's header.

Right ascension and declination are taken in the header's own equatorial system: catalogue and images of one survey
share theirs, and ICRS and FK5 differ by 0.02 arcsec, which a frame conversion would add where the header is silent.
"""

import re
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from astropy.wcs import WCS

Pixels = NDArray[np.float64]

#: Cards that take part in a position.
_CARD = re.compile(
    r"(WCSAXES|CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA|CD\d_|PC\d_|PV\d_|PS\d_|LONPOLE|LATPOLE|RADE|EQUINOX|EPOCH"
    r"|[AB]P?_|WAT\d|CPDIS|CPERR|CQDIS|CQERR|D2IM|AXISCORR|D[PQ]\d)"
)
#: Cards of distortions that stand in HDUs of their own, and the names of these.
_LOOKUP = re.compile(r"(CPDIS|D2IMDIS|AXISCORR)")
LOOKUP_TABLES = ("WCSDVARR", "D2IMARR")
_END = f"{'END':80}"
#: Pixels by which the last of so many rounds may move a position where a distortion has no closed inverse.
TOLERANCE, ROUNDS = 1e-7, 50


def wcs_cards(header: str) -> str:
    """The cards of a header that make up its world coordinate system.

    Parameters
    ----------
    header : str
        Cards of 80 characters each, joined.

    Returns
    -------
    str
        The same, fewer. Images with equal cards have equal positions.
    """
    cards = (header[i : i + 80] for i in range(0, len(header), 80))
    return "".join(card for card in cards if _CARD.match(card))


def needs_tables(cards: str) -> bool:
    """Whether cards, from :func:`wcs_cards`, name lookup tables."""
    return any(_LOOKUP.match(cards, i) for i in range(0, len(cards), 80))


def with_tables(cards: str, tables: str) -> str:
    """Cards together with the lookup tables they name, to be used in place of the cards alone.

    Parameters
    ----------
    cards : str
        From :func:`wcs_cards`.
    tables : str
        Whole HDUs, header and data, one character a byte.
    """
    return cards + _END + tables


@lru_cache(maxsize=16)
def read_wcs(cards: str) -> "WCS":
    """The world coordinate system from its cards, with lookup tables if it has any (:func:`with_tables`).

    Raises
    ------
    ValueError
        If it is no equatorial one, or cannot be read. The text says why.
    """
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyDeprecationWarning, AstropyUserWarning
    from astropy.wcs import WCS, FITSFixedWarning, WcsError

    header, _, tables = cards.partition(_END)
    hdus = None
    if needs_tables(header):  # without a file astropy would leave D2IM out
        hdus = fits.HDUList.fromstring(fits.PrimaryHDU().header.tostring().encode() + tables.encode("latin-1"))
    with warnings.catch_warnings():
        # deprecated spellings (RADECSYS, units in capitals) are read as what they mean
        warnings.simplefilter("ignore", FITSFixedWarning)
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        warnings.simplefilter("ignore", AstropyDeprecationWarning)  # AXISCORR, an older spelling of D2IMDIS
        # a distortion that astropy would leave out; any other remark of this class passes
        warnings.filterwarnings("error", "Polynomial distortion", AstropyUserWarning)
        try:
            wcs = WCS(fits.Header.fromstring(header), hdus)
        except MemoryError as error:
            if not error.args:
                raise
            raise ValueError(
                f"has a WCS that cannot be read ({_line(error)})"
            ) from error  # wcslib's word for a bad card
        except (WcsError, ValueError, TypeError, LookupError, fits.VerifyError, AstropyUserWarning) as error:
            raise ValueError(f"has a WCS that cannot be read ({_line(error)})") from error
    if not wcs.has_celestial or wcs.naxis != 2:
        raise ValueError("has no WCS of the sky (CTYPE1 and CTYPE2, such as RA---TAN and DEC--TAN)")
    if wcs.wcs.lngtyp != "RA" or wcs.wcs.radesys.startswith("FK4"):
        system = wcs.wcs.radesys or wcs.wcs.lngtyp
        raise ValueError(f"has a WCS in {system} coordinates; right ascension and declination of J2000 are needed")
    return wcs


def world_to_pixel(cards: str, ra: ArrayLike, dec: ArrayLike) -> tuple[Pixels, Pixels]:
    """Pixel positions of sky positions, with all distortions (TPV, SIP, TNX, lookup tables) the header has.

    Parameters
    ----------
    cards : str
        From :func:`wcs_cards`.
    ra, dec : array_like of float, shape (n,)
        Degrees; any turn of right ascension.

    Returns
    -------
    x, y : ndarray of float64, shape (n,)
        0-based, integers at pixel centres, to 1e-6 pixels. NaN where the sky position is NaN or has no place in the projection.

    Raises
    ------
    ValueError
        As :func:`read_wcs`.
    """
    from astropy.wcs import NoConvergence

    sky = np.stack([np.asarray(ra, np.float64), np.asarray(dec, np.float64)], axis=1)
    pixels = np.full_like(sky, np.nan)
    known = np.isfinite(sky).all(axis=1)
    wcs = read_wcs(cards)
    if known.any():
        try:
            pixels[known] = wcs.all_world2pix(sky[known], 0, tolerance=TOLERANCE, maxiter=ROUNDS)
        except NoConvergence as error:
            # far outside the image the inverse of a distortion polynomial need not exist
            lost = [i for i in (error.divergent, error.slow_conv) if i is not None]
            found = np.array(error.best_solution)
            found[np.concatenate(lost).astype(int)] = np.nan
            pixels[known] = found
    return pixels[:, 0], pixels[:, 1]


def pixel_to_world(cards: str, x: ArrayLike, y: ArrayLike) -> tuple[Pixels, Pixels]:
    """Sky positions, in degrees, of 0-based pixel positions; the inverse of :func:`world_to_pixel`."""
    ra, dec = read_wcs(cards).all_pix2world(np.asarray(x, np.float64), np.asarray(y, np.float64), 0)
    return ra, dec


def pixel_scale(cards: str, shape: tuple[int, int]) -> float:
    """Side, in arcseconds, of a square with the area that the central pixel has on the sky.

    Parameters
    ----------
    cards : str
        From :func:`wcs_cards`.
    shape : tuple of int
        Rows and columns of the image.
    """
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    ra, dec = pixel_to_world(cards, [x, x + 1, x], [y, y, y + 1])
    east = ((ra[1:] - ra[0] + 180) % 360 - 180) * np.cos(np.deg2rad(dec[0]))
    north = dec[1:] - dec[0]
    return float(np.sqrt(abs(east[0] * north[1] - east[1] * north[0])) * 3600)


def _line(error: BaseException) -> str:
    """The last line of an error's text that says something."""
    text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
