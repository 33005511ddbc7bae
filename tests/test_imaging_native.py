"""The decoder in C gives astropy's pixels, bit by bit, and survives whatever stands in a file."""

import ctypes
from pathlib import Path

import fitsio
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.io.fits.hdu.compressed._compression import compress_rice_1_c, decompress_rice_1_c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_tiles import header, noise, targets, write

from survey_scan import config
from survey_scan.errors import TileError
from survey_scan.imaging import fits_tiles, native
from survey_scan.imaging.cost import OWN_RICE
from survey_scan.imaging.fits_header import find_image
from survey_scan.imaging.fits_image import FitsImage

ABSENT = "survey_scan/imaging/_native.c is not built, so astropy decodes all images; `pip install -e .` builds it"
built = pytest.mark.skipif(native.decoder() is None, reason=ABSENT)
LOOSE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.int32), expected.view(np.int32))


def astropys(path, hdu=1) -> np.ndarray:
    with fits.open(path) as file:
        return np.asarray(file[hdu].data, np.float32)


@st.composite
def images(draw) -> tuple[np.ndarray, dict[str, object]]:
    """Floats of every kind of roughness, with zeros, NaN, steps and outliers, and how to compress them."""
    shape = draw(st.integers(1, 70)), draw(st.integers(8, 300) | st.integers(500, 1100))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    image = rng.standard_normal(shape) * 10.0 ** draw(st.integers(-3, 6))
    image += draw(st.sampled_from([0, 1, 1e3])) * np.arange(shape[1])
    if draw(st.booleans()):
        image[rng.random(shape) < 0.01] *= 10.0 ** draw(st.integers(1, 5))
    if draw(st.booleans()):
        image[rng.random(shape) < 0.3] = 0
    if draw(st.booleans()):
        image[rng.random(shape) < 0.1] = np.nan
    tile = draw(st.integers(1, shape[0])), draw(st.integers(8, shape[1]))
    method = draw(st.sampled_from([-1, 1, 2]))
    level, seed = draw(st.sampled_from([0.5, 4, 16, 100, -0.5, -10])), draw(st.integers(1, 10_000))
    return image.astype(np.float32), {
        "tile_shape": tile,
        "quantize_method": method,
        "quantize_level": level,
        "dither_seed": seed,
    }


@built
@LOOSE
@given(images())
def test_pixels_are_astropys(tmp_path, drawn):
    image, options = drawn
    path = write(tmp_path / "tile.fits.fz", image, codec="RICE_1", **options)
    found = native.opened(find_image(path, 1), path).read(0, image.shape[0], 0, image.shape[1])
    with fits.open(path, disable_image_compression=True) as file:
        empty = any(len(data) == 0 for data in file[1].data["COMPRESSED_DATA"])
    assert (found is None) == empty  # tiles that cannot be quantised are not stored by RICE
    if not empty:
        same_bits(found, astropys(path))


@built
@LOOSE
@given(st.integers(0, 2**32), st.integers(1, 10_000), st.integers(1, 60), st.integers(5, 250), st.sampled_from([1, 2]))
def test_pixels_of_cfitsio(tmp_path, state, seed, rows, columns, method):
    """NaN is another number in what cfitsio writes."""
    rng = np.random.default_rng(state)
    image = (rng.standard_normal((60, 250)) * 50).astype(np.float32)
    image[rng.random(image.shape) < 0.2] = rng.choice([0, np.nan])
    path = tmp_path / "tile.fits.fz"
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        file.write_image(image, compress="RICE", tile_dims=[rows, columns], qlevel=8, qmethod=method, dither_seed=seed)
    found = native.opened(find_image(path, 1), path).read(0, 60, 0, 250)
    if found is not None:
        same_bits(found, astropys(path))


