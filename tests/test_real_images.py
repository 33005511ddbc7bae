"""Every real image at hand: whether it can be a tile, and if not, why not; its pixels against astropy's."""

from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.io import fits

from survey_scan.errors import TileError
from survey_scan.imaging import wcs
from survey_scan.imaging.fits_header import find_image
from survey_scan.imaging.fits_image import FitsImage

NO_WCS = "has no WCS of the sky (CTYPE1 and CTYPE2, such as RA---TAN and DEC--TAN)"
BRICKS = "legacysurvey/*/coadd/*/*/legacysurvey-*-"

#: Files · HDUs · how many files · codec · BITPIX · arcseconds a pixel, or why there are none. An image without a WCS of the
#: sky can be a mask or a weight beside one that has it (as in Euclid's files), but no tile.
IMAGES = [
    (BRICKS + "image-?.fits.fz", [1], 14, "RICE_1", -32, 0.262),  # DR6's say RICE_ONE
    (BRICKS + "invvar-?.fits.fz", [1], 14, "RICE_1", -32, 0.262),
    (BRICKS + "nexp-?.fits.fz", [1], 14, "HCOMPRESS_1", 16, 0.262),
    (BRICKS + "maskbits.fits.fz", [1], 4, "HCOMPRESS_1", 32, 0.262),
    (BRICKS + "psfsize-?.fits.fz", [1], 12, "GZIP_1", -32, 0.262),
    ("legacysurvey/dr6_original_brick/metrics/*/blobs-*.fits.gz", [0], 1, "gzip", 32, 0.262),
    ("legacysurvey/viewer_cutout/cutout_*.fits", [1, 2, 3, 4, 5, 6], 1, "none", -32, 0.262),  # three bands in one file
    ("legacysurvey/viewer_cutout/copsf_*.fits", [0, 1, 2], 1, "none", -32, NO_WCS),
    ("legacysurvey/single_exposure_TPV/*.fits", [1], 3, "none", -32, 0.263),
    ("des/des_like_tile/*.fits.fz", ["SCI", "WGT"], 4, "RICE_1", -32, 0.263),
    ("des/des_like_tile/*.fits.fz", ["MSK"], 4, "RICE_1", 32, 0.263),
    ("des/finalcut_TPV/*_segmap.fits.fz", [1], 1, "PLIO_1", 32, 0.263),
    ("euclid/*.fits", range(1, 25, 3), 1, "none", -32, 0.1),
    ("euclid/*.fits", ["VIS_RMS", "NIR_H_RMS"], 1, "none", -32, NO_WCS),
    ("euclid/*.fits", ["DES_G_PSF"], 1, "none", -64, NO_WCS),
    ("hsc/das_cutout_gri/*_?.fits", [1, 3], 3, "none", -32, 0.168),
    ("hsc/das_cutout_gri/*_?.fits", [2], 3, "none", 32, 0.168),
    ("hsc/das_cutout_gri/*_psf.fits", [0], 3, "none", -64, "has a WCS that cannot be read"),
    ("hsc/hyrax_stars/*-cutout-*.fits", [1], 10, "none", -32, 0.168),
    ("kids/grafted_tile/*_sci.fits", [1], 9, "HCOMPRESS_1", -32, 0.3),
    ("kids/humvi_gri_101px/*.fits", [0], 3, "none", -32, 0.2),
    ("kids/profound_multiband_original/*.fits", [1], 2, "HCOMPRESS_1", -32, NO_WCS),
    ("kids/vst_vista_wcs/VISTA_K.fits", [0], 1, "none", -32, 0.337),
    ("kids/vst_vista_wcs/VST_r.fits", [0], 1, "none", -32, 0.199),
    ("wcs/sipsample.fits", [0], 1, "none", -32, 1.223),
    ("wcs/tnx.fits", [0], 1, "none", 16, 0.27),
    ("wcs/tpv.fits", [0], 1, "none", -32, 0.259),
    ("cosmos_galaxies/acs_I_unrot_sci_20_cf.fits", [0], 1, "none", -64, NO_WCS),
    ("cosmos_galaxies/real_galaxy_*images_extension.fits", [0, 7, 99], 2, "none", -64, NO_WCS),
]
#: Files without an image of two dimensions: file, HDU, what it is instead.
NO_IMAGES = [
    ("des/stamps_grizY/*.fits", 0, "an array of 3 dimensions"),
    ("des/catalogue_y6like/valid.fits", 0, "an array of 1 dimensions"),
    ("rubin/dp0_image_stack.fits", 1, "a table"),  # images as vectors in a table
    ("hsc/hyrax_stars/2-cutout-*.fits", 2, "empty"),  # no mask was asked for
]


