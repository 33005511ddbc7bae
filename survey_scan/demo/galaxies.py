"""The populations of the embedded sky: ellipticals, spirals, mergers, red galaxies with companions, stars.

Numbers here are rough fits by eye to what a DES-like survey shows, good enough to make a lens search hard
in the usual ways; they are no measurement of the galaxy population.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from survey_scan.demo.photometry import PIXEL_SCALE, Flux, flux_of
from survey_scan.demo.profiles import Component, Float

Rng = np.random.Generator
BRIGHTEST, FAINTEST = 16.3, 22.8
COUNT_SLOPE = 0.32
"""d log10 N / d mag of the i-band counts drawn."""
FRACTIONS = {
    "elliptical": 0.26,
    "spiral": 0.38,
    "ring": 0.02,
    "irregular": 0.12,
    "merger": 0.10,
    "companions": 0.12,
}
"""Share of each kind of galaxy."""


@dataclass(frozen=True, slots=True)
class Arcs:
    """Lensed images of a source: a stamp of unit flux, not yet blurred, and its counts a band."""

    x0: int
    y0: int
    image: Float
    flux: Flux


@dataclass(frozen=True, slots=True)
class SkyObject:
    """One object of the catalogue: what is painted, where, and what is known about it.

    A star has a flux and no components. ``truth`` holds the further columns of truth.csv.
    """

    kind: str
    x: float
    y: float
    components: tuple[Component, ...] = ()
    star_flux: Flux | None = None
    arcs: Arcs | None = None
    truth: dict[str, float] = field(default_factory=dict)

    @property
    def flux(self) -> Flux:
        """Total counts in g, r, i."""
        parts = [c.flux for c in self.components]
        parts += [self.arcs.flux] if self.arcs else []
        parts += [self.star_flux] if self.star_flux else []
        g, r, i = np.sum(parts, axis=0)
        return float(g), float(r), float(i)


def magnitude(rng: Rng, brightest: float = BRIGHTEST, faintest: float = FAINTEST) -> float:
    """Draw an i magnitude from counts that rise as 10^(COUNT_SLOPE mag)."""
    low, high = 10.0 ** (COUNT_SLOPE * brightest), 10.0 ** (COUNT_SLOPE * faintest)
    return float(np.log10(rng.uniform(low, high)) / COUNT_SLOPE)


def red_colours(rng: Rng, redshift: float) -> tuple[float, float]:
    """Colours g-r, r-i of an old galaxy: the 4000 Å break leaves g near z = 0.4 and r near 0.75."""
    g_r = np.interp(redshift, [0.05, 0.2, 0.4, 0.6, 0.9], [0.75, 1.15, 1.65, 1.75, 1.80])
    r_i = np.interp(redshift, [0.05, 0.2, 0.4, 0.6, 0.75, 0.9], [0.35, 0.42, 0.58, 0.92, 1.15, 1.2])
    return float(g_r + rng.normal(0.0, 0.05)), float(r_i + rng.normal(0.0, 0.03))


def blue_colours(rng: Rng, g_r_range: tuple[float, float] = (0.15, 0.85)) -> tuple[float, float]:
    """Colours g-r, r-i of a star-forming disc, the first drawn flat."""
    g_r = rng.uniform(*g_r_range)
    return float(g_r), float(0.1 + 0.35 * g_r + rng.normal(0.0, 0.06))


def radius(rng: Rng, mag_i: float, scale: float = 1.0) -> float:
    """Half-light radius in pixels: 0.65 arcsec at i = 20, larger for brighter galaxies, 0.13 dex of scatter."""
    arcsec = scale * 0.65 * 10.0 ** (-0.11 * (mag_i - 20.0) + rng.normal(0.0, 0.13))
    return float(np.clip(arcsec, 0.15, 8.0) / PIXEL_SCALE)


def red_galaxy(rng: Rng, x: float, y: float, mag_i: float) -> Component:
    """An elliptical, redder when fainter because it is farther away."""
    redshift = float(np.clip(0.15 + 0.13 * (mag_i - 17.0) + rng.normal(0.0, 0.08), 0.05, 0.9))
    flux = flux_of(mag_i, *red_colours(rng, redshift))
    return Component(x, y, flux, radius(rng, mag_i), 4.0, rng.uniform(0.5, 1.0), rng.uniform(0.0, np.pi))


def disc(rng: Rng, x: float, y: float, mag_i: float, scale: float = 1.0) -> Component:
    """A star-forming exponential disc seen at a random inclination."""
    flux = flux_of(mag_i, *blue_colours(rng))
    axis_ratio = max(0.18, rng.uniform(0.0, 1.0))
    return Component(x, y, flux, radius(rng, mag_i, scale), 1.0, axis_ratio, rng.uniform(0.0, np.pi))


def elliptical(rng: Rng, x: float, y: float, mag_i: float) -> tuple[Component, ...]:
    """One red component."""
    return (red_galaxy(rng, x, y, mag_i),)


def spiral(rng: Rng, x: float, y: float, mag_i: float) -> tuple[Component, ...]:
    """A blue disc, with arms where it is large enough to show them, about a red bulge."""
    share = rng.beta(1.5, 4.0)
    whole = disc(rng, x, y, mag_i - 2.5 * np.log10(1.0 - share), 1.3)
    arms = rng.uniform(0.2, 0.95) if rng.random() < 0.7 and whole.radius > 3.0 else 0.0
    whole = replace(whole, arms=arms, phase=rng.uniform(-np.pi, np.pi))
    bulge = red_galaxy(rng, x, y, mag_i - 2.5 * np.log10(max(share, 0.02)))
    bulge = replace(bulge, radius=0.25 * whole.radius, angle=whole.angle, axis_ratio=max(0.6, whole.axis_ratio))
    return whole, bulge


def ring(rng: Rng, x: float, y: float, mag_i: float) -> tuple[Component, ...]:
    """A ring galaxy: a blue circle, seen at an angle, about a red centre."""
    centre = red_galaxy(rng, x, y, mag_i + 0.3)
    share = mag_i + rng.uniform(1.0, 2.2)
    size = rng.uniform(0.9, 2.2) / PIXEL_SCALE
    rim = replace(disc(rng, x, y, share), radius=size / 1.5, ring=1.5, axis_ratio=rng.uniform(0.45, 0.95))
    return centre, rim


def irregular(rng: Rng, x: float, y: float, mag_i: float) -> tuple[Component, ...]:
    """A blue galaxy with one or two off-centre clumps."""
    body = disc(rng, x, y, mag_i + 0.3)
    clumps = [
        disc(rng, *near(rng, x, y, 0.2, 0.9), mag_i + rng.uniform(1.5, 2.8), 0.5) for _ in range(rng.integers(1, 3))
    ]
    return body, *clumps


def merger(rng: Rng, x: float, y: float, mag_i: float) -> tuple[Component, ...]:
    """Two or three galaxies, red or blue, that overlap."""
    parts = [spiral(rng, x, y, mag_i + 0.4) if rng.random() < 0.5 else elliptical(rng, x, y, mag_i + 0.4)]
    for _ in range(rng.integers(1, 3)):
        where = near(rng, x, y, 0.7, 2.2)
        faint = mag_i + rng.uniform(0.6, 2.2)
        parts.append(elliptical(rng, *where, faint) if rng.random() < 0.4 else (disc(rng, *where, faint),))
    return tuple(c for part in parts for c in part)


def companions(rng: Rng, x: float, y: float, mag_i: float) -> tuple[Component, ...]:
    """A red galaxy with one to three small blue ones beside it; some lie along the tangent, as an arc would."""
    parts = [red_galaxy(rng, x, y, mag_i)]
    for _ in range(rng.choice([1, 2, 3], p=[0.6, 0.28, 0.12])):
        cx, cy = near(rng, x, y, 1.0, 3.2)
        blue = disc(rng, cx, cy, float(np.clip(mag_i + rng.uniform(1.5, 4.0), 20.0, 24.0)), 0.8)
        if rng.random() < 0.4:
            blue = replace(blue, angle=np.arctan2(cy - y, cx - x) + np.pi / 2, axis_ratio=rng.uniform(0.25, 0.6))
        parts.append(blue)
    return tuple(parts)


def near(rng: Rng, x: float, y: float, closest: float, farthest: float) -> tuple[float, float]:
    """A point between two distances, in arcsec, from (x, y)."""
    distance, angle = rng.uniform(closest, farthest) / PIXEL_SCALE, rng.uniform(0.0, 2.0 * np.pi)
    return x + distance * np.cos(angle), y + distance * np.sin(angle)


GALAXIES: dict[str, Callable[[Rng, float, float, float], tuple[Component, ...]]] = {
    "elliptical": elliptical,
    "spiral": spiral,
    "ring": ring,
    "irregular": irregular,
    "merger": merger,
    "companions": companions,
}


def galaxy(rng: Rng, kind: str, x: float, y: float) -> SkyObject:
    """Draw one galaxy of a kind of :data:`GALAXIES` at (x, y)."""
    return SkyObject(kind, x, y, GALAXIES[kind](rng, x, y, magnitude(rng)))


def star(rng: Rng, x: float, y: float) -> SkyObject:
    """Draw a star; the counts of stars rise more slowly than those of galaxies."""
    g_r = rng.uniform(0.3, 1.5)
    r_i = 0.4 * g_r if g_r < 1.2 else rng.uniform(0.5, 1.5)
    mag_i = 15.5 + 7.0 * np.sqrt(rng.random())
    return SkyObject("star", x, y, star_flux=flux_of(mag_i, g_r, r_i))
