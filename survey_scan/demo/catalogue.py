"""The embedded survey's catalogue: what is there, what is measured of it, and the cut that keeps the lenses."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from survey_scan.demo import files
from survey_scan.demo.galaxies import Rng, SkyObject
from survey_scan.demo.photometry import BANDS, SKY_NOISE, ZERO_POINT

FIRST_ID = 1_140_000_001
MAG_I = (16.0, 21.5)
"""Range of MAG_AUTO_I of the parent sample."""
G_R = (0.4, 2.2)
"""Range of MAG_AUTO_G - MAG_AUTO_R of the parent sample."""
GALAXY_CLASS = 2
"""Least EXTENDED_CLASS_COADD of the parent sample."""


def truth_table(objects: Sequence[SkyObject], side: int) -> pd.DataFrame:
    """What was drawn: object_id, kind, ra, dec, true magnitudes and, for lenses, what bends and what is bent."""
    x, y = np.array([(item.x, item.y) for item in objects], np.float64).T
    ra, dec = files.sky_coordinates(side, x, y)
    table = pd.DataFrame(
        {
            "object_id": FIRST_ID + np.arange(len(objects), dtype=np.int64),
            "kind": [item.kind for item in objects],
            "ra": ra,
            "dec": dec,
        }
    )
    magnitudes = ZERO_POINT - 2.5 * np.log10(np.array([item.flux for item in objects]))
    for k, band in enumerate(BANDS):
        table[f"mag_{band}"] = magnitudes[:, k]
    lensing = pd.DataFrame([item.truth for item in objects], index=table.index)
    return pd.concat([table, lensing], axis=1)


def measure(rng: Rng, objects: Sequence[SkyObject], known: pd.DataFrame) -> pd.DataFrame:
    """Measure the catalogue: fluxes in an aperture that follows the object's size, positions, star or galaxy.

    Returns
    -------
    DataFrame
        object_id, ra, dec, extended_class (0 star .. 3 galaxy, -9 for a few without one) and per band
        flux_<band> in counts and mag_<band>: 99 where the flux is below twice its error, -9.999e9 in i for
        a few that were not measured. Lenses always have all of them.
    """
    n = len(objects)
    radius = np.array([max((c.radius for c in item.components), default=0.0) for item in objects])
    aperture = np.pi * (4.0 + 2.0 * radius) ** 2
    error = 0.03 / 3600.0
    table = pd.DataFrame({"object_id": known["object_id"]})
    table["ra"] = known["ra"] + rng.normal(0.0, error, n) / np.cos(np.radians(known["dec"]))
    table["dec"] = known["dec"] + rng.normal(0.0, error, n)
    true_flux = np.array([item.flux for item in objects])
    for k, band in enumerate(BANDS):
        sigma = np.sqrt(aperture * SKY_NOISE[k] ** 2 + (0.02 * true_flux[:, k]) ** 2)
        flux = true_flux[:, k] + rng.normal(0.0, 1.0, n) * sigma
        detected = flux > 2.0 * sigma
        table[f"flux_{band}"] = flux
        table[f"mag_{band}"] = files.UNDETECTED
        table.loc[detected, f"mag_{band}"] = ZERO_POINT - 2.5 * np.log10(flux[detected])
    is_star = (known["kind"] == "star").to_numpy()
    confused = rng.random(n) < np.clip(0.05 * (known["mag_i"].to_numpy() - 20.0), 0.0, 0.2)
    small = rng.integers(1, 3, n)
    table["extended_class"] = np.where(confused, small, np.where(is_star, 0, 3)).astype(np.int16)
    is_lens = (known["kind"] == "lens").to_numpy()
    table.loc[is_lens, "extended_class"] = 3
    others = rng.permutation(np.flatnonzero(~is_lens))
    table.loc[others[:8], "mag_i"] = files.UNMEASURED
    table.loc[others[8:16], "extended_class"] = files.CLASS_NULL
    return table


def in_parent_sample(measured: pd.DataFrame) -> np.ndarray:
    """Tell which rows of a table from :func:`measure` pass the demo's colour and magnitude cut."""
    colour = measured["mag_g"] - measured["mag_r"]
    keep = measured["mag_i"].between(*MAG_I) & colour.between(*G_R) & (measured["extended_class"] >= GALAXY_CLASS)
    return keep.to_numpy()
