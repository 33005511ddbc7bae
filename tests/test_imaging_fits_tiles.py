import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_tiles import SCALE, header, noise, reference, targets, write

from survey_scan import config
from survey_scan.imaging import cost, fits_tiles
from survey_scan.imaging.base import Cutouts
from survey_scan.schema import Status

SHAPE = (120, 100)
CARDS = header(SHAPE)
INSIDE = ([50.3, 20.0], [60.7, 90.5])
MODES = ("whole", "rows", "sections")


def images(folder: Path, bands: tuple[str, ...] = ("g", "r"), **more: object) -> config.Images:
    return config.Images(**{"files": str(folder / "{tile}_{band}.fits"), "bands": list(bands), **more})


def spec(size: int = 16, bands: tuple[str, ...] = ("g", "r"), **more: object) -> config.Cutouts:
    return config.Cutouts(bands=list(bands), size=size, **more)


def statuses(found: Cutouts) -> list[Status]:
    return [Status(code) for code in found.status]


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    """Tile T1 in two bands, uncompressed."""
    for seed, band in enumerate("gr"):
        write(tmp_path / f"T1_{band}.fits", noise(SHAPE, seed), CARDS)
    return tmp_path


# pixels


def test_cutouts_are_cutout2d_in_the_order_of_bands_and_targets(survey):
    some = targets([70.2, 50.3, 3.0, 50.3], [10.0, 60.7, 118.0, 60.7], CARDS)
    found = fits_tiles.cut(some, images(survey), spec(bands=("r", "g")))
    assert found.image.shape == (4, 16, 16, 2) and found.image.dtype == np.float32
    for b, seed in enumerate((1, 0)):
        for i, row in some.iterrows():
            expected = reference(noise(SHAPE, seed), WCS(CARDS), row.ra, row.dec, 16)
            np.testing.assert_array_equal(found.image[i, :, :, b], expected)
    assert statuses(found) == [Status.OK, Status.OK, Status.PARTLY_COVERED, Status.OK]
    assert found.problems == []
    assert found.reads == {"windows": 2}


def test_y_runs_up_the_array_and_x_to_the_west(survey):
    """One bright pixel two rows up (north) and one column right (west) of the target."""
    image = np.zeros(SHAPE, np.float32)
    image[62, 51] = 7
    for band in "gr":
        write(survey / f"T1_{band}.fits", image, CARDS)
    some = targets([49.9], [59.9], CARDS)
    found = fits_tiles.cut(some, images(survey), spec())
    assert found.image[0, 8 + 2, 8 + 1, 0] == 7
    ra, dec = WCS(CARDS).all_pix2world(51, 62, 0)
    assert dec > some["dec"][0] and ra < some["ra"][0]


def test_each_band_is_cut_by_its_own_wcs(survey):
    shifted = header(SHAPE, shift=7.0)
    write(survey / "T1_r.fits", noise(SHAPE, 1), shifted)
    some = targets(*INSIDE, CARDS)
    found = fits_tiles.cut(some, images(survey), spec())
    for i, row in some.iterrows():
        for b, (seed, cards) in enumerate([(0, CARDS), (1, shifted)]):
            expected = reference(noise(SHAPE, seed), WCS(cards), row.ra, row.dec, 16)
            np.testing.assert_array_equal(found.image[i, :, :, b], expected)


def test_right_ascension_wraps_on_a_tile(tmp_path):
    cards = header(SHAPE, ra=0.0)
    write(tmp_path / "T1_g.fits", noise(SHAPE), cards)
    some = targets([19.9, 79.9], [59.9, 59.9], cards)
    assert some["ra"].max() - some["ra"].min() > 350
    some.loc[0, "ra"] += 360
    found = fits_tiles.cut(some, images(tmp_path, ("g",)), spec(bands=("g",)))
    assert statuses(found) == [Status.OK, Status.OK]
    np.testing.assert_array_equal(found.image[0, :, :, 0], noise(SHAPE)[52:68, 12:28])


