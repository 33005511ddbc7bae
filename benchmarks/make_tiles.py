"""Synthetic tiles for benchmarks, compressed as two surveys compress theirs; made once in a cache folder.

``des``: 10,000 x 10,000 pixels, RICE, one compression tile a row, quantised to 1/16 of the noise (fpack -q 16).
``legacy``: 3,600 x 3,600 pixels, RICE, compression tiles of 100 x 100, quantised to an absolute step of 1e-4.
``des-plain``, ``legacy-plain``: the same pixels, not compressed.
Weakly correlated noise and one blurred source a target.
"""

import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

BANDS = ["g", "r", "z"]


class Kind(NamedTuple):
    """What the tiles of one survey look like."""

    side: int
    pixel_scale: float
    noise: tuple[float, float, float]
    compression: dict[str, Any]
    n_targets: int


KINDS = {
    "des": Kind(10_000, 0.263, (2.0, 3.0, 6.0), {"tile_dims": [1, 10_000], "qlevel": 16}, 24_000),
    "legacy": Kind(3_600, 0.262, (0.003, 0.005, 0.012), {"tile_dims": [100, 100], "qlevel": -1e-4}, 4_000),
}


#: Ends the names of kinds that are not compressed.
PLAIN = "-plain"


def cache_folder() -> Path:
    """Where the tiles are kept: SURVEY_SCAN_BENCHMARKS, or a folder of the system's temporary one."""
    folder = Path(os.environ.get("SURVEY_SCAN_BENCHMARKS", Path(tempfile.gettempdir()) / "survey_scan-benchmarks"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def template(kind: str, folder: Path) -> str:
    """``images.files`` of the tiles of one kind."""
    return str(folder / f"{kind}-{{tile}}-{{band}}.{'fits' if kind.endswith(PLAIN) else 'fits.fz'}")


def make_tile(kind: str, folder: Path) -> pd.DataFrame:
    """One tile in three bands, unless it is there; returns its targets.

    Returns
    -------
    DataFrame
        ``object_id``, ``ra``, ``dec``, ``tile``, ``x``, ``y``, sorted as the plan sorts. All whole cutouts of 101 pixels
        lie on the tile.
    """
    import fitsio
    from astropy.wcs import WCS

    if kind.endswith(PLAIN):
        targets = make_tile(kind.removesuffix(PLAIN), folder)
        for band in BANDS:
            _unpack(
                *(
                    Path(template(each, folder).format(tile="T1", band=band))
                    for each in (kind.removesuffix(PLAIN), kind)
                )
            )
        return targets
    side, scale, noise, compression, n_targets = KINDS[kind]
    rng = np.random.default_rng(7)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [52.0, -28.0]
    wcs.wcs.crpix = [side / 2 + 0.5, side / 2 + 0.5]
    wcs.wcs.cd = np.diag([-scale / 3600, scale / 3600])
    x, y = rng.uniform(60, side - 61, (2, n_targets))
    ra, dec = wcs.all_pix2world(x, y, 0)
    targets = pd.DataFrame({"object_id": np.arange(n_targets), "ra": ra, "dec": dec, "tile": "T1", "x": x, "y": y})
    flux = rng.pareto(1.5, n_targets) * 5 + 3
    grid = np.arange(-12, 13)
    profile = np.exp(-np.hypot(*np.meshgrid(grid, grid)) / 3).astype(np.float32)
    for band, sigma in zip(BANDS, noise, strict=True):
        path = Path(template(kind, folder).format(tile="T1", band=band))
        if path.exists():
            continue
        image = rng.standard_normal((side, side), dtype=np.float32)
        image[1:] += 0.3 * image[:-1]
        image[:, 1:] += 0.3 * image[:, :-1]
        for column, row, peak in zip(x.astype(int), y.astype(int), flux.astype(np.float32), strict=True):
            image[row - 12 : row + 13, column - 12 : column + 13] += peak * profile
        image *= sigma
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        header = [{"name": card.keyword, "value": card.value} for card in wcs.to_header().cards]
        with fitsio.FITS(str(partial), "rw") as file:
            file.write_image(
                image,
                extname="SCI",
                header=header,
                compress="RICE",
                qmethod="SUBTRACTIVE_DITHER_2",
                dither_seed="checksum",
                **compression,
            )
            file[-1].write_checksum()
        partial.rename(path)
    return targets.sort_values(["y", "x"], ignore_index=True)


def _unpack(compressed: Path, path: Path) -> None:
    """The image of one file, not compressed, in another, unless that is there."""
    from astropy.io import fits

    if path.exists():
        return
    partial = path.with_suffix(".partial")
    with fits.open(compressed) as file:
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(file["SCI"].data, file["SCI"].header, name="SCI")]).writeto(
            partial, overwrite=True
        )
    partial.rename(path)
