"""Pixel positions of targets on their tiles, and facts about those tiles, from one header a tile."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan.config import Images
from survey_scan.errors import TileError
from survey_scan.imaging import agreement, remote
from survey_scan.imaging.tile_index import CORNERS
from survey_scan.imaging.tiles import TileInfo, read_tile_info, tile_file, world_to_pixel

Floats = NDArray[np.float64]

#: Rows and columns of a tile, and of a compression tile in it.
_SHAPES = ("height", "width", "block_height", "block_width")


def pixels(frame: pd.DataFrame, images: Images, psf_bands: Sequence[str] = ()) -> tuple[Floats, Floats, pd.DataFrame]:
    """Pixel positions of targets, and what is known of each of their tiles.

    Parameters
    ----------
    frame : DataFrame
        Columns ra, dec (deg), tile (empty if there is none).
    images : Images
        The survey's images.
    psf_bands : sequence of str
        Bands whose headers say how wide the point spread function is.

    Returns
    -------
    x, y : ndarray of float64, shape (n,)
        0-based, on the tile's first band that can be used; NaN without a tile or without such a band.
    tiles : DataFrame
        One row a tile: tile, band, codec, pixel_scale (arcsec), height, width, block_height, block_width (of a
        compression tile), problem (empty, or why no header could be read), size_<band> (bytes, -1: no such file),
        psf_<band> (FWHM, arcsec; NaN where it is not known) of ``psf_bands``.
    """
    x, y = np.full(len(frame), np.nan), np.full(len(frame), np.nan)
    rows = {str(tile): index for tile, index in frame.groupby("tile").indices.items() if tile != ""}
    facts = []
    for tile, index in rows.items():
        info, problem, sizes = _tile_info(images, tile)
        if info is not None:
            ra, dec = frame["ra"].to_numpy()[index], frame["dec"].to_numpy()[index]
            x[index], y[index] = world_to_pixel(info.cards, ra, dec)
        facts.append({"tile": tile, **_facts(info), "problem": problem, **sizes, **_psf(images, tile, psf_bands)})
    return x, y, pd.DataFrame(facts, columns=None if facts else ["tile", *_facts(None), "problem"])


def _facts(info: TileInfo | None) -> dict[str, Any]:
    if info is None:
        return dict.fromkeys(("band", "codec"), "") | {"pixel_scale": np.nan} | dict.fromkeys(_SHAPES, 0)
    shapes = dict(zip(_SHAPES, (*info.shape, *info.layout.tile), strict=True))
    return {"band": info.band, "codec": info.layout.codec, "pixel_scale": info.pixel_scale, **shapes}


def _tile_info(images: Images, tile: str) -> tuple[TileInfo | None, str, dict[str, int]]:
    """A tile's header, or why there is none, and the sizes (bytes, -1: no such file) of its bands' files."""
    sizes = {f"size_{band}": _size(tile_file(images, tile, band)) for band in images.bands}
    try:
        return read_tile_info(images, tile), "", sizes
    except TileError as error:
        return None, str(error), sizes


def _psf(images: Images, tile: str, bands: Sequence[str]) -> dict[str, float]:
    """Widths of a tile's point spread functions, arcseconds; NaN where there is no header that says it."""
    known = {header.band: header.psf for header in agreement.look(images, [tile], bands)[0] if header.psf is not None}
    return {f"psf_{band}": known.get(band, np.nan) for band in bands}


def _size(file: remote.File) -> int:
    found = remote.size(file)
    return -1 if found is None else found


def count(tiles: pd.DataFrame, names: "pd.Series[str]") -> pd.DataFrame:
    """The tiles that occur among the targets' ``names``, with their number of targets as column n_targets."""
    counts = names.value_counts()
    tiles = tiles[tiles["tile"].isin(counts.index)].copy()
    tiles.insert(1, "n_targets", counts.reindex(tiles["tile"]).to_numpy(np.int64))
    return tiles


def merge(parts: list[pd.DataFrame], corners: pd.DataFrame | None) -> pd.DataFrame:
    """Tiles of several groups of targets, one row a tile: targets counted together, what the index says added."""
    together = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    counts = together.groupby("tile")["n_targets"].sum()
    tiles = together.drop_duplicates("tile").sort_values("tile", ignore_index=True)
    tiles["n_targets"] = counts.reindex(tiles["tile"]).to_numpy(np.int64)
    if corners is not None:
        widths = [name for name in corners.filter(regex="^psf_").columns.astype(str) if name not in tiles]
        tiles = tiles.merge(corners[["tile", *CORNERS, *widths]].drop_duplicates("tile"), on="tile", how="left")
    return tiles


def layouts(tiles: pd.DataFrame) -> list[dict[str, Any]]:
    """How the tiles lie in their files, with the largest shape of each kind: what the memory of reading depends on."""
    kinds = tiles.groupby(["codec", "block_height", "block_width"])[["height", "width"]].max().reset_index()
    return [
        {"codec": codec, "shape": [height, width], "tile": [block_height, block_width]}
        for codec, block_height, block_width, height, width in kinds.itertuples(index=False, name=None)
    ]