@st.composite
def surveys(draw):
    """A tile in any compression layout, and targets anywhere on and around it."""
    height, width = draw(st.integers(20, 90)), draw(st.integers(20, 90))
    codec = draw(st.sampled_from([None, "RICE_1", "GZIP_1"]))
    tile = (draw(st.sampled_from([1, 7, 32, 100])), draw(st.sampled_from([11, 50, 100])))
    n = draw(st.integers(1, 12))
    x = draw(st.lists(st.floats(-30, width + 30), min_size=n, max_size=n))
    y = draw(st.lists(st.floats(-30, height + 30), min_size=n, max_size=n))
    return (height, width), codec, (min(tile[0], height), min(tile[1], width)), x, y, draw(st.integers(4, 40))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(surveys(), st.sampled_from([3000, 20_000, 10**8]))
def test_all_ways_of_reading_give_the_same_cutouts(tmp_path, drawn, strip):
    shape, codec, tile, x, y, size = drawn
    image = noise(shape)
    image[: shape[0] // 3] = 0
    image[-1, -1] = np.nan
    cards = header(shape)
    options = {} if codec is None else {"codec": codec, "tile_shape": tile}
    path = write(tmp_path / "T1_g.fits", image, cards, **options)
    mask = write(tmp_path / "T1_mask.fits", (noise(shape, 5) > 150).astype(np.int16), cards)
    assert mask.exists()
    hdu = 0 if codec is None else 1
    survey = images(tmp_path, ("g",), hdu=hdu, mask=config.Mask(files=str(tmp_path / "{tile}_mask.fits"), hdu=0))
    with fits.open(path) as file:
        pixels = np.asarray(file[hdu].data, np.float32)
    some = targets(x, y, cards)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "STRIP_BYTES", strip)
        for mode in MODES:
            patch.setattr(cost, "allowed", lambda layout, mode=mode: (mode,))
            found[mode] = fits_tiles.cut(some, survey, spec(size, ("g",)))
    bad = ~np.isfinite(pixels) | (pixels == 0) | (noise(shape, 5) > 150)
    for i, row in some.iterrows():
        expected = reference(pixels, WCS(cards), row.ra, row.dec, size)
        np.testing.assert_array_equal(found["rows"].image[i, :, :, 0], expected)
        flags = reference(bad, WCS(cards), row.ra, row.dec, size)
        assert found["rows"].bad_fraction[i, 0] == pytest.approx(np.where(np.isnan(flags), 1, flags).mean())
    for mode in ("whole", "sections"):
        np.testing.assert_array_equal(found[mode].image, found["rows"].image)
        np.testing.assert_array_equal(found[mode].status, found["rows"].status)
        np.testing.assert_array_equal(found[mode].bad_fraction, found["rows"].bad_fraction)


@pytest.mark.parametrize("dtype", ["i2", "u2", "f8"])
def test_pixels_become_float32(tmp_path, dtype):
    image = (np.abs(noise(SHAPE, dtype="f8")) * 3).astype(dtype)
    write(tmp_path / "T1_g.fits", image, CARDS)
    found = fits_tiles.cut(targets([49.9], [59.9], CARDS), images(tmp_path, ("g",)), spec(bands=("g",)))
    np.testing.assert_array_equal(found.image[0, :, :, 0], image[52:68, 42:58].astype(np.float32))


@pytest.mark.parametrize("hdu", [{"g": 1, "r": 2}, {"g": "IMG_G", "r": "img_r"}, "IMG_{band}"])
def test_several_bands_in_one_file(tmp_path, hdu):
    extensions = [fits.ImageHDU(noise(SHAPE, seed), CARDS, name=f"IMG_{band}") for seed, band in enumerate("gr")]
    fits.HDUList([fits.PrimaryHDU(), *extensions]).writeto(tmp_path / "T1.fits")
    survey = config.Images(files=str(tmp_path / "{tile}.fits"), bands=["g", "r"], hdu=hdu)
    found = fits_tiles.cut(targets([49.9], [59.9], CARDS), survey, spec(bands=("r", "g")))
    for b, seed in enumerate((1, 0)):
        np.testing.assert_array_equal(found.image[0, :, :, b], noise(SHAPE, seed)[52:68, 42:58])


