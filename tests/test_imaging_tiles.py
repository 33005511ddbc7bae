from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from small_tiles import header, noise, write

from survey_scan.config import Images
from survey_scan.errors import ImageError, TileError
from survey_scan.imaging.cost import Layout
from survey_scan.imaging.tile_index import CORNERS
from survey_scan.imaging.tiles import hdu_of, list_tiles, read_tile_info, tile_file, tile_table, world_to_pixel
from survey_scan.schema import Status


def images(files: object, bands: tuple[str, ...] = ("g", "r"), **more: object) -> Images:
    return Images(files=str(files), bands=list(bands), **more)


# names


def test_file_names():
    survey = images("/data/{tile:.3}/{tile}/image-{tile}-{band}.fits.fz")
    assert tile_file(survey, "0285m165", "g") == Path("/data/028/0285m165/image-0285m165-g.fits.fz")
    assert tile_file(survey, "T", "g", "/masks/{tile}.fits") == Path("/masks/T.fits")


def test_a_wildcard_stands_for_what_differs_from_tile_to_tile(tmp_path):
    """DES names hold the number of the request: DES0900-0030_r4575p01_g.fits.fz."""
    survey = images(tmp_path / "{tile}_r*p01_{band}.fits.fz")
    path = tmp_path / "DES0900-0030_r4575p01_g.fits.fz"
    path.touch()
    assert tile_file(survey, "DES0900-0030", "g") == path
    assert tile_file(survey, "DES0900-0030", "r") == tmp_path / "DES0900-0030_r*p01_r.fits.fz"
    assert list_tiles(survey) == ["DES0900-0030"]
    (tmp_path / "DES0900-0030_r9999p01_g.fits.fz").touch()  # which of the two?
    assert tile_file(survey, "DES0900-0030", "g") == tmp_path / "DES0900-0030_r*p01_g.fits.fz"


def test_templates_with_other_fields():
    with pytest.raises(ImageError) as caught:
        tile_file(images("/data/{tile}-{filter}.fits"), "T", "g")
    assert str(caught.value) == (
        "the file template '/data/{tile}-{filter}.fits' cannot be filled in ('filter'). It may hold {tile} and {band}."
    )


def test_hdus_of_bands():
    assert hdu_of(2, "g") == 2
    assert hdu_of("DES_{band}_SCI", "g") == "DES_g_SCI"
    assert hdu_of({"g": 1, "r": "R{band}"}, "r") == "Rr"
    with pytest.raises(ImageError) as caught:
        hdu_of({"g": 1, "r": 2}, "z")
    assert str(caught.value) == "no HDU is given for band 'z', only for g, r. Add it under 'hdu' in images."


def test_tiles_are_listed_if_any_band_is_there(tmp_path):
    folder = tmp_path / "with [brackets]"
    for name in (
        "012/0123p1/c-0123p1-g.fits",
        "012/0123p1/c-0123p1-r.fits",
        "345/3456m2/c-3456m2-r.fits",
        "999/0000/c-0000-r.fits",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    survey = images(folder / "{tile:.3}/{tile}/c-{tile}-{band}.fits")
    assert list_tiles(survey) == ["0123p1", "3456m2"]  # 0000 is not in folder 999 by the template
    assert tile_file(survey, "0123p1", "g").exists()


def test_one_file_for_all_bands(tmp_path):
    (tmp_path / "A_B.fits").touch()
    assert list_tiles(images(tmp_path / "{tile}.fits", hdu="{band}")) == ["A_B"]


def test_tiles_cannot_be_listed_without_their_whole_name():
    with pytest.raises(ImageError) as caught:
        list_tiles(images("/data/{tile:.3}-{band}.fits"))
    assert str(caught.value) == (
        "images.files '/data/{tile:.3}-{band}.fits' does not hold the whole name of the tile, so tiles cannot be"
        " listed. Write {tile} without a format somewhere in it, or give images.index."
    )


# facts


def test_facts_come_from_the_first_band_that_can_be_used(tmp_path):
    survey = images(tmp_path / "{tile}_{band}.fits", ("g", "r", "z"))
    (tmp_path / "A_r.fits").write_bytes(b"not FITS")
    cards = header((300, 400), ra=0.01)
    write(tmp_path / "A_z.fits", noise((300, 400)), cards)
    info = read_tile_info(survey, "A")
    assert (info.tile, info.band, info.shape, info.layout) == (
        "A",
        "z",
        (300, 400),
        Layout("none", (300, 400), (1, 400)),
    )
    assert info.pixel_scale == pytest.approx(0.263, rel=1e-6)
    x, y = world_to_pixel(info.cards, *info.corners.T)
    np.testing.assert_allclose(x, [-0.5, 399.5, 399.5, -0.5], atol=1e-6)
    np.testing.assert_allclose(y, [-0.5, -0.5, 299.5, 299.5], atol=1e-6)


def test_no_usable_band(tmp_path):
    survey = images(tmp_path / "{tile}_{band}.fits")
    with pytest.raises(TileError) as caught:
        read_tile_info(survey, "A")
    assert (caught.value.status, str(caught.value)) == (Status.MISSING, f"{tmp_path}/A_g.fits does not exist")
    (tmp_path / "A_r.fits").touch()
    with pytest.raises(TileError) as caught:
        read_tile_info(survey, "A")
    assert (caught.value.status, str(caught.value)) == (Status.UNREADABLE, f"{tmp_path}/A_r.fits is empty (0 bytes)")


def test_table_from_headers_keeps_tiles_that_cannot_be_read(tmp_path):
    survey = images(tmp_path / "{tile}_{band}.fits")
    write(tmp_path / "A_g.fits", noise((30, 40)), header((30, 40), ra=10.0))
    (tmp_path / "B_g.fits").touch()
    fits.PrimaryHDU(noise((30, 40))).writeto(tmp_path / "C_g.fits")
    table = tile_table(survey)
    assert table.columns.tolist() == ["tile", *CORNERS, "problem"]
    assert table["tile"].tolist() == ["A", "B", "C"]
    assert table["problem"].tolist() == [
        "",
        f"{tmp_path}/B_g.fits is empty (0 bytes)",
        f"{tmp_path}/C_g.fits[0] has no WCS of the sky (CTYPE1 and CTYPE2, such as RA---TAN and DEC--TAN)",
    ]
    np.testing.assert_allclose(table.loc[0, CORNERS].to_numpy(float), read_tile_info(survey, "A").corners.ravel())
    assert table.loc[1:, CORNERS].isna().all(axis=None)


def test_no_tiles_at_all(tmp_path):
    with pytest.raises(ImageError) as caught:
        tile_table(images(tmp_path / "{tile}_{band}.fits"))
    assert str(caught.value) == f"no file matches images.files '{tmp_path}/{{tile}}_{{band}}.fits' with a band of g, r."
