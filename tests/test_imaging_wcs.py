import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from small_tiles import header

from survey_scan.imaging.fits_header import find_image
from survey_scan.imaging.wcs import pixel_scale, pixel_to_world, read_wcs, wcs_cards, world_to_pixel


def cards(fits_header: fits.Header) -> str:
    return wcs_cards(fits_header.tostring())


def test_positions_are_those_of_the_whole_header():
    full = header((300, 400))
    full["EXPTIME"] = 90.0
    full["HISTORY"] = "CRVAL1 was different once"
    x, y = np.random.default_rng(0).uniform(-50, 450, (2, 1000))
    ra, dec = WCS(full).all_pix2world(x, y, 0)
    found = world_to_pixel(cards(full), ra, dec)
    np.testing.assert_array_equal(found, WCS(full).all_world2pix(ra, dec, 0))
    np.testing.assert_allclose(found, [x, y], atol=1e-8)


def test_cards_leave_out_what_has_no_part_in_positions():
    full = header((300, 400))
    before = cards(full)
    full["FILTER"] = "g"
    full["MAGZERO"] = 30.0
    assert cards(full) == before
    full["CRPIX1"] = 7.0
    assert cards(full) != before


def test_right_ascension_wraps_at_zero():
    tile = cards(header((300, 300), ra=0.01))
    x, y = world_to_pixel(tile, [0.01, 360.01, -359.99, 359.99], [-28.0] * 4)
    np.testing.assert_allclose(x[:3], 149.5, atol=1e-6)
    assert x[3] > 380  # east is left
    assert np.ptp(y) < 0.02


def test_nan_and_the_other_side_of_the_sky_are_nowhere():
    tile = cards(header((300, 300)))
    x, y = world_to_pixel(tile, [np.nan, 52.0, 232.0, 52.0], [-28.0, np.nan, 28.0, -28.0])
    np.testing.assert_array_equal(np.isnan(x), [True, True, True, False])
    np.testing.assert_array_equal(np.isnan(y), [True, True, True, False])


def test_sip_positions_far_away_are_nan_not_wrong():
    full = header((300, 300))
    full["CTYPE1"], full["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    full["A_ORDER"] = full["B_ORDER"] = 2
    full["A_2_0"], full["B_0_2"] = 1e-4, -1e-4
    x, y = np.random.default_rng(1).uniform(0, 300, (2, 200))
    ra, dec = WCS(full).all_pix2world(x, y, 0)
    np.testing.assert_allclose(world_to_pixel(cards(full), ra, dec), [x, y], atol=1e-4)
    near = world_to_pixel(cards(full), np.append(ra, 60.0), np.append(dec, -20.0))
    np.testing.assert_allclose(near[0][:-1], x, atol=1e-4)
    assert not (0 <= near[0][-1] < 300 and 0 <= near[1][-1] < 300)


@pytest.mark.parametrize("scale", [0.2, 0.263])
def test_pixel_scale_is_that_on_the_sky(scale):
    assert pixel_scale(cards(header((300, 400), dec=60.0, scale=scale)), (300, 400)) == pytest.approx(scale, rel=1e-6)


def test_pixel_scale_counts_distortion_where_the_linear_terms_do_not():
    full = header((300, 300))
    full["CTYPE1"], full["CTYPE2"] = "RA---TPV", "DEC--TPV"
    for axis in (1, 2):
        full[f"PV{axis}_0"], full[f"PV{axis}_1"] = 0.0, 1.1
    assert pixel_scale(cards(full), (300, 300)) == pytest.approx(1.1 * 0.263, rel=1e-6)


def test_pixel_to_world_is_the_inverse():
    tile = cards(header((300, 300), ra=359.99))
    ra, dec = pixel_to_world(tile, [-0.5, 299.5], [-0.5, 299.5])
    np.testing.assert_allclose(world_to_pixel(tile, ra, dec), [[-0.5, 299.5], [-0.5, 299.5]], atol=1e-8)


def broken(**changes: object) -> str:
    full = header((300, 300))
    for name, value in changes.items():
        full[name] = value
    return cards(full)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no WCS of the sky (CTYPE1 and CTYPE2, such as RA---TAN and DEC--TAN)"),
        (
            broken(CTYPE1="LINEAR", CTYPE2="LINEAR"),
            "has no WCS of the sky (CTYPE1 and CTYPE2, such as RA---TAN and DEC--TAN)",
        ),
        (
            broken(CTYPE1="GLON-TAN", CTYPE2="GLAT-TAN"),
            "has a WCS in GLON coordinates; right ascension and declination of J2000 are needed",
        ),
        (
            broken(RADESYS="FK4", EQUINOX=1950.0),
            "has a WCS in FK4 coordinates; right ascension and declination of J2000 are needed",
        ),
        (
            broken(CPDIS1="LOOKUP", DP1="EXTVER: 1"),
            "has a WCS that cannot be read (an astropy.io.fits.HDUList is required for Lookup table distortion.)",
        ),
    ],
)
def test_unusable_wcs_says_why(text, message):
    with pytest.raises(ValueError) as caught:
        read_wcs(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["tpv.fits", "sipsample.fits", "tnx.fits"])
def test_real_distorted_headers(survey_data, name):
    found = find_image(survey_data / "wcs" / name, 0)
    (height, width), tile = found.layout.shape, found.cards
    y, x = (grid.ravel() for grid in np.mgrid[0:height:20, 0:width:20].astype(float))
    ra, dec = pixel_to_world(tile, x, y)
    np.testing.assert_allclose(world_to_pixel(tile, ra, dec), [x, y], atol=1e-5)


def test_real_tpv_positions_are_those_sextractor_measured(survey_data):
    """A DES exposure: windowed pixel positions of 2469 objects against their sky positions, through 22 PV terms."""
    folder = survey_data / "des" / "finalcut_TPV"
    with fits.open(folder / "D00572501_z_c01_r3624p01_segmap.fits.fz", disable_image_compression=True) as file:
        tile = wcs_cards(file[1].header.tostring())
    with fits.open(folder / "D00572501_z_c01_r3624p01_red-fullcat.fits") as file:
        table = file[2].data
        x, y = world_to_pixel(tile, table["ALPHAWIN_J2000"], table["DELTAWIN_J2000"])
        assert np.abs(x + 1 - table["XWIN_IMAGE"]).max() < 0.001
        assert np.abs(y + 1 - table["YWIN_IMAGE"]).max() < 0.001
        assert len(table) == 2469
