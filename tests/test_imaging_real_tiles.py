"""Every target of real catalogues, cut out of real tiles, against ``Cutout2D``."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from small_tiles import reference

from survey_scan import config
from survey_scan.cutouts import cut_partition
from survey_scan.imaging import native
from survey_scan.imaging.base import Cutouts
from survey_scan.imaging.tiles import hdu_of, read_tile_info, tile_file, world_to_pixel
from survey_scan.imaging.wcs import pixel_to_world
from survey_scan.schema import Status

BRICKS = "coadd/{tile:.3}/{tile}/legacysurvey-{tile}-image-{band}.fits.fz"


def located(images: config.Images, ids: np.ndarray, ra: np.ndarray, dec: np.ndarray, tile: np.ndarray) -> pd.DataFrame:
    """Targets as the plan writes them."""
    columns = {"object_id": ids.astype(np.int64), "ra": ra.astype(float), "dec": dec.astype(float), "tile": tile}
    frame = pd.DataFrame({**columns, "x": np.nan, "y": np.nan})
    for name, rows in frame.groupby("tile"):
        x, y = world_to_pixel(read_tile_info(images, str(name)).cards, rows["ra"], rows["dec"])
        frame.loc[rows.index, "x"], frame.loc[rows.index, "y"] = x, y
    return frame.sort_values(["tile", "y", "x", "object_id"], ignore_index=True)


def check(found: Cutouts, targets: pd.DataFrame, images: config.Images, spec: config.Cutouts) -> None:
    for b, band in enumerate(spec.bands):
        for tile, rows in targets.groupby("tile"):
            with fits.open(tile_file(images, str(tile), band)) as file:
                hdu = file[hdu_of(images.hdu, band)]
                data, wcs = hdu.data, WCS(hdu.header)
            for i, row in rows.iterrows():
                expected = reference(data, wcs, row.ra, row.dec, spec.size)
                np.testing.assert_array_equal(found.image[i, :, :, b], expected)


@pytest.mark.parametrize("size", [64, 101])
def test_des_like_tile(survey_data, size):
    folder = survey_data / "des" / "des_like_tile"
    images = config.Images(
        files=str(folder / "{tile}_r*p01_{band}.fits.fz"),
        bands=["g", "r", "i", "z"],
        hdu="SCI",
        mask=config.Mask(hdu="MSK"),
        weight=config.Weight(hdu="WGT"),
    )
    spec = config.Cutouts(bands=["z", "i", "g"], size=size)
    with fits.open(folder / "DES0900-0030_dr2_main_like.fits") as file:
        table = file[1].data[:: 1 if size == 64 else 4]
        targets = located(images, table["COADD_OBJECT_ID"], table["RA"], table["DEC"], table["TILENAME"].astype(str))
    found = cut_partition(targets, images, spec, 0.263)
    assert found.problems == []
    check(found, targets, images, spec)
    x, y = targets["x"], targets["y"]
    low = np.ceil(np.minimum(x, y) - size / 2) < 0
    high = np.ceil(np.maximum(x, y) - size / 2) + size > 2000
    np.testing.assert_array_equal(found.status == Status.PARTLY_COVERED, low | high)
    with fits.open(tile_file(images, "DES0900-0030", "i")) as file:
        bad = (file["MSK"].data != 0) | ~(file["WGT"].data > 0) | (file["SCI"].data == 0)
    for i in np.flatnonzero(~(low | high))[::20]:
        y0, x0 = int(np.ceil(y[i] - size / 2)), int(np.ceil(x[i] - size / 2))
        assert found.bad_fraction[i, 1] == pytest.approx(bad[y0 : y0 + size, x0 : x0 + size].mean(), abs=1e-6)
    assert (found.status == Status.BAD_PIXELS).any() and (found.status == Status.OK).any()


@pytest.mark.parametrize("size", [64, 101])
def test_legacy_surveys_bricks(survey_data, size):
    folder = survey_data / "legacysurvey" / "pipeline_bricks"
    images = config.Images(files=str(folder / BRICKS), bands=["g", "r", "z"], hdu=1)
    spec = config.Cutouts(bands=["g", "r", "z"], size=size)
    with fits.open(folder / "sweep-like_all_bricks.fits") as file:
        table = file[1].data
        bricks = table["BRICKNAME"].astype(str)
        here = np.isin(bricks, ["0091p035", "0285m165", "1102p240", "1773p595"])
        targets = located(images, table["OBJID"][here], table["RA"][here], table["DEC"][here], bricks[here])
    assert len(targets) == 38
    found = cut_partition(targets, images, spec, 0.262)
    assert found.problems == [] and found.reads == {"sections" if native.decoder() is None else "windows": 12}
    check(found, targets, images, spec)


def test_positions_are_those_of_the_tractor(survey_data):
    """The survey's own pixel positions, measured on these images."""
    folder = survey_data / "legacysurvey" / "pipeline_bricks"
    images = config.Images(files=str(folder / BRICKS), bands=["g", "r", "z"], hdu=1)
    for brick in ("0091p035", "0285m165", "1102p240", "1773p595"):
        with fits.open(folder / f"tractor/{brick[:3]}/tractor-{brick}.fits") as file:
            table = file[1].data
            x, y = world_to_pixel(read_tile_info(images, brick).cards, table["ra"], table["dec"])
            assert len(table) and np.abs(x - table["bx"]).max() < 0.001 and np.abs(y - table["by"]).max() < 0.001


