"""The embedded survey on disk: four tiles, a catalogue, and the truth about every object."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from survey_scan.demo import files
from survey_scan.demo.catalogue import measure, truth_table
from survey_scan.demo.photometry import BANDS, SKY_NOISE
from survey_scan.demo.sky import Box, draw_objects, draw_seeing, observe, paint_sky

DEMO_SEED = 20_240_229
"""Seed of the sky that `survey_scan demo` shows; the network was never trained on it."""
N_GALAXIES, N_LENSES, N_STARS = 8_000, 30, 900
TILE_SIZE, OVERLAP = 2_500, 150
MASK_SIZE = 300
LENS_EDGE = 60
"""Pixels that a lens keeps from the survey's border, the masked region and the tile without a band."""
MASKED_TILE, BANDLESS_TILE = 1, 2
"""Index of the tile with a masked square, and of the one whose i-band file is absent."""
ABSENT_BAND = "i"


@dataclass(frozen=True, slots=True)
class DemoSurvey:
    """Where the embedded survey lies and what is in it.

    Attributes
    ----------
    directory, catalogue, tiles, tile_list, truth : Path
        The survey's directory; catalogue.fits, tiles/, tiles.csv and truth.csv in it.
    bands : tuple of str
    seed : int
    n_objects, n_lenses : int
        Rows of the catalogue, and how many of them are lenses.
    tile_names : tuple of str
    masked_tile, bandless_tile, absent_band : str
        The tile with a masked square; the tile that lacks a band's file, and that band.
    """

    directory: Path
    bands: tuple[str, ...]
    seed: int
    n_objects: int
    n_lenses: int
    tile_names: tuple[str, ...]
    masked_tile: str
    bandless_tile: str
    absent_band: str

    @property
    def catalogue(self) -> Path:
        """The object catalogue, catalogue.fits."""
        return self.directory / "catalogue.fits"

    @property
    def tiles(self) -> Path:
        """The directory tiles/, with <tile>/<tile>_<band>.fits.fz in it."""
        return self.directory / "tiles"

    @property
    def tile_list(self) -> Path:
        """The corners of every tile, tiles.csv."""
        return self.directory / "tiles.csv"

    @property
    def truth(self) -> Path:
        """What every object is, truth.csv."""
        return self.directory / "truth.csv"


def make_survey(
    directory: Path,
    seed: int = DEMO_SEED,
    *,
    n_galaxies: int = N_GALAXIES,
    n_lenses: int = N_LENSES,
    n_stars: int = N_STARS,
    tile_size: int = TILE_SIZE,
    overlap: int = OVERLAP,
    mask_size: int = MASK_SIZE,
) -> DemoSurvey:
    """Render a small DES-like survey with lenses in it.

    Four tiles (2 x 2) in g, r, i share one TAN grid and overlap. One tile has a masked square, one lacks its
    i-band file. No lens stands in either, or at the survey's border. The same seed gives the same pixels.

    Parameters
    ----------
    directory : Path
        Made if it is not there; files in it are replaced.
    seed : int
    n_galaxies, n_lenses, n_stars : int
        Objects in the sky; lenses come on top of the galaxies.
    tile_size, overlap, mask_size : int
        In pixels.

    Returns
    -------
    DemoSurvey
    """
    side = 2 * tile_size - overlap
    step = tile_size - overlap
    origins = [(column * step, row * step) for row in (0, 1) for column in (0, 1)]
    names = [files.tile_name(side, origin, tile_size) for origin in origins]
    tiles = dict(zip(names, origins, strict=True))
    masked, bandless = names[MASKED_TILE], names[BANDLESS_TILE]
    hole = _square(tiles[masked], round(0.4 * tile_size), mask_size)
    no_lens = [hole.grown(LENS_EDGE), _square(tiles[bandless], 0, tile_size).grown(LENS_EDGE)]

    rng = np.random.default_rng([seed, 0])
    objects = draw_objects(rng, side, n_galaxies, n_lenses, n_stars, no_lens, LENS_EDGE)
    canvas = paint_sky(objects, side)
    seeing = [draw_seeing(rng) for _ in tiles]
    for t, (tile, origin) in enumerate(tiles.items()):
        (directory / "tiles" / tile).mkdir(parents=True, exist_ok=True)
        for b, band in enumerate(BANDS):
            path = directory / "tiles" / tile / f"{tile}_{band}.fits.fz"
            path.unlink(missing_ok=True)
            if (tile, band) == (bandless, ABSENT_BAND):
                continue
            noise = np.random.default_rng([seed, 1, t, b])
            image, saturated = observe(noise, canvas, objects, origin, tile_size, b, seeing[t][b])
            mask = np.where(saturated, files.SATURATED, 0).astype(np.int32)
            if tile == masked:
                x, y = round(hole.left) - origin[0], round(hole.bottom) - origin[1]
                mask[y : y + mask_size, x : x + mask_size] |= files.MASKED
                image[(mask & files.MASKED) != 0] = np.nan
            files.write_tile(path, tile, band, image, mask, SKY_NOISE[b], files.grid_header(side, origin))

    known = truth_table(objects, side)
    files.write_catalogue(directory / "catalogue.fits", measure(rng, objects, known))
    files.write_tile_list(directory / "tiles.csv", tiles, side, tile_size)
    known.to_csv(directory / "truth.csv", index=False, float_format="%.8g")
    return DemoSurvey(directory, BANDS, seed, len(objects), n_lenses, tuple(names), masked, bandless, ABSENT_BAND)


def _square(origin: tuple[int, int], offset: int, size: int) -> Box:
    left, bottom = origin[0] + offset - 0.5, origin[1] + offset - 0.5
    return Box(left, bottom, left + size, bottom + size)
