"""Images as afw of the Rubin Observatory writes an Exposure (HSC's calexp, Rubin's deep_coadd): an empty primary HDU, then
image, mask and variance, each compressed, then tables; the WCS moved by LTV1 and LTV2, with a second one of pixels ('A')."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from small_tiles import noise, reference, targets

from survey_scan import config
from survey_scan.cutouts import cut_partition
from survey_scan.imaging.fits_header import find_image, mask_planes
from survey_scan.imaging.tiles import read_tile_info
from survey_scan.imaging.wcs import pixel_to_world, world_to_pixel
from survey_scan.schema import Status

SHAPE = (420, 410)
#: Numbers as in a mask of HSC; another file may have others.
PLANES = {"BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "NO_DATA": 8, "BRIGHT_OBJECT": 9, "NOT_DEBLENDED": 11, "EDGE": 4}
WHICH = config.Mask(hdu=2, bits=["BAD", "SAT", "NO_DATA"])


def wcs_cards(kind: str) -> fits.Header:
    """A patch's part of its tract: the reference pixel lies far outside."""
    cards = fits.Header()
    cards["WCSAXES"] = 2
    cards["CRPIX1"], cards["CRPIX2"] = 6436.0, 14001.0
    cards["CRVAL1"], cards["CRVAL2"] = 222.222222222222, 0.7438016528925701
    cards["CTYPE1"], cards["CTYPE2"] = ("RA---TAN-SIP", "DEC--TAN-SIP") if kind == "SIP" else ("RA---TAN", "DEC--TAN")
    cards["CD1_1"], cards["CD1_2"] = -4.6666666666640e-05, 0.0
    cards["CD2_1"], cards["CD2_2"] = 0.0, 4.66666666666406e-05
    cards["RADESYS"] = "ICRS"
    if kind == "SIP":
        cards["CRPIX1"], cards["CRPIX2"] = 1023.5, 2087.5  # of a detector
        cards["A_ORDER"], cards["B_ORDER"], cards["AP_ORDER"], cards["BP_ORDER"] = 2, 2, 2, 2
        cards["A_2_0"], cards["A_1_1"], cards["B_0_2"], cards["B_1_1"] = 3.1e-7, -1.2e-7, 2.2e-7, 4.0e-7
        cards["AP_2_0"], cards["BP_0_2"] = -3.1e-7, -2.2e-7  # only nearly the inverse, as ever
    cards["LTV1"], cards["LTV2"] = -11564.0, -3999.0
    cards["CTYPE1A"], cards["CTYPE2A"] = "LINEAR", "LINEAR"
    cards["CRPIX1A"], cards["CRPIX2A"], cards["CRVAL1A"], cards["CRVAL2A"] = 1.0, 1.0, 11564.0, 3999.0
    cards["CUNIT1A"], cards["CUNIT2A"] = "PIXEL", "PIXEL"
    return cards


def compressed(image: np.ndarray, kind: str, extension: str, **more: object) -> fits.CompImageHDU:
    cards = wcs_cards(kind)
    cards["INHERIT"], cards["EXTTYPE"] = True, extension
    options = {"quantize_level": 10.0, "quantize_method": 1, "dither_seed": 42} if image.dtype.kind == "f" else {}
    hdu = fits.CompImageHDU(image, cards, compression_type="RICE_1", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)  # long names become HIERARCH cards, as afw's do
        for name, value in more.items():
            hdu.header[name] = value
    return hdu


def write_calexp(
    path: Path, kind: str = "TAN", stored: str = "quantised", planes: dict[str, int] = PLANES
) -> np.ndarray:
    """Write one; its mask comes back.

    ``stored`` says how floats became integers: by cfitsio (ZQUANTIZ, a scale a row), or by afw (one BSCALE, with a BLANK).
    """
    image = noise(SHAPE)
    image[200, 100:110] = np.nan
    mask = np.zeros(SHAPE, np.int32)
    mask[50:60, 40:45] = 1 << planes.get("SAT", 1)
    mask[300:310, 200:204] = 1 << planes.get("NOT_DEBLENDED", 11)
    mask[300:310, 204:208] = 1 << planes.get("NO_DATA", 8)
    if stored == "quantised":
        first = compressed(image, kind, "IMAGE")
    else:
        whole = np.where(np.isnan(image), -(2**31), np.round((image - 3.0) / 0.25)).astype(np.int32)
        first = compressed(whole, kind, "IMAGE", BSCALX=0.25, BZERX=3.0, BLANX=-(2**31))
    primary = fits.PrimaryHDU()
    primary.header["AR_HDU"] = (5, "HDU (1-indexed) containing the archive")
    primary.header["FLUXMAG0"] = 63095734448.01944
    numbers = fits.Column("id", "J", array=np.arange(7))
    tables = [fits.BinTableHDU.from_columns([numbers], name=name) for name in ("ARCHIVE_INDEX", "SkyWcs", "PsfexPsf")]
    named = {f"MP_{name}": number for name, number in sorted(planes.items())}
    second = compressed(mask, kind, "MASK", **named)
    third = compressed(np.abs(noise(SHAPE, 2)), kind, "VARIANCE")
    fits.HDUList([primary, first, second, third, *tables]).writeto(path, checksum=stored == "quantised")
    raw = path.read_bytes()
    for other, name in (("BSCALX", "BSCALE"), ("BZERX ", "BZERO "), ("BLANX ", "BLANK ")):
        raw = raw.replace(f"{other}  =".encode(), f"{name}  =".encode())
    path.write_bytes(raw)
    return mask


