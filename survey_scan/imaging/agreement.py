"""What the headers of tiles say, beside what the configuration says of them: one of the two is wrong where they differ.

A zero point is that of ``magnitude = zero point - 2.5 log10(pixel)``.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from survey_scan.config import Images
from survey_scan.errors import TileError
from survey_scan.imaging import wcs
from survey_scan.imaging.cost import FILE_CODECS, Layout
from survey_scan.imaging.fits_header import CARD, ImageHdu, find_image, unreadable
from survey_scan.imaging.tiles import hdu_of, tile_file

#: By how much a pixel scale may differ from the expected one (a part of it), and a zero point (magnitudes).
SCALE_TOLERANCE, ZERO_POINT_TOLERANCE = 0.005, 0.01
#: Tiles whose headers are compared.
ENOUGH = 9

#: Cards that hold a zero point and nothing else: of DES, Legacy Surveys and Euclid; of KiDS; of MegaPipe's stacks (CFHT).
#: Not MAGZPT and MAGZP, which are Vega's, or those of one second, as often as not.
_ZERO_POINTS = ("MAGZERO", "ZEROPNT", "PHOTZP")
#: AB zero points of units of flux density (3631 Jy are magnitude 0).
_UNITS = {"nanomaggy": 22.5, "nanomaggies": 22.5, "njy": 31.4, "ujy": 23.9, "jy": 8.9}
_FILTERS = ("BAND", "FILTERX", "FILTER", "FILT_ID")
#: Names of filters as the cameras of lens searches write them; the group is the band.
_NAMES = re.compile(
    r"(?:HSC-([grizy])2?|DECAM_([ugrizy])|DES_([grizy])|NIR_([yjh])|OCAM_([ugri])_SDSS|([ugriz])\.MP\d+|bok([gr])"
    r"|(z)d DECam k1038|([ugrizy]) DECam .*|([ugrizy]|[jhk]|ks|vis)(?:_SDSS|_\d\d)?)",
    re.IGNORECASE,
)
_FWHM = ("PSF_FWHM", "SEEING", "FWHM")


@dataclass(frozen=True)
class Header:
    """What the header of one band of one tile says; None where it says nothing.

    Attributes
    ----------
    tile, band : str
        Which, by the configuration.
    place : str
        File and HDU.
    pixel_scale : float
        Arcseconds.
    zero_point : float or None
    zero_point_card : str
        Which card says so.
    unit : str
        BUNIT; empty if there is none.
    filter, filter_card : str
        The filter, as the header names it, and in which card.
    layout : Layout
        Shape and compression.
    orientation : str
        How north and east lie.
    psf : float or None
        Full width at half maximum of the point spread function, arcseconds.
    """

    tile: str
    band: str
    place: str
    pixel_scale: float
    zero_point: float | None
    zero_point_card: str
    unit: str
    filter: str
    filter_card: str
    layout: Layout
    orientation: str
    psf: float | None


@dataclass(frozen=True)
class Finding:
    """One thing that the headers of a band say.

    Attributes
    ----------
    what : str
        "pixel scale", "zero point" ...
    found, expected : str
        By the headers and by the configuration, in words; empty where nothing is said.
    refused : str
        Why the two cannot both be right, and what to do; empty if they can. BANDS and PLACE stand for bands and files.
    place : str
        A file that says so.
    """

    what: str
    found: str
    expected: str = ""
    refused: str = ""
    place: str = field(default="", compare=False)


def look(
    images: Images, tiles: Iterable[str], bands: Sequence[str], enough: int = ENOUGH
) -> tuple[list[Header], list[TileError]]:
    """Read the headers of tiles, until there are enough that have one.

    Parameters
    ----------
    images : Images
        The survey's images.
    tiles : iterable of str
        Names, in the order in which they are tried.
    bands : sequence of str
        Those wanted of each.
    enough : int
        Tiles.

    Returns
    -------
    list of Header
        One a tile and band.
    list of TileError
        Why others have none.
    """
    headers: list[Header] = []
    errors: list[TileError] = []
    for tile in tiles:
        if len({header.tile for header in headers}) >= enough:
            break
        for band in bands:
            try:
                headers.append(read(find_image(tile_file(images, tile, band), hdu_of(images.hdu, band)), tile, band))
            except TileError as error:
                errors.append(error)
    return headers, errors


def read(image: ImageHdu, tile: str, band: str) -> Header:
    """What an image's header says.

    Raises
    ------
    TileError
        UNREADABLE if its WCS is.
    """
    try:
        scale = wcs.pixel_scale(image.cards, image.layout.shape)
        orientation = _orientation(image)
    except ValueError as error:
        raise unreadable(image, str(error)) from error
    unit = _text(image, "BUNIT")
    zero_point, card = zero_point_of(image)
    named = [(card, _text(image, card)) for card in _FILTERS]
    filter_card, name = next(
        ((card, text) for card, text in named if known_band(text)), next((pair for pair in named if pair[1]), ("", ""))
    )
    return Header(
        tile, band, str(image), scale, zero_point, card, unit, name, filter_card, image.layout, orientation,
        psf_fwhm(image, scale),
    )  # fmt: skip


def zero_point_of(image: ImageHdu) -> tuple[float | None, str]:
    """The zero point in an image's header, else in that of its file's primary HDU; and the card that says so."""
    return zero_point_in(image.values, image.primary)


def zero_point_in(*headers: Mapping[str, Any]) -> tuple[float | None, str]:
    """The zero point in the first of some headers, by keyword, that has one; and the card that says so."""
    for values in headers:
        for card in _ZERO_POINTS:
            if (value := _number(values, card)) is not None:
                return value, card
        # of the LSST pipelines up to HSC's PDR3: magnitude = 2.5 log10(FLUXMAG0 / flux)
        flux = _number(values, "FLUXMAG0")
        if flux is not None and flux > 0:
            return round(2.5 * math.log10(flux), 6), "FLUXMAG0"
    unit = next((str(values["BUNIT"]) for values in headers if "BUNIT" in values), "")
    by_unit = _UNITS.get(unit.strip().lower())
    return by_unit, "BUNIT" if by_unit is not None else ""


def known_band(name: str) -> str:
    """The band in the name of a filter, in lower case; empty if it is none of those known here."""
    match = _NAMES.fullmatch(name.strip())
    band = next((group for group in match.groups() if group), "").lower() if match else ""
    return "k" if band == "ks" else band


def psf_fwhm(image: ImageHdu, pixel_scale: float) -> float | None:
    """Width of the point spread function, arcseconds; None unless a card and its comment say it, and in which unit."""
    for card in _FWHM:
        value = _number(image.values, card)
        comment = _comment(image.text, card).lower()
        if value is not None and value > 0 and ("arcsec" in comment or "pix" in comment):
            return value if "arcsec" in comment else value * pixel_scale
    return None


def findings(headers: Sequence[Header], images: Images) -> list[Finding]:
    """What the headers of one band say, beside the configuration; the median counts, where tiles differ.

    Parameters
    ----------
    headers : sequence of Header
        Of one band, at least one.
    images : Images
        The survey's images.
    """
    one = headers[0]
    shapes = Counter(header.layout.shape for header in headers)
    (height, width), usual = shapes.most_common(1)[0]
    size = f"{width} x {height} pixels" + (f" in {usual} of {len(headers)} tiles" if len(shapes) > 1 else "")
    blocks = one.layout.codec not in ("none", *FILE_CODECS)
    block = f", tiles {one.layout.tile[1]} x {one.layout.tile[0]}" if blocks else ""
    codecs = ", ".join(sorted({header.layout.codec for header in headers}))
    widths = [header.psf for header in headers if header.psf is not None]
    return [
        _scale(headers, images.pixel_scale),
        _zero_point(headers, images.zero_point_of(one.band)),
        Finding("unit", ", ".join(sorted({header.unit for header in headers if header.unit}))),
        _band(headers),
        Finding("size", size),
        Finding("compression", codecs + block),
        Finding("orientation", Counter(header.orientation for header in headers).most_common(1)[0][0]),
        Finding("PSF FWHM", f"{np.median(widths):.2f} arcsec" if widths else ""),
    ]  # fmt: skip


def refusals(headers: Sequence[Header], images: Images) -> list[str]:
    """Why these headers and the configuration cannot both be right, each reason once.

    Parameters
    ----------
    headers : sequence of Header
        Of any bands.
    images : Images
        The survey's images.
    """
    bands: dict[Finding, list[str]] = {}
    there = by_band(headers)
    for band in sorted(there, key=images.bands.index):
        for finding in findings(there[band], images):
            if finding.refused:
                bands.setdefault(finding, []).append(band)
    ordered = sorted(bands, key=lambda finding: finding.refused.split(":")[0])
    return [f.refused.replace("BANDS", ", ".join(bands[f])).replace("PLACE", f.place) for f in ordered]


def zero_points(headers: Sequence[Header], images: Images, bands: Iterable[str]) -> dict[str, float | None]:
    """The zero point of each band: that of the configuration, else that in which its headers agree, else None."""
    found: dict[str, float | None] = {}
    there = by_band(headers)
    for band in bands:
        found[band] = images.zero_point_of(band)
        values = [header.zero_point for header in there.get(band, []) if header.zero_point is not None]
        if found[band] is None and values and max(values) - min(values) <= ZERO_POINT_TOLERANCE:
            found[band] = float(np.median(values))
    return found


def by_band(headers: Iterable[Header]) -> dict[str, list[Header]]:
    """Headers, sorted out by band."""
    found: dict[str, list[Header]] = {}
    for header in headers:
        found.setdefault(header.band, []).append(header)
    return found


def _scale(headers: Sequence[Header], expected: float | None) -> Finding:
    one, values = headers[0], [header.pixel_scale for header in headers]
    median = float(np.median(values))
    found = _range(values, ".4f", median * SCALE_TOLERANCE) + " arcsec"
    if expected is None:
        return Finding("pixel scale", found)
    refused = ""
    if not abs(median / expected - 1) <= SCALE_TOLERANCE:
        refused = (
            f"images.pixel_scale: pixels have {median:.4f} arcsec in BANDS (PLACE), but {expected:.4f} is expected (within "
            f"0.5 %). {_REMEDY} images.pixel_scale: {round(median, 4):g}."
        )
    usual = (h.place for h in headers if abs(h.pixel_scale / median - 1) <= SCALE_TOLERANCE)
    return Finding("pixel scale", found, f"{expected:g}", refused, next(usual, one.place))


def _zero_point(headers: Sequence[Header], expected: float | None) -> Finding:
    said = [(header, header.zero_point) for header in headers if header.zero_point is not None]
    expects = "" if expected is None else f"{expected:g}"
    if not said:
        return Finding("zero point", "", expects)
    values = [value for _, value in said]
    median = float(np.median(values))
    card = said[0][0].zero_point_card
    found = f"{_range(values, 'g', ZERO_POINT_TOLERANCE)} ({card})"
    refused = ""
    if expected is not None and not abs(median - expected) <= ZERO_POINT_TOLERANCE:
        refused = (
            f"images.zero_point: the zero point is {median:g} in BANDS ({card} of PLACE), but {expected:g} is expected "
            f"(within 0.01 mag). {_REMEDY} images.zero_point, to one number or to one a band."
        )
    usual = (header.place for header, value in said if abs(value - median) <= ZERO_POINT_TOLERANCE)
    return Finding("zero point", found, expects, refused, next(usual, said[0][0].place))


def _band(headers: Sequence[Header]) -> Finding:
    """Refused only if most headers name a band that is known, and is another than theirs, which is known, too."""
    expected = known_band(headers[0].band)
    names = [(known_band(header.filter), header) for header in headers]
    others = [header for name, header in names if name and expected and name != expected]
    name = names[0][1]
    if 2 * len(others) <= len(headers):
        said = "as named" if expected and names[0][0] == expected else name.filter
        return Finding("band", f"{said} ({name.filter_card})" if said else "")
    other = others[0]
    refused = (
        f"images.bands: what was opened for BANDS is of band {known_band(other.filter)} ({other.filter_card} = "
        f"'{other.filter}' of PLACE), but band {expected} is expected. Name another survey, or mend images.files, "
        "images.hdu or images.bands."
    )
    return Finding("band", f"{other.filter} ({other.filter_card})", other.band, refused, other.place)


_REMEDY = "Name another survey, or set"


def _range(values: Sequence[float], spec: str, tolerance: float) -> str:
    median = format(float(np.median(values)), spec)
    if max(values) - min(values) <= tolerance:
        return median
    return f"{min(values):{spec}} to {max(values):{spec}}, median {median}"


def _orientation(image: ImageHdu) -> str:
    height, width = image.layout.shape
    x, y = (width - 1) / 2, (height - 1) / 2
    ra, dec = wcs.pixel_to_world(image.cards, [x, x + 1, x], [y, y, y + 1])
    east = ((ra[1:] - ra[0] + 180) % 360 - 180) * np.cos(np.deg2rad(dec[0]))
    north = dec[1:] - dec[0]
    angle = math.degrees(math.atan2(east[1], north[1]))
    up = "north up" if abs(angle) < 1 else f"up is {angle % 360:.0f} deg east of north"
    usual = east[0] * north[1] - east[1] * north[0] < 0
    return f"{up}, {'east left' if usual else 'mirrored (east right)'}"


def _number(values: Mapping[str, Any], card: str) -> float | None:
    value = values.get(card)
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None  # type: ignore[arg-type]


def _text(image: ImageHdu, card: str) -> str:
    value = image.values.get(card, image.primary.get(card))
    return value.strip() if isinstance(value, str) else ""


def _comment(header: str, card: str) -> str:
    for i in range(0, len(header), CARD):
        if header[i : i + 10] == f"{card:<8}= ":
            return header[i + 10 : i + CARD].partition("/")[2]
    return ""
