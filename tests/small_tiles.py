"""Tiles of any kind on disk, and what astropy cuts out of them, for tests of the imaging."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.nddata.utils import NoOverlapError
from astropy.wcs import WCS

SCALE = 0.263


def header(shape: tuple[int, int], ra: float = 52.0, dec: float = -28.0, scale: float = SCALE, shift: float = 0.0):
    """A TAN projection around the middle of an image."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [shape[1] / 2 + 0.5 + shift, shape[0] / 2 + 0.5]
    wcs.wcs.cd = np.array([[-scale, 0], [0, scale]]) / 3600
    return wcs.to_header()


def noise(shape: tuple[int, int], seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """An image that no two windows of agree in."""
    return (np.random.default_rng(seed).standard_normal(shape) * 100).astype(dtype)


def write(
    path: Path,
    image: np.ndarray,
    cards: fits.Header | None = None,
    codec: str | None = None,
    checksum: bool = True,
    **options: Any,
) -> Path:
    """Write an image: into the primary HDU, or compressed into HDU 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cards = header(image.shape) if cards is None else cards
    if codec is None:
        fits.PrimaryHDU(image, cards).writeto(path, overwrite=True, checksum=checksum)
    else:
        if image.dtype.kind == "f":
            options = {"quantize_level": 16, "quantize_method": 2, "dither_seed": 9998, **options}
        hdu = fits.CompImageHDU(image, cards, compression_type=codec, name="SCI", **options)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True, checksum=checksum)
    return path


def targets(x: Any, y: Any, cards: fits.Header, tile: str = "T1") -> pd.DataFrame:
    """Targets at pixel positions of a tile."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    ra, dec = WCS(cards).all_pix2world(x, y, 0)
    return pd.DataFrame({"object_id": np.arange(len(x)), "ra": ra, "dec": dec, "tile": tile, "x": x, "y": y})


def reference(data: np.ndarray, wcs: WCS, ra: float, dec: float, size: int) -> np.ndarray:
    """What ``Cutout2D`` gives at a sky position; NaN where it overlaps nothing."""
    position = wcs.all_world2pix(ra, dec, 0)
    try:
        pixels = Cutout2D(
            data.astype(np.float32),
            (float(position[0]), float(position[1])),
            size,
            wcs=wcs,
            mode="partial",
            fill_value=np.nan,
        )
    except NoOverlapError:
        return np.full((size, size), np.nan, np.float32)
    return pixels.data
