import errno
import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from small_tiles import header, noise, write

from survey_scan.errors import TileError
from survey_scan.imaging.cost import Layout
from survey_scan.imaging.fits_header import find_image
from survey_scan.imaging.wcs import wcs_cards
from survey_scan.schema import Status


def failure(path: Path, hdu: int | str) -> tuple[Status, str]:
    with pytest.raises(TileError) as caught:
        find_image(path, hdu)
    return caught.value.status, str(caught.value)


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A primary without pixels, two images (one compressed) and a table."""
    image, cards = noise((50, 70)), header((50, 70))
    path = tmp_path / "several.fits"
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.CompImageHDU(image, cards, name="SCI", compression_type="RICE_1", tile_shape=(10, 20)),
            fits.ImageHDU(image.astype(np.int16), cards, name="o'clock"),
            fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(5))], name="CAT"),
            fits.ImageHDU(np.zeros((2, 3, 4)), name="CUBE"),
        ]
    ).writeto(path)
    return path


def test_by_number_and_by_name_in_any_case(several):
    by_number, by_name = find_image(several, 1), find_image(several, "sci")
    assert by_number == by_name
    assert by_number.layout == Layout("RICE_1", (50, 70), (10, 20))
    assert (by_number.number, by_number.bitpix, by_number.plain) == (1, -32, True)
    second = find_image(several, "O'CLOCK")
    assert (second.number, second.bitpix, second.layout) == (2, 16, Layout("none", (50, 70), (1, 70)))
    with fits.open(several) as file:
        for found in (by_number, second):
            assert found.cards == wcs_cards(file[found.number].header.tostring())
            info = file[found.number].fileinfo()
            assert found.offset == info["datLoc"]
            assert info["datSpan"] - 2880 < found.nbytes <= info["datSpan"]


def test_header_values_are_those_astropy_reads(several):
    with fits.open(several, disable_image_compression=True) as file:
        for number in (1, 2):
            found = find_image(several, number)
            for keyword, value in found.values.items():
                assert value == file[number].header[keyword], keyword
                assert type(value) is type(file[number].header[keyword])
            assert set(found.values) >= {"NAXIS1", "CRVAL1", "EXTNAME"}


def test_missing_file(tmp_path):
    path = tmp_path / "none.fits"
    assert failure(path, 0) == (Status.MISSING, f"{path} does not exist")
    assert failure(write(tmp_path / "file", noise((5, 5))) / "below", 0)[0] is Status.MISSING


def test_no_bytes(tmp_path):
    path = tmp_path / "empty.fits"
    path.touch()
    assert failure(path, 0) == (Status.UNREADABLE, f"{path} is empty (0 bytes)")


def test_a_folder(tmp_path):
    assert failure(tmp_path, 0) == (Status.UNREADABLE, f"{tmp_path} cannot be opened (Is a directory)")


def test_no_permission(tmp_path, monkeypatch):
    path = write(tmp_path / "tile.fits", noise((5, 5)))

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert failure(path, 0) == (Status.UNREADABLE, f"{path} cannot be opened (Permission denied)")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_failing_file_system_is_not_blamed_on_the_tile(tmp_path, monkeypatch, number):
    path = write(tmp_path / "tile.fits", noise((5, 5)))

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OSError) as caught:
        find_image(path, 0)
    assert caught.value.errno == number


def test_not_fits(tmp_path):
    path = tmp_path / "page.fits"
    path.write_text("<html>404 Not Found</html>")
    assert failure(path, 0) == (Status.UNREADABLE, f"{path} is not a FITS file (it does not begin with SIMPLE)")


def test_wrong_hdu(several):
    assert failure(several, "WGT") == (
        Status.UNREADABLE,
        f"{several} has no HDU 'WGT'; its images of two dimensions are in HDU 1 (SCI), 2 (O'CLOCK)",
    )
    assert failure(several, 9)[1] == (
        f"{several} has no HDU 9; its images of two dimensions are in HDU 1 (SCI), 2 (O'CLOCK)"
    )


@pytest.mark.parametrize(("hdu", "what"), [(0, "empty"), ("CAT", "a table"), ("CUBE", "an array of 3 dimensions")])
def test_hdu_that_is_no_image(several, hdu, what):
    number = {"CAT": 3, "CUBE": 4}.get(hdu, hdu)
    why = f"is {what}; an image is needed: its images of two dimensions are in HDU 1 (SCI), 2 (O'CLOCK)"
    assert failure(several, hdu) == (Status.UNREADABLE, f"{several}[{number}] {why}")


def test_file_without_images(tmp_path):
    path = tmp_path / "table.fits"
    fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(5))]).writeto(path)
    assert failure(path, 0)[1] == f"{path}[0] is empty; an image is needed: it holds none of two dimensions"


@pytest.mark.parametrize("hdu", [1, "SCI"])
def test_truncated_data(several, hdu):
    end = find_image(several, 1).offset + find_image(several, 1).nbytes
    with several.open("rb+") as file:
        file.truncate(end - 1)
    assert failure(several, hdu) == (
        Status.UNREADABLE,
        f"{several} is truncated: HDU 1 should end at byte {end} but the file has {end - 1}",
    )


def test_truncated_before_the_hdu_that_is_wanted(several):
    with several.open("rb+") as file:
        file.truncate(find_image(several, 1).offset + 100)
    status, text = failure(several, 2)
    assert status is Status.UNREADABLE
    assert text.startswith(f"{several} is truncated: HDU 1 should end at byte ")


def test_truncated_after_the_hdu_that_is_wanted_does_not_matter(several):
    with several.open("rb+") as file:
        file.truncate(find_image(several, 2).offset)
    assert find_image(several, 1).number == 1


def test_truncated_padding_does_not_matter(tmp_path):
    path = write(tmp_path / "tile.fits", noise((5, 5)))
    found = find_image(path, 0)
    with path.open("rb+") as file:
        file.truncate(found.offset + found.nbytes)
    assert find_image(path, 0) == found


def test_truncated_header(several):
    with several.open("rb+") as file:
        file.truncate(2880 + 500)
    assert failure(several, 1) == (Status.UNREADABLE, f"{several} is truncated: it ends inside the header of HDU 1")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"NAXIS1  =                   70", b"NAXIS1  =                  -70", "ValueError('NAXIS1 = -70')"),
        (b"NAXIS1  =                   70", b"NAXIS1  = 'seventy '          ", "ValueError(\"NAXIS1 = 'seventy'\")"),
        (b"NAXIS1  =                   70", b"NAXISX  =                   70", "KeyError('NAXIS1')"),
    ],
)
def test_headers_that_make_no_sense(tmp_path, old, new, problem):
    path = write(tmp_path / "tile.fits", noise((50, 70)))
    path.write_bytes(path.read_bytes().replace(old, new))
    assert failure(path, 0) == (Status.UNREADABLE, f"{path}[0] has a header that makes no sense ({problem})")


def test_gzip_is_told_by_its_bytes_not_its_name(tmp_path):
    path = write(tmp_path / "tile.fits", noise((50, 70)))
    zipped = tmp_path / "other.fits"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert find_image(zipped, 0).layout == Layout("gzip", (50, 70), (1, 70))


def test_gzip_truncated_within_the_header(tmp_path):
    path = write(tmp_path / "tile.fits", noise((50, 70)))
    zipped = tmp_path / "tile.fits.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes())[:100])
    status, text = failure(zipped, 0)
    assert status is Status.UNREADABLE
    assert text.startswith(f"{zipped} is truncated or corrupt (")


def test_bytes_after_the_last_hdu_do_not_matter(several):
    with several.open("ab") as file:
        file.write(b"\0" * 2880)
    assert failure(several, "WGT")[1].startswith(f"{several} has no HDU 'WGT'; ")
