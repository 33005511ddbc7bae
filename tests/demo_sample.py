"""Cutouts of a sky of the demo's kind that never touches the disk, to see how well its network does."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from survey_scan.demo.catalogue import in_parent_sample, measure, truth_table
from survey_scan.demo.network import CUTOUT_SIZE
from survey_scan.demo.photometry import BANDS
from survey_scan.demo.profiles import Float
from survey_scan.demo.sky import draw_objects, draw_seeing, observe, paint_sky


@dataclass(frozen=True, slots=True)
class Sample:
    """Cutouts float32 (n, 45, 45, 3) in counts, and the row of truth (with x, y) that each one shows."""

    cutouts: Float
    truth: pd.DataFrame

    @property
    def is_lens(self) -> np.ndarray:
        """Labels, bool (n,)."""
        return (self.truth["kind"] == "lens").to_numpy()


def draw_sample(seed: int, n_galaxies: int, n_lenses: int, n_stars: int, tile_size: int, overlap: int) -> Sample:
    """Render a sky as :func:`survey_scan.demo.survey.make_survey` does and cut out its parent sample.

    Every tile is whole. An object is cut from each tile that covers its cutout entirely, so some in the
    overlaps appear twice, with other noise and seeing.
    """
    side = 2 * tile_size - overlap
    step = tile_size - overlap
    rng = np.random.default_rng([seed, 0])
    objects = draw_objects(rng, side, n_galaxies, n_lenses, n_stars)
    canvas = paint_sky(objects, side)
    seeing = [draw_seeing(rng) for _ in range(4)]
    truth = truth_table(objects, side)
    truth["x"], truth["y"] = [item.x for item in objects], [item.y for item in objects]
    chosen = truth[in_parent_sample(measure(rng, objects, truth))]
    centres = chosen[["x", "y"]].to_numpy() + rng.normal(0.0, 0.1, (len(chosen), 2))

    cutouts, rows = [], []
    for t, origin in enumerate((column * step, row * step) for row in (0, 1) for column in (0, 1)):
        noise = [np.random.default_rng([seed, 1, t, b]) for b in range(len(BANDS))]
        bands = [observe(noise[b], canvas, objects, origin, tile_size, b, seeing[t][b])[0] for b in range(len(BANDS))]
        image = np.stack(bands, axis=-1)
        # the integer origin of astropy's Cutout2D
        corners = np.ceil(centres - origin - CUTOUT_SIZE / 2).astype(int)
        inside = np.all((corners >= 0) & (corners + CUTOUT_SIZE <= tile_size), axis=1)
        for x0, y0 in corners[inside]:
            cutouts.append(image[y0 : y0 + CUTOUT_SIZE, x0 : x0 + CUTOUT_SIZE])
        rows.append(chosen[inside])
    return Sample(np.stack(cutouts), pd.concat(rows, ignore_index=True))
