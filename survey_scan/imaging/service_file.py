"""What a cutout service sends: whether it is a whole FITS file, and which image in it is that of a band.

Seen of services: the viewer of the Legacy Surveys sends a cube with BANDS and BAND0, BAND1, … (two dimensions for one
band), or with ``subimage`` an HDU a band and brick with BAND and IMAGETYP ('image', 'invvar'). HSC's server sends one
band a file: image, mask and variance in HDUs 1, 2 and 3, FILTER in the primary header, a pixel more than was asked for.
"""

import gzip
import io
import re
import warnings
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from survey_scan import config
from survey_scan.errors import TileError
from survey_scan.imaging import wcs
from survey_scan.imaging.tiles import hdu_of
from survey_scan.imaging.windows import undefined
from survey_scan.schema import Status

#: Cards about the third axis of a cube, which has no place on the sky.
_THIRD = re.compile(r"WCSAXES|(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA)3|(CD|PC)(3_|\d_3)|P[VS]3_")


class Plane(NamedTuple):
    """The image of one band.

    Attributes
    ----------
    pixels : ndarray of float32, shape (rows, columns)
        As sent.
    bad : ndarray of bool, same shape
        Pixels that are not finite, blank, masked or of no weight.
    cards : str
        The WCS, for :func:`survey_scan.imaging.wcs.world_to_pixel`.
    header : dict
        Values of the image's header over those of the primary one.
    """

    pixels: NDArray[np.float32]
    bad: NDArray[np.bool_]
    cards: str
    header: dict[str, Any]


class _Image(NamedTuple):
    """An HDU with pixels: as many planes as bands, each with its name where the header has names."""

    number: int
    name: str
    kind: str
    bands: list[str]
    data: NDArray[Any]
    cards: str
    header: dict[str, Any]