def test_gzipped_tiles(survey):
    for band in "gr":
        path = survey / f"T1_{band}.fits"
        path.with_suffix(".fits.gz").write_bytes(gzip.compress(path.read_bytes()))
    plain = fits_tiles.cut(targets(*INSIDE, CARDS), images(survey), spec())
    zipped = fits_tiles.cut(
        targets(*INSIDE, CARDS), images(survey, files=str(survey / "{tile}_{band}.fits.gz")), spec()
    )
    np.testing.assert_array_equal(zipped.image, plain.image)
    assert zipped.reads == {"whole": 2}


def test_memory_given_is_used_and_all_of_it_overwritten(survey):
    some = pd.concat(
        [targets([50.0, -3.0, 500.0], [60.0, 60.0, 60.0], CARDS), targets([5.0], [5.0], CARDS, tile="none")]
    )
    some = some.reset_index(drop=True)
    expected = fits_tiles.cut(some, images(survey), spec())
    out = np.full((10, 16, 16, 2), 1234.5, np.float32)
    found = fits_tiles.cut(some, images(survey), spec(), None, out)
    assert np.shares_memory(found.image, out) and len(found.image) == 4
    np.testing.assert_array_equal(found.image, expected.image)
    assert not (found.image == 1234.5).any() and (out[4:] == 1234.5).all()


# status


def test_targets_outside(survey):
    some = targets([50.0, 50.0, 200.0, -8.1, -9.0], [60.0] * 5, CARDS)
    some.loc[0, "tile"] = ""
    some.loc[1, "ra"] = np.nan
    found = fits_tiles.cut(some, images(survey), spec())
    assert statuses(found) == [Status.OUTSIDE] * 5
    assert np.isnan(found.image).all()
    assert (found.bad_fraction == 1).all()
    assert found.problems == []


def test_edges_are_nan_and_flagged(survey):
    found = fits_tiles.cut(targets([-7.1, 98.9], [59.9, 118.9], CARDS), images(survey), spec())
    assert statuses(found) == [Status.PARTLY_COVERED] * 2
    np.testing.assert_allclose(found.bad_fraction, [[15 / 16] * 2, [1 - 9 * 9 / 256] * 2])
    np.testing.assert_array_equal(np.isnan(found.image).mean(axis=(1, 2)), found.bad_fraction)


def test_no_targets(survey):
    found = fits_tiles.cut(targets([], [], CARDS), images(survey), spec())
    assert found.image.shape == (0, 16, 16, 2) and found.status.shape == (0,) and found.reads == {}


def test_missing_band_leaves_the_others(survey):
    (survey / "T1_r.fits").unlink()
    found = fits_tiles.cut(targets(*INSIDE, CARDS), images(survey), spec())
    assert statuses(found) == [Status.MISSING] * 2
    assert found.problems == [f"tile T1, band r: {survey}/T1_r.fits does not exist"]
    np.testing.assert_array_equal(found.image[0, :, :, 0], noise(SHAPE, 0)[53:69, 43:59])
    assert np.isnan(found.image[..., 1]).all()
    np.testing.assert_array_equal(found.bad_fraction, [[0, 1]] * 2)