def test_kids_tile_in_nine_bands(survey_data):
    folder = survey_data / "kids" / "grafted_tile"
    bands = ["u", "g", "r", "i", "Z", "Y", "J", "H", "Ks"]
    images = config.Images(files=str(folder / "KiDS_GRAFT_{tile}_{band}_sci.fits"), bands=bands, hdu=1)
    spec = config.Cutouts(bands=["Ks", "r"], size=101)
    with fits.open(folder / "KiDS_GRAFT_135.0_-0.5_ugriZYJHKs_cat.fits") as file:
        table = file[1].data[::9]
        tiles = np.full(len(table), "135.0_-0.5", dtype=object)
        targets = located(images, np.arange(len(table)), table["RAJ2000"], table["DECJ2000"], tiles)
    found = cut_partition(targets, images, spec, 0.3)
    assert found.problems == []
    check(found, targets, images, spec)
    assert (found.status == Status.PARTLY_COVERED).sum() > 0


def scattered(images: config.Images, tile: str, n: int = 40) -> pd.DataFrame:
    """Targets all over a tile."""
    info = read_tile_info(images, tile)
    y, x = np.random.default_rng(4).uniform(0, info.shape, (n, 2)).T
    return located(images, np.arange(n), *pixel_to_world(info.cards, x, y), np.full(n, tile, dtype=object))


def test_legacy_surveys_viewer_gives_bands_and_weights_in_one_file(survey_data):
    images = config.Images(
        files=str(survey_data / "legacysurvey/viewer_cutout/cutout_{tile}.fits"),
        bands=["g", "r", "z"],
        hdu={"g": 1, "r": 3, "z": 5},
        weight=config.Weight(hdu={"g": 2, "r": 4, "z": 6}),
    )
    spec, targets = config.Cutouts(bands=["z", "g"], size=32), scattered(images, "59.1067_-30.4848")
    found = cut_partition(targets, images, spec, 0.262)
    assert found.problems == [] and sum(found.reads.values()) == 2
    check(found, targets, images, spec)


def test_euclid_gives_its_bands_and_those_of_others_in_one_file(survey_data):
    images = config.Images(
        files=str(survey_data / "euclid/q1_lens_{tile}.fits"),
        bands=["VIS", "NIR_Y", "NIR_H", "DES_G"],
        hdu="{band}_BGSUB",
        weight=config.Weight(hdu="{band}_RMS"),  # without a WCS of its own
    )
    spec, targets = config.Cutouts(bands=["VIS", "NIR_H", "DES_G"], size=41), scattered(images, "102018665")
    found = cut_partition(targets, images, spec, 0.1)
    assert found.problems == []
    check(found, targets, images, spec)
    lens = located(images, np.arange(1), np.array([57.0040]), np.array([-50.7753]), np.array(["102018665"], object))
    assert np.hypot(lens["x"] - 49.5, lens["y"] - 49.5).iloc[0] < 5


