"""One partition of a training set: each object's pixels and its row of the truth."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan.imaging.base import Cutouts
from survey_scan.simulation import galaxies, lenses, order, real, sources
from survey_scan.simulation.conditions import Conditions, frame_of
from survey_scan.simulation.config import LENSES, Simulation
from survey_scan.simulation.constraints import Tally
from survey_scan.simulation.galaxies import GALAXIES, SHARES, Filters
from survey_scan.simulation.lenses import Scene, Studio
from survey_scan.simulation.light import Component, paint
from survey_scan.simulation.population import Population
from survey_scan.store.quantisation import noise as noise_of

Floats = NDArray[np.float64]
Rng = np.random.Generator

#: Raised by hand when the same configuration would give other pixels.
SIMULATION_VERSION = 1

#: Columns of the truth that only lenses have; NaN, 0 images or stamp -1 elsewhere.
_OF_LENSES = (
    "theta_E",
    "sigma_v",
    "z_lens",
    "z_source",
    "magnification",
    "arc_snr",
    "contrast",
    "images",
    "separation",
    "mass_e1",
    "mass_e2",
    "gamma1",
    "gamma2",
    "source_x",
    "source_y",
    "source_radius",
    "source_stamp",
)
_WHOLE: dict[str, Any] = {"images": 0, "source_stamp": -1}


@dataclass(frozen=True)
class Simulated:
    """A partition.

    Attributes
    ----------
    cutouts : Cutouts
        As a scan's: pixels (n, size, size, bands), status 0.
    truth : DataFrame
        One row an object; the README.txt of the set says what its columns are.
    tally : Tally
        Draws of lenses, and rejections a test.
    """

    cutouts: Cutouts
    truth: pd.DataFrame
    tally: Tally


def simulate(config: Simulation, partition: int, chosen: dict[str, pd.DataFrame]) -> Simulated:
    """Simulate the objects of a partition; their order and pixels depend on the seed alone.

    Parameters
    ----------
    config : Simulation
    partition : int
        Which.
    chosen : dict
        Of kinds ``painted`` and ``field``, where there are any: rows of real cutouts, from
        :func:`survey_scan.simulation.real.find`.

    Raises
    ------
    ConfigError
        If the constraints let hardly any lens pass.
    UserError
        If stamps, point-spread functions or real cutouts cannot be read.
    """
    studio, tally = studio_of(config), Tally()
    kinds, numbers = order.of_partition(config, partition)
    streams = [order.stream(config.output.seed, 1 + partition, i) for i in range(len(kinds))]
    stock = _real(config, kinds, numbers, streams, chosen)
    size, bands = config.output.size, config.bands
    image = np.empty((len(kinds), size, size, len(bands)), np.float32)
    rows = []
    for i, (kind, rng) in enumerate(zip(kinds, streams, strict=True)):
        image[i], row = _object(studio, kind, rng, stock.get(i), tally)
        about = {"object_id": partition * config.output.partition + i, "kind": kind, "label": int(kind in LENSES)}
        rows.append({**about, **_WHOLE, "origin": "", **row, "seed": f"{config.output.seed}:{partition}:{i}"})
    bad = np.asarray(np.mean(~np.isfinite(image), axis=(1, 2)), np.float32)
    return Simulated(Cutouts(image, np.zeros(len(kinds), np.uint8), bad), _table(rows, bands), tally)


def studio_of(config: Simulation) -> Studio:
    """What the objects of a configuration share, made once a process."""
    return _studio(config.model_dump_json())


@lru_cache(maxsize=1)
def _studio(text: str) -> Studio:
    config = Simulation.model_validate_json(text)
    counts, prior = config.counts, config.prior
    population = None
    if drawn := counts.lens or counts.painted or counts.deflector:
        population = Population(prior.source_redshift, (prior.theta_E[0], prior.theta_E[1]))
    if drawn and config.sources.stamps is not None:
        sources.load(config.sources.stamps, config.sources.stamp_scale)  # what is wrong with it is said before any draw
    filters = Filters(config.wavelengths, config.survey.zero_point)
    return Studio(config, frame_of(config.survey, config.output.size), filters, population)


@dataclass(frozen=True)
class _Stock:
    """A real cutout and its row of the table."""

    pixels: NDArray[np.float32]
    row: pd.Series


def _real(
    config: Simulation,
    kinds: list[str],
    numbers: NDArray[np.int64],
    streams: list[Rng],
    chosen: dict[str, pd.DataFrame],
) -> dict[int, _Stock]:
    """The real cutouts of a partition: one drawn for each to paint on; of the field each once, in an order drawn."""
    found = {}
    for kind, table in chosen.items():
        mine = [i for i, k in enumerate(kinds) if k == kind]
        if kind == "painted":
            picks = [int(streams[i].integers(len(table))) for i in mine]
        else:
            shuffled = order.stream(config.output.seed, 0, 1).permutation(len(table))
            picks = [int(shuffled[numbers[i]]) for i in mine]
        if mine:
            rows = table.iloc[picks]
            cutouts = real.pixels(config, kind, rows["row"].to_numpy())
            found.update({i: _Stock(cutouts[n], rows.iloc[n]) for n, i in enumerate(mine)})
    return found


def _object(
    studio: Studio, kind: str, rng: Rng, stock: _Stock | None, tally: Tally
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Pixels (size, size, bands) of one object, and what is true of it."""
    survey, frame = studio.config.survey, studio.frame
    conditions = Conditions.draw(rng, survey, frame)
    # The first pixel of a cutout is ceil(x - size/2): its object is within half a pixel of the middle.
    x, y = (float(offset) for offset in rng.uniform(-0.5, 0.5, 2) * frame.scale)
    if stock is not None:
        return _real_object(studio, kind, rng, Scene(x, y, conditions), stock, tally)
    canvas = studio.canvas()
    truth: dict[str, Any] = {}
    if kind in ("lens", "deflector"):
        lens = lenses.draw(rng, studio, Scene(x, y, conditions), tally)
        assert lens.galaxy is not None
        components, canvas = [lens.galaxy], lens.light
        if kind == "lens":
            canvas += lens.flux[:, None, None] * lens.arcs
            truth = lens.truth | _fluxes(studio, lens.flux * lens.truth["magnification"], lens.flux)
        else:  # the galaxies of lenses, which the constraints favour: nothing but the arcs is missing
            truth = {name: lens.truth[name] for name in ("sigma_v", "z_lens")}
    else:
        spec = studio.config.galaxies
        mag_i = galaxies.magnitude(rng, spec.magnitude[0], spec.magnitude[1], spec.slope)
        components = GALAXIES[kind](rng, studio.filters, x, y, mag_i)
        for component in components:
            paint(canvas, frame, component, conditions.noise)
    total = np.sum([c.flux for c in components], axis=0) + _arcs(studio, truth)
    for component in _neighbours(rng, studio):
        paint(canvas, frame, component, conditions.noise)
    image = np.stack([blur(plane) for blur, plane in zip(conditions.blurs, canvas, strict=True)], axis=-1)
    sigma = np.sqrt(conditions.noise**2 + np.maximum(image, 0.0) * conditions.inverse_gain)
    noisy = image + sigma * rng.standard_normal(image.shape)
    return noisy.astype(np.float32), truth | _seen(studio, conditions, studio.filters.magnitude(total))


