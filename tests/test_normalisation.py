"""Each step and each recipe against the same in numpy's float64."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from survey_scan import normalisation
from survey_scan.models.runtime import configure
from survey_scan.normalisation import Normalisation

GRI, SIZE = ["g", "r", "i"], 9
VALIDATE: TypeAdapter[Any] = TypeAdapter(Normalisation)


@pytest.fixture(scope="module", autouse=True)
def _keras() -> None:
    configure()


def steps(given: Any) -> Any:
    return VALIDATE.validate_python(given)


def apply(given: Any, x: np.ndarray, bands: list[str] = GRI) -> np.ndarray:
    from keras import ops

    from survey_scan.models import steps as doing

    found = doing.apply(steps(given), ops.convert_to_tensor(x.astype(np.float32)), bands)
    return ops.convert_to_numpy(found)


def sky(n: int = 6, size: int = SIZE, bands: int = 3, seed: int = 0) -> np.ndarray:
    """Galaxies on noise: counts at zero point 30, as float32 would hold them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    radius = np.hypot(y, x)[None, :, :, None]
    width, flux = rng.uniform(1, 3, (n, 1, 1, 1)), rng.uniform(20, 3000, (n, 1, 1, bands))
    image = flux * np.exp(-radius / width) + rng.normal(0, [2.0, 3.0, 5.0][:bands], (n, size, size, bands))
    return image.astype(np.float32).astype(float)


# --- numpy ---

AXES = {"band": (1, 2), "image": (1, 2, 3)}


def z_score(x: np.ndarray, per: str) -> np.ndarray:
    mean, std = x.mean(AXES[per], keepdims=True), x.std(AXES[per], keepdims=True)
    return np.divide(x - mean, std, out=np.zeros_like(x), where=std > 0)


def min_max(x: np.ndarray, per: str, low: float | None = None, to: tuple[float, float] = (0, 1)) -> np.ndarray:
    lowest = x.min(AXES[per], keepdims=True) if low is None else low
    part = (x - lowest) / (x.max(AXES[per], keepdims=True) - lowest)
    return to[0] + (to[1] - to[0]) * part


def quantise(x: np.ndarray, levels: int = 256) -> np.ndarray:
    return np.floor(np.clip(x, 0, 1) * (levels - 1))


def lupton(x: np.ndarray, stretch: float, q: float, minimum: Any = 0.0) -> np.ndarray:
    x = x - minimum
    mean = x.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.where(mean > 0, np.arcsinh(mean * q / stretch) * 0.1 / np.arcsinh(0.1 * q) / mean, 0)
    x = np.maximum(x * factor, 0)
    return x / np.maximum(x.max(-1, keepdims=True), 1)


def resize(x: np.ndarray, size: int, method: str, antialias: bool = False) -> np.ndarray:
    """By Pillow, which smooths wherever pixels get fewer; else by interpolation along one axis after the other."""
    old = x.shape[1]
    if method == "nearest" or (method == "bilinear" and not antialias):
        at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        if method == "nearest":
            at = np.rint(at + 1e-9).astype(int)
            return x[:, at][:, :, at]
        for axis in (1, 2):
            x = np.apply_along_axis(lambda row: np.interp(at, np.arange(old), row), axis, x)
        return x
    assert antialias or size >= old
    pillow = Image.Resampling.BILINEAR if method == "bilinear" else Image.Resampling.BICUBIC
    planes = [
        Image.fromarray(p.astype(np.float32)).resize((size, size), pillow)
        for p in np.moveaxis(x, -1, 1).reshape(-1, old, old)
    ]
    return np.moveaxis(np.reshape(np.array(planes, float), (len(x), -1, size, size)), 1, -1)


