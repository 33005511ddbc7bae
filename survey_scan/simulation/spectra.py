"""Colours of galaxies in any band, from two rough spectra: an old galaxy's at a redshift, a star-forming one's as seen.

The old spectrum is a broken line in magnitudes of f_nu over log wavelength. Between 2,000 and 8,000 Å it was fitted to
g-r of 0.75, 1.15, 1.65, 1.75, 1.78, 1.80 and r-i of 0.35, 0.42, 0.58, 0.92, 1.15, 1.20 at redshifts 0.05, 0.2, 0.4, 0.6,
0.75, 0.9, which it gives to 0.02: the colours of the demo's old galaxies. Redward it is a guess. Good enough for
simulated images; no measurement.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_OLD_WAVELENGTHS = np.log(
    [2000, 2500, 3000, 3400, 3800, 4100, 4600, 5400, 6200, 7000, 8000, 10000, 13000, 17000, 22000]
)
_OLD_MAGNITUDES = np.array(
    [5.84, 4.42, 3.26, 2.49, 1.83, 1.35, 0.76, 0.30, 0.0, -0.22, -0.43, -0.65, -0.85, -1.0, -0.85]
)

#: Rest-frame wavelength in Å at which the old spectrum is 0: SDSS r.
R_REST = 6200.0

#: Wavelengths in Å of the colour g-r, and of i, which magnitudes of star-forming galaxies are counted from.
_G, _R, I_BAND = 4800.0, 6400.0, 7800.0


def old(wavelengths: list[float], redshift: float) -> Floats:
    """Magnitudes of an old galaxy in some bands, counted from its rest-frame r, distance modulus left out.

    Parameters
    ----------
    wavelengths : list of float
        Of the bands, in Å.
    redshift : float

    Returns
    -------
    ndarray, shape (bands,)
        f_nu is seen at ``wavelength / (1 + z)`` and brighter by ``1 + z``.
    """
    seen = np.log(np.asarray(wavelengths) / (1 + redshift))
    return np.asarray(np.interp(seen, _OLD_WAVELENGTHS, _OLD_MAGNITUDES) - 2.5 * np.log10(1 + redshift))


def blue(wavelengths: list[float], g_r: float) -> Floats:
    """Magnitudes of a star-forming galaxy in some bands, counted from its i: r-i is 0.1 + 0.35 (g-r).

    Beyond g and i the line goes on, with a step of 0.3 + 0.7 (g-r) from u to g.
    """
    r_i = 0.1 + 0.35 * g_r
    nodes = np.log([3650.0, _G, _R, I_BAND, 9200.0, 22000.0])
    magnitudes = [r_i + g_r + 0.3 + 0.7 * g_r, r_i + g_r, r_i, 0.0, -0.5 * r_i, -1.5 * r_i]
    return np.asarray(np.interp(np.log(wavelengths), nodes, magnitudes))