def whole(data: bytes) -> bytes:
    """What a service sent, decompressed, if it is a whole FITS file.

    Raises
    ------
    ValueError
        If it is none, or ends too early. The text says which.
    """
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyUserWarning

    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"a gzip file that is truncated or corrupt ({error})") from None
    if not data.startswith(b"SIMPLE  ="):
        text = " ".join(data[:400].decode("latin-1").split())
        text = "".join(c for c in text if c.isprintable())[:60]
        raise ValueError(f"no FITS file: it begins with {text!r}" if data else "an empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyUserWarning)  # on files too short, which the lengths tell better
        try:
            with fits.open(io.BytesIO(data), lazy_load_hdus=False, disable_image_compression=True) as hdus:
                last = hdus[-1].fileinfo()["datLoc"]
                needed, end = last + hdus[-1].size, last + hdus[-1].fileinfo()["datSpan"]
        except (OSError, ValueError, TypeError, LookupError, fits.VerifyError) as error:
            raise ValueError(f"a FITS file that is truncated or corrupt ({error})") from None
    if len(data) < needed:
        raise ValueError(f"a truncated FITS file: {len(data):,} bytes of {needed:,}")
    if data[end:].strip(b"\0 "):
        raise ValueError(f"a truncated FITS file: its last header ends after {len(data) - end:,} bytes")
    return data


def planes(path: Path, images: config.Images, bands: list[str]) -> dict[str, Plane | TileError]:
    """The images of some bands in a file.

    Parameters
    ----------
    path : Path
        A file of which :func:`whole` said nothing.
    images : config.Images
        The names of all bands, which HDU to take where the file names none, mask and weight.
    bands : list of str
        What the file was asked for.

    Returns
    -------
    dict
        By band. Names of bands in the file count before anything else; an image that names none is taken for the one
        band that was asked for, at ``images.hdu``, and never one of several by its place alone.

    Raises
    ------
    ValueError
        If the file cannot be decoded.
    """
    found = _read(path)
    given: dict[str, Plane | TileError] = {}
    for band in bands:
        try:
            given[band] = _plane(found, images, band, alone=len(bands) == 1 or isinstance(images.hdu, dict))
        except TileError as error:
            given[band] = error
    return given


def _read(path: Path) -> list[_Image]:
    """The images in a file that have pixels."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)  # deviations from the standard that astropy mends
        try:
            with fits.open(path, memmap=False) as hdus:
                primary = _values(hdus[0].header)
                for number, hdu in enumerate(hdus):
                    data = hdu.data if hdu.is_image else None
                    if data is None or data.ndim not in (2, 3) or not data.size:
                        continue
                    header = {**primary, **_values(hdu.header)}
                    cards = wcs.wcs_cards(hdu.header.tostring(sep="", endcard=False, padding=False))
                    if data.ndim == 3:
                        each = (cards[i : i + 80] for i in range(0, len(cards), 80))
                        cards = "".join(card for card in each if not _THIRD.match(card))
                    cube = data if data.ndim == 3 else data[None]
                    cube = np.asarray(cube, dtype=cube.dtype.newbyteorder("="))
                    names = _names(hdu.header, len(cube))
                    kind = str(hdu.header.get("IMAGETYP", "")).strip().casefold()
                    found.append(_Image(number, str(hdu.name).casefold(), kind, names, cube, cards, header))
        except (OSError, ValueError, TypeError, LookupError, OverflowError, fits.VerifyError) as error:
            raise ValueError(f"a FITS file that cannot be decoded ({error})") from None
    return found


def _values(header: Any) -> dict[str, Any]:
    return {name: header[name] for name in header if name not in ("COMMENT", "HISTORY", "")}


def _names(header: Any, planes: int) -> list[str]:
    """Names of the bands an image holds, by its header; empty if it does not say."""
    numbered = [str(header[f"BAND{i}"]).strip() for i in range(100) if f"BAND{i}" in header]
    if numbered:
        return numbered
    if "BANDS" in header:
        text = str(header["BANDS"]).strip()
        listed = [word for word in re.split(r"[,\s]+", text) if word]
        return listed if len(listed) > 1 or planes == 1 else list(text)
    return [str(header["BAND"]).strip()] if "BAND" in header else []


def _plane(found: list[_Image], images: config.Images, band: str, alone: bool) -> Plane:
    image, index = _image(found, images, band, alone)
    pixels = np.asarray(image.data[index], dtype=np.float32)
    bad = undefined(pixels, images.blank)
    if images.weight is not None and images.weight.hdu is not None:
        bad |= ~(_beside(found, image, images.weight.hdu, band, "weight")[0] > 0)
    if images.mask is not None and images.mask.hdu is not None:
        mask, header = _beside(found, image, images.mask.hdu, band, "mask")
        if mask.dtype.kind not in "iu":
            raise TileError(Status.UNREADABLE, f"the mask holds {mask.dtype} values; integers are needed")
        if images.mask.bits is None:
            bad |= mask != 0
        for bit in images.mask.bits or ():
            number = (
                header.get(f"MP_{bit}") if isinstance(bit, str) else bit
            )  # as afw of the Rubin Observatory names planes
            if not isinstance(number, int):
                raise TileError(Status.UNREADABLE, f"the mask has no plane {bit!r} (card MP_{bit})")
            bad |= (mask.astype(np.int64) >> number & 1).astype(np.bool_)
    return Plane(pixels, bad, image.cards, image.header)


def _image(found: list[_Image], images: config.Images, band: str, alone: bool) -> tuple[_Image, int]:
    """The image of a band, and which of its planes."""
    plain = [image for image in found if image.kind in ("", "image")]
    holding = [image for image in plain if band in image.bands and len(image.bands) == len(image.data)]
    if holding:
        # where two tiles overlap, a service may send the band twice: more pixels are the more central cut
        best = max(holding, key=lambda image: image.data[0].size)
        return best, best.bands.index(band)
    if named := sorted({name for image in plain for name in image.bands}):
        raise TileError(Status.MISSING, f"no band {band}; the file has {', '.join(named)}")
    wanted = hdu_of(images.hdu, band)
    chosen = [image for image in plain if wanted == image.number or str(wanted).casefold() == image.name]
    if not chosen:
        there = ", ".join(str(image.number) for image in plain)
        raise TileError(
            Status.UNREADABLE, f"no image in HDU {wanted!r}; there are images in HDU {there}" if there else "no image"
        )
    if len(chosen[0].data) > 1 or not alone:
        raise TileError(
            Status.UNREADABLE,
            f"HDU {chosen[0].number} does not name its bands (BAND, BANDS, BAND0, ...), so which is {band} is not known",
        )
    _refuse_other(chosen[0].header.get("FILTER"), images.bands, band)
    return chosen[0], 0


def _refuse_other(value: Any, bands: list[str], band: str) -> None:
    """Raise if FILTER ('g', 'HSC-G', 'g DECam SDSS c0001') names another of the survey's bands than this."""
    for fold in (str, str.casefold):
        words = {fold(word) for word in re.split(r"[^A-Za-z0-9_]+", str(value or ""))}
        named = [name for name in bands if fold(name) in words]
        if band in named:
            return
        if named:
            raise TileError(Status.MISMATCHED, f"band {band} was asked for; FILTER in the header is {value!r}")


def _beside(
    found: list[_Image], image: _Image, hdu: config.Hdu | dict[str, config.Hdu], band: str, what: str
) -> tuple[Any, dict[str, Any]]:
    """Pixels and header of the mask or weight of an image: by its HDU's number, or its name or IMAGETYP."""
    wanted, fitting = hdu_of(hdu, band), []
    for other in found:
        named = wanted == other.number or str(wanted).casefold() in (other.name, other.kind)
        own = band in other.bands or (
            len(other.data) == 1 and len(other.bands) != 1
        )  # one mask may be that of all bands
        if named and own and other.data.shape[1:] == image.data.shape[1:]:
            plane = other.data[other.bands.index(band) if len(other.data) > 1 else 0]
            fitting.append((other.cards != image.cards, other.number, plane, other.header))
    if not fitting:
        raise TileError(
            Status.UNREADABLE, f"no {what} in HDU {wanted!r} that goes with the image in HDU {image.number}"
        )
    return min(fitting, key=lambda other: other[:2])[2:]