THREE = [1.5, -2.0, 30.0]
CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("clip", {"low": 0}, lambda x: np.maximum(x, 0)),
    ("clip", {"high": THREE}, lambda x: np.minimum(x, THREE)),
    ("clip", {"low": -5.0, "high": THREE}, lambda x: np.clip(x, -5, THREE)),
    ("scale", {"offset": 3.5}, lambda x: x - 3.5),
    ("scale", {"offset": THREE, "scale": [2.0, 0.1, -7.0]}, lambda x: (x - THREE) / [2, 0.1, -7]),
    ("asinh", {}, np.arcsinh),
    ("asinh", {"scale": [2.0, 3.0, 5.0]}, lambda x: np.arcsinh(x / [2, 3, 5])),
    ("sqrt", {}, lambda x: np.sqrt(np.maximum(x, 0))),
    ("log", {"floor": 0.1}, lambda x: np.log10(np.maximum(x, 0.1))),
    ("log", {"floor": [1.0, 2.0, 3.0]}, lambda x: np.log10(np.maximum(x, [1, 2, 3]))),
    ("z-score", {}, lambda x: z_score(x, "band")),
    ("z-score", {"per": "image"}, lambda x: z_score(x, "image")),
    ("min-max", {}, lambda x: min_max(x, "band")),
    ("min-max", {"per": "image", "to": [-1.0, 1.0]}, lambda x: min_max(x, "image", to=(-1, 1))),
    ("min-max", {"low": 0, "to": [0, 255]}, lambda x: min_max(x, "band", 0, (0, 255))),
    ("lupton", {"stretch": 40.0, "q": 8.0}, lambda x: lupton(x, 40, 8)),
    ("lupton", {"stretch": 9.0, "q": 10.0, "minimum": THREE}, lambda x: lupton(x, 9, 10, THREE)),
    ("order", {"bands": ["i", "r", "g"]}, lambda x: x[..., ::-1]),
    ("order", {"bands": ["r", "r"]}, lambda x: x[..., [1, 1]]),
    *(
        ("resize", {"size": size, "method": method, "antialias": smooth}, lambda x, a=(size, method, smooth): resize(x, *a))
        for size, method, smooth in [
            (20, "bilinear", False), (20, "bicubic", False), (20, "nearest", False), (5, "bilinear", False),
            (5, "bilinear", True), (5, "bicubic", True), (4, "nearest", False), (9, "bilinear", False),
        ]
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "constants", "reference"), CASES)
def test_a_step_is_what_numpy_makes_of_it(name, constants, reference):
    pixels = sky()
    found, expected = apply([{"step": name, **constants}], pixels), reference(pixels)
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5 * np.abs(expected).max())


def test_every_step_is_tested():
    assert {name for name, _, _ in CASES} | {"quantise"} == set(normalisation._NAMES)


@pytest.mark.parametrize("levels", [2, 256])
def test_bytes_are_those_of_a_cast(levels):
    values = np.linspace(-0.2, 1.2, 3 * SIZE * SIZE).reshape(1, SIZE, SIZE, 3)
    found, expected = apply([{"step": "quantise", "levels": levels}], values), quantise(values, levels)
    assert set(np.unique(found)) == set(range(levels)) if levels == 2 else found.max() == 255
    edge = np.abs(values * (levels - 1) - np.rint(values * (levels - 1))) < 1e-4  # float32 cannot tell
    np.testing.assert_array_equal(found[~edge], expected[~edge])
    assert np.abs(found - expected).max() <= 1


def test_colours_are_those_of_astropy():
    from astropy.visualization import make_lupton_rgb

    pixels = sky(1, 40)
    found = apply([{"step": "lupton", "stretch": 40.0, "q": 8.0}], pixels)[0] * 255
    expected = make_lupton_rgb(*np.moveaxis(pixels[0], -1, 0), minimum=0, stretch=40, Q=8)
    assert (
        expected.max() == 255 and expected.min() == 0 and np.ptp(expected[..., 0] - expected[..., 2].astype(int)) > 50
    )
    assert np.abs(found - expected).max() <= 1 + 1e-3 and np.abs(np.floor(found + 1e-3) - expected).max() <= 1


def test_resized_bytes_are_those_of_pillow_before_it_rounds():
    pixels = np.floor(min_max(sky(1, 45), "band") * 255)
    found = apply([{"step": "resize", "size": 224}], pixels)[0]
    expected = np.asarray(Image.fromarray(pixels[0].astype(np.uint8)).resize((224, 224), Image.Resampling.BILINEAR))
    assert np.abs(found - expected).max() < 1.01


# --- what holds for all pixels ---

IMAGES = st.integers(0, 10**6).map(lambda seed: sky(3, SIZE, 3, seed))


@settings(max_examples=20, deadline=None)
@given(image=IMAGES, gain=st.floats(0.01, 100), level=st.floats(-1000, 1000), per=st.sampled_from(["band", "image"]))
def test_a_cutout_scaled_by_itself_does_not_know_its_unit(image, gain, level, per):
    for name in ("z-score", "min-max"):
        plain = apply([{"step": name, "per": per}], image)
        other = apply([{"step": name, "per": per}], (gain * image + level).astype(np.float32).astype(float))
        # level takes digits from float32 pixels before the step sees them
        digits = 4e-7 * (np.abs(level) + gain * np.abs(image).max()) / (gain * image.std(AXES[per]).min())
        np.testing.assert_allclose(other, plain, atol=1e-4 + 20 * digits)
    low, high = (f(plain, axis=AXES[per]) for f in (np.min, np.max))
    np.testing.assert_array_equal(low, 0)
    np.testing.assert_array_equal(high, 1)


