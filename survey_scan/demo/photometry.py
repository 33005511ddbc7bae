"""Bands, zero point, depth and seeing of the embedded survey."""

import numpy as np

BANDS = ("g", "r", "i")
ZERO_POINT = 30.0
"""DES coadds hold counts at this zero point (MAGZERO)."""
PIXEL_SCALE = 0.263
"""Arcseconds per pixel of the DES coadds."""

DEPTH = (24.7, 24.4, 23.8)
"""Median magnitudes at S/N = 10 in a 1.95 arcsec aperture (Abbott et al. 2021, ApJS 255, 20: DES DR2)."""
SEEING = (1.11, 0.95, 0.88)
"""Median delivered FWHM in arcsec in g, r, i (same source)."""
GAIN = 10.0
"""Photo-electrons per count of a coadd: about eight 90 s exposures. An estimate, not a published figure."""
MOFFAT_BETA = 3.0
"""Wing exponent of the point-spread function: a usual value for ground-based seeing."""

Flux = tuple[float, float, float]


def counts(magnitude: float) -> float:
    """Counts at zero point 30 of an AB magnitude."""
    return float(10.0 ** (0.4 * (ZERO_POINT - magnitude)))


def flux_of(mag_i: float, g_r: float, r_i: float) -> Flux:
    """Counts in g, r, i of an object with an i magnitude and two colours."""
    return counts(mag_i + r_i + g_r), counts(mag_i + r_i), counts(mag_i)


def _pixel_noise(depth: float) -> float:
    aperture_pixels = np.pi * (0.5 * 1.95 / PIXEL_SCALE) ** 2
    return float(counts(depth) / 10.0 / np.sqrt(aperture_pixels))


SKY_NOISE: Flux = (_pixel_noise(DEPTH[0]), _pixel_noise(DEPTH[1]), _pixel_noise(DEPTH[2]))
"""Standard deviation of the sky in one pixel, in counts, in g, r, i."""
