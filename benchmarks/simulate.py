"""Simulated lenses per CPU second of one core, beside a plain loop over lenstronomy's SimAPI.

    python benchmarks/simulate.py [--rounds 3] [--lenses 100]        prints JSON; about two minutes

Cutouts of 45 x 45 in three bands, SIE with shear, a Sérsic lens and a Sérsic source, no neighbours. Contenders take turns in
one process; a ratio is the median over rounds of ratios within a round. For each supersampling (1 and 3 samples a pixel a side):

ours          accepted lenses, with every draw that the constraints rejected, noise and truth
SimAPI        image and noise of the same accepted lenses, a SimAPI a band as in lenstronomy's examples; that it has to
              draw and reject as well is not counted
SimAPI, all   the same, if it rendered every draw to see whether it passes: times draws over accepted

The images of both differ by no more than ``largest_difference`` of the noise, which is measured as well.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from lenstronomy.SimulationAPI.sim_api import SimAPI

from survey_scan.simulation import lenses
from survey_scan.simulation.conditions import Conditions
from survey_scan.simulation.config import Simulation, load
from survey_scan.simulation.constraints import Tally
from survey_scan.simulation.light import moffat, sersic_keywords
from survey_scan.simulation.partition import simulate, studio_of

CONFIG = Path(__file__).parent.parent / "configs" / "simulate.yaml"


def configured(lens: int, seed: int, supersampling: int) -> Simulation:
    settings = (
        f"counts={{lens: {lens}}}",
        f"output.seed={seed}",
        f"survey.supersampling={supersampling}",
        "neighbours={}",
    )
    return load(CONFIG, settings)


def ours(config: Simulation) -> tuple[float, Tally]:
    start = time.process_time()
    simulated = simulate(config, 0, {})
    return time.process_time() - start, simulated.tally


def drawn(config: Simulation) -> list[tuple[lenses.Lens, Conditions]]:
    """Accepted lenses in the middle of a cutout."""
    studio, rng = studio_of(config), np.random.default_rng(config.output.seed)
    found = []
    for _ in range(config.counts.lens):
        conditions = Conditions.draw(rng, config.survey, studio.frame)
        found.append((lenses.draw(rng, studio, lenses.Scene(0.0, 0.0, conditions), Tally()), conditions))
    return found


def simapi_image(
    config: Simulation, lens: lenses.Lens, conditions: Conditions, band: int, side: int
) -> tuple[Any, Any]:
    """One band of one lens as lenstronomy's users draw it; and its noise."""
    survey, name = config.survey, config.bands[band]
    assert lens.galaxy is not None and lens.source.profile is not None
    fwhm = conditions.fwhm[band] / survey.pixel_scale
    half = len(moffat(fwhm, survey.moffat, int(np.ceil(2.5 * fwhm)))) // 2
    band_keywords = {
        "pixel_scale": survey.pixel_scale,
        "exposure_time": survey.bands[name].gain,
        "magnitude_zero_point": survey.zero_point,
        "background_noise": conditions.noise[band],
        "psf_type": "PIXEL",
        "kernel_point_source": moffat(fwhm, survey.moffat, half),
    }
    model = {
        "lens_model_list": ["SIE", "SHEAR"],
        "lens_light_model_list": ["SERSIC_ELLIPSE"],
        "source_light_model_list": ["SERSIC_ELLIPSE"],
    }
    api = SimAPI(num_pix=side, kwargs_single_band=band_keywords, kwargs_model=model)
    image = api.image_model_class({"supersampling_factor": survey.supersampling, "supersampling_convolution": False})
    source, galaxy = sersic_keywords(lens.source.profile), sersic_keywords(lens.galaxy)
    source["amp"] *= lens.flux[band]
    galaxy["amp"] *= lens.galaxy.flux[band]
    return image.image(lens.mass, [source], [galaxy]), api


def simapi(config: Simulation, found: list[tuple[lenses.Lens, Conditions]]) -> float:
    start = time.process_time()
    for lens, conditions in found:
        for band in range(len(config.bands)):
            image, api = simapi_image(config, lens, conditions, band, config.output.size)
            image += api.noise_for_model(image)
    return time.process_time() - start


def difference(config: Simulation, found: list[tuple[lenses.Lens, Conditions]]) -> float:
    """Largest difference from SimAPI in units of the noise, where it is given our margin."""
    frame, worst = studio_of(config).frame, 0.0
    for lens, conditions in found:
        canvas = lens.light + lens.flux[:, None, None] * lens.arcs
        for band, blur in enumerate(conditions.blurs):
            theirs = frame.inner(simapi_image(config, lens, conditions, band, frame.side)[0])
            worst = max(worst, float(np.max(np.abs(blur(canvas[band]) - theirs)) / conditions.noise[band]))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lenses", type=int, default=100)
    options = parser.parse_args()
    report: dict[str, Any] = {"lenses": options.lenses, "rounds": options.rounds}
    for factor in (1, 3):
        ours(configured(3, 0, factor))  # imports, compiled functions, the population
        mine, theirs, ratios, all_ratios, tallies = [], [], [], [], Tally()
        for seed in range(options.rounds):
            config = configured(options.lenses, seed + 1, factor)
            found = drawn(config)
            seconds, tally = ours(config)
            plain = simapi(config, found)
            mine.append(options.lenses / seconds)
            theirs.append(options.lenses / plain)
            ratios.append(plain / seconds)
            all_ratios.append(plain / seconds * tally.draws / tally.accepted)
            tallies.draws, tallies.accepted = tallies.draws + tally.draws, tallies.accepted + tally.accepted
            tallies.rejected.update(tally.rejected)
        report[f"supersampling {factor}"] = {
            "ours, accepted lenses/s": round(statistics.median(mine), 1),
            "SimAPI, images of accepted lenses/s": round(statistics.median(theirs), 1),
            "ours / SimAPI": round(statistics.median(ratios), 2),
            "ours / SimAPI, all": round(statistics.median(all_ratios), 2),
            "accepted": round(tallies.accepted / tallies.draws, 3),
            "rejected": dict(tallies.rejected.most_common()),
            "minutes for 15,000 on one core": round(15_000 / statistics.median(mine) / 60, 1),
            "largest_difference": round(difference(config, found[:20]), 5),
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