@built
@LOOSE
@given(images(), st.lists(st.tuples(st.integers(-50, 90), st.integers(-60, 320)), min_size=1, max_size=30), st.data())
def test_windows_anywhere(tmp_path, drawn, corners, data):
    """Every window, whatever others there are, on and off the image, in every memory layout; and their bad pixels."""
    image, options = drawn
    path = write(tmp_path / "tile.fits.fz", image, codec="RICE_1", **options)
    opened, expected = native.opened(find_image(path, 1), path), astropys(path)
    height, width = data.draw(st.integers(1, 50)), data.draw(st.integers(1, 60))
    (y0, x0), (rows, columns) = np.array(sorted(corners)).T, image.shape
    on = (y0 + height > 0) & (y0 < rows) & (x0 + width > 0) & (x0 < columns)
    y0, x0 = y0[on], x0[on]
    nodata = data.draw(st.sampled_from([None, 0.0]))
    memory = np.full((len(y0) + 2, height, width, 3), 7, np.float32)
    out, order = memory[..., 1], np.random.default_rng(0).permutation(len(y0)) + 1
    bad = opened.cut(y0, x0, out, order, nodata)
    assert (memory[..., ::2] == 7).all() and (memory[[0, -1]] == 7).all()
    if bad is None:
        assert (memory == 7).all()
        return
    for k, row in enumerate(order):
        part = expected[max(y0[k], 0) : y0[k] + height, max(x0[k], 0) : x0[k] + width]
        top, left = max(-y0[k], 0), max(-x0[k], 0)
        same_bits(out[row, top : top + part.shape[0], left : left + part.shape[1]].copy(), part.copy())
        assert bad[k] == (~np.isfinite(part) | (part == nodata)).sum()
        assert (out[row] == 7).sum() >= height * width - part.size


def decode(heap: bytes, n: int, block: int = 32) -> np.ndarray | None:
    """The n numbers of one tile as float32, None if it is corrupt; what lies around the output is looked at."""
    data, out = np.frombuffer(heap, np.uint8).copy(), np.full(n + 64, 7, np.float32)
    numbers, tile = np.full(n + 64, 7, np.int32), np.zeros(1, native._TILE)
    tile["length"], tile["scale"] = len(data), 1
    image = native._Image(
        heap=data.ctypes.data,
        heap_bytes=len(data),
        height=1,
        width=n,
        rows=1,
        columns=n,
        block=block,
        blank=2**40,
        tiles=tile.ctypes.data,
        last=1,
    )
    zero, bad = np.zeros(1, np.int64), np.zeros(1, np.int64)
    windows = native._Windows(
        n=1,
        y0=zero.ctypes.data,
        x0=zero.ctypes.data,
        height=1,
        width=n,
        out=out.ctypes.data + 4 * 32,
        at=zero.ctypes.data,
        row=n,
        pixel=1,
        bad=bad.ctypes.data,
    )
    corrupt = native.decoder().rice_cut_2(image, windows, numbers.ctypes.data + 4 * 32)
    for memory in (out, numbers):
        assert (memory[:32] == 7).all() and (memory[n + 32 :] == 7).all()
    return out[32 : n + 32] if corrupt == -1 else None


@st.composite
def numbers(draw) -> np.ndarray:
    """Whole numbers that need few bits, all 32, or few with some that need millions of zeros."""
    n, rng = draw(st.integers(1, 400)), np.random.default_rng(draw(st.integers(0, 2**32)))
    kind, bits = draw(st.sampled_from(["rough", "walk", "spikes", "flat"])), draw(st.integers(1, 31))
    if kind == "flat":
        return np.full(n, rng.integers(-(2**31), 2**31), np.int32)
    found = rng.integers(-(2**bits), 2**bits, n)
    if kind == "walk":
        found = np.cumsum(found)
    if kind == "spikes":
        found = np.where(rng.random(n) < 0.02, rng.integers(-(2**20), 2**20, n), found % 3)
    return found.astype(np.int32)


@built
@settings(max_examples=200, deadline=None)
@given(numbers(), st.sampled_from([16, 32, 7]))
def test_every_number_of_32_bits(found, block):
    heap = compress_rice_1_c(found.tobytes(), block, 4)
    np.testing.assert_array_equal(decode(heap, len(found), block), found.astype(np.float32))


