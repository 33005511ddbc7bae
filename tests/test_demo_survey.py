"""The embedded survey as it lies on disk: grid, compression, gaps, catalogue, truth."""

from pathlib import Path

import fitsio
import numpy as np
import pandas as pd
import pytest
import yaml
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

import survey_scan.demo
from survey_scan.demo import files
from survey_scan.demo.catalogue import G_R, GALAXY_CLASS, MAG_I
from survey_scan.demo.photometry import PIXEL_SCALE, SKY_NOISE
from survey_scan.demo.survey import DemoSurvey, make_survey

SIZE, OVERLAP, MASK = 400, 120, 60
SMALL = {"n_galaxies": 400, "n_lenses": 4, "n_stars": 40, "tile_size": SIZE, "overlap": OVERLAP, "mask_size": MASK}


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> DemoSurvey:
    return make_survey(tmp_path_factory.mktemp("survey"), 11, **SMALL)


@pytest.fixture(scope="module")
def truth(survey) -> pd.DataFrame:
    return pd.read_csv(survey.truth)


@pytest.fixture(scope="module")
def catalogue(survey) -> Table:
    return Table.read(survey.catalogue)


def path(survey, tile, band):
    return survey.tiles / tile / f"{tile}_{band}.fits.fz"


def image(survey, tile, band, hdu="SCI"):
    return fitsio.read(path(survey, tile, band), ext=hdu)


def headers(survey):
    out = {}
    for tile in survey.tile_names:
        with fits.open(path(survey, tile, "g")) as hdus:
            out[tile] = hdus["SCI"].header.copy()
    return out


def inside(header, ra, dec, margin=0.0):
    x, y = WCS(header).all_world2pix(ra, dec, 0)
    return (x > margin - 0.5) & (x < SIZE - 0.5 - margin) & (y > margin - 0.5) & (y < SIZE - 0.5 - margin)


def test_tiles_share_one_pixel_grid(survey):
    grids = headers(survey)
    first = grids[survey.tile_names[0]]
    assert len(set(survey.tile_names)) == 4
    for header in grids.values():
        ra, dec = WCS(header).all_pix2world(10.0, 20.0, 0)
        x, y = WCS(first).all_world2pix(ra, dec, 0)
        assert abs(x - round(float(x))) < 1e-6
        assert abs(y - round(float(y))) < 1e-6


def test_ra_falls_with_x_and_dec_rises_with_y(survey):
    ra, dec = WCS(headers(survey)[survey.tile_names[0]]).all_pix2world([0, 100, 0], [0, 0, 100], 0)
    assert ra[1] < ra[0]
    assert dec[2] > dec[0]
    scale = (dec[2] - dec[0]) * 36.0
    assert scale == pytest.approx(PIXEL_SCALE, abs=1e-5)


def test_an_overlap_shows_the_same_objects_with_other_noise(survey):
    left, right = (image(survey, tile, "r") for tile in survey.tile_names[:2])
    a, b = left[:, SIZE - OVERLAP :], right[:, :OVERLAP]
    a, b = a[np.isfinite(b)], b[np.isfinite(b)]
    assert not np.array_equal(a, b)
    assert np.corrcoef(a, b)[0, 1] > 0.5
    sky = np.abs(a + b) < 3.0 * SKY_NOISE[1]
    assert abs(np.corrcoef(a[sky], b[sky])[0, 1]) < 0.5


def test_compression_is_that_of_des(survey):
    with fits.open(path(survey, survey.tile_names[0], "g"), disable_image_compression=True) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "MSK", "WGT"]
        assert hdus["PRIMARY"].header["NAXIS"] == 0
        science, mask = hdus["SCI"].header, hdus["MSK"].header
        assert (science["ZCMPTYPE"], science["ZQUANTIZ"]) == ("RICE_1", "SUBTRACTIVE_DITHER_2")
        assert (science["ZTILE1"], science["ZTILE2"]) == (SIZE, 1)
        assert mask["ZCMPTYPE"] == "PLIO_1"
        assert science["MAGZERO"] == 30.0
        assert "DATASUM" in science
        steps = hdus["SCI"].data["ZSCALE"]
    assert np.median(steps) == pytest.approx(SKY_NOISE[0] / 16.0, rel=0.15)


@pytest.mark.parametrize("hdu", ["SCI", "MSK", "WGT"])
def test_astropy_and_fitsio_read_the_same_pixels(survey, hdu):
    with fits.open(path(survey, survey.masked_tile, "i")) as hdus:
        np.testing.assert_array_equal(hdus[hdu].data, image(survey, survey.masked_tile, "i", hdu))


def test_one_tile_lacks_one_band(survey):
    missing = [(t, b) for t in survey.tile_names for b in survey.bands if not path(survey, t, b).exists()]
    assert missing == [(survey.bandless_tile, survey.absent_band)]


def test_one_tile_has_a_masked_square(survey):
    for tile in survey.tile_names:
        pixels, mask = image(survey, tile, "g"), image(survey, tile, "g", "MSK")
        masked = (mask & files.MASKED) != 0
        np.testing.assert_array_equal(np.isnan(pixels), masked)
        assert masked.sum() == (MASK**2 if tile == survey.masked_tile else 0)
        assert np.all((image(survey, tile, "g", "WGT") == 0) == masked)


def test_sky_noise_is_that_of_the_depth(survey):
    pixels = image(survey, survey.tile_names[0], "i")
    below = pixels[pixels < 0]
    assert np.sqrt(np.mean(below**2)) == pytest.approx(SKY_NOISE[2], rel=0.1)