@pytest.mark.parametrize("stored", ["quantised", "scaled"])
@pytest.mark.parametrize("kind", ["TAN", "SIP"])
def test_positions_and_pixels_are_astropys(tmp_path, kind, stored):
    path = tmp_path / "calexp-HSC-I-9813-4,3.fits"
    mask = write_calexp(path, kind, stored)
    images = config.Images(
        files=str(tmp_path / "calexp-HSC-{band}-{tile}.fits"), bands=["I"], hdu=1, mask=WHICH, blank=None
    )
    assert ("ZQUANTIZ" in find_image(path, 1).values) == (stored == "quantised")
    with fits.open(path) as file:
        pixels, wcs = file[1].data, WCS(file[1].header)
        assert np.isnan(pixels[200, 100:110]).all() and np.isfinite(pixels).sum() == pixels.size - 10
        np.testing.assert_allclose(pixels, np.where(np.isnan(pixels), np.nan, noise(SHAPE)), atol=15)
    info = read_tile_info(images, "9813-4,3")
    assert info.shape == SHAPE and info.pixel_scale == pytest.approx(0.168, rel=2e-3)
    x, y = np.random.default_rng(0).uniform((0, 0), (409, 419), (500, 2)).T
    ra, dec = wcs.all_pix2world(x, y, 0)
    np.testing.assert_array_equal(pixel_to_world(info.cards, x, y), [ra, dec])
    np.testing.assert_allclose(world_to_pixel(info.cards, ra, dec), [x, y], rtol=0, atol=1e-6)
    some = targets([50.0, 102.5, 203.3, 5.0], [55.0, 199.7, 304.1, 5.0], wcs.to_header(relax=True), "9813-4,3")
    spec = config.Cutouts(bands=["I"], size=21, max_bad_fraction=0.11)
    found = cut_partition(some, images, spec, info.pixel_scale)
    assert found.problems == []
    bad = ~np.isfinite(pixels) | (mask & (1 << 0 | 1 << 1 | 1 << 8) != 0)
    for i, row in some.iterrows():
        np.testing.assert_array_equal(found.image[i, :, :, 0], reference(pixels, wcs, row.ra, row.dec, 21))
        part = reference(bad.astype(np.float32), wcs, row.ra, row.dec, 21)
        assert found.bad_fraction[i, 0] == pytest.approx(np.where(np.isnan(part), 1, part).mean(), abs=1e-6)
    assert found.status.tolist() == [Status.BAD_PIXELS, Status.OK, Status.OK, Status.PARTLY_COVERED]


def cut(folder: Path, bits: list[int | str] | None) -> tuple[float, list[str]]:
    """Bad pixels of a target on the planes SAT (50 pixels, around it), and what was wrong."""
    images = config.Images(
        files=str(folder / "{tile}-{band}.fits"), bands=["I"], hdu=1, mask=config.Mask(hdu=2, bits=bits), blank=None
    )
    spec = config.Cutouts(bands=["I"], size=21, max_bad_fraction=1)
    found = cut_partition(targets([42.0], [55.0], wcs_cards("TAN"), "T"), images, spec)
    return float(found.bad_fraction[0, 0]) * 21**2, found.problems


@pytest.mark.parametrize("planes", [PLANES, {"SAT": 30, "NO_DATA": 0, "NOT_DEBLENDED": 1}], ids=["HSC's", "others"])
def test_planes_have_the_numbers_of_their_own_file(tmp_path, planes):
    write_calexp(tmp_path / "T-I.fits", planes=planes)
    assert mask_planes(find_image(tmp_path / "T-I.fits", 2)) == planes
    assert cut(tmp_path, ["SAT"]) == (pytest.approx(50), [])
    assert cut(tmp_path, ["NO_DATA"]) == (0, [])
    assert cut(tmp_path, ["NO_DATA", planes["SAT"]]) == (pytest.approx(50), [])
    assert cut(tmp_path, None) == (pytest.approx(50), [])


def test_a_plane_that_a_file_does_not_have(tmp_path):
    write_calexp(tmp_path / "T-I.fits")
    there = "BAD, BRIGHT_OBJECT, CR, EDGE, INTRP, NOT_DEBLENDED, NO_DATA, SAT"
    assert cut(tmp_path, ["SAT", "SATURATED"])[1] == [
        f"tile T, band I: {tmp_path}/T-I.fits[2] is a mask without the plane 'SATURATED' of images.mask.bits; its planes "
        f"are {there}"
    ]


def test_a_mask_without_names(tmp_path):
    write_calexp(tmp_path / "T-I.fits", planes={})
    assert cut(tmp_path, ["SAT"])[1] == [
        f"tile T, band I: {tmp_path}/T-I.fits[2] is a mask without the plane 'SAT' of images.mask.bits; it names no planes "
        "(cards MP_...)"
    ]
    assert cut(tmp_path, [1]) == (pytest.approx(50), [])
