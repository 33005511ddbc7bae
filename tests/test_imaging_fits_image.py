"""All ways of reading an image give astropy's pixels, bit by bit."""

import bz2
import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from small_tiles import header, noise, write

from survey_scan.errors import TileError
from survey_scan.imaging import fits_image
from survey_scan.imaging.compressed import read_rows
from survey_scan.imaging.fits_header import find_image
from survey_scan.imaging.fits_image import FitsImage, datasum_residue
from survey_scan.schema import Status

SHAPE = (134, 95)
MODES = ("whole", "rows", "sections")
BOXES = [(0, 134, 0, 95), (37, 61, 0, 95), (37, 61, 11, 42), (133, 134, 94, 95), (0, 1, 0, 1)]


def check(path: Path, hdu: int | str) -> None:
    """Every way of reading against astropy."""
    with fits.open(path) as file:
        expected = np.asarray(file[hdu].data)
    expected = expected.astype(expected.dtype.newbyteorder("="))
    found = find_image(path, hdu)
    assert found.layout.shape == expected.shape
    for mode in MODES:
        with FitsImage(found, mode) as image:
            for y0, y1, x0, x1 in BOXES:
                pixels = image.read(y0, y1, x0, x1)
                assert pixels.dtype == expected.dtype
                np.testing.assert_array_equal(pixels, expected[y0:y1, x0:x1])


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8"])
def test_uncompressed(tmp_path, dtype):
    image = noise(SHAPE, dtype="f8")
    image = np.abs(image).astype(dtype) if dtype == "u1" else image.astype(dtype)
    check(write(tmp_path / "tile.fits", image), 0)


@pytest.mark.parametrize("dtype", ["i1", "u2", "u4"])
def test_integers_shifted_by_bzero(tmp_path, dtype):
    image = noise(SHAPE, dtype="f8").astype(np.int64).astype(dtype)
    path = write(tmp_path / "tile.fits", image)
    assert not find_image(path, 0).plain
    check(path, 0)
    check(write(tmp_path / "tile.fits.fz", image, codec="RICE_1", tile_shape=(7, 30)), 1)


def test_scaled_integers_with_blanks(tmp_path):
    image = noise(SHAPE, dtype="f8").astype(np.int16)
    image[3, 4] = -32768
    cards = header(SHAPE)
    cards["BSCALE"], cards["BZERO"], cards["BLANK"] = 0.25, 3.0, -32768
    path = tmp_path / "tile.fits"
    hdu = fits.PrimaryHDU(image)
    hdu.header.update(cards)
    hdu.writeto(path)
    found = find_image(path, 0)
    assert not found.plain
    with FitsImage(found, "rows") as opened:
        pixels = opened.read(0, *SHAPE[:1], 0, SHAPE[1])
    assert np.isnan(pixels[3, 4])
    check(path, 0)


TILES = [(codec, tile) for codec in ("RICE_1", "GZIP_1", "GZIP_2") for tile in ((1, 95), (9, 95), (16, 30), (100, 100))]
TILES += [("HCOMPRESS_1", tile) for tile in ((9, 95), (16, 30), (100, 100))]  # at least four rows


@pytest.mark.parametrize("method", [-1, 1, 2])
@pytest.mark.parametrize(("codec", "tile"), TILES)
def test_compressed_floats(tmp_path, codec, method, tile):
    image = noise(SHAPE)
    image[20:50] = 0  # tiles without noise are stored by gzip, exact zeros by a value of their own
    image[60, 5] = np.nan
    image[61, 10:80] = 1e30
    if codec == "HCOMPRESS_1":
        image[60, 5] = 0  # astropy does not restore NaN here
    path = write(tmp_path / "tile.fits.fz", image, codec=codec, quantize_method=method, tile_shape=tile)
    check(path, "SCI")


@pytest.mark.parametrize("codec", ["RICE_1", "PLIO_1", "HCOMPRESS_1", "GZIP_1"])
def test_compressed_integers(tmp_path, codec):
    image = (noise(SHAPE) > 120).astype(np.int32) * 65
    check(write(tmp_path / "mask.fits.fz", image, codec=codec, tile_shape=(16, 30)), "SCI")


def test_lossless_floats(tmp_path):
    path = write(tmp_path / "tile.fits.fz", noise(SHAPE), codec="GZIP_2", quantize_level=0, tile_shape=(5, 95))
    check(path, 1)


@pytest.mark.parametrize(("codec", "compress"), [("gzip", gzip.compress), ("bzip2", bz2.compress)])
def test_file_compressed_as_a_whole(tmp_path, codec, compress):
    path = write(tmp_path / "tile.fits", noise(SHAPE))
    zipped = tmp_path / "tile.fits.z"
    zipped.write_bytes(compress(path.read_bytes()))
    assert find_image(zipped, 0).layout.codec == codec
    check(zipped, 0)
    tiled = write(tmp_path / "tile.fits.fz", noise(SHAPE), codec="RICE_1", tile_shape=(1, SHAPE[1]))
    zipped.write_bytes(compress(tiled.read_bytes()))
    check(zipped, 1)


