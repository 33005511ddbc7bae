"""Pixel positions, and what is known of tiles."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from survey_scan.config import Images
from survey_scan.imaging.tile_index import CORNERS
from survey_scan.plan import positions


def wcs(ra, scale):
    made = WCS(naxis=2)
    made.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    made.wcs.crval, made.wcs.crpix = [ra, 10], [20.5, 10.5]
    made.wcs.cd = np.array([[-scale, 0], [0, scale]]) / 3600
    return made


@pytest.fixture
def images(tmp_path) -> Images:
    """A: both bands; B: only r; C: g is no FITS, r is missing."""
    for tile, band, ra, scale in (("A", "g", 10, 2.0), ("A", "r", 10, 2.0), ("B", "r", 20, 3.0)):
        image = np.zeros((20, 40), np.float32)
        fits.PrimaryHDU(image, wcs(ra, scale).to_header()).writeto(tmp_path / f"{tile}-{band}.fits")
    (tmp_path / "C-g.fits").write_text("x" * 5000)
    return Images(files=f"{tmp_path}/{{tile}}-{{band}}.fits", bands=["g", "r"])


def frame(tiles):
    ra = {"A": 10.001, "B": 20.002, "C": 30.0, "": 40.0}
    return pd.DataFrame({"ra": [ra[t] for t in tiles], "dec": 10.003, "tile": pd.Series(tiles, dtype="str")})


def test_pixels_and_facts(images, tmp_path):
    targets = frame(["B", "A", "", "C", "A"])
    x, y, tiles = positions.pixels(targets, images)
    expected_a = wcs(10, 2.0).all_world2pix(10.001, 10.003, 0)
    expected_b = wcs(20, 3.0).all_world2pix(20.002, 10.003, 0)
    np.testing.assert_allclose(x, [expected_b[0], expected_a[0], np.nan, np.nan, expected_a[0]], rtol=1e-12)
    np.testing.assert_allclose(y, [expected_b[1], expected_a[1], np.nan, np.nan, expected_a[1]], rtol=1e-12)
    size = (tmp_path / "A-g.fits").stat().st_size
    tiles = tiles.set_index("tile")
    assert tiles.loc["A"].to_dict() == {
        "band": "g", "codec": "none", "pixel_scale": pytest.approx(2.0, rel=1e-6), "height": 20, "width": 40,
        "block_height": 1, "block_width": 40, "problem": "", "size_g": size, "size_r": size,
    }  # fmt: skip
    assert (tiles.loc["B", "band"], tiles.loc["B", "size_g"]) == ("r", -1)
    assert (tiles.loc["C", "band"], tiles.loc["C", "size_g"], tiles.loc["C", "height"]) == ("", 5000, 0)
    assert str(tmp_path / "C-g.fits") in tiles.loc["C", "problem"]


def test_no_tiles_at_all(images):
    x, _, tiles = positions.pixels(frame(["", ""]), images)
    assert np.isnan(x).all()
    counted = positions.count(tiles, pd.Series(["", ""], dtype="str"))
    assert len(positions.merge([counted], None)) == 0
    assert positions.layouts(counted) == []


def test_tiles_met_by_several_groups_are_counted_once(images):
    first, second = frame(["A", "A", "B"]), frame(["B", "C", "B", ""])
    parts = [positions.count(positions.pixels(f, images)[2], f["tile"]) for f in (first, second)]
    corners = pd.DataFrame(
        [["A", *range(8), ""], ["B", *range(8), ""], ["D", *range(8), ""]], columns=["tile", *CORNERS, "problem"]
    )
    together = positions.merge(parts, corners)
    assert together[["tile", "n_targets"]].values.tolist() == [["A", 2], ["B", 3], ["C", 1]]
    assert together["ra2"].tolist()[:2] == [2.0, 2.0]
    assert np.isnan(together["ra2"].iloc[2])
    assert "problem" in together
    readable = together[together["problem"] == ""]
    assert positions.layouts(readable) == [{"codec": "none", "shape": [20, 40], "tile": [1, 40]}]


def test_only_tiles_of_the_targets_are_counted(images):
    """A group reads whole tiles, of which it may plan only some targets."""
    targets = frame(["A", "B"])
    _, _, tiles = positions.pixels(targets, images)
    counted = positions.count(tiles, targets["tile"].iloc[1:])
    assert counted[["tile", "n_targets"]].values.tolist() == [["B", 1]]


def test_widths_of_the_psf(images, tmp_path):
    """From headers, of the bands that are asked for; from the index for other bands."""
    for name, comment in (("A-g", "[arcsec]"), ("A-r", "pixels"), ("B-r", "unit not told")):
        with fits.open(tmp_path / f"{name}.fits", mode="update") as file:
            file[0].header["PSF_FWHM"] = (1.5, comment)
    _, _, tiles = positions.pixels(frame(["A", "B", "C"]), images, ["g", "r"])
    np.testing.assert_allclose(tiles[["psf_g", "psf_r"]], [[1.5, 3.0], [np.nan, np.nan], [np.nan, np.nan]], rtol=1e-6)
    counted = positions.count(tiles, pd.Series(["A", "B", "C"], dtype="str"))
    index = pd.DataFrame(0.0, index=range(3), columns=CORNERS).assign(
        tile=["A", "B", "C"], psf_g=9.0, psf_z=[1.0, 2.0, np.nan]
    )
    merged = positions.merge([counted], index)
    np.testing.assert_allclose(merged["psf_g"], [1.5, np.nan, np.nan])
    np.testing.assert_allclose(merged["psf_z"], [1.0, 2.0, np.nan])
