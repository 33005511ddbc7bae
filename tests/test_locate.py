"""Which tile holds a position: against other formulas, on all of the sphere."""

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from survey_scan.errors import ImageError
from survey_scan.imaging.tile_index import CORNERS
from survey_scan.plan.locate import locate, polygons, refuse_nowhere


def tan_tile(name, ra, dec, width, height=None, turn=0.0):
    """Corners (deg) of a rectangle on the tangent plane at (ra, dec); ``turn`` is its position angle."""
    half_x, half_y = width / 2, (width if height is None else height) / 2
    x = np.array([-half_x, half_x, half_x, -half_x])
    y = np.array([-half_y, -half_y, half_y, half_y])
    angle = np.arctan2(x, y) + np.deg2rad(turn)
    distance = np.arctan(np.deg2rad(np.hypot(x, y)))
    there = SkyCoord(ra, dec, unit="deg").directional_offset_by(angle * u.rad, distance * u.rad)
    return {"tile": name, **dict(zip(CORNERS, np.stack([there.ra.deg, there.dec.deg], axis=1).ravel(), strict=True))}


def where(positions, *tiles):
    found = polygons(pd.DataFrame(tiles))
    index = locate(*zip(*positions, strict=True), found)
    return [str(found.names[i]) if i >= 0 else "" for i in index]


def test_across_right_ascension_zero():
    tiles = [tan_tile("east", 0.3, 10, 1), tan_tile("west", 359.7, 10, 1)]
    assert where([(359.4, 10), (0.6, 10), (0.01, 10), (359.99, 10), (358.9, 10), (1.2, 10)], *tiles) == [
        "west", "east", "east", "west", "", "",
    ]  # fmt: skip


@pytest.mark.parametrize("pole", [90.0, -90.0])
def test_a_tile_over_a_pole(pole):
    sign = np.sign(pole)
    tiles = [tan_tile("pole", 77.0, pole, 2), tan_tile("near", 200.0, sign * 88.5, 1)]
    assert where([(0, pole), (123, sign * 89.2), (77, sign * 88), (200, sign * 88.3), (20, sign * 88.3)], *tiles) == [
        "pole", "pole", "", "near", "",
    ]  # fmt: skip


def test_the_most_central_tile_wins_not_the_one_with_the_nearest_centre():
    tiles = [tan_tile("large", 10.0, 0, 2), tan_tile("small", 10.9, 0, 0.4)]
    # 0.1 deg from the edge of "small", whose centre is nearer; 0.2 deg from the edge of "large"
    assert where([(10.8, 0.0)], *tiles) == ["large"]
    assert where([(10.9, 0.0)], *tiles) == ["small"]


def test_equal_tiles_go_by_name():
    same = [{**tan_tile("x", 10, 20, 1), "tile": name} for name in ("B", "A", "C")]
    assert where([(10.1, 20.1), (10, 20)], *same) == ["A", "A"]


def test_corners_may_come_in_any_order():
    tile = tan_tile("t", 0.1, -30, 1, 0.6, turn=20)
    points = np.array([tile[c] for c in CORNERS]).reshape(4, 2)
    rng = np.random.default_rng(0)
    positions = np.stack([rng.uniform(-0.8, 0.9, 500) % 360, rng.uniform(-30.8, -29.2, 500)], axis=1)
    expected = where(positions, tile)
    assert 100 < expected.count("t") < 400
    for order in ([0, 2, 1, 3], [3, 1, 2, 0], [1, 0, 3, 2], [2, 3, 0, 1]):
        shuffled = {"tile": "t", **dict(zip(CORNERS, points[order].ravel(), strict=True))}
        assert where(positions, shuffled) == expected


def test_tiles_without_corners_and_degenerate_tiles_hold_nothing():
    flat = {"tile": "flat", **dict.fromkeys(CORNERS, 5.0)}
    unknown = {"tile": "unknown", **dict.fromkeys(CORNERS, np.nan)}
    assert where([(5.0, 5.0), (6.0, 6.0)], unknown, flat, tan_tile("good", 6, 6, 0.1)) == ["", "good"]
    assert where([(5.0, 5.0)], unknown) == [""]


