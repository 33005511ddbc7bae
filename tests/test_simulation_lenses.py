import re
from dataclasses import replace

import numpy as np
import pytest

from survey_scan.errors import ConfigError
from survey_scan.simulation import lenses, sources
from survey_scan.simulation.conditions import Conditions
from survey_scan.simulation.config import Simulation, Sources, load
from survey_scan.simulation.constraints import TESTS, Tally, described
from survey_scan.simulation.lenses import Lens, Scene, Studio
from survey_scan.simulation.light import Component, Frame, moffat, sersic_keywords
from survey_scan.simulation.partition import studio_of
from survey_scan.simulation.population import Population, comoving, distance_modulus, early_type, einstein_radius
from survey_scan.simulation.sources import Source

from test_simulation_config import GIVEN  # isort: skip


def configured(*settings: str) -> Simulation:
    return load(GIVEN, ("counts={lens: 10}", "neighbours={}", *settings))


def drawn(config: Simulation, number: int, seed: int = 1) -> tuple[Studio, list[tuple[Lens, Conditions]], Tally]:
    studio, rng, tally, found = studio_of(config), np.random.default_rng(seed), Tally(), []
    for _ in range(number):
        conditions = Conditions.draw(rng, config.survey, studio.frame)
        found.append((lenses.draw(rng, studio, Scene(0.05, -0.1, conditions), tally), conditions))
    return studio, found, tally


def round_source(x: float, y: float, radius: float) -> Source:
    return Source(x, y, radius, 8 * radius, 3 * radius, Component(x, y, np.ones(1), radius, 1.0))


SIS = [{"theta_E": 1.5, "e1": 1e-4, "e2": 0.0, "center_x": 0.0, "center_y": 0.0}, {"gamma1": 0.0, "gamma2": 0.0}]


def test_an_isothermal_sphere_magnifies_as_it_must():
    # a small source at beta inside theta_E: two images, at theta_E +- beta, total magnification 2 theta_E / beta
    beta = np.hypot(0.6, 0.1)
    frame, source = Frame(121, 5, 0.06, 5), round_source(0.6, 0.1, 0.05)
    assert lenses.arcs_image(frame, (0.1, 0.0), SIS, source).sum() == pytest.approx(2 * 1.5 / beta, rel=0.01)
    images = lenses.image_positions(SIS, source)
    assert sorted(np.hypot(*images.T)) == pytest.approx([1.5 - beta, 1.5 + beta], abs=1e-3)
    outside = round_source(1.8, 0.1, 0.05)
    assert len(lenses.image_positions(SIS, outside)) == 1


@pytest.mark.filterwarnings("ignore:`axes` should not be `None`:DeprecationWarning")  # of lenstronomy's convolution
@pytest.mark.parametrize("supersampling", [1, 3])
def test_images_equal_lenstronomys_own_to_a_hundredth_of_the_noise(supersampling):
    from lenstronomy.SimulationAPI.sim_api import SimAPI

    config = configured(f"survey.supersampling={supersampling}")
    studio, found, _ = drawn(config, 4)
    frame, survey = studio.frame, config.survey
    for lens, conditions in found:
        assert lens.galaxy is not None and lens.source.profile is not None
        where = {"center_x": 0.05, "center_y": -0.1}
        mass = [{**lens.mass[0], **where}, {**lens.mass[1], "ra_0": 0.05, "dec_0": -0.1}]
        moved = replace(lens.source.profile, x=lens.source.x + 0.05, y=lens.source.y - 0.1)
        for band in range(3):
            fwhm = conditions.fwhm[band] / survey.pixel_scale
            api = SimAPI(
                frame.side,
                {
                    "pixel_scale": survey.pixel_scale,
                    "exposure_time": 10.0,
                    "magnitude_zero_point": 30.0,
                    "background_noise": 1.0,
                    "psf_type": "PIXEL",
                    "kernel_point_source": moffat(fwhm, survey.moffat, int(np.ceil(2.5 * fwhm))),
                },
                {
                    "lens_model_list": ["SIE", "SHEAR"],
                    "source_light_model_list": ["SERSIC_ELLIPSE"],
                    "lens_light_model_list": ["SERSIC_ELLIPSE"],
                },
            )
            source, galaxy = sersic_keywords(moved), sersic_keywords(lens.galaxy)
            source["amp"] *= lens.flux[band]
            galaxy["amp"] *= lens.galaxy.flux[band]
            theirs = api.image_model_class({"supersampling_factor": supersampling}).image(mass, [source], [galaxy])
            ours = conditions.blurs[band](lens.light[band] + lens.flux[band] * lens.arcs)
            assert np.max(np.abs(ours - frame.inner(theirs))) < 0.01 * conditions.noise[band]


def test_a_flat_prior_is_flat_in_einstein_radius_and_snr():
    config = configured("survey.supersampling=1")
    _, found, tally = drawn(config, 150)
    theta = np.array([lens.truth["theta_E"] for lens, _ in found])
    snr = np.array([lens.truth["arc_snr"] for lens, _ in found])
    for values, (low, high) in ((theta, config.prior.theta_E), (snr, config.prior.arc_snr)):
        assert low <= values.min() and values.max() <= high * (1 + 1e-9)
        flat = np.sort((values - low) / (high - low))
        assert np.max(np.abs(flat - (np.arange(150) + 0.5) / 150)) < 1.63 / np.sqrt(150)  # Kolmogorov-Smirnov, 1 %
    assert tally.accepted == 150 and tally.draws == 150 + sum(tally.rejected.values())
    assert set(tally.rejected) <= set(TESTS)


