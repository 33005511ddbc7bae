import gzip
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS, DistortionLookupTable, Sip
from small_tiles import header

from survey_scan.errors import TileError
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


def lookup_table(shape: tuple[int, int], n: int, pixels: float, phase: float) -> DistortionLookupTable:
    """A smooth distortion of some pixels, given at n x n points of an image."""
    y, x = np.mgrid[0:n, 0:n] / n * 3
    values = pixels * np.sin(x + phase) * np.cos(y - phase)
    return DistortionLookupTable(values.astype(np.float32), (1, 1), (1, 1), (shape[1] / (n - 1), shape[0] / (n - 1)))


def write_lookup(path: Path, tables: str, tables_first: bool = True) -> tuple[Path, WCS]:
    """An image with lookup tables, as astropy writes them, and what astropy reads of it."""
    shape = (300, 400)
    wcs = WCS(header(shape))
    if "cpdis" in tables:
        wcs.cpdis1, wcs.cpdis2 = lookup_table(shape, 8, 0.7, 1), lookup_table(shape, 8, 0.5, 2)
    if "d2im" in tables:
        wcs.det2im1, wcs.det2im2 = lookup_table(shape, 16, 0.2, 3), lookup_table(shape, 16, 0.3, 4)
    if "sip" in tables:
        a, b = np.zeros((2, 3, 3))
        a[2, 0], b[0, 2], a[1, 1] = 2e-5, -3e-5, 1e-5
        wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
        wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
    hdus = wcs.to_fits(relax=True)
    image = fits.ImageHDU(np.zeros(shape, np.float32), hdus[0].header, name="SCI")
    rest = list(hdus[1:])
    order = [*rest, image] if tables_first else [image, *rest]
    fits.HDUList([fits.PrimaryHDU(), *order]).writeto(path)
    with fits.open(path) as file:
        return path, WCS(file["SCI"].header, file)


@pytest.mark.parametrize("tables_first", [True, False])
@pytest.mark.parametrize("tables", ["cpdis", "d2im", "cpdis d2im", "cpdis d2im sip"])
def test_lookup_tables_are_those_of_the_file(tmp_path, tables, tables_first):
    path, wcs = write_lookup(tmp_path / "lookup.fits", tables, tables_first)
    found = pickle.loads(pickle.dumps(find_image(path, "SCI"))).cards  # as it travels to a worker
    x, y = np.random.default_rng(2).uniform((0, 0), (399, 299), (100_000, 2)).T
    ra, dec = wcs.all_pix2world(x, y, 0)
    np.testing.assert_array_equal(pixel_to_world(found, x, y), [ra, dec])
    np.testing.assert_allclose(world_to_pixel(found, ra, dec), [x, y], rtol=0, atol=1e-6)
    np.testing.assert_allclose(world_to_pixel(found, ra, dec), wcs.all_world2pix(ra, dec, 0), rtol=0, atol=2e-6)
    linear = WCS(header((300, 400))).all_world2pix(ra, dec, 0)
    assert np.abs(np.array(linear) - [x, y]).max() > 0.1
    assert find_image(path, "SCI").cards == find_image(path, "SCI").cards and read_wcs(found) is read_wcs(found)


def test_lookup_tables_in_a_file_compressed_as_a_whole(tmp_path):
    path, wcs = write_lookup(tmp_path / "lookup.fits", "cpdis d2im")
    zipped = tmp_path / "lookup.fits.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert find_image(zipped, "SCI").cards == find_image(path, "SCI").cards


@pytest.mark.parametrize(("tables", "name"), [("cpdis", "WCSDVARR"), ("d2im", "D2IMARR"), ("cpdis d2im", "D2IMARR")])
def test_lookup_tables_that_are_missing(tmp_path, tables, name):
    path, _ = write_lookup(tmp_path / "lookup.fits", tables)
    with fits.open(path) as file:
        fits.HDUList([fits.PrimaryHDU(), file["SCI"]]).writeto(tmp_path / "without.fits")
    with pytest.raises(
        ValueError, match=rf"^has a WCS that cannot be read \(Extension \('{name}', .*\) not found\.\)$"
    ):
        read_wcs(find_image(tmp_path / "without.fits", "SCI").cards)


def test_lookup_tables_that_are_cut_off(tmp_path):
    path, _ = write_lookup(tmp_path / "lookup.fits", "cpdis", tables_first=False)
    data = path.read_bytes()
    (tmp_path / "cut.fits").write_bytes(data[:-2880])
    with pytest.raises(TileError, match=r"cut.fits is truncated: HDU 3 should end at byte"):
        find_image(tmp_path / "cut.fits", "SCI")