@settings(max_examples=20, deadline=None)
@given(
    value=st.floats(-1e6, 1e6, width=32),
    name=st.sampled_from(["z-score", "min-max"]),
    per=st.sampled_from(["band", "image"]),
)
def test_a_cutout_of_equal_pixels_gives_zeros(value, name, per):
    found = apply([{"step": name, "per": per}], np.full((2, SIZE, SIZE, 3), value))
    np.testing.assert_array_equal(found, 0)


@settings(max_examples=15, deadline=None)
@given(
    image=IMAGES,
    chain=st.lists(st.sampled_from(["z-score", "min-max", "asinh", "sqrt", "lupton"]), min_size=1, max_size=3),
)
def test_steps_follow_one_another_and_cutouts_do_not_see_each_other(image, chain):
    given = [{"step": name, **({"stretch": 2.0, "q": 8.0} if name == "lupton" else {})} for name in chain]
    whole = apply(given, image)
    assert np.isfinite(whole).all()
    by_step = image
    for step in given:
        by_step = apply([step], by_step)
    np.testing.assert_allclose(whole, by_step, atol=1e-6)
    np.testing.assert_array_equal(apply(given, image[::-1])[::-1], whole)


def test_numbers_a_band_follow_the_order_of_the_bands():
    pixels = sky()
    given = [{"step": "order", "bands": ["i", "g"]}, {"step": "scale", "offset": [3.0, 1.0]}]
    np.testing.assert_allclose(apply(given, pixels), pixels[..., [2, 0]] - [3, 1], rtol=1e-6, atol=1e-4)


# --- recipes ---


def expected_deeplens_ground(x: np.ndarray) -> np.ndarray:
    return np.clip(x, -1e-9, 1e-9) / 1e-9 * 100


def expected_deeplens_space(x: np.ndarray) -> np.ndarray:
    return ((np.clip(x, -1e-11, 1e-9) + 1e-11) / (1e-9 + 1e-11) - 0.02) / 0.05


def expected_huang(x: np.ndarray) -> np.ndarray:
    return np.clip((x - [0.02, 0.03, 0.05]) / [0.1, 0.2, 0.4], -250, 250)


def expected_gonzalez(x: np.ndarray) -> np.ndarray:
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    levels = quantise(min_max(z_score(x, "band"), "band"))
    return (resize(levels, 224, "bilinear") / 255 - mean) / std


def expected_petrillo_r(x: np.ndarray) -> np.ndarray:
    x = np.sqrt(np.where(x < 0, 0, x))
    return x / x.max((1, 2, 3), keepdims=True) * 255


NGMY = 10 ** (-0.4 * 7.5)  # counts at zero point 30 to nanomaggies
RECIPES: dict[str, tuple[dict[str, Any], int, int, float, Any, float]] = {
    # constants, bands, size, unit of the sky above, reference, how far apart
    "deeplens-ground": ({}, 4, 101, 2e-12, expected_deeplens_ground, 1e-4),
    "deeplens-space": ({"mean": 0.02, "std": 0.05}, 1, 101, 2e-12, expected_deeplens_space, 1e-4),
    "huang2021": ({"mean": [0.02, 0.03, 0.05], "std": [0.1, 0.2, 0.4]}, 3, 101, NGMY, expected_huang, 1e-4),
    "storfer2024": ({"mean": [0.02, 0.03, 0.05], "std": [0.1, 0.2, 0.4]}, 3, 101, NGMY, expected_huang, 1e-4),
    "gonzalez2025": ({}, 3, 45, 1.0, expected_gonzalez, 1.01 / 255 / 0.224),  # a level, where float32 cannot tell
    "gravit": ({}, 3, 64, 1.0, lambda x: quantise(min_max(x, "band")), 1.0),
    "petrillo2019-r": ({}, 1, 101, 1.0, expected_petrillo_r, 1e-3),
    "petrillo2019-rgb": ({"stretch": 40.0, "q": 8.0}, 3, 101, 1.0, lambda x: 255 * lupton(x, 40, 8), 1e-2),
}