@pytest.mark.parametrize("spoil", ["truncated", "flipped", "first block"])
def test_broken_bzip2(tmp_path, spoil):
    path = write(tmp_path / "tile.fits", noise((900, 400)))
    zipped = tmp_path / "tile.fits.bz2"
    data = bytearray(bz2.compress(path.read_bytes()))
    if spoil == "truncated":
        del data[-len(data) // 3 :]
    else:
        data[10 if spoil == "first block" else len(data) * 2 // 3] ^= 255
    zipped.write_bytes(data)
    text = failure(zipped, "whole", 0)
    assert text.startswith(f"{zipped} is truncated or corrupt (") or "its pixels cannot be decoded" in text


@pytest.mark.parametrize("seed", [1, 5000, 9998, 10000])
def test_dither_goes_on_within_a_band_of_rows(tmp_path, seed):
    """The random numbers of a compression tile follow from its place in the whole image."""
    path = write(tmp_path / "tile.fits.fz", noise(SHAPE), codec="RICE_1", dither_seed=seed, tile_shape=(2, 40))
    with fits.open(path) as file:
        expected = file[1].data
    for y0, y1 in [(0, 134), (1, 2), (63, 130), (132, 134)]:
        np.testing.assert_array_equal(read_rows(find_image(path, 1), path, y0, y1), expected[y0:y1])


def test_heap_that_does_not_follow_the_table(tmp_path):
    """THEAP may leave a gap."""
    path = write(tmp_path / "tile.fits.fz", noise(SHAPE), codec="RICE_1", tile_shape=(1, 95))
    found = find_image(path, 1)
    with fits.open(path) as file:
        expected = np.array(file[1].data)
    raw = path.read_bytes()
    table = int(found.values["NAXIS1"]) * int(found.values["NAXIS2"])
    data = (
        raw[found.offset : found.offset + table] + b"gap!" * 5 + raw[found.offset + table : found.offset + found.nbytes]
    )
    text = found.text.replace(f"PCOUNT  = {found.values['PCOUNT']:>20}", f"PCOUNT  = {found.values['PCOUNT'] + 20:>20}")
    cards = [
        card
        for card in (text[i : i + 80] for i in range(0, len(text), 80))
        if not card.startswith(("DATASUM", "CHECKSUM"))
    ]
    end = next(i for i, card in enumerate(cards) if card.startswith("END "))
    cards[end:] = [f"THEAP   = {table + 20:>20}".ljust(80), "END".ljust(80)]
    head = "".join(cards).encode()
    moved = raw[:2880] + head + b" " * (-len(head) % 2880) + data + b"\0" * (-len(data) % 2880)
    path = tmp_path / "moved.fits.fz"
    path.write_bytes(moved)
    check(path, 1)
    np.testing.assert_array_equal(read_rows(find_image(path, 1), path, 30, 40), expected[30:40])


# broken data


def failure(path: Path, mode: str, hdu: int = 1) -> str:
    with pytest.raises(TileError) as caught:
        with FitsImage(find_image(path, hdu), mode) as image:
            image.read(0, SHAPE[0], 0, SHAPE[1])
    assert caught.value.status is Status.UNREADABLE
    return str(caught.value)


def flip(path: Path, at: int, times: int = 1) -> None:
    raw = bytearray(path.read_bytes())
    for i in range(times):
        raw[at + i] ^= 0x5A
    path.write_bytes(raw)


@pytest.mark.parametrize("mode", MODES)
def test_one_wrong_byte_is_told_by_datasum(tmp_path, mode):
    path = write(tmp_path / "tile.fits.fz", noise(SHAPE), codec="RICE_1", tile_shape=(1, 95))
    found = find_image(path, 1)
    rng = np.random.default_rng(0)
    for at in rng.integers(found.offset, found.offset + found.nbytes, 20).tolist():
        flip(path, at)
        assert failure(path, mode) == (
            f"{path}[1] is corrupt: its data do not have the DATASUM {found.datasum} of its header"
        )
        flip(path, at)  # and back
    check(path, 1)


def test_large_images_are_compared_with_datasum_only_when_read_whole(tmp_path, monkeypatch):
    path = write(tmp_path / "tile.fits.fz", noise(SHAPE), codec="RICE_1", tile_shape=(1, 95))
    found = find_image(path, 1)
    monkeypatch.setattr(fits_image, "CHECKED_BYTES", found.nbytes - 1)
    flip(path, found.offset + found.nbytes - 1)
    assert "DATASUM" in failure(path, "whole")
    for mode in ("rows", "sections"):
        with FitsImage(find_image(path, 1), mode) as image:
            assert image.read(0, 10, 0, 95).shape == (10, 95)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("codec", ["RICE_1", "GZIP_1", "HCOMPRESS_1"])
def test_corrupt_data_without_datasum(tmp_path, codec, mode):
    path = write(tmp_path / "tile.fits.fz", noise(SHAPE), codec=codec, tile_shape=(16, 95), checksum=False)
    found = find_image(path, 1)
    rng = np.random.default_rng(0)
    raw = bytearray(path.read_bytes())
    heap = found.offset + int(found.values["NAXIS1"]) * int(found.values["NAXIS2"])
    raw[heap : found.offset + found.nbytes] = rng.bytes(found.offset + found.nbytes - heap)
    path.write_bytes(raw)
    assert failure(path, mode).startswith(f"{path}[1] is corrupt: its pixels cannot be decoded (")


@pytest.mark.parametrize("mode", MODES)
def test_table_that_points_outside_the_heap(tmp_path, mode):
    path = write(tmp_path / "tile.fits.fz", noise(SHAPE), codec="RICE_1", tile_shape=(16, 95), checksum=False)
    found = find_image(path, 1)
    flip(path, found.offset, 3)
    assert failure(path, mode).startswith(f"{path}[1] is corrupt: its pixels cannot be decoded (")


@pytest.mark.parametrize("keep", [0.5, 0.98])
def test_truncated_gzip(tmp_path, keep):
    path = write(tmp_path / "tile.fits", noise(SHAPE))
    zipped = tmp_path / "tile.fits.gz"
    data = gzip.compress(path.read_bytes())
    zipped.write_bytes(data[: int(keep * len(data))])
    assert failure(zipped, "whole", 0) == (
        f"{zipped} is truncated or corrupt (Compressed file ended before the end-of-stream marker was reached)"
    )


def test_corrupt_gzip(tmp_path):
    path = write(tmp_path / "tile.fits", noise(SHAPE))
    zipped = tmp_path / "tile.fits.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    flip(zipped, zipped.stat().st_size // 2)
    assert failure(zipped, "whole", 0).startswith(
        f"{zipped}[0] is corrupt: its pixels cannot be decoded (CRC check failed"
    )


@pytest.mark.parametrize("nbytes", [8, 16, 23, 100_000, 2**18 + 5])
def test_datasum_residue_is_the_fits_checksum(tmp_path, nbytes):
    data = np.random.default_rng(nbytes).bytes(nbytes)
    path = tmp_path / "data"
    path.write_bytes(b"\0" * 2880 + data)
    words = np.frombuffer(data + b"\0" * (-nbytes % 4), ">u4")
    assert datasum_residue(path, 2880, nbytes) == int(words.sum(dtype=np.uint64)) % 0xFFFF


def test_real_files_of_every_kind(survey_data, tmp_path):
    """Rows, sections and the whole of real images against astropy."""
    images = [
        ("des/des_like_tile/DES0900-0030_r0000p01_g.fits.fz", "SCI"),
        ("des/des_like_tile/DES0900-0030_r0000p01_g.fits.fz", "MSK"),
        ("des/des_like_tile/DES0900-0030_r0000p01_g.fits.fz", "WGT"),
        ("des/finalcut_TPV/D00572501_z_c01_r3624p01_segmap.fits.fz", 1),
        ("kids/grafted_tile/KiDS_GRAFT_135.0_-0.5_r_sci.fits", 1),
        ("legacysurvey/dr6_original_brick/coadd/095/0959p805/legacysurvey-0959p805-image-z.fits.fz", 1),
        ("legacysurvey/pipeline_bricks/coadd/177/1773p595/legacysurvey-1773p595-invvar-r.fits.fz", 1),
        ("legacysurvey/pipeline_bricks/coadd/177/1773p595/legacysurvey-1773p595-maskbits.fits.fz", 1),
        ("legacysurvey/pipeline_bricks/coadd/177/1773p595/legacysurvey-1773p595-psfsize-r.fits.fz", 1),
        ("kids/vst_vista_wcs/VST_r.fits", 0),
        ("wcs/tnx.fits", 0),
    ]
    for name, hdu in images:
        path = Path(shutil.copy(survey_data / name, tmp_path))
        with fits.open(path) as file:
            expected = np.array(file[hdu].data)
        found = find_image(path, hdu)
        height, width = expected.shape
        boxes = [(height // 3, height // 2, 0, width), (height // 3, height // 3 + 64, width // 2, width // 2 + 64)]
        for mode in MODES:
            with FitsImage(found, mode) as image:
                for y0, y1, x0, x1 in boxes:
                    np.testing.assert_array_equal(image.read(y0, y1, x0, x1), expected[y0:y1, x0:x1])
