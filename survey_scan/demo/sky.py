"""One noiseless sky: a list of objects drawn from a seed, and the canvas they are painted on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from survey_scan.demo.galaxies import FRACTIONS, Rng, SkyObject, galaxy, star
from survey_scan.demo.lenses import lens
from survey_scan.demo.photometry import BANDS, PIXEL_SCALE, SKY_NOISE
from survey_scan.demo.pixels import MARGIN, SATURATION, add_noise, blur, moffat
from survey_scan.demo.profiles import Float, extent, paint, stamp

LENS_SPACING = 60
"""Least distance in pixels between two lenses."""
LENS_CLEARING = 15
"""Pixels round a lens in which no other object is drawn, so that it stays one object of the catalogue."""
SEEING_RANGE = (0.86, 1.02)
"""FWHM in r of a tile, in arcsec; DES DR2's median is 0.95 (Abbott et al. 2021)."""
SEEING_BY_BAND = (1.08, 1.0, 0.94)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the sky frame, in pixels: left <= x < right, bottom <= y < top."""

    left: float
    bottom: float
    right: float
    top: float

    def holds(self, x: float, y: float) -> bool:
        """Tell whether the point lies inside."""
        return self.left <= x < self.right and self.bottom <= y < self.top

    def grown(self, by: float) -> "Box":
        """Return the box with every side moved outwards by so many pixels."""
        return Box(self.left - by, self.bottom - by, self.right + by, self.top + by)


def draw_objects(
    rng: Rng, side: int, n_galaxies: int, n_lenses: int, n_stars: int, no_lens: Sequence[Box] = (), edge: int = 60
) -> list[SkyObject]:
    """Draw the objects of a square sky.

    Parameters
    ----------
    rng : numpy Generator
    side : int
        Width of the sky in pixels.
    n_galaxies, n_lenses, n_stars : int
    no_lens : sequence of Box
        Where no lens may stand.
    edge : int
        Distance in pixels that a lens keeps from the border of the sky.

    Returns
    -------
    list of SkyObject
        In an order that says nothing about what they are.
    """
    places: list[tuple[float, float]] = []
    while len(places) < n_lenses:
        x, y = rng.uniform(edge, side - edge, 2)
        free = all((x - a) ** 2 + (y - b) ** 2 > LENS_SPACING**2 for a, b in places)
        if free and not any(box.holds(x, y) for box in no_lens):
            places.append((float(x), float(y)))
    objects = [lens(rng, x, y) for x, y in places]

    taken = np.array(places or [(-1e9, -1e9)])
    kinds = rng.choice(list(FRACTIONS), n_galaxies, p=list(FRACTIONS.values()))
    for kind in [*kinds, *["star"] * n_stars]:
        while True:
            x, y = rng.uniform(-0.5, side - 0.5, 2)
            if np.min(np.sum((taken - (x, y)) ** 2, axis=1)) > LENS_CLEARING**2:
                break
        objects.append(star(rng, x, y) if kind == "star" else galaxy(rng, str(kind), x, y))
    return [objects[k] for k in rng.permutation(len(objects))]


def paint_sky(objects: Sequence[SkyObject], side: int) -> Float:
    """Paint everything but stars on a noiseless, unblurred canvas.

    Returns
    -------
    float32 array (3, side + 2 MARGIN, side + 2 MARGIN)
        Counts in g, r, i; the sky's pixel (0, 0) is the canvas's (MARGIN, MARGIN).
    """
    canvas = np.zeros((len(BANDS), side + 2 * MARGIN, side + 2 * MARGIN), np.float32)
    for item in objects:
        for component in item.components:
            x0, y0, image = stamp(component, extent(component, SKY_NOISE))
            paint(canvas, x0 + MARGIN, y0 + MARGIN, image, component.flux)
        if item.arcs:
            paint(canvas, item.arcs.x0 + MARGIN, item.arcs.y0 + MARGIN, item.arcs.image, item.arcs.flux)
    return canvas


def draw_seeing(rng: Rng) -> tuple[float, float, float]:
    """Draw one tile's FWHM in g, r, i, in arcsec."""
    g, r, i = rng.uniform(*SEEING_RANGE) * np.array(SEEING_BY_BAND) * rng.uniform(0.97, 1.03, len(BANDS))
    return float(g), float(r), float(i)


def observe(
    rng: Rng, canvas: Float, objects: Sequence[SkyObject], origin: tuple[int, int], size: int, band: int, fwhm: float
) -> tuple[Float, np.ndarray]:
    """Expose one tile in one band.

    Parameters
    ----------
    rng : numpy Generator
        Of this tile and band alone: two tiles see the same objects with different noise.
    canvas : float32 array
        From :func:`paint_sky`.
    objects : sequence of SkyObject
        The same sky's; their stars are added here, as the point-spread function itself.
    origin : tuple of int
        The tile's pixel (0, 0) in the sky frame.
    size : int
        Width of the tile in pixels.
    band : int
        Index into :data:`BANDS`.
    fwhm : float
        Seeing in arcsec.

    Returns
    -------
    image : float32 array (size, size)
        Counts at zero point 30.
    saturated : bool array (size, size)
    """
    ox, oy = origin
    piece = canvas[band, oy : oy + size + 2 * MARGIN, ox : ox + size + 2 * MARGIN]
    image = blur(piece, fwhm / PIXEL_SCALE)[None]
    for item in objects:
        if item.star_flux:
            x, y = item.x - ox, item.y - oy
            cx, cy = round(x), round(y)
            if -MARGIN <= cx < size + MARGIN and -MARGIN <= cy < size + MARGIN:
                profile = moffat(fwhm / PIXEL_SCALE, MARGIN, x - cx, y - cy)
                paint(image, cx - MARGIN, cy - MARGIN, profile, (item.star_flux[band],))
    exposed = add_noise(rng, image[0], SKY_NOISE[band])
    return exposed, exposed >= SATURATION
