import io

import numpy as np
import pytest
from PIL import Image
from small_grading import image

from survey_scan.grading import pictures

BANDS = ["g", "r", "i"]


def cutout(arc: bool = True, size: int = 41) -> np.ndarray:
    return image(np.random.default_rng(1), 2, size, 3)[0 if arc else 1]


def test_colour_is_that_of_astropy():
    from astropy.visualization import make_lupton_rgb

    rgb = np.random.default_rng(2).normal(5, 20, (30, 30, 3)).astype(np.float32)
    found = pictures.lupton(rgb, 8, 12)
    theirs = make_lupton_rgb(*np.moveaxis(rgb, -1, 0), minimum=0, stretch=12, Q=8)
    assert np.abs(found.astype(int) - theirs.astype(int)).max() <= 1


def test_views_by_bands():
    names = [view.name for view in pictures.views(["r", "z", "g"], legacy=True)]
    assert names == ["colour", "deep", "bright", "legacy", "source", "difference", "band-g", "band-r", "band-z"]
    assert "legacy" not in [view.name for view in pictures.views(["g", "r", "z"], legacy=False)]
    assert [view.name for view in pictures.views(["VIS"], True)][-2:] == ["source", "band-VIS"]


def test_bands_are_ordered_by_wavelength_where_it_is_known():
    assert pictures.blue_to_red(["i", "r", "g"]) == ["g", "r", "i"]
    assert pictures.blue_to_red(["i", "odd"]) == ["i", "odd"]
    pixels = cutout()
    forward = pictures.render(pixels, BANDS, "colour")
    assert np.array_equal(forward, pictures.render(pixels[..., ::-1], BANDS[::-1], "colour"))


@pytest.mark.parametrize("view", [v.name for v in pictures.views(["g", "r", "z"], legacy=True)])
def test_up_is_up_and_no_data_is_grey_in_every_view(view):
    bands = ["g", "r", "z"]
    pixels = cutout()
    pixels[2, 5, 1] = np.nan  # near the bottom of the array
    pixels[3, 7] = np.inf
    picture = pictures.render(pixels, bands, view, 1)
    assert picture.shape == (41, 41, 3) and picture.dtype == np.uint8
    assert tuple(picture[41 - 1 - 3, 7]) == pictures.NO_DATA
    if view not in ("band-g", "band-z", "difference"):
        assert tuple(picture[41 - 1 - 2, 5]) == pictures.NO_DATA
    assert (picture == np.array(pictures.NO_DATA, np.uint8)).all(axis=-1).sum() <= 2
    assert not np.isfinite(pixels[2, 5, 1])  # what was given is not changed


def test_the_arc_is_in_the_source_view_and_the_galaxy_is_not():
    """The arc stands above the middle of the picture: in its upper half."""
    with_arc, without = (pictures.render(cutout(arc), BANDS, "source") for arc in (True, False))
    where = np.zeros((41, 41), bool)
    where[9:12, 17:24] = True  # a quarter of the size above the middle
    assert with_arc[where].mean() > 3 * with_arc[::-1][where].mean()
    assert with_arc[where].mean() > 2 * without[where].mean()
    red, _, blue = with_arc[where].mean(axis=0)
    assert blue > 2 * red
    colour = pictures.render(cutout(True), BANDS, "colour")
    centre = (slice(18, 23), slice(18, 23))
    assert with_arc[centre].mean() < 0.5 * colour[centre].mean()


def test_a_galaxy_of_one_colour_vanishes_in_the_difference():
    y, x = np.indices((41, 41)) - 20
    light = 500 * np.exp(-np.hypot(x / 5, y / 2)).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.3, (41, 41, 3)).astype(np.float32)
    picture = pictures.render(light[..., None] * [0.2, 0.5, 1.0] + noise, BANDS, "difference").astype(int)
    assert abs(picture[20, 20] - picture[2, 2]).max() < 25


def test_balance_makes_the_typical_middle_warm_yellow():
    some = [c * np.float32(f) for f, c in zip((1, 5, 30), image(np.random.default_rng(5), 3, 21, 3), strict=True)]
    weights = pictures.balance(some, BANDS)
    sums = np.median([c[8:13, 8:13].sum(axis=(0, 1)) * weights / c[8:13, 8:13].sum() for c in some], axis=0)
    assert sums[::-1] / sums[2] == pytest.approx(pictures.WARM, rel=0.1)
    assert pictures.balance([], BANDS) == (1.0, 1.0, 1.0)
    assert pictures.balance(some, ["VIS"]) == (1.0,)
    assert pictures.balance([np.full((9, 9, 2), np.nan, np.float32)], ["g", "r"]) == (1.0, 1.0)


@pytest.mark.parametrize("bands", [["VIS"], ["g", "r"], ["g", "r", "i", "z", "y"]])
def test_any_number_of_bands(bands):
    pixels = image(np.random.default_rng(5), 1, 9, len(bands))[0]
    for view in pictures.views(bands, False):
        picture = pictures.render(pixels, bands, view.name, weights=pictures.balance([pixels], bands))
        assert picture.max() > picture.min()
        if len(bands) == 1:
            assert (picture == picture[..., :1]).all()  # grey


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan, -3.0, 1e38])
def test_flat_and_empty_cutouts_make_pictures(value):
    pixels = np.full((9, 9, 3), value, np.float32)
    for view in pictures.views(BANDS, True):
        picture = pictures.render(pixels, BANDS, view.name, -12)
        assert ((picture == pictures.NO_DATA).all()) == bool(np.isnan(value))


def test_gain_makes_brighter_and_png_keeps_the_picture():
    dark, usual, bright = (pictures.render(cutout(), BANDS, "colour", gain) for gain in (-4, 0, 4))
    assert dark.mean() < usual.mean() < bright.mean()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(pictures.png(usual)))), usual)