def turned(ctype: str = "TAN") -> fits.Header:
    """A header of a turned and slightly sheared image."""
    full = header((2000, 1500), ra=359.9, dec=-45.0)
    for name in ("PC1_1", "PC2_2", "CDELT1", "CDELT2"):
        full.remove(name, ignore_missing=True)
    full["CTYPE1"], full["CTYPE2"] = f"RA---{ctype}", f"DEC--{ctype}"
    scale = np.array([[-0.9, 0.43], [0.44, 0.91]]) * 0.263 / 3600
    for i in (0, 1):
        for j in (0, 1):
            full[f"CD{i + 1}_{j + 1}"] = scale[i, j]
    return full


def sip() -> fits.Header:
    full = turned("TAN-SIP")
    full["A_ORDER"] = full["B_ORDER"] = 3
    full["A_2_0"], full["A_1_1"], full["A_0_3"] = 2.1e-6, -1.2e-6, 3e-10
    full["B_0_2"], full["B_1_1"], full["B_3_0"] = -3.4e-6, 0.9e-6, -2e-10
    return full


def tpv() -> fits.Header:
    full = turned("TPV")
    for axis, values in (
        (1, {0: 1e-5, 1: 1.01, 2: 2e-3, 4: 3e-3, 7: 1e-2}),
        (2, {0: -2e-5, 1: 0.99, 2: -1e-3, 6: 4e-3}),
    ):
        for number, value in values.items():
            full[f"PV{axis}_{number}"] = value
    return full


@pytest.mark.parametrize("full", [turned(), sip(), tpv()], ids=["TAN", "SIP", "TPV"])
def test_positions_agree_with_astropy_to_a_millionth_of_a_pixel(full):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wcs = WCS(full)
    x, y = np.random.default_rng(5).uniform((-100, -100), (1600, 2100), (100_000, 2)).T
    ra, dec = wcs.all_pix2world(x, y, 0)
    found = world_to_pixel(cards(full), ra, dec)
    np.testing.assert_allclose(found, wcs.all_world2pix(ra, dec, 0, tolerance=1e-9), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found, [x, y], rtol=0, atol=1e-6)
    one_by_one = np.transpose([world_to_pixel(cards(full), ra[i : i + 1], dec[i : i + 1]) for i in range(20)])[0]
    np.testing.assert_allclose(one_by_one, np.array(found)[:, :20], rtol=0, atol=1e-6)


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
            broken(CPDIS1="LOOKUP", **{"DP1.EXTVER": 1.0, "DP1.NAXES": 2.0, "DP1.AXIS.1": 1.0, "DP1.AXIS.2": 2.0}),
            "has a WCS that cannot be read (NAXES was not set (or bad) for  distortion on axis 2)",
        ),
        (
            broken(CPDIS1="LOOKUP", **{"DP1.EXTVER": 1.0}),
            "has a WCS that cannot be read (Keyword 'DP1.AXIS.1' not found.)",
        ),
        (
            broken(D2IMDIS2="LOOKUP", **{"D2IM2.EXTVER": 1.0, "D2IM2.AXIS.2": 2.0}),
            "has a WCS that cannot be read (Extension ('D2IMARR', 1.0) not found.)",
        ),
        (
            broken(CPDIS1="Polynomial"),
            "has a WCS that cannot be read (Polynomial distortion is not implemented.)",
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
    with fits.open(survey_data / "wcs" / name) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ra, dec = WCS(file[0].header).all_pix2world(x, y, 0)
    np.testing.assert_array_equal(pixel_to_world(tile, x, y), [ra, dec])
    np.testing.assert_allclose(world_to_pixel(tile, ra, dec), [x, y], rtol=0, atol=1e-6)


def test_real_tpv_positions_are_those_sextractor_measured(survey_data):
    """A DES exposure: windowed pixel positions of 2469 objects against their sky positions, through 22 PV terms."""
    folder = survey_data / "des" / "finalcut_TPV"
    with fits.open(folder / "D00572501_z_c01_r3624p01_segmap.fits.fz", disable_image_compression=True) as file:
        tile = wcs_cards(file[1].header.tostring())
    with fits.open(folder / "D00572501_z_c01_r3624p01_red-fullcat.fits") as file:
        table = file[2].data
        ra, dec = pixel_to_world(tile, table["XWIN_IMAGE"] - 1, table["YWIN_IMAGE"] - 1)
        east = (ra - table["ALPHAWIN_J2000"]) * np.cos(np.deg2rad(dec))
        assert np.hypot(east, dec - table["DELTAWIN_J2000"]).max() * 3600 < 1e-3  # arcseconds
        x, y = world_to_pixel(tile, table["ALPHAWIN_J2000"], table["DELTAWIN_J2000"])
        assert np.abs(x + 1 - table["XWIN_IMAGE"]).max() < 0.001
        assert np.abs(y + 1 - table["YWIN_IMAGE"]).max() < 0.001
        assert len(table) == 2469