@pytest.mark.parametrize("name", normalisation.recipes())
def test_a_recipe_is_what_its_paper_says(name):
    constants, bands, size, unit, reference, apart = RECIPES[name]
    about = normalisation.recipe(name).about
    assert (
        len(about.bands) == bands
        and about.size in (None, size)
        and about.unverified
        and set(about.needs) == set(constants)
    )
    pixels = sky(4, size, min(bands, 3), 3)
    pixels = pixels if bands < 4 else np.concatenate([pixels, pixels[..., :1] / 3], axis=-1)
    pixels = (pixels * unit).astype(np.float32).astype(float)
    found = apply({"recipe": name, **constants}, pixels, about.bands)
    expected = reference(pixels)
    difference = np.abs(found - expected)
    assert difference.max() <= apart and np.ptp(expected) > 2
    assert (difference > 1e-2).mean() < 1e-3  # of levels, few differ


def test_recipes_are_spelled_out_wherever_they_stand():
    bytes_ = [{"step": "min-max"}, {"step": "quantise"}]
    assert steps("gravit") == steps({"recipe": "gravit"}) == steps(bytes_)
    more = [{"recipe": "gravit"}, {"step": "resize", "size": 224}]
    assert steps(more) == steps(bytes_ + more[1:])
    again = VALIDATE.validate_json(VALIDATE.dump_json(steps(more)))
    assert again == steps(more)


def test_the_words_of_all_steps():
    words = [step.words() for name, constants, _ in CASES for step in steps([{"step": name, **constants}])]
    assert words[:6] == [
        "clip what is below 0",
        "clip what is above [1.5, -2, 30]",
        "clip what is below -5 or above [1.5, -2, 30]",
        "subtract 3.5",
        "subtract [1.5, -2, 30], divide by [2, 0.1, -7]",
        "arcsinh of the pixel over 1",
    ]
    assert all(words)


# --- what is refused ---

STEPS = (
    "clip, scale, asinh, sqrt, log, z-score, min-max, quantise, lupton, resize, order, and recipes, as {recipe: NAME}"
)
KNOWN = (
    "deeplens-ground, deeplens-space, gonzalez2025, gravit, huang2021, petrillo2019-r, petrillo2019-rgb, storfer2024"
)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([{"step": "clipp"}], f"there is no step 'clipp'. Did you mean 'clip'? There are {STEPS}."),
        ([{"low": 0}], f"a step is a mapping with the key 'step'. There are {STEPS}."),
        ("gonzales2025", f"there is no recipe 'gonzales2025'. Did you mean 'gonzalez2025'? There are {KNOWN}."),
        (
            "storfer2024",
            "the recipe 'storfer2024' needs 'mean': the mean of each band over some 500 cutouts of the training set",
        ),
        ({"recipe": "gravit", "mean": 1.0}, "the recipe 'gravit' takes no constants, not 'mean'"),
        ([{"step": "clip"}], "'clip' needs 'low', 'high', or both"),
        ([{"step": "clip", "low": 1, "high": [2, 1]}], "'low' must be below 'high', not 1.0 and [2.0, 1.0]"),
        ([{"step": "scale", "scale": [1, 0]}], "'scale' must not be 0: pixels are divided by it"),
        ([{"step": "asinh", "scale": 0}], "'scale' must be above 0"),
        ([{"step": "log", "floor": -1}], "'floor' must be above 0"),
    ],
)
def test_what_is_no_normalisation_says_why(given, text):
    with pytest.raises(ValidationError) as caught:
        steps(given)
    (error,) = caught.value.errors()
    assert error["msg"] == f"Value error, {text}"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            [{"step": "sqrt"}, {"step": "log", "floor": [1.0, 2.0]}],
            "step 2 (log): 'floor' has 2 values, but there are 3 bands (g, r, i). Give one number for all, or one a band in "
            "this order.",
        ),
        (
            [{"step": "order", "bands": ["g", "r"]}, {"step": "lupton", "stretch": 1.0, "q": 8.0}],
            "step 2 (lupton): takes three bands, red first, and there are 2 (g, r)",
        ),
        ([{"step": "order", "bands": ["z"]}], "step 1 (order): 'bands' has 'z', which is not there (g, r, i)"),
    ],
)
def test_what_cannot_be_done_to_these_bands_says_which_step(given, text):
    with pytest.raises(ValueError) as caught:
        normalisation.after(steps(given), GRI, SIZE)
    assert str(caught.value) == text


def test_bands_and_size_after_all_steps():
    given = [
        {"step": "order", "bands": ["i", "r"]},
        {"step": "resize", "size": 224},
        {"step": "scale", "offset": [1.0, 2.0]},
    ]
    assert normalisation.after(steps(given), GRI, SIZE) == (["i", "r"], 224)