def test_other_tiles_go_on(survey):
    for band in "gr":
        write(survey / f"T3_{band}.fits", noise(SHAPE, 3), CARDS)
    some = pd.concat([targets(*INSIDE, CARDS, tile=tile) for tile in ("T1", "T2", "T3")], ignore_index=True)
    some = some.sample(frac=1, random_state=1, ignore_index=True)
    found = fits_tiles.cut(some, images(survey), spec())
    expected = {"T1": Status.OK, "T2": Status.MISSING, "T3": Status.OK}
    assert statuses(found) == [expected[tile] for tile in some["tile"]]
    assert sorted(found.problems) == [f"tile T2, band {band}: {survey}/T2_{band}.fits does not exist" for band in "gr"]
    assert sum(found.reads.values()) == 4


def unusable(survey: Path, status: Status, why: str, size: int = 16, **more: object) -> None:
    """Band r of T1 cannot be used; band g can."""
    scale = more.pop("pixel_scale", None)
    found = fits_tiles.cut(targets(*INSIDE, CARDS), images(survey, **more), spec(size), scale)
    assert found.problems == [f"tile T1, band r: {why}"]
    assert statuses(found) == [status] * 2
    assert np.isnan(found.image[..., 1]).all() and (found.bad_fraction[:, 1] == 1).all()
    assert not np.isnan(found.image[..., 0]).any() and (found.bad_fraction[:, 0] == 0).all()


def test_no_bytes(survey):
    (survey / "T1_r.fits").write_bytes(b"")
    unusable(survey, Status.UNREADABLE, f"{survey}/T1_r.fits is empty (0 bytes)")


def test_truncated(survey):
    path = survey / "T1_r.fits"
    size = path.stat().st_size // 2
    with path.open("rb+") as file:
        file.truncate(size)
    end = 2880 + 4 * SHAPE[0] * SHAPE[1]
    unusable(survey, Status.UNREADABLE, f"{path} is truncated: HDU 0 should end at byte {end} but the file has {size}")


def test_wrong_hdu(survey):
    unusable(
        survey,
        Status.UNREADABLE,
        f"{survey}/T1_r.fits has no HDU 'SCI'; its images of two dimensions are in HDU 0 (PRIMARY)",
        hdu={"g": 0, "r": "SCI"},
    )


def test_no_wcs(survey):
    fits.PrimaryHDU(noise(SHAPE)).writeto(survey / "T1_r.fits", overwrite=True)
    unusable(
        survey,
        Status.UNREADABLE,
        f"{survey}/T1_r.fits[0] has no WCS of the sky (CTYPE1 and CTYPE2, such as RA---TAN and DEC--TAN)",
    )


def test_three_dimensions(survey):
    fits.PrimaryHDU(np.zeros((2, *SHAPE), np.float32), CARDS).writeto(survey / "T1_r.fits", overwrite=True)
    unusable(
        survey,
        Status.UNREADABLE,
        f"{survey}/T1_r.fits[0] is an array of 3 dimensions; an image is needed: it holds none of two dimensions",
    )


def test_corrupt(survey):
    for band in "gr":
        write(survey / f"T1_{band}.fits", noise(SHAPE), CARDS, codec="RICE_1", tile_shape=(1, SHAPE[1]))
    path = survey / "T1_r.fits"
    raw = bytearray(path.read_bytes())
    raw[-4000] ^= 1
    path.write_bytes(raw)
    with fits.open(path, disable_image_compression=True) as file:
        datasum = file[1].header["DATASUM"]
    why = f"{path}[1] is corrupt: its data do not have the DATASUM {datasum} of its header"
    unusable(survey, Status.UNREADABLE, why, hdu=1)


def test_another_pixel_scale(survey):
    write(survey / "T1_r.fits", noise(SHAPE), header(SHAPE, scale=SCALE * 1.006))
    why = f"{survey}/T1_r.fits[0] has pixels of 0.2646 arcsec; those of this survey are 0.2630 (within 0.5 %)"
    unusable(survey, Status.MISMATCHED, why, pixel_scale=SCALE)