@built
@settings(max_examples=300, deadline=None)
@given(numbers(), st.data())
def test_corrupt_data_are_an_error_or_other_numbers(found, data):
    """Cut short anywhere, wrong bits, noise: nothing around the output is touched; what is decoded is what cfitsio decodes."""
    heap = bytearray(compress_rice_1_c(found.tobytes(), 32, 4))
    coded, kind = len(heap), data.draw(st.sampled_from(["short", "flips", "noise", "longer"]))
    if kind == "short":
        del heap[data.draw(st.integers(0, len(heap) - 1)) :]
    if kind == "flips":
        for bit in data.draw(st.lists(st.integers(0, 8 * len(heap) - 1), min_size=1, max_size=8)):
            heap[bit // 8] ^= 1 << bit % 8
    if kind == "noise":
        heap = bytearray(data.draw(st.binary(max_size=300)))
    if kind == "longer":
        heap += data.draw(st.binary(max_size=40))
    decoded = decode(bytes(heap), len(found))
    if kind == "longer":
        assert (decoded is None) == (len(heap) > coded)
    if decoded is None:
        return
    expected = np.frombuffer(decompress_rice_1_c(bytes(heap), 32, 4, len(found)), np.int32)
    np.testing.assert_array_equal(decoded, expected.astype(np.float32))


@built
def test_a_tile_outside_the_heap_and_one_that_is_cut_short(tmp_path):
    path = write(tmp_path / "tile.fits.fz", noise((40, 60)), codec="RICE_1", tile_shape=(8, 30), checksum=False)
    hdu, raw = find_image(path, 1), bytearray(path.read_bytes())
    at = hdu.offset + 3 * int(hdu.values["NAXIS1"])
    for pointer, value in ((0, 5), (0, 2**31 - 1), (4, 2**31 - 1), (0, 2**32 - 9), (4, 2**32 - 9)):
        changed = bytearray(raw)
        changed[at + pointer : at + pointer + 4] = value.to_bytes(4, "big")
        path.write_bytes(changed)
        with FitsImage(find_image(path, 1), "rows") as image, pytest.raises(TileError) as caught:
            image.read(0, 40, 0, 60)
        assert str(caught.value) == (
            f"{path}[1] is corrupt: its pixels cannot be decoded (compression tile 4 is not what RICE makes of its pixels)"
        )
        with FitsImage(find_image(path, 1), "rows") as image:
            assert np.isfinite(image.read(0, 8, 0, 30)).all()  # other tiles are there


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ZVAL2", 2),
        ("ZVAL1", 0),
        ("ZQUANTIZ", "SOMETHING"),
        ("ZDITHER0", 10_001),
        ("ZDITHER0", 0),
        ("ZBLANK", 0.5),
        ("BSCALE", 2.0),
        ("TSCAL2", 2.0),
        ("TFORM2", "1E"),
        ("ZTILE1", 1),
        ("ZCMPTYPE", "GZIP_1"),
        ("ZBITPIX", -64),
        ("THEAP", 1),
    ],
)
def test_other_kinds_of_images_are_left_to_astropy(tmp_path, keyword, value):
    path = write(tmp_path / "tile.fits.fz", noise((40, 60)), codec="RICE_1", tile_shape=(8, 30), checksum=False)
    if native.decoder() is not None:
        assert native.opened(find_image(path, 1), path) is not None
        assert native.layout(find_image(path, 1)).codec == OWN_RICE
    with fits.open(path, "update", disable_image_compression=True) as file:
        file[1].header[keyword] = value
    hdu = find_image(path, 1)
    assert native.opened(hdu, path) is None
    assert native.layout(hdu) == hdu.layout


