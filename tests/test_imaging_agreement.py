"""What headers say of themselves, and when that cannot be what the configuration says."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from small_tiles import header, write

from survey_scan.config import Images
from survey_scan.errors import TileError
from survey_scan.imaging import agreement
from survey_scan.imaging.cost import Layout
from survey_scan.imaging.fits_header import find_image
from survey_scan.schema import Status


def image(path, primary=(), **cards):
    """An image in HDU 1 with some cards, and others in the primary HDU; card: value, or (value, comment)."""
    shape = (30, 40)
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros(shape, np.float32), header(shape), name="SCI")])
    for hdu, more in zip(hdus, (dict(primary), cards), strict=True):
        for card, value in more.items():
            hdu.header[card] = value
    hdus.writeto(path, overwrite=True)
    return find_image(path, "SCI")


@pytest.mark.parametrize(
    ("cards", "primary", "found"),
    [
        ({"MAGZERO": 30.0}, {}, (30.0, "MAGZERO")),
        ({"MAGZERO": 22.5, "BUNIT": "nJy"}, {}, (22.5, "MAGZERO")),
        ({"ZEROPNT": 0}, {}, (0.0, "ZEROPNT")),
        ({"PHOTZP": 30}, {"MAGZERO": 25.0}, (30.0, "PHOTZP")),
        ({}, {"FLUXMAG0": 63095734448.0194}, (27.0, "FLUXMAG0")),
        ({"FLUXMAG0": 0.0}, {}, (None, "")),
        ({"BUNIT": "nanomaggy"}, {}, (22.5, "BUNIT")),
        ({"BUNIT": "nJy"}, {}, (31.4, "BUNIT")),
        ({"BUNIT": "electrons", "MAGZPT": 25.0, "MAGZP": 20.5}, {}, (None, "")),
        ({"MAGZERO": "thirty"}, {}, (None, "")),
        ({"MAGZERO": True}, {}, (None, "")),
    ],
)
def test_zero_points(tmp_path, cards, primary, found):
    assert agreement.zero_point_of(image(tmp_path / "a.fits", primary, **cards)) == found


@pytest.mark.parametrize(
    ("name", "band"),
    [
        ("r", "r"), ("r DECam SDSS c0002 6415.0 1480.0", "r"), ("zd DECam k1038", "z"), ("bokr", "r"), ("HSC-I", "i"),
        ("HSC-I2", "i"), ("G", "g"), ("r.MP9601", "r"), ("OCAM_r_SDSS", "r"), ("Ks", "k"), ("K", "k"), ("VIS", "vis"),
        ("NIR_Y", "y"), ("DECAM_g", "g"), ("DES_G", "g"), ("i_06", "i"), ("r_SDSS", "r"),
        ("VR DECam c0007 6300.0 2600.0", ""), ("N708 DECam c0011 7080.0 400.0", ""), ("gri", ""), ("F814W", ""), ("", ""),
        ("solid plate 0.0 0.0", ""), ("i2", ""), ("red", ""),
    ],
)  # fmt: skip
def test_bands_in_the_names_of_filters(name, band):
    assert agreement.known_band(name) == band


@pytest.mark.parametrize(
    ("cards", "width"),
    [
        ({"PSF_FWHM": (0.9, "[arcsec] seeing")}, 0.9),
        ({"FWHM": (4.0, "Median FWHM in pixels")}, 4 * 0.263),
        ({"SEEING": (1.1, "[arcsec]")}, 1.1),
        ({"PSF_FWHM": 0.9}, None),
        ({"FWHM": (0.0, "[arcsec]")}, None),
        ({"FWHM": ("1.0", "[arcsec]")}, None),
    ],
)
def test_width_of_the_psf_has_a_unit_or_is_not_known(tmp_path, cards, width):
    found = agreement.read(image(tmp_path / "a.fits", **cards), "T1", "g").psf
    assert found == (None if width is None else pytest.approx(width, rel=1e-6))


@pytest.mark.parametrize(
    ("cd", "orientation"),
    [
        ([[-1, 0], [0, 1]], "north up, east left"),
        ([[1, 0], [0, 1]], "north up, mirrored (east right)"),
        ([[-1, 0], [0, -1]], "up is 180 deg east of north, mirrored (east right)"),
        ([[1, 0], [0, -1]], "up is 180 deg east of north, east left"),
        ([[0, 1], [1, 0]], "up is 90 deg east of north, east left"),
        ([[0, 1], [-1, 0]], "up is 90 deg east of north, mirrored (east right)"),
    ],
)
def test_orientation(tmp_path, cd, orientation):
    cards = header((30, 40))
    for (i, j), value in np.ndenumerate(np.array(cd) * 0.263 / 3600):
        cards[f"PC{i + 1}_{j + 1}"] = value
    found = agreement.read(find_image(write(tmp_path / "a.fits", np.zeros((30, 40), np.float32), cards), 0), "T1", "g")
    assert found.orientation == orientation
    assert found.pixel_scale == pytest.approx(0.263, rel=1e-6)


def test_a_header_without_a_wcs_is_unreadable(tmp_path):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(np.zeros((30, 40), np.float32)).writeto(path)
    with pytest.raises(TileError) as caught:
        agreement.read(find_image(path, 0), "T1", "g")
    assert caught.value.status == Status.UNREADABLE


ONE = agreement.Header(
    "T1", "g", "/T1_g.fits[0]", 0.263, 30.0, "MAGZERO", "electrons", "g", "BAND", Layout("RICE_1", (30, 40), (1, 40)),
    "north up, east left", None,
)  # fmt: skip


def images(**sections) -> Images:
    return Images(
        **{"files": "/{tile}_{band}.fits", "bands": ["g", "r"], "pixel_scale": 0.263, "zero_point": 30.0} | sections
    )


def several(*changes: dict) -> list[agreement.Header]:
    return [replace(ONE, tile=f"T{i}", place=f"/T{i}_g.fits[0]", **change) for i, change in enumerate(changes)]


def test_findings():
    found = {f.what: (f.found, f.expected, f.refused) for f in agreement.findings([ONE], images())}
    assert found == {
        "pixel scale": ("0.2630 arcsec", "0.263", ""),
        "zero point": ("30 (MAGZERO)", "30", ""),
        "unit": ("electrons", "", ""),
        "band": ("as named (BAND)", "", ""),
        "size": ("40 x 30 pixels", "", ""),
        "compression": ("RICE_1, tiles 40 x 1", "", ""),
        "orientation": ("north up, east left", "", ""),
        "PSF FWHM": ("", "", ""),
    }


def test_what_tiles_do_not_agree_in():
    other = {"pixel_scale": 0.27, "zero_point": 29.5, "layout": Layout("none", (30, 41), (1, 41)), "psf": 1.0}
    found = {f.what: f.found for f in agreement.findings(several({}, {}, other), images())}
    assert found["pixel scale"] == "0.2630 to 0.2700, median 0.2630 arcsec"
    assert found["zero point"] == "29.5 to 30, median 30 (MAGZERO)"
    assert found["size"] == "40 x 30 pixels in 2 of 3 tiles"
    assert found["compression"] == "RICE_1, none, tiles 40 x 1"
    assert found["PSF FWHM"] == "1.00 arcsec"


@pytest.mark.parametrize("other", [{"pixel_scale": 0.3}, {"zero_point": 22.5}, {"filter": "r"}], ids=str)
def test_the_median_is_refused_and_a_single_tile_is_not(other):
    assert agreement.refusals(several({}, other, {}), images()) == []
    assert len(agreement.refusals(several(other, {}, other), images())) == 1


def test_how_much_a_header_may_differ():
    near = several({"pixel_scale": 0.263 * 1.0049, "zero_point": 30.009})
    assert agreement.refusals(near, images()) == []
    far = several({"pixel_scale": 0.263 * 1.0051, "zero_point": 30.011})
    assert agreement.refusals(far, images()) == [
        "images.pixel_scale: pixels have 0.2643 arcsec in g (/T0_g.fits[0]), but 0.2630 is expected (within 0.5 %). Name "
        "another survey, or set images.pixel_scale: 0.2643.",
        "images.zero_point: the zero point is 30.011 in g (MAGZERO of /T0_g.fits[0]), but 30 is expected (within 0.01 mag). "
        "Name another survey, or set images.zero_point, to one number or to one a band.",
    ]


def test_one_reason_for_all_bands_that_have_it():
    wrong = replace(ONE, zero_point=0.0, filter="r")
    both = [replace(wrong, band="r", place="/T1_r.fits[0]"), wrong]
    assert agreement.refusals(both, images()) == [
        "images.bands: what was opened for g is of band r (BAND = 'r' of /T1_g.fits[0]), but band g is expected. Name another "
        "survey, or mend images.files, images.hdu or images.bands.",
        "images.zero_point: the zero point is 0 in g, r (MAGZERO of /T1_g.fits[0]), but 30 is expected (within 0.01 mag). Name "
        "another survey, or set images.zero_point, to one number or to one a band.",
    ]


@pytest.mark.parametrize("name", ["F814W", "", "G", "g DECam SDSS c0001 4720.0 1520.0"])
def test_only_another_band_that_is_known_is_refused(name):
    assert agreement.refusals([replace(ONE, filter=name)], images()) == []


def test_nothing_is_refused_that_is_not_said():
    silent = replace(ONE, zero_point=None, zero_point_card="", filter="", filter_card="", unit="")
    assert agreement.refusals([silent], images()) == []
    assert agreement.refusals([ONE], images(pixel_scale=None, zero_point=None)) == []
    assert agreement.refusals([ONE], images(zero_point={"r": 0.0})) == []


def test_zero_points_of_configuration_and_headers():
    headers = [ONE, replace(ONE, band="r", zero_point=25.0)]
    assert agreement.zero_points(headers, images(), ["r", "g"]) == {"r": 30.0, "g": 30.0}
    assert agreement.zero_points(headers, images(zero_point={"g": 29.0}), ["r", "g"]) == {"r": 25.0, "g": 29.0}
    differing = [*headers, replace(ONE, zero_point=30.02)]
    assert agreement.zero_points(differing, images(zero_point=None), ["g", "r"]) == {"g": None, "r": 25.0}


def test_look_goes_on_until_there_are_enough(tmp_path):
    for name in ("T3_g", "T4_g", "T4_r", "T5_g"):
        write(tmp_path / f"{name}.fits", np.zeros((30, 40), np.float32))
    headers, errors = agreement.look(
        images(files=f"{tmp_path}/{{tile}}_{{band}}.fits"), [f"T{i}" for i in range(9)], ["g", "r"], enough=2
    )
    assert [(h.tile, h.band) for h in headers] == [("T3", "g"), ("T4", "g"), ("T4", "r")]
    assert [str(error) for error in errors] == [
        f"{tmp_path}/T{name}.fits does not exist" for name in ("0_g", "0_r", "1_g", "1_r", "2_g", "2_r", "3_r")
    ]
