"""Cutouts turned, moved and made noisier; learning rates."""

from itertools import pairwise

import numpy as np
import pytest

from survey_scan.training import augment, schedule
from survey_scan.training.config import PRESETS, Augmentation, Schedule, presets
from survey_scan.yaml_file import read


def changed(x: np.ndarray, seed: int = 1, step: int = 0, **more) -> np.ndarray:
    import tensorflow as tf

    settings = Augmentation(**more)
    drawn = augment.draw(settings, x.shape[1], len(x), seed, step)
    run = tf.function(lambda *a: augment.apply(settings, *a), autograph=False)
    return np.asarray(run(tf.constant(x), *(tf.constant(d) for d in drawn)))


def ways(image: np.ndarray) -> list[np.ndarray]:
    """The eight: four turns, and the same of the mirror image."""
    return [np.rot90(i, k) for i in (image, image[:, ::-1]) for k in range(4)]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    one = np.random.default_rng(0).normal(size=(9, 9, 2)).astype(np.float32)
    return np.repeat(one[None], 400, axis=0)


@pytest.mark.parametrize(
    ("settings", "which"),
    [
        ({"flips": True, "turns": True}, range(8)),
        ({"turns": True}, range(4)),
        ({"flips": True}, (0, 2, 4, 6)),
        ({}, (0,)),
    ],
)
def test_flips_and_turns_are_exact_and_equally_frequent(images, settings, which):
    found = changed(images, **settings)
    count = [sum(np.array_equal(one, way) for one in found) for way in ways(images[0])]
    assert sum(count) == 400
    for number in range(8):
        expected = 400 / len(which) if number in which else 0
        assert abs(count[number] - expected) <= 4 * np.sqrt(expected)


def test_what_is_drawn_depends_on_seed_and_step_alone(images):
    everything = {"flips": True, "turns": True, "rotation": True, "zoom": [0.9, 1.0], "shift": 2.0, "noise": [0.1, 0.2]}
    first = changed(images[:8], 3, 7, **everything)
    np.testing.assert_array_equal(first, changed(images[:8], 3, 7, **everything))
    assert not np.array_equal(first, changed(images[:8], 3, 8, **everything))
    assert not np.array_equal(first, changed(images[:8], 4, 7, **everything))


def test_rotation_zoom_and_shift_move_light_as_they_say():
    y, x = np.indices((41, 41)) - 20.0
    spot = np.exp(-((x - 8) ** 2 + y**2) / 8).astype(np.float32)
    images = np.repeat(spot[None, ..., None], 200, axis=0)

    def centre(found):
        return np.array([[np.sum(v * i) / np.sum(i) for v in (x, y)] for i in found[..., 0]])

    turned = centre(changed(images, rotation=True))
    np.testing.assert_allclose(np.hypot(*turned.T), 8, atol=0.2)  # a corner shows a little of it mirrored
    assert (turned[:, 1] > 2).any() and (turned[:, 0] < -2).any()
    larger = centre(changed(images, zoom=[0.8, 0.8]))
    np.testing.assert_allclose(larger, np.broadcast_to([10.0, 0.0], larger.shape), atol=0.05)
    moved = centre(changed(images, shift=3.0))
    assert np.abs(moved - [8, 0]).max() <= 3.05 and np.abs(moved - [8, 0]).max(axis=0).min() > 2.5
    assert abs(moved.mean(axis=0) - [8, 0]).max() < 0.5


def test_noise_is_as_strong_as_it_says():
    found = changed(np.zeros((64, 20, 20, 2), np.float32), noise=[0.5, 2.0])
    assert found.std(axis=(0, 1, 2)) == pytest.approx([0.5, 2.0], rel=0.03)


def test_words():
    settings = Augmentation(flips=True, turns=True, rotation=True, zoom=[0.9, 1.0], shift=1.5, noise=0.5)
    assert augment.words(settings) == (
        "flips, right-angle turns, any rotation, zoom to 0.9 to 1 of the side, shifts up to 1.5 pixels, noise of 0.5"
    )
    assert augment.words(Augmentation()) == "none"


def rates(name: str, steps: int = 10, **more) -> list[float]:
    data = read(PRESETS / f"{name}.yaml", [])[0]["schedule"]
    settings = Schedule(**data | more)
    return [schedule.rate(settings, step, steps) for step in range(settings.epochs * steps)]


def test_the_presets_are_what_was_published():
    assert presets() == ["default", "lanusse2018", "storfer2024"]
    storfer = rates("storfer2024")
    assert len(storfer) == 1200 and set(storfer[:400]) == {1e-3}
    assert storfer[400:] == pytest.approx([1e-4] * 800)
    lanusse = rates("lanusse2018", steps=7)
    assert [lanusse[i] for i in (0, 279, 280, 559, 560, 839)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])
    short = rates("lanusse2018", epochs=6)
    assert [short[i] for i in (19, 20, 39, 40)] == pytest.approx([1e-3, 1e-4, 1e-4, 1e-5])


def test_the_default_warms_up_and_falls_along_a_cosine():
    found = rates("default")
    assert len(found) == 300 and all(a < b for a, b in pairwise(found[:11]))
    assert max(found) == found[10] == 1e-3 and all(a > b for a, b in pairwise(found[10:]))
    assert found[155] == pytest.approx(0.505e-3) and found[-1] == pytest.approx(1e-5, rel=0.01)
    assert set(rates("default", decay="none", warm_up=0)) == {1e-3}


def test_schedules_in_words():
    said = {name: schedule.words(Schedule(**read(PRESETS / f"{name}.yaml", [])[0]["schedule"])) for name in presets()}
    assert said == {
        "default": "30 epochs in batches of 256, adamw at 0.001, after 1 epochs of warm-up, then along a cosine to 1e-05",
        "lanusse2018": "120 epochs in batches of 128, adam at 0.001, times 0.1 after epoch 40, 80",
        "storfer2024": "120 epochs in batches of 256, adam at 0.001, times 0.1 after epoch 40",
    }
