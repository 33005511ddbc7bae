"""Tables of tiles as surveys publish them, against the headers of their images."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table, vstack
from astropy.wcs import WCS

from survey_scan.config import Images
from survey_scan.errors import ImageError
from survey_scan.imaging.tile_index import CORNERS, read_index
from survey_scan.imaging.tiles import tile_table
from survey_scan.plan.locate import locate, polygons, unit


def images(files: object, bands: tuple[str, ...] = ("g", "r"), **more: object) -> Images:
    return Images(files=str(files), bands=list(bands), **more)


def corners_of(ra: float, dec: float, pixels: int, scale: float) -> np.ndarray:
    """Corners of an image with the header the survey writes, by astropy."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [ra, dec]
    wcs.wcs.crpix = [(pixels + 1) / 2] * 2
    wcs.wcs.cd = np.diag([-scale, scale]) / 3600
    low, high = -0.5, pixels - 0.5
    return np.stack(wcs.all_pix2world([low, high, high, low], [low, low, high, high], 0), axis=1)


def apart(table: pd.DataFrame, expected: np.ndarray) -> float:
    """The largest distance (arcsec) between corners of a table and those expected, corner by corner."""
    found, expected = (np.reshape(v, (-1, 2)).T for v in (table[CORNERS].to_numpy(float), expected))
    distance = np.linalg.norm(unit(*found) - unit(*expected), axis=-1)
    return float(np.rad2deg(distance.max()) * 3600)


# a tile's corners


@pytest.fixture
def index() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"TILE": ["0010", "B"], **{name.upper(): rng.uniform(0, 90, 2) for name in CORNERS}, "AREA": [1.0, 2.0]}
    )


@pytest.mark.parametrize("kind", ["comma.csv", "semicolon.csv", "index.parquet", "index.fits"])
def test_index_files(tmp_path, index, kind):
    path = tmp_path / kind
    if kind.endswith("csv"):
        index.to_csv(path, index=False, sep="," if kind.startswith("comma") else ";")
    elif kind.endswith("parquet"):
        index.to_parquet(path)
    else:
        columns = [fits.Column("tile", "8A", array=np.array(["0010", "B"]))]
        columns += [fits.Column(name, "D", array=index[name].to_numpy()) for name in index if name != "TILE"]
        columns.append(fits.Column("matrix", "4D", array=np.zeros((2, 4))))
        fits.BinTableHDU.from_columns(columns).writeto(path)
    table = tile_table(images("/data/{tile}.fits", index=str(path)))
    assert table.columns.tolist() == ["tile", *CORNERS, "problem"]
    assert table["tile"].tolist() == ["0010", "B"]  # text, with its zeros
    assert table["problem"].tolist() == ["", ""]
    np.testing.assert_array_equal(table[CORNERS], index[[name.upper() for name in CORNERS]])