def test_hsc_masks_planes_of_bits(survey_data):
    folder, tile = survey_data / "hsc/das_cutout_gri", "222.51551376,0.09749601_300x300"
    with fits.open(folder / f"{tile}_i.fits") as file:
        planes = {name: file[2].header[name] for name in ("MP_SAT", "MP_NO_DATA", "MP_BRIGHT_OBJECT", "MP_INTRP")}
        masked = (file[2].data & sum(1 << plane for plane in planes.values())) != 0
    images = config.Images(
        files=str(folder / "{tile}_{band}.fits"),
        bands=["g", "r", "i"],
        hdu=1,
        mask=config.Mask(hdu=2, bits=["SAT", "NO_DATA", planes["MP_BRIGHT_OBJECT"], "INTRP"]),  # names or numbers
    )
    spec, targets = config.Cutouts(bands=["i", "r", "g"], size=48, max_bad_fraction=0), scattered(images, tile)
    found = cut_partition(targets, images, spec, 0.168)
    assert found.problems == []
    check(found, targets, images, spec)
    inside = np.flatnonzero(found.status != Status.PARTLY_COVERED)
    assert len(inside) > 5
    for i in inside:
        y0, x0 = int(np.ceil(targets["y"][i] - 24)), int(np.ceil(targets["x"][i] - 24))
        assert found.bad_fraction[i, 0] == pytest.approx(masked[y0 : y0 + 48, x0 : x0 + 48].mean(), abs=1e-6)
    assert (found.bad_fraction[inside, 0] > 0).any()


def test_dr6_brick_has_no_band_r(survey_data, tmp_path):
    folder = survey_data / "legacysurvey" / "dr6_original_brick"
    images = config.Images(files=str(folder / BRICKS), bands=["g", "r", "z"], hdu=1)
    info = read_tile_info(images, "0959p805")
    assert info.band == "g" and info.pixel_scale == pytest.approx(0.262, rel=1e-4)
    rng = np.random.default_rng(0)
    ra, dec = pixel_to_world(info.cards, *rng.uniform(0, 3600, (2, 30)))
    targets = located(images, np.arange(30), ra, dec, np.full(30, "0959p805", dtype=object))
    spec = config.Cutouts(bands=["g", "r", "z"], size=64)
    found = cut_partition(targets, images, spec, 0.262)
    missing = folder / "coadd/095/0959p805/legacysurvey-0959p805-image-r.fits.fz"
    assert found.problems == [f"tile 0959p805, band r: {missing} does not exist"]
    assert (found.status == Status.MISSING).all() and np.isnan(found.image[..., 1]).all()
    both = Cutouts(found.image[..., ::2], found.status, found.bad_fraction)
    check(both, targets, images, config.Cutouts(bands=["g", "z"], size=64))


def test_truncated_brick_is_not_read_in_its_kept_half(survey_data, tmp_path):
    """astropy and fitsio read the kept half of a truncated .fz without a word."""
    source = survey_data / "legacysurvey" / "pipeline_bricks" / "coadd/177/1773p595"
    for band in "gr":
        shutil.copy(source / f"legacysurvey-1773p595-image-{band}.fits.fz", tmp_path / f"1773p595-{band}.fits.fz")
    path = Path(tmp_path / "1773p595-r.fits.fz")
    size = path.stat().st_size // 2
    with path.open("rb+") as file:
        file.truncate(size)
    images = config.Images(files=str(tmp_path / "{tile}-{band}.fits.fz"), bands=["g", "r"], hdu=1)
    targets = located(images, np.arange(1), np.array([177.3]), np.array([59.5]), np.array(["1773p595"], object))
    found = cut_partition(targets, images, config.Cutouts(bands=["g", "r"], size=64))
    assert Status(found.status[0]) is Status.UNREADABLE
    assert found.problems == [
        f"tile 1773p595, band r: {path} is truncated: HDU 1 should end at byte 356498 but the file has {size}"
    ]