def brute(ra, dec, tiles):
    """Distance (deg) to the nearest edge of each tile, shape (tile, n), negative outside; by cross-track distances."""
    here = SkyCoord(ra, dec, unit="deg")
    found = []
    for tile in tiles:
        corners = np.array([tile[c] for c in CORNERS]).reshape(4, 2)
        a = SkyCoord(corners[:, 0], corners[:, 1], unit="deg")
        middle = SkyCoord(a.cartesian.mean())
        distances = []
        for i in range(4):
            start, stop = a[i], a[(i + 1) % 4]

            def across(position, start=start, stop=stop):
                angle = start.position_angle(position) - start.position_angle(stop)
                return np.arcsin(np.sin(start.separation(position)) * np.sin(angle)).to_value("deg")

            distances.append(across(here) * np.sign(across(middle)))
        near = here.separation(SkyCoord(middle.ra, middle.dec)).deg < 45
        found.append(np.where(near, np.min(distances, axis=0), -90))
    return np.array(found)


TILES = st.lists(
    st.tuples(
        st.floats(0, 360), st.floats(-90, 90), st.floats(0.05, 8), st.floats(0.05, 8), st.floats(0, 360),
    ),
    min_size=1,
    max_size=12,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(TILES, st.integers(0, 2**32 - 1), st.sampled_from([(0.0, 0.0), (359.0, 40.0), (180.0, 88.0), (33.0, -89.5)]))
def test_agrees_with_every_tile_tried(tiles, seed, field):
    rng = np.random.default_rng(seed)
    tiles = [
        tan_tile(f"T{i:02d}", (field[0] + (ra - 180) / 45) % 360, np.clip(field[1] + dec / 22, -90, 90), w, h, turn)
        for i, (ra, dec, w, h, turn) in enumerate(tiles)
    ]
    ra = (field[0] + rng.uniform(-9, 9, 60)) % 360
    dec = np.clip(field[1] + rng.uniform(-9, 9, 60), -90, 90)
    found = locate(ra, dec, polygons(pd.DataFrame(tiles)))
    margins = brute(ra, dec, tiles)
    best = margins.max(axis=0)
    sure = np.abs(best) > 1e-7
    np.testing.assert_array_equal(found[sure] >= 0, best[sure] > 0)
    inside = found >= 0
    np.testing.assert_allclose(margins[found[inside], np.flatnonzero(inside)], best[inside], atol=1e-7)


def test_the_answer_does_not_depend_on_what_is_asked_with_it():
    rng = np.random.default_rng(5)
    tiles = polygons(pd.DataFrame([tan_tile(f"{i}", *rng.uniform(0, 20, 2), 3) for i in range(60)]))
    ra, dec = rng.uniform(-2, 22, (2, 3000))
    together = locate(ra, dec, tiles)
    alone = np.concatenate([locate(ra[i::7], dec[i::7], tiles) for i in range(7)])
    assert (together[np.concatenate([np.arange(3000)[i::7] for i in range(7)])] == alone).all()
    assert len(locate([], [], tiles)) == 0


def test_messages():
    known = pd.DataFrame([{**tan_tile("t", 30, -10, 1), "problem": ""}])
    broken = pd.DataFrame([{"tile": "t", **dict.fromkeys(CORNERS, np.nan), "problem": "/x/t.fits is corrupt"}])
    for table, text in (
        (
            known,
            "images: none of the 12,345 selected objects lies on one of the 1 tiles of index.csv (declination -10.500 "
            "to -9.500). Check that catalogue and images are of the same sky and that positions are in degrees.",
        ),
        (
            broken,
            "images: no tile of index.csv has known corners. The first: /x/t.fits is corrupt. "
            "Check images.files and images.hdu.",
        ),
        (None, "catalogue.tile_column: empty for all 12,345 selected objects. Name another column."),
    ):
        with pytest.raises(ImageError) as caught:
            refuse_nowhere(12_345, table, "index.csv")
        assert str(caught.value) == text