def test_lenses_stand_where_they_can_be_found(survey, truth):
    lenses = truth[truth["kind"] == "lens"]
    assert len(lenses) == survey.n_lenses == 4
    grids = headers(survey)
    assert not inside(grids[survey.bandless_tile], lenses["ra"], lenses["dec"]).any()
    best = np.maximum.reduce([inside(h, lenses["ra"], lenses["dec"], 22) for h in grids.values()])
    assert best.all()
    x, y = WCS(grids[survey.masked_tile]).all_world2pix(lenses["ra"], lenses["dec"], 0)
    hole = np.argwhere(np.isnan(image(survey, survey.masked_tile, "g")))
    for place in zip(y, x, strict=True):
        assert np.min(np.hypot(*(hole - place).T)) > 32


def test_catalogue_and_truth_hold_the_same_objects(survey, truth, catalogue):
    assert len(catalogue) == survey.n_objects == 444
    assert set(catalogue["COADD_OBJECT_ID"]) == set(truth["object_id"])
    order = np.argsort(np.asarray(catalogue["COADD_OBJECT_ID"]))
    off_ra = (catalogue["RA"][order] - truth["ra"]) * np.cos(np.radians(truth["dec"]))
    off = np.hypot(off_ra, catalogue["DEC"][order] - truth["dec"])
    assert np.max(off) * 3600.0 < 0.2


def test_every_lens_passes_the_cut(truth, catalogue):
    lens = np.isin(catalogue["COADD_OBJECT_ID"], truth.loc[truth["kind"] == "lens", "object_id"])
    chosen = catalogue[lens]
    colour = chosen["MAG_AUTO_G"] - chosen["MAG_AUTO_R"]
    assert np.all((chosen["MAG_AUTO_I"] > MAG_I[0]) & (chosen["MAG_AUTO_I"] < MAG_I[1]))
    assert np.all((colour > G_R[0]) & (colour < G_R[1]))
    assert np.all(chosen["EXTENDED_CLASS_COADD"] >= GALAXY_CLASS)


def test_the_configuration_makes_the_same_cut():
    cuts = yaml.safe_load((Path(survey_scan.demo.__file__).parent / "demo.yaml").read_text())["selection"]["cuts"]
    assert cuts == {
        "bright": f"{MAG_I[0]:g} < mag_i < {MAG_I[1]:g}",
        "red": f"{G_R[0]:g} < g_r < {G_R[1]:g}",
        "galaxy": f"extended >= {GALAXY_CLASS}",
    }


def test_catalogue_has_the_sentinels_of_a_real_one(survey, catalogue):
    with fits.open(survey.catalogue) as hdus:
        columns = hdus["OBJECTS"].columns
        assert columns["EXTENDED_CLASS_COADD"].null == files.CLASS_NULL
        assert columns["FLUX_AUTO"].format == "3E"
        assert hdus["OBJECTS"].data.dtype["COADD_OBJECT_ID"].byteorder == ">"
    assert catalogue["EXTENDED_CLASS_COADD"].mask.sum() == 8
    assert np.sum(catalogue["MAG_AUTO_I"] == np.float32(files.UNMEASURED)) == 8
    assert np.sum(catalogue["MAG_AUTO_G"] == 99.0) > 0


def test_an_object_stands_at_its_catalogued_place(survey, truth):
    """The brightest pixel near a bright star is the star's."""
    header = headers(survey)[survey.tile_names[0]]
    x, y = WCS(header).all_world2pix(truth["ra"], truth["dec"], 0)
    near = (truth["kind"] == "star") & (truth["mag_r"] < 20) & inside(header, truth["ra"], truth["dec"], 10)
    assert near.sum() > 1
    pixels = image(survey, survey.tile_names[0], "r")
    for star_x, star_y in zip(x[near], y[near], strict=True):
        column, row = round(star_x), round(star_y)
        box = pixels[row - 2 : row + 3, column - 2 : column + 3]
        peak = np.unravel_index(np.argmax(box), box.shape)
        assert max(abs(peak[0] - 2), abs(peak[1] - 2)) <= 1


def test_tile_list_holds_the_corners_in_order(survey):
    table = pd.read_csv(survey.tile_list).set_index("tile")
    assert list(table.columns) == [f"{c}{k}" for k in (1, 2, 3, 4) for c in ("ra", "dec")]
    for tile, header in headers(survey).items():
        row = table.loc[tile]
        x, y = WCS(header).all_world2pix(row[["ra1", "ra2", "ra3", "ra4"]], row[["dec1", "dec2", "dec3", "dec4"]], 0)
        np.testing.assert_allclose(x, np.array([0, SIZE, SIZE, 0]) - 0.5, atol=1e-3)
        np.testing.assert_allclose(y, np.array([0, 0, SIZE, SIZE]) - 0.5, atol=1e-3)


def test_the_same_seed_gives_the_same_pixels(survey, truth, tmp_path):
    again = make_survey(tmp_path / "again", 11, **SMALL)
    other = make_survey(tmp_path / "other", 12, **SMALL)
    tile = survey.tile_names[0]
    np.testing.assert_array_equal(image(again, tile, "g"), image(survey, tile, "g"))
    assert not np.array_equal(image(other, tile, "g"), image(survey, tile, "g"))
    pd.testing.assert_frame_equal(pd.read_csv(again.truth), truth)
    assert again.catalogue.read_bytes() == survey.catalogue.read_bytes()