def test_another_zero_point(survey):
    for band, zero_point in (("g", 30.0), ("r", 30.015)):
        with fits.open(survey / f"T1_{band}.fits", mode="update") as file:
            file[0].header["MAGZERO"] = zero_point
    why = f"{survey}/T1_r.fits[0] has zero point 30.015 (MAGZERO); that of this survey is 30 (within 0.01 mag)"
    unusable(survey, Status.MISMATCHED, why, zero_point=30.0)
    for allowed in (None, 30.008, {"r": 30.02}):
        found = fits_tiles.cut(targets(*INSIDE, CARDS), images(survey, zero_point=allowed), spec())
        assert statuses(found) == [Status.OK] * 2


def test_a_pixel_scale_within_the_tolerance(survey):
    write(survey / "T1_r.fits", noise(SHAPE), header(SHAPE, scale=SCALE * 1.004))
    found = fits_tiles.cut(targets(*INSIDE, CARDS), images(survey), spec(), SCALE)
    assert statuses(found) == [Status.OK] * 2


def test_another_shape(survey):
    """Against most of the bands, wherever the odd one stands."""
    write(survey / "T1_r.fits", noise((110, 100)), CARDS)
    why = f"{survey}/T1_r.fits[0] is 100 x 110 pixels; the tile's other bands are 100 x 120"
    unusable(survey, Status.MISMATCHED, why)
    write(survey / "T1_z.fits", noise(SHAPE), CARDS)
    found = fits_tiles.cut(targets(*INSIDE, CARDS), images(survey, ("r", "g", "z")), spec(bands=("r", "g", "z")))
    assert found.problems == [f"tile T1, band r: {why}"]


# bad pixels


def test_blank_and_nan_pixels_count_but_stay_as_they_are(survey):
    image = noise(SHAPE)
    image[55:65, 45:55] = 0
    image[66, 44] = np.nan
    write(survey / "T1_r.fits", image, CARDS)
    some = targets([49.9], [59.9], CARDS)
    found = fits_tiles.cut(some, images(survey), spec(max_bad_fraction=0.4))
    np.testing.assert_allclose(found.bad_fraction, [[0, 101 / 256]])
    np.testing.assert_array_equal(found.image[0, :, :, 1], image[52:68, 42:58])
    assert statuses(found) == [Status.OK]
    assert statuses(fits_tiles.cut(some, images(survey), spec(max_bad_fraction=0.39))) == [Status.BAD_PIXELS]
    without = fits_tiles.cut(some, images(survey, blank=None), spec(max_bad_fraction=0.39))
    np.testing.assert_allclose(without.bad_fraction, [[0, 1 / 256]])


def masked(survey: Path, mask: np.ndarray, bits: list[int] | None) -> float:
    for band in "gr":
        write(survey / f"T1_{band}_mask.fits", mask, CARDS)
    section = config.Mask(files=str(survey / "{tile}_{band}_mask.fits"), hdu=0, bits=bits)
    found = fits_tiles.cut(targets([49.9], [59.9], CARDS), images(survey, mask=section), spec())
    assert found.problems == []
    assert not np.isnan(found.image).any()
    assert found.bad_fraction[0, 0] == found.bad_fraction[0, 1]
    return float(found.bad_fraction[0, 0]) * 256


def test_mask_bits(survey):
    mask = np.zeros(SHAPE, np.int16)
    mask[60, 50:53] = [1, 2, 6]
    assert masked(survey, mask, None) == 3
    assert masked(survey, mask, []) == 0
    assert masked(survey, mask, [0]) == 1
    assert masked(survey, mask, [1]) == 2
    assert masked(survey, mask, [0, 2]) == 2
    assert masked(survey, mask, [40]) == 0


@pytest.mark.parametrize(("dtype", "bit"), [("u1", 7), ("i2", 15), ("u2", 15), ("i4", 31), ("i8", 63)])
def test_the_highest_bit_of_a_mask(survey, dtype, bit):
    mask = np.zeros(SHAPE, np.uint64)
    mask[60, 50] = 1 << bit
    assert masked(survey, mask.astype(dtype), [bit]) == 1
    assert masked(survey, mask.astype(dtype), [bit - 1]) == 0


