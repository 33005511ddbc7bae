"""Measure what survey_scan.imaging.cost has as prices.

    python benchmarks/cost_model.py              prints JSON: prices to copy into cost.py

Prices are CPU seconds, fitted to bands of rows and single sections of small images of each codec in row tiles, in boxes
of 100 x 100 and in one tile of 16 rows; of RICE_1 by our own decoder and by the libraries. How good the choices are that
come of them, benchmarks/cutouts.py measures.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from scipy.optimize import nnls

from survey_scan.imaging import cost, native
from survey_scan.imaging.cost import Mode
from survey_scan.imaging.fits_header import ImageHdu, find_image
from survey_scan.imaging.fits_image import FitsImage

SIDE = 3000
CODECS = {
    "RICE_1": [(1, SIDE), (100, 100), (16, SIDE)],
    "GZIP_1": [(1, SIDE), (100, 100), (16, SIDE)],
    "GZIP_2": [(1, SIDE), (100, 100), (16, SIDE)],
    "HCOMPRESS_1": [(100, 100), (16, SIDE)],
    "PLIO_1": [(1, SIDE), (100, 100), (16, SIDE)],
}


def write_image(path: Path, codec: str, tile: tuple[int, int]) -> ImageHdu:
    """A small image of noise (a mask for PLIO) in one compression."""
    from astropy.io import fits

    rng = np.random.default_rng(3)
    image: Any = rng.standard_normal((SIDE, SIDE), dtype=np.float32)
    if codec == "PLIO_1":
        image = (image > 2.5).astype(np.int32) * 4
    if codec == "none":
        fits.PrimaryHDU(image).writeto(path)
        return find_image(path, 0)
    fits.CompImageHDU(
        image, compression_type=codec, tile_shape=tile, quantize_level=16, quantize_method=2, dither_seed=1
    ).writeto(path)
    return find_image(path, 1)


def measure(hdu: ImageHdu, mode: Mode, boxes: list[tuple[int, int, int, int]]) -> float:
    """CPU seconds to read boxes: the best of three."""
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        with FitsImage(hdu, mode) as image:
            for box in boxes:
                image.read(*box)
        best = min(best, time.process_time() - start)
    return best


def price(hdus: list[ImageHdu], mode: Mode) -> cost.Price:
    """Fit the price of a call, a compression tile and a pixel, with equal weight to each relative error."""
    rng = np.random.default_rng(5)
    rows, seconds = [], []
    for hdu in hdus:
        for repeat in range(4):
            if mode == "rows":
                height = (1, 100, 400, 1200)[repeat]
                boxes = [(y, y + height, 0, SIDE) for y in range(7, SIDE - height, max(height, 500))][:6]
            else:
                side = (16, 64, 101, 200)[repeat]
                corners = rng.integers(0, SIDE - side, (40, 2)).tolist()
                boxes = [(y, y + side, x, x + side) for y, x in corners]
            rows.append(cost.work(hdu.layout, np.array(boxes)))
            seconds.append(measure(hdu, mode, boxes))
    design, taken = np.array(rows, float), np.array(seconds)
    found, _ = nnls(design / taken[:, None], np.ones(len(taken)))
    return cost.Price(*(float(f"{value:.2g}") for value in found))


def main() -> None:
    prices: dict[str, dict[str, cost.Price]] = {"BULK": {}, "SECTION": {}}
    with tempfile.TemporaryDirectory() as folder:
        for codec, tiles in {"none": [(1, SIDE)], **CODECS}.items():
            hdus = [write_image(Path(folder) / f"{codec}-{i}.fits", codec, tile) for i, tile in enumerate(tiles)]
            if codec == "RICE_1" and native.decoder() is not None:
                prices["BULK"][cost.OWN_RICE] = price(hdus, "rows")
                prices["SECTION"][cost.OWN_RICE] = price(hdus, "sections")
            with mock.patch.object(native, "decoder", lambda: None):
                prices["BULK"][codec] = price(hdus, "rows")
                prices["SECTION"][codec] = price(hdus, "sections")
    json.dump(
        {way: {codec: list(each) for codec, each in found.items()} for way, found in prices.items()},
        sys.stdout,
        indent=1,
    )
    print()


if __name__ == "__main__":
    main()