@pytest.mark.parametrize("row", IMAGES, ids=lambda row: f"{row[0].rpartition('/')[2]}-{row[1][0]}")
def test_images(survey_data, row):
    pattern, hdus, n_files, codec, bitpix, scale = row
    paths = sorted(survey_data.glob(pattern))
    assert len(paths) == n_files
    for path in paths:
        with fits.open(path) as file:
            for hdu in hdus:
                found = find_image(path, hdu)
                assert (found.layout.codec, found.bitpix, found.layout.shape) == (codec, bitpix, file[hdu].shape)
                if isinstance(scale, float):
                    assert wcs.pixel_scale(found.cards, found.layout.shape) == pytest.approx(scale, abs=6e-4)
                else:
                    with pytest.raises(ValueError) as caught:
                        wcs.read_wcs(found.cards)
                    assert str(caught.value).startswith(scale)
        check_pixels(paths[0], hdus[0])


def check_pixels(path: Path, hdu: int | str) -> None:
    """A window in the middle, and one at the corner, by each way of reading."""
    found = find_image(path, hdu)
    height, width = found.layout.shape
    boxes = [(height // 2, height // 2 + 20, width // 2, width // 2 + 20), (0, min(64, height), width - 20, width)]
    with fits.open(path) as file:
        pixels = file[hdu].data
        for mode in ("rows", "sections"):
            with FitsImage(found, mode) as image:
                for y0, y1, x0, x1 in boxes:
                    expected = pixels[y0 : min(y1, height), x0:x1]
                    np.testing.assert_array_equal(image.read(y0, min(y1, height), x0, x1), expected)


@pytest.mark.parametrize(("pattern", "hdu", "what"), NO_IMAGES, ids=[what for *_, what in NO_IMAGES])
def test_no_images(survey_data, pattern, hdu, what):
    paths = sorted(survey_data.glob(pattern))
    assert paths
    for path in paths:
        with pytest.raises(TileError) as caught:
            find_image(path, hdu)
        assert str(caught.value).startswith(f"{path}[{hdu}] is {what}; an image is needed: ")


def outcome(path: Path, hdu: int) -> str:
    """What the readers make of one HDU: all its pixels, and whether it could be a tile; or why not."""
    found = find_image(path, hdu)
    height, width = found.layout.shape
    with FitsImage(found, "whole") as image:
        assert image.read(0, height, 0, width).shape == (height, width)
    try:
        scale = f"{wcs.pixel_scale(found.cards, found.layout.shape):.3f} arcsec"
    except ValueError as error:
        scale = f"no tile: {error}"
    return f"{found.layout.codec}, {scale}"


def outcomes(path: Path) -> dict[int, str]:
    """By HDU, up to the last."""
    told: dict[int, str] = {}
    while True:
        try:
            told[len(told)] = outcome(path, len(told))
        except TileError as error:
            message = str(error)
            assert message.startswith(str(path)) and "\n" not in message
            if f" has no HDU {len(told)}; " in message:
                return told
            why = message.removeprefix(str(path)).removeprefix(f"[{len(told)}]").partition(";")[0]
            told[len(told)] = f"refused: {why.strip()}"
            if f"{path} is " in message:  # of the file, whichever HDU is asked for
                return told


def test_table_of_every_image_file(survey_data, capsys):
    """Prints file → outcome; whatever is no image is refused with a reason, and nothing else is ever raised."""
    suffixes = (".fits", ".fits.fz", ".fits.gz", ".jpg", ".png")
    paths = sorted(path for path in survey_data.rglob("*") if path.name.endswith(suffixes))
    assert len(paths) > 150
    lines = []
    for path in paths:
        told = outcomes(path)
        assert told
        if path.name.endswith((".jpg", ".png")):
            assert told == {0: "refused: is not a FITS file (it does not begin with SIMPLE)"}
        numbers = {text: [number for number, other in told.items() if other == text] for text in told.values()}
        each = [f"[{found[0]}{', …' * (len(found) > 1)}] {text}" for text, found in numbers.items()]
        lines.append(f"{path.relative_to(survey_data)}: {'; '.join(each)}")
    with capsys.disabled():
        print("", *lines, sep="\n")


def test_no_image_is_left_out(survey_data):
    looked_at = {path for pattern, *_ in [*IMAGES, *NO_IMAGES] for path in survey_data.glob(pattern)}
    left = []
    for pattern in ("*.fits", "*.fits.fz", "*.fits.gz"):
        for path in set(survey_data.rglob(pattern)) - looked_at:
            with fitsio.FITS(path) as file:
                if any(hdu.has_data() and hdu.get_exttype() != "BINARY_TBL" for hdu in file):
                    left.append(path)
    assert not left