def _real_object(
    studio: Studio, kind: str, rng: Rng, scene: Scene, stock: _Stock, tally: Tally
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """A real cutout as it is, or with arcs added, whose photon noise is added as well; that of the cutout stays."""
    names = [f"mag_{band}" for band in studio.config.bands]
    magnitudes = np.array([float(stock.row.get(name, np.nan)) for name in names])
    truth: dict[str, Any] = {"origin": stock.row["object_id"]}
    if kind == "field":
        return stock.pixels, truth | dict(zip(names, magnitudes, strict=True))
    band, conditions = studio.config.arc_band, scene.conditions
    noise = noise_of(stock.pixels[None])[0].astype(np.float64)
    conditions = Conditions(conditions.fwhm, conditions.blurs, np.maximum(noise, 1e-30), conditions.inverse_gain)
    plane = stock.pixels[..., band].astype(np.float64)
    light = np.maximum(np.nan_to_num(plane), 0.0)
    variance = np.where(np.isfinite(plane), conditions.variance(band, light), np.inf)
    lens = lenses.draw(rng, studio, Scene(scene.x, scene.y, conditions, light, variance), tally)
    blurred = np.stack([blur(lens.arcs) for blur in conditions.blurs], axis=-1) * lens.flux
    photons = np.sqrt(np.maximum(blurred, 0.0) * conditions.inverse_gain) * rng.standard_normal(blurred.shape)
    truth |= lens.truth | _fluxes(studio, lens.flux * lens.truth["magnification"], lens.flux)
    total = studio.filters.flux(magnitudes) + _arcs(studio, truth)
    image = stock.pixels + (blurred + photons).astype(np.float32)
    return image, truth | _seen(studio, conditions, studio.filters.magnitude(total))


def _neighbours(rng: Rng, studio: Studio) -> list[Component]:
    """Galaxies and stars that stand in the frame by chance."""
    spec, frame = studio.config.neighbours, studio.frame
    half = 0.5 * frame.side * frame.scale
    area, found = (2 * half / 60) ** 2, []
    for _ in range(rng.poisson(spec.galaxies * area)):
        kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        mag_i = galaxies.magnitude(rng, 16.3, spec.faintest, studio.config.galaxies.slope)
        found += GALAXIES[kind](rng, studio.filters, *_anywhere(rng, half), mag_i)
    for _ in range(rng.poisson(spec.stars * area)):
        found.append(galaxies.star(rng, studio.filters, *_anywhere(rng, half), spec.faintest))
    return found


def _anywhere(rng: Rng, half: float) -> tuple[float, float]:
    return float(rng.uniform(-half, half)), float(rng.uniform(-half, half))


def _fluxes(studio: Studio, arcs: Floats, source: Floats) -> dict[str, float]:
    named = zip(studio.config.bands, arcs, source, strict=True)
    return {name: float(v) for b, a, s in named for name, v in ((f"arc_flux_{b}", a), (f"source_flux_{b}", s))}


def _arcs(studio: Studio, truth: dict[str, Any]) -> Floats:
    """Flux of all images of the source, in each band."""
    return np.array([truth.get(f"arc_flux_{band}", 0.0) for band in studio.config.bands])


def _seen(studio: Studio, conditions: Conditions, magnitudes: Floats) -> dict[str, float]:
    bands = studio.config.bands
    found = {f"mag_{band}": float(m) for band, m in zip(bands, magnitudes, strict=True)}
    return found | {f"fwhm_{band}": float(w) for band, w in zip(bands, conditions.fwhm, strict=True)}


def _table(rows: list[dict[str, Any]], bands: list[str]) -> pd.DataFrame:
    """The truth, the same columns of the same types whatever kinds a partition holds."""
    numbers = [*_OF_LENSES, *(f"{name}_{b}" for name in ("arc_flux", "source_flux", "mag", "fwhm") for b in bands)]
    table = pd.DataFrame(rows).reindex(columns=["object_id", "kind", "label", *numbers, "origin", "seed"])
    types = {name: "int32" if name in _WHOLE else "float64" for name in numbers}
    text = dict.fromkeys(("kind", "origin", "seed"), "str")
    return table.astype({"object_id": "int64", "label": "int8", **types, **text})