def test_mask_and_weight_in_the_image_file(tmp_path):
    mask, weight = np.zeros(SHAPE, np.int32), np.ones(SHAPE, np.float32)
    mask[60, 50], weight[60, 50:53], weight[62, 50] = 4, [0, -1, np.nan], np.inf
    for band in "gr":
        extensions = [fits.ImageHDU(noise(SHAPE), CARDS, name="SCI")]
        extensions += [fits.ImageHDU(mask, CARDS, name="MSK"), fits.ImageHDU(weight, CARDS, name="WGT")]
        fits.HDUList([fits.PrimaryHDU(), *extensions]).writeto(tmp_path / f"T1_{band}.fits")
    more = {"hdu": "SCI", "mask": config.Mask(hdu="MSK"), "weight": config.Weight(hdu="WGT")}
    found = fits_tiles.cut(targets([49.9], [59.9], CARDS), images(tmp_path, **more), spec())
    np.testing.assert_allclose(found.bad_fraction * 256, [[3, 3]])


@pytest.mark.parametrize("section", [config.Mask, config.Weight])
def test_mask_and_weight_are_somewhere(section):
    with pytest.raises(ValueError, match="give 'hdu' \\(in the image's own file\\), 'files', or both"):
        section()


def test_band_without_its_mask_is_not_used(survey):
    write(survey / "T1_g_mask.fits", np.zeros(SHAPE, np.int16), CARDS)
    section = config.Mask(files=str(survey / "{tile}_{band}_mask.fits"), hdu=0)
    unusable(survey, Status.MISSING, f"{survey}/T1_r_mask.fits does not exist", mask=section)
    write(survey / "T1_r_mask.fits", np.zeros((100, 120), np.int16), CARDS)
    why = f"{survey}/T1_r_mask.fits[0] is 120 x 100 pixels; the tile's image are 100 x 120"
    unusable(survey, Status.MISMATCHED, why.replace("image are", "image is"), mask=section)
    write(survey / "T1_r_mask.fits", np.zeros(SHAPE, np.float32), CARDS)
    why = f"{survey}/T1_r_mask.fits[0] is a mask of float32 values; integers are needed"
    unusable(survey, Status.UNREADABLE, why, mask=section)


def test_the_most_severe_status_of_all_bands_wins(tmp_path):
    bands = ("g", "r", "z")
    blank = noise(SHAPE)
    blank[:] = 0
    write(tmp_path / "T1_g.fits", blank, CARDS)
    write(tmp_path / "T1_r.fits", noise(SHAPE), CARDS)
    write(tmp_path / "T1_z.fits", noise(SHAPE), header(SHAPE, shift=60.0))
    some = targets([20.0, 45.0, 95.0], [60.0] * 3, CARDS)
    found = fits_tiles.cut(some, images(tmp_path, bands), spec(bands=bands))
    # all of g is blank; in r the last runs off the tile; in z the last is outside
    assert statuses(found) == [Status.BAD_PIXELS, Status.PARTLY_COVERED, Status.OUTSIDE]
    (tmp_path / "T1_r.fits").unlink()
    found = fits_tiles.cut(some, images(tmp_path, bands), spec(bands=bands))
    assert statuses(found) == [Status.MISSING] * 3
    (tmp_path / "T1_g.fits").write_bytes(b"")
    found = fits_tiles.cut(some, images(tmp_path, bands), spec(bands=bands))
    assert statuses(found) == [Status.UNREADABLE] * 3


def test_a_failing_file_system_fails_the_partition(survey, monkeypatch):
    import errno

    real = Path.open

    def fail(self, *args, **kwargs):
        if self.name == "T1_r.fits":
            raise OSError(errno.ESTALE, "Stale file handle", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OSError, match="Stale file handle"):
        fits_tiles.cut(targets(*INSIDE, CARDS), images(survey), spec())
