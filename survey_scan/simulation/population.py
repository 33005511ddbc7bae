"""Lens galaxies and sources as the sky has them: velocity dispersion, two redshifts, Einstein radius.

The weight of a lens is the product of

* the velocity dispersion function of early types, Choi, Park & Vogeley 2007 (ApJ 658, 884; their phi* = 8e-3 h^3 Mpc^-3,
  sigma* = 161 km/s, alpha = 2.32, beta = 2.67), constant in comoving volume, as in Collett 2015 (ApJ 811, 20);
* the comoving volume of the lens' redshift (flat universe, Omega_m = 0.3, H0 = 70);
* n(z) of the sources ~ z^2 exp(-(z/z0)^1.5) (Smail, Ellis & Fitchett 1994), its median configured;
* the cross-section theta_E^2, with theta_E = 4 pi (sigma/c)^2 D_ls/D_s of a singular isothermal sphere.

It stands on a grid from which a lens is drawn by one random number, and moved within its cell.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from survey_scan.errors import ConfigError

Floats = NDArray[np.float64]

SIGMA_STAR, ALPHA, BETA = 161.0, 2.32, 2.67
"""Choi, Park & Vogeley 2007, table 2; phi* only scales all weights."""
LIGHT_SPEED = 299_792.458
"""km/s."""
HUBBLE, OMEGA_M = 70.0, 0.3
ARCSEC = np.pi / 180 / 3600

_SIGMA = np.linspace(100.0, 600.0, 101)
_Z_LENS = np.linspace(0.05, 1.2, 47)
_Z_SOURCE = np.linspace(0.2, 4.0, 77)

#: A lens of a given Einstein radius is one of the cells within this of it, its velocity dispersion adjusted.
_NEAR = 0.05

#: Mean and scatter of magnitude, log radius / kpc and log velocity dispersion, and their correlations: Bernardi et al. 2003.
_M, _R, _V = (-21.15, 0.841), (0.45, 0.263), (2.20, 0.111)
_RHO_MR, _RHO_MV, _RHO_RV = -0.882, -0.78, 0.543


@dataclass(frozen=True, slots=True)
class Draw:
    """One lens: Einstein radius in arcsec, velocity dispersion in km/s, two redshifts."""

    theta_e: float
    sigma: float
    z_lens: float
    z_source: float


@lru_cache(maxsize=1)
def _comoving() -> tuple[Floats, Floats]:
    z = np.linspace(0.0, 6.0, 6001)
    rate = 1 / np.sqrt(OMEGA_M * (1 + z) ** 3 + 1 - OMEGA_M)
    distance = np.concatenate([[0.0], np.cumsum(0.5 * (rate[1:] + rate[:-1]) * np.diff(z))])
    return z, distance * LIGHT_SPEED / HUBBLE


def comoving(redshift: float | Floats) -> Floats:
    """Comoving distance in Mpc."""
    return np.asarray(np.interp(redshift, *_comoving()))


def einstein_radius(sigma: float | Floats, z_lens: float | Floats, z_source: float | Floats) -> Floats:
    """Einstein radius in arcsec of a singular isothermal sphere; negative for a source before the lens."""
    efficiency = 1 - comoving(z_lens) / comoving(z_source)
    return np.asarray(4 * np.pi * (np.asarray(sigma) / LIGHT_SPEED) ** 2 * efficiency / ARCSEC)


def distance_modulus(redshift: float) -> float:
    """Magnitudes from 10 pc to the luminosity distance."""
    return float(5 * np.log10(comoving(redshift) * (1 + redshift) * 1e5))


def early_type(rng: np.random.Generator, sigma: float, redshift: float) -> tuple[float, float]:
    """Absolute rest-frame r magnitude and half-light radius in kpc of an early type of a velocity dispersion.

    Both are drawn together from the Gaussian of magnitude, size and velocity dispersion of Bernardi et al. 2003
    (AJ 125, 1849, table 1, r*; h = 0.7), brighter by their 0.85 mag per unit of redshift.
    """
    beyond = (np.log10(sigma) - _V[0]) / _V[1]
    first, second = rng.normal(0.0, 1.0, 2)
    magnitude = _M[0] + _M[1] * (_RHO_MV * beyond + np.sqrt(1 - _RHO_MV**2) * first)
    # of what is left of the size once the velocity dispersion is known, the magnitude tells this much
    told = (_RHO_MR - _RHO_RV * _RHO_MV) / np.sqrt((1 - _RHO_RV**2) * (1 - _RHO_MV**2))
    rest = told * first + np.sqrt(1 - told**2) * second
    radius = _R[0] + _R[1] * (_RHO_RV * beyond + np.sqrt(1 - _RHO_RV**2) * rest)
    return float(magnitude - 0.85 * redshift), float(10**radius)


class Population:
    """The weighted grid, of one median source redshift and range of Einstein radii.

    Parameters
    ----------
    source_redshift : float
        Median of n(z).
    theta_e : tuple of float
        Smallest and largest Einstein radius in arcsec.

    Raises
    ------
    ConfigError
        If no lens of the grid has such an Einstein radius.
    """

    def __init__(self, source_redshift: float, theta_e: tuple[float, float]):
        sigma, z_lens, z_source = np.meshgrid(_SIGMA, _Z_LENS, _Z_SOURCE, indexing="ij")
        radius = einstein_radius(sigma, z_lens, z_source)
        known = np.flatnonzero(radius > 0.1)
        known = known[np.argsort(radius.ravel()[known], kind="stable")]
        self._sigma, self._z_lens, self._z_source, self.radius = (
            a.ravel()[known] for a in (sigma, z_lens, z_source, radius)
        )
        x = self._sigma / SIGMA_STAR
        volume = comoving(self._z_lens) ** 2 / np.sqrt(OMEGA_M * (1 + self._z_lens) ** 3 + 1 - OMEGA_M)
        z0 = source_redshift / 1.412
        sources = self._z_source**2 * np.exp(-((self._z_source / z0) ** 1.5))
        weights = x ** (ALPHA - 1) * np.exp(-(x**BETA)) * volume * sources * self.radius**2
        self._sum = np.concatenate([[0.0], np.cumsum(weights)])
        self.theta_e = theta_e
        low, high = theta_e[0] * (1 - _NEAR), theta_e[1] * (1 + _NEAR)
        if self.radius[-1] < high:
            raise ConfigError(
                f"prior.theta_E reaches {theta_e[1]} arcsec, but a single galaxy's Einstein radius ends at "
                f"{self.radius[-1] * (1 - _NEAR):.1f}. Give a smaller range."
            )
        self._range = np.searchsorted(self.radius, [low, high])

    def draw(self, rng: np.random.Generator) -> Draw:
        """A lens of the population with an Einstein radius in the range."""
        while True:
            cell = self._cell(rng, *self._range)
            sigma = self._sigma[cell] + rng.uniform(-0.5, 0.5) * (_SIGMA[1] - _SIGMA[0])
            z_lens, z_source = self._moved(rng, cell)
            theta_e = float(einstein_radius(sigma, z_lens, z_source))
            if self.theta_e[0] <= theta_e <= self.theta_e[1]:
                return Draw(theta_e, float(sigma), z_lens, z_source)

    def draw_at(self, rng: np.random.Generator, theta_e: float) -> Draw:
        """A lens of the population that has this Einstein radius."""
        low, high = np.searchsorted(self.radius, [theta_e * (1 - _NEAR), theta_e * (1 + _NEAR)])
        while True:
            z_lens, z_source = self._moved(rng, self._cell(rng, low, high))
            unit = float(einstein_radius(1.0, z_lens, z_source))
            if unit > 0:
                return Draw(theta_e, float(np.sqrt(theta_e / unit)), z_lens, z_source)

    def _cell(self, rng: np.random.Generator, low: int, high: int) -> int:
        at = rng.uniform(self._sum[low], self._sum[high])
        return int(np.clip(np.searchsorted(self._sum, at, side="right") - 1, low, high - 1))

    def _moved(self, rng: np.random.Generator, cell: int) -> tuple[float, float]:
        lens, source = rng.uniform(-0.5, 0.5, 2)
        return (
            float(self._z_lens[cell] + lens * (_Z_LENS[1] - _Z_LENS[0])),
            float(self._z_source[cell] + source * (_Z_SOURCE[1] - _Z_SOURCE[0])),
        )
