"""The Legacy Surveys' bricks by arithmetic: against the survey's own tables, and a plain way of counting them."""

import math

import fitsio
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey_scan.config import Images
from survey_scan.config_file import load
from survey_scan.engine.planning import make_plan
from survey_scan.imaging import bricks
from survey_scan.imaging.tile_index import CORNERS, read_index
from survey_scan.imaging.tiles import tile_table
from survey_scan.layout import RunDirectory
from survey_scan.plan.locate import locate, polygons


def plain(ra: float, dec: float) -> tuple[str, int]:
    """Name and number of the brick at a position, one row after the other."""
    first = 1
    for row in range(721):
        middle = -90 + 0.25 * row
        count = 2 * math.ceil(1440 * math.cos(math.radians(abs(middle) - 0.125)) / 2) if 0 < row < 720 else 1
        if dec < middle + 0.125 or row == 720:
            break
        first += count
    column = min(int(ra % 360 / 360 * count), count - 1)
    centre = (column + 0.5) * 360 / count
    digits = f"{centre * 10_000:07.0f}"[:4], f"{abs(middle) * 10_000:06.0f}"[:3]
    return ("p" if middle >= 0 else "m").join(digits), first + column


@settings(deadline=None)  # the first makes all names
@given(st.floats(-180, 360), st.floats(-90, 90))
def test_as_counted_one_after_the_other(ra, dec):
    name, number = plain(ra, dec)
    assert bricks.brick_id([ra], [dec]).tolist() == [number]
    assert bricks.brick_name([ra], [dec]).tolist() == [name]


def test_numbers_and_names_are_each_brick_s_own():
    names = bricks.names()
    assert len(names) == 662_174 == len(set(names.tolist()))
    ids = np.arange(1, len(names) + 1)
    where = bricks.bounds(ids)
    np.testing.assert_array_equal(bricks.brick_id(where.ra, where.dec), ids)
    inside = where.ra1 + 1e-9, np.clip(where.dec1 + 1e-9, -90, 90)
    np.testing.assert_array_equal(bricks.brick_id(*inside), ids)
    assert (where.ra2 - where.ra1)[1:-1].max() * np.cos(np.deg2rad(20)) < 360  # no brick but the poles' goes around


@pytest.mark.parametrize(
    ("ra", "dec", "name"),
    [
        (0.0, 90.0, "1800p900"),
        (359.0, 89.9, "1800p900"),
        (123.4, -90.0, "1800m900"),
        (0.0, 0.0, "0001p000"),
        (360.0, 0.0, "0001p000"),
        (-1e-17, 0.0, "3598p000"),
        (-0.01, 0.0, "3598p000"),
        (359.99, 0.0, "3598p000"),
        (0.1, -0.2, "0001m002"),
    ],
)
def test_poles_and_right_ascension_zero(ra, dec, name):
    assert bricks.brick_name([ra], [dec]).tolist() == [name]


@pytest.mark.parametrize("table", ["dr6_original_brick/survey-bricks.fits.gz", "pipeline_bricks/survey-bricks.fits.gz"])
def test_real_tables(survey_data, table):
    path = survey_data / "legacysurvey" / table
    rows = fitsio.read(path)
    ids = bricks.brick_id(rows["RA"], rows["DEC"])
    assert ids.tolist() == rows["BRICKID"].tolist()
    assert bricks.brick_name(rows["RA"], rows["DEC"]).tolist() == [name.strip() for name in rows["BRICKNAME"]]
    for name, values in bricks.bounds(ids)._asdict().items():
        np.testing.assert_allclose(values, rows[name.upper()], rtol=0, atol=1e-12)
    listed = read_index(path).sort_values("tile", ignore_index=True)
    made = bricks.table(listed["tile"].tolist()).sort_values("tile", ignore_index=True)
    assert made["tile"].tolist() == listed["tile"].tolist()
    np.testing.assert_allclose(made[CORNERS], listed[CORNERS], rtol=0, atol=1e-9)


def test_objects_of_real_sweeps_are_on_the_bricks_they_say(survey_data):
    rows = fitsio.read(survey_data / "legacysurvey/pipeline_bricks/sweep-like_all_bricks.fits", ext=1)
    assert bricks.brick_name(rows["RA"], rows["DEC"]).tolist() == [name.strip() for name in rows["BRICKNAME"]]
    assert bricks.brick_id(rows["RA"], rows["DEC"]).tolist() == rows["BRICKID"].tolist()


def test_the_word_means_the_table():
    images = Images(files="{tile}.fits", bands=["g"], index="bricks")
    found = tile_table(images)
    pd.testing.assert_frame_equal(found, bricks.table())
    assert len(bricks.table(["0001p000", "nosuch00"])) == 1


def test_the_most_central_image_is_almost_always_the_brick_s_own():
    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(0, 360, 20_000), rng.uniform(30, 33, 20_000)
    own = bricks.brick_name(ra, dec)
    tiles = polygons(
        bricks.table(np.unique(bricks.brick_name(*np.meshgrid(np.arange(0, 360, 0.05), np.arange(29.5, 33.6, 0.1)))))
    )
    other = tiles.names[locate(ra, dec, tiles)] != own
    assert other.mean() < 0.002
    # those are as near to the edge of their brick as a few per cent of it
    where = bricks.bounds(bricks.brick_id(ra[other], dec[other]))
    x, y = ra[other], dec[other]
    near = np.min([x - where.ra1, where.ra2 - x, y - where.dec1, where.dec2 - y], axis=0)
    assert near.max() < 0.01


def test_a_plan_by_arithmetic_is_that_by_the_survey_s_table(survey_data, tmp_path):
    root = survey_data / "legacysurvey/pipeline_bricks"
    plans = {}
    for index in ("bricks", f"{root}/survey-bricks.fits.gz"):
        name = "bricks" if index == "bricks" else "table"
        path = tmp_path / f"{name}.yaml"
        path.write_text(
            f"run: {{name: {name}}}\nsurvey: {{name: legacy-dr9-south, root: {root}}}\n"
            f"catalogue: {{files: {root}/sweep-like_all_bricks.fits, tile_column: null, columns: {{brick: BRICKNAME}}}}\n"
            f"images: {{index: {index}}}\ncutouts: {{bands: [g], size: 32, partition: 256}}\nmodel: {{path: loopback}}\n"
        )
        config = load(path)
        run = RunDirectory(tmp_path / name)
        make_plan(config, run)
        plans[name] = pd.read_parquet(run.targets(0)), pd.read_parquet(run.tiles)
    pd.testing.assert_frame_equal(plans["bricks"][0], plans["table"][0])
    assert (plans["bricks"][0]["tile"] == plans["bricks"][0]["brick"]).all()
    pd.testing.assert_frame_equal(plans["bricks"][1], plans["table"][1], rtol=0, atol=1e-9)
    fields = {field.name: field.metadata for field in pq.read_schema(tmp_path / "bricks/targets/part-00000.parquet")}
    assert fields["mag_g"] == {b"unit": b"mag", b"ucd": b"phot.mag"} and fields["ra"][b"unit"] == b"deg"
    assert fields["type"] is None