def broken_index(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        tile_table(images("/data/{tile}.fits", index=str(path)))
    return str(caught.value)


def test_index_that_cannot_be_used(tmp_path, index):
    path = tmp_path / "index.csv"
    assert broken_index(path) == f"images.index {path} does not exist."
    index.drop(columns=["RA3", "DEC4"]).to_csv(path, index=False)
    assert broken_index(path) == (
        f"images.index {path} is no table of tiles that is known: it has TILE, RA1, DEC1, RA2, DEC2, DEC3, RA4, AREA. It "
        "needs, in degrees, the columns of one of these kinds: tile, ra1, dec1, ra2, dec2, ra3, dec3, ra4, dec4 (a tile's "
        "corners); brickname, ra, dec (Legacy Surveys); tilename, ra_cent, dec_cent (DES); tilename, rall, decll, raur, "
        "decur (DES); tract, patch, ra1, dec1, ra2, dec2, ra3, dec3, ra4, dec4 (tracts and patches); tract, patch, ra_min, "
        "dec_min, ra_max, dec_max (tracts and patches)."
    )
    pd.concat([index, index[:1]]).to_csv(path, index=False)
    assert broken_index(path) == f"images.index {path} has tile '0010' more than once."
    parquet = tmp_path / "index.parquet"
    parquet.write_bytes(b"no parquet")
    assert broken_index(parquet).startswith(f"images.index {parquet} cannot be read as CSV, FITS or parquet (")
    image = tmp_path / "image.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((2, 2)))]).writeto(image)
    assert broken_index(image) == f"images.index {image} cannot be read as CSV, FITS or parquet (HDU 1 is no table)."
    wide = tmp_path / "wide.csv"
    wide.write_text(",".join(f"c{i}" for i in range(30)) + "\n")
    assert "it has c0, c1," in broken_index(wide) and "c19 and 10 more. It needs" in broken_index(wide)


def test_index_with_a_corner_that_is_no_number(tmp_path, index):
    path = tmp_path / "index.csv"
    index.astype({"RA2": object}).assign(RA2=["?", 3.0]).to_csv(path, index=False)
    table = tile_table(images("/data/{tile}.fits", index=str(path)))
    assert table["problem"].tolist() == ["its position in images.index is not a number", ""]


# surveys

PLACES = [(180.3, 0.0), (0.05, 59.5), (359.97, -30.1), (12.0, 89.875), (271.0, -89.9), (95.9504132231405, 80.5)]


def bricks(places: list[tuple[float, float]]) -> Table:
    """Columns, types and order of survey-bricks.fits.gz."""
    ra, dec = np.array(places).T
    width = 0.125 / np.cos(np.deg2rad(dec))
    numbers = np.arange(len(ra), dtype=np.int32)
    return Table(
        {
            "BRICKNAME": [f"{int(a * 10):04d}{'pm'[d < 0]}{int(abs(d) * 10):03d}" for a, d in places],
            "BRICKID": numbers + 1, "BRICKQ": numbers.astype(np.int16) % 4, "BRICKROW": numbers, "BRICKCOL": numbers,
            "RA": ra, "DEC": dec, "RA1": ra - width, "RA2": ra + width, "DEC1": dec - 0.125, "DEC2": dec + 0.125,
        }
    )  # fmt: skip


@pytest.mark.parametrize("name", ["b.fits", "b.fits.gz", "b.csv", "b-semicolon.csv", "b.parquet", "lower.fits"])
def test_bricks_lie_where_their_images_lie(tmp_path, name):
    table, path = bricks(PLACES), tmp_path / name
    if name.startswith("lower"):  # as in DR6's table, with a vector beside
        table.rename_columns(table.colnames, [column.lower() for column in table.colnames])
        table["nexphist_g"] = np.zeros((len(table), 6), np.int32)
    if "csv" in name:
        table.to_pandas().to_csv(path, index=False, sep=";" if "semicolon" in name else ",")
    elif name.endswith("parquet"):
        table.to_pandas().to_parquet(path)
    else:
        table.write(path)
    found = read_index(path)
    assert found["tile"].tolist() == ["1803p000", "0000p595", "3599m301", "0120p898", "2710m899", "0959p805"]
    assert (found["problem"] == "").all()
    assert apart(found, np.array([corners_of(ra, dec, 3600, 0.262) for ra, dec in PLACES])) < 1e-6


def test_positions_go_to_the_brick_whose_own_part_of_the_sky_they_are_in(tmp_path):
    """Images overlap; a brick's own part is what is nearest to the middle of its image, so both rules agree."""
    rows = [(ra, dec) for dec in (59.25, 59.5, 59.75) for ra in (177.0, 177.5, 178.0)]
    rows += [(ra, -0.25) for ra in (359.875, 0.125, 0.375)]
    bricks(rows).write(tmp_path / "b.fits")
    tiles = polygons(read_index(tmp_path / "b.fits"))
    own = bricks(rows)
    own["RA1"][:9], own["RA2"][:9] = own["RA"][:9] - 0.25, own["RA"][:9] + 0.25  # the grid of this row
    own["RA1"][9:], own["RA2"][9:] = own["RA"][9:] - 0.125, own["RA"][9:] + 0.125
    rng = np.random.default_rng(1)
    inside = 0.97  # at the very edge the two rules part by what a circle of declination is not a great circle
    for row in own:
        ra = row["RA"] + rng.uniform(-inside, inside, 200) * (row["RA2"] - row["RA1"]) / 2
        dec = row["DEC"] + rng.uniform(-inside, inside, 200) * 0.125
        index = locate(ra % 360, dec, tiles)
        assert set(tiles.names[index]) == {row["BRICKNAME"]}


@pytest.mark.parametrize("kind", ["box", "centre"])
def test_tiles_of_des(tmp_path, kind):
    """Boxes in right ascension and declination; across 0 h they come with 0.4 or with 360.4."""
    places = [(0.0, -29.5), (359.9, -60.2), (12.3, 2.1), (0.2, -65.0)]
    names = ["DES0000-2930", "DES2359-6012", "DES0049+0206", "DES0000-6500"]
    lines = []
    for i, ((ra, dec), name) in enumerate(zip(places, names, strict=True)):
        half = float(0.358 / np.cos(np.deg2rad(dec)))
        low, high = (ra - half) % 360, ra + half
        high = high % 360 if i == 3 else high + 360 * (high < low)
        where = f"{low!r};{dec - 0.358!r};{high!r};{dec + 0.358!r}" if kind == "box" else f"{ra};{dec}"
        lines.append(f"{name};{where};Y6A1/r4907/{name}/p01/coadd")
    columns = "rall;decll;raur;decur" if kind == "box" else "RA_CENT;DEC_CENT"
    (tmp_path / "dr2_tiles.csv").write_text("\n".join([f"tilename;{columns};archive_path", *lines]) + "\n")
    found = read_index(tmp_path / "dr2_tiles.csv")
    assert found["tile"].tolist() == names
    assert apart(found, np.array([corners_of(ra, dec, 10_000, 0.263) for ra, dec in places])) < 1e-6


def test_real_bricks_lie_where_their_survey_says(survey_data, tmp_path):
    """The survey's own tables of bricks against the headers of its images, to a thousandth of a pixel."""
    survey = survey_data / "legacysurvey"
    found = 0
    for folder, names in (
        ("pipeline_bricks", ["survey-bricks.fits.gz"]),
        ("dr6_original_brick", ["survey-bricks.fits.gz", "survey-bricks-dr6.fits.gz"]),
    ):
        template = survey / folder / "coadd/{tile:.3}/{tile}/legacysurvey-{tile}-image-{band}.fits.fz"
        headers = tile_table(images(template, ("g", "r", "z"), hdu=1)).set_index("tile")
        for name in names:
            index = read_index(survey / folder / name).set_index("tile")
            assert set(headers.index) <= set(index.index)
            assert apart(index.loc[headers.index], headers[CORNERS].to_numpy(float)) < 0.262e-3
            found += len(headers)
    assert found == 6
    both = vstack([Table.read(survey / f / "survey-bricks.fits.gz") for f in ("pipeline_bricks", "dr6_original_brick")])
    both.write(tmp_path / "both.fits")
    with (tmp_path / "both.fits").open("rb") as plain, gzip.open(tmp_path / "both.fits.gz", "wb") as zipped:
        zipped.write(plain.read())
    assert len(read_index(tmp_path / "both.fits.gz")) == 5


def test_widths_of_the_psf_that_the_table_of_a_release_has(tmp_path):
    path = tmp_path / "survey-bricks-dr10-south.fits"
    columns = {"brickname": ["0001m002", "0003m002"], "ra": [0.1, 0.4], "dec": [-0.2, -0.2], "psfsize_g": [1.5, 0.0]}
    Table(columns | {"psfsize_i": [np.nan, 1.25], "psfdepth_g": [24.0, 24.0]}).write(path)
    table = tile_table(images("/data/{tile}.fits", index=str(path)))
    assert table.columns.tolist() == ["tile", *CORNERS, "psf_g", "psf_i", "problem"]
    np.testing.assert_array_equal(table[["psf_g", "psf_i"]], [[1.5, np.nan], [np.nan, 1.25]])


PATCHES = """\
Tract: 9812  Num patches: 9x9
Tract: 9812  Patch: 0,0  Center (RA, Dec): (149.507118993 , 1.48467782206)
Tract: 9812  Patch: 0,0      Corner0 (RA, Dec): (149.600381219 , 1.39136228924)
Tract: 9812  Patch: 0,0      Corner1 (RA, Dec): (149.413758093 , 1.39142133554)
Tract: 9812  Patch: 0,0      Corner2 (RA, Dec): (149.413840978 , 1.57799734129)
Tract: 9812  Patch: 0,0      Corner3 (RA, Dec): (149.600487771 , 1.577930368)
Tract: 9812  Patch: 0,0      Corner4 (RA, Dec): (149.600381219 , 1.39136228924)
Tract: 9812  Patch: 1,0      Corner0 (RA, Dec): (149.413758093 , 1.39142133554)
Tract: 9812  Patch: 1,0      Corner1 (RA, Dec): (149.227134, 1.391455)
Tract: 9812  Patch: 1,0      Corner2 (RA, Dec): (149.227193, 1.578031)
Tract: 9812  Patch: 1,0      Corner3 (RA, Dec): (149.413840978 , 1.57799734129)
"""


def test_tracts_and_patches(tmp_path):
    (tmp_path / "tracts_patches_W-w02.txt").write_text(PATCHES)
    listed = read_index(tmp_path / "tracts_patches_W-w02.txt")
    assert listed["tile"].tolist() == ["9812-0,0", "9812-1,0"]
    assert (listed["problem"] == "").all()
    assert listed.loc[0, CORNERS].tolist() == [
        149.600381219, 1.39136228924, 149.413758093, 1.39142133554, 149.413840978, 1.57799734129, 149.600487771, 1.577930368,
    ]  # fmt: skip
    tiles = polygons(listed)
    found = locate([149.5, 149.3, 149.7], [1.48, 1.48, 1.48], tiles)
    assert [str(tiles.names[i]) if i >= 0 else "" for i in found] == ["9812-0,0", "9812-1,0", ""]

    table = listed[CORNERS].assign(tract=9812, patch=["0,0", "1,0"])
    table.to_parquet(tmp_path / "corners.parquet")
    pd.testing.assert_frame_equal(read_index(tmp_path / "corners.parquet"), listed)

    box = pd.DataFrame(
        {"Tract": [5063], "Patch": [14], "ra_min": [359.9], "dec_min": [-1.0], "ra_max": [0.1], "dec_max": [-0.8]}
    )
    box.to_csv(tmp_path / "boxes.csv", index=False)
    boxes = read_index(tmp_path / "boxes.csv")
    assert boxes["tile"].tolist() == ["5063-14"]
    assert locate([0.0, 359.95, 0.2], [-0.9, -0.85, -0.9], polygons(boxes)).tolist() == [0, 0, -1]

    (tmp_path / "other.txt").write_text("Tract: 9812\n")
    assert broken_index(tmp_path / "other.txt") == (
        f"images.index {tmp_path}/other.txt cannot be read as CSV, FITS or parquet (it has no line such as 'Tract: 9812  "
        "Patch: 0,0  Corner0 (RA, Dec): (149.6 , 1.39)')."
    )