@built
@pytest.mark.parametrize("weight", [False, True])
def test_cutouts_are_the_same_without_the_decoder(tmp_path, monkeypatch, weight):
    image = noise((90, 120))
    image[20:40, 30:60] = 0
    image[70, 80] = np.nan
    options = {"codec": "RICE_1", "tile_shape": (7, 50)}
    write(tmp_path / "T1_g.fits", image, header(image.shape), **options)
    write(tmp_path / "T1_w.fits", np.abs(noise(image.shape, 3)) - 20, header(image.shape), **options)
    beside = config.Weight(files=str(tmp_path / "{tile}_w.fits")) if weight else None
    survey = config.Images(files=str(tmp_path / "{tile}_{band}.fits"), bands=["g"], hdu=1, weight=beside)
    x, y = np.random.default_rng(0).uniform(-10, 130, (2, 50))
    some: pd.DataFrame = targets(x, y, header(image.shape))
    found = []
    for decoder in (native.decoder, lambda: None):
        monkeypatch.setattr(native, "decoder", decoder)
        found.append(fits_tiles.cut(some, survey, config.Cutouts(bands=["g"], size=20)))
    same_bits(found[0].image, found[1].image)
    np.testing.assert_array_equal(found[0].status, found[1].status)
    np.testing.assert_array_equal(found[0].bad_fraction, found[1].bad_fraction)
    assert ("windows" in found[0].reads) == (not weight) and "windows" not in found[1].reads


@built
@LOOSE
@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(-70, 650)), min_size=1, max_size=30),
    st.integers(1, 60),
    st.integers(1, 700),
    st.sampled_from([None, 0.0]),
)
def test_windows_of_a_plain_image(corners, height, width, nodata):
    image = noise((40, 600))
    image[5:9, 3:6] = np.array([np.nan, np.inf, 0], np.float32)
    y0, x0 = np.array(corners).T
    memory = np.full((len(y0) + 2, height, width, 2), 7, np.float32)
    order = np.random.default_rng(0).permutation(len(y0)) + 1
    bad = native.cut_plain(image.astype(">f4"), y0, x0, memory[..., 1], order, nodata)
    for k, row in enumerate(order):
        expected = np.full((height, width), 7, np.float32)
        part = image[max(y0[k], 0) : max(y0[k] + height, 0), max(x0[k], 0) : max(x0[k] + width, 0)]
        top, left = max(-y0[k], 0), max(-x0[k], 0)
        expected[top : top + part.shape[0], left : left + part.shape[1]] = part
        same_bits(memory[row, :, :, 1].copy(), expected)
        assert bad[k] == (~np.isfinite(part) | (part == nodata)).sum()
    assert (memory[..., 0] == 7).all() and (memory[[0, -1]] == 7).all()
    assert native.cut_plain(image, y0, x0, memory[..., 1], order, nodata) is None  # of native byte order


@built
def test_every_real_image(survey_data):
    """All images of floats that surveys compressed by RICE, whole."""
    decoded = left = 0
    for path in sorted(survey_data.rglob("*.fits*")):
        with fits.open(path, ignore_missing_simple=True) as file:
            images = [i for i, hdu in enumerate(file) if isinstance(hdu, fits.CompImageHDU)]
        for i in images:
            hdu = find_image(path, i)
            opened = native.opened(hdu, path)
            if opened is None:
                assert (hdu.layout.codec, hdu.bitpix) != ("RICE_1", -32)
                continue
            pixels = opened.read(0, hdu.layout.shape[0], 0, hdu.layout.shape[1])
            if pixels is None:
                left += 1  # some tiles are stored by GZIP
                continue
            same_bits(pixels, astropys(path, i))
            decoded += 1
    assert decoded >= 16 and left >= 12


def test_structures_are_those_of_the_c_file():
    """Names and order of all members, as the compiler sees them."""
    text = Path(native.__file__).with_name("_native.c").read_text()
    for name, structure in (("Image", native._Image), ("Windows", native._Windows)):
        body = text[: text.index(f"}} {name};")].rpartition("typedef struct {")[2]
        members = []
        for line in body.split("\n"):
            declared = line.split(";")[0].strip()
            members += [each.split()[-1].lstrip("*") for each in declared.split(",") if declared]
        assert members == [field[0] for field in structure._fields_]
    assert ctypes.sizeof(native._Image) == 14 * 8 and ctypes.sizeof(native._Windows) == 11 * 8