def test_accepted_lenses_pass_every_test():
    config = configured("survey.supersampling=1", "prior={kind: population, theta_E: [0.5, 3.0]}")
    studio, found, tally = drawn(config, 30)
    for lens, conditions in found:
        truth, fwhm = lens.truth, conditions.fwhm[0]
        assert 16 <= studio.filters.magnitude(lens.galaxy.flux)[2] <= 21.5
        assert truth["theta_E"] ** 2 >= truth["source_radius"] ** 2 + (0.5 * fwhm) ** 2
        assert truth["magnification"] >= 3 and truth["arc_snr"] >= 20 and truth["contrast"] >= 0.5
        assert truth["images"] >= 2 and truth["separation"] >= fwhm
        assert lens.flux[2] * truth["magnification"] <= 0.9 * lens.galaxy.flux[2]
        blurred = lens.flux[0] * conditions.blurs[0](lens.arcs)
        light = conditions.blurs[0](lens.light[0])
        snr = np.sqrt(np.sum(blurred**2 / (conditions.noise[0] ** 2 + light / 10)))
        assert truth["arc_snr"] == pytest.approx(snr)
    assert tally.rejected["arc_snr"] > tally.rejected["contrast"] > 0


def test_impossible_constraints_stop_and_say_which_test_rejects():
    with pytest.raises(ConfigError) as caught:
        drawn(configured("survey.supersampling=1", "constraints.seeing=50"), 1)
    numbers = re.sub(r"\d,\d{3}\b", "N", str(caught.value).replace("10,000", "ten").replace("1,000", "thousand"))
    assert numbers == (
        "0 of ten draws passed the constraints, fewer than 1 in thousand. Rejected by seeing N, lens_magnitude N. "
        "Loosen constraints.seeing, or change 'prior' and 'sources'."
    )


def test_rejections_in_words():
    assert described(Tally().rejected) == "none"


def test_population_has_einstein_radii_of_its_velocity_dispersions():
    population, rng = Population(1.2, (0.5, 3.0)), np.random.default_rng(1)
    found = [population.draw(rng) for _ in range(300)]
    assert all(0.5 <= d.theta_e <= 3.0 and d.z_source > d.z_lens for d in found)
    assert all(d.theta_e == pytest.approx(float(einstein_radius(d.sigma, d.z_lens, d.z_source))) for d in found)
    # Collett 2015, figure 3: velocity dispersions about 250 km/s, lenses about z = 0.6, sources about 2
    assert 200 < np.median([d.sigma for d in found]) < 290
    assert 0.4 < np.median([d.z_lens for d in found]) < 0.8
    assert 1.3 < np.median([d.z_source for d in found]) < 2.5
    at = [population.draw_at(rng, 2.0) for _ in range(100)]
    assert all(d.theta_e == 2.0 == pytest.approx(float(einstein_radius(d.sigma, d.z_lens, d.z_source))) for d in at)


def test_population_ends():
    with pytest.raises(ConfigError) as caught:
        Population(1.2, (1.0, 30.0))
    assert str(caught.value) == (
        "prior.theta_E reaches 30.0 arcsec, but a single galaxy's Einstein radius ends at 9.6. Give a smaller range."
    )


def test_distances_are_astropys():
    from astropy.cosmology import FlatLambdaCDM

    cosmology = FlatLambdaCDM(70, 0.3)
    for z in (0.1, 0.5, 2.0):
        assert comoving(z) == pytest.approx(cosmology.comoving_distance(z).value, rel=1e-5)
        assert distance_modulus(z) == pytest.approx(cosmology.distmod(z).value, abs=1e-4)


def test_early_types_brighten_and_grow_with_velocity_dispersion():
    rng = np.random.default_rng(1)
    found = np.array([[early_type(rng, sigma, 0.0) for _ in range(2000)] for sigma in (160.0, 250.0)])
    magnitude, size = found[..., 0], np.log10(found[..., 1])
    # sigma ~ L^0.25 and R ~ L^0.63 are fits along the plane; at given sigma Bernardi et al. 2003 have these
    assert magnitude.mean(axis=1) == pytest.approx([-21.18, -22.32], abs=0.05)
    assert size.mean(axis=1) == pytest.approx([0.456, 0.705], abs=0.02)
    assert np.corrcoef(magnitude[0], size[0])[0, 1] == pytest.approx(-0.87, abs=0.03)


def test_stamps_are_lensed_as_lenstronomy_does(tmp_path):
    rng = np.random.default_rng(1)
    y, x = np.indices((41, 41)) - 20
    stamps = np.stack([np.exp(-np.hypot(x, 2 * y) / w) for w in (3, 5)])
    np.save(tmp_path / "s.npy", stamps)
    spec = Sources(stamps=tmp_path / "s.npy", stamp_scale=0.05)
    frame, mass = Frame(61, 5, 0.2, 3), [{**SIS[0], "e1": 0.1}, {"gamma1": 0.03, "gamma2": 0.0}]
    for _ in range(4):
        source = sources.draw(rng, spec, 1.5)
        assert source.stamp in (0, 1) and source.image is not None
        assert 0.05 * 1.2 < source.radius < 0.05 * 9
        assert source.image.image.sum() * 0.05**2 == pytest.approx(1.0)
        whole = (slice(0, frame.side), slice(0, frame.side))
        rays = lenses.mass_model().ray_shooting(*frame.grid(whole), mass)
        everywhere = replace(source, reach=np.inf).brightness(*rays)
        ours = lenses.arcs_image(frame, (0.0, 0.0), mass, source)
        assert np.max(np.abs(ours - frame.pixels(everywhere, whole))) < 1e-5
